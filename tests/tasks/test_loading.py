import importlib.util
from collections import Counter

import pytest
from datasets import Dataset

from helpers.tasks import VALIDATION, encoder_tokenizer, write_rows, write_task
from hf_vec2vec.data.corpora import BUNDLED_CORPORA
from hf_vec2vec.tasks import TASKS, loading
from hf_vec2vec.tasks import load_task as load
from hf_vec2vec.tasks.parts import check_splits

REVIEWS = [{"text": f"text number {i}", "label": ("bad", "good", "fair")[i % 3]} for i in range(60)]


@pytest.mark.parametrize("name", VALIDATION)
def test_every_task_is_read_from_a_folder(name, tmp_path):
    task = load(name, write_task(name, tmp_path))
    assert task.name == name
    assert len(task.splits["train"]) == len(task.splits["validation"]) == len(VALIDATION[name])
    assert set(task.splits["validation"].column_names) == set(VALIDATION[name][0])


def test_files_may_be_of_any_format_and_in_shards(tmp_path):
    rows = VALIDATION["sst2"]
    Dataset.from_list(rows[:2]).to_parquet(tmp_path / "train-00000-of-00002.parquet")
    Dataset.from_list(rows[2:]).to_parquet(tmp_path / "train-00001-of-00002.parquet")
    Dataset.from_list(rows).to_csv(tmp_path / "validation.csv")
    (tmp_path / "README.md").write_text("not data")
    task = load("sst2", tmp_path)
    assert {split: rows["sentence"][:] for split, rows in task.splits.items()} == dict.fromkeys(
        ("train", "validation"), [row["sentence"] for row in rows]
    )


def test_labels_may_be_names(tmp_path):
    named = [row | {"label": ("negative", "positive")[row["label"]]} for row in VALIDATION["sst2"]]
    write_rows(named, tmp_path / "train.jsonl")
    assert load("sst2", tmp_path).splits["train"]["label"][:] == [row["label"] for row in VALIDATION["sst2"]]
    write_rows([*named, {"sentence": "so so", "label": "mixed", "idx": 9}], tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match=r"`label` must be one of \['negative', 'positive'\].*got \['mixed'\]"):
        load("sst2", tmp_path)
    write_rows([row | {"label": 2} for row in VALIDATION["sst2"]], tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match=r"or -1; got \['2'\]"):
        load("sst2", tmp_path)


def test_names_lead_to_the_hub(monkeypatch):
    asked = []

    def fake(*arguments):
        asked.append(arguments)
        return {"train": Dataset.from_list(VALIDATION[{"nyu-mll/glue": "rte"}.get(arguments[0], arguments[0])])}

    monkeypatch.setattr(loading, "load_dataset", fake)
    VALIDATION_NAMES = {"rajpurkar/squad": "squad", "rajpurkar/squad_v2": "squad_v2", "tau/commonsense_qa": "commonsense_qa"}
    for hub_id, name in VALIDATION_NAMES.items():
        monkeypatch.setitem(VALIDATION, hub_id, VALIDATION[name])
        load(name)
    load("rte")
    assert asked == [*((hub_id,) for hub_id in VALIDATION_NAMES), ("nyu-mll/glue", "rte")]


def test_a_fifth_of_one_file_is_held_out_and_equal_texts_stay_together(tmp_path):
    write_rows([row for row in REVIEWS for _ in range(2)], tmp_path / "mood.jsonl")
    task = load(str(tmp_path / "mood.jsonl"))
    assert (task.name, task.labels, task.num_labels) == ("mood", ("bad", "fair", "good"), 3)
    train, held = (set(task.splits[split]["text"]) for split in ("train", "validation"))
    assert not train & held
    assert train | held == {row["text"] for row in REVIEWS}
    assert 4 <= len(held) <= 20
    label = {row["text"]: row["label"] for row in REVIEWS}
    for row in task.splits["validation"]:
        assert task.labels[row["label"]] == label[row["text"]]
    write_rows(list(reversed(REVIEWS)), tmp_path / "mood.jsonl")  # whatever their order
    assert set(load(str(tmp_path / "mood.jsonl")).splits["validation"]["text"]) == held
    write_rows([{"text": "same", "label": label} for label in ("good", "bad")], tmp_path / "mood.jsonl")
    with pytest.raises(ValueError, match=r"has 2 row\(s\), too few to hold some out"):
        load(str(tmp_path / "mood.jsonl"))


@pytest.fixture
def evals(tmp_path, monkeypatch):
    """A package with files where those of `evals` lie, whose code would fail."""
    data = tmp_path / "evals" / "registry" / "data"
    headlines = [
        {
            "input": [{"role": "system", "content": "1 or 0"}, {"role": "user", "content": f" headline {i} "}],
            "ideal": str(i % 2),
        }
        for i in range(40)
    ]
    question = "Ann met Bo.\nWhat will Bo do {}? A: wave; B: go: away; C: sing a song."
    social = [{"input": [{"role": "user", "content": question.format(i)}], "ideal": "ABC"[i % 3]} for i in range(40)]
    write_rows(headlines, data / "sarcasm" / "samples.jsonl")
    write_rows(social, data / "theory_of_mind" / "socialiqa" / "test.jsonl")
    (tmp_path / "evals" / "__init__.py").write_text("raise RuntimeError")
    monkeypatch.syspath_prepend(tmp_path)


def test_sarcasm_and_social_iqa_are_read_without_running_their_package(evals):
    task = load("sarcasm")
    assert task.labels == ("plain", "sarcastic")
    rows = [row for split in task.splits.values() for row in split]
    assert len(rows) == 40
    assert all(row["text"] == row["text"].strip() and row["label"] == int(row["text"][-1]) % 2 for row in rows)
    task = load("social_iqa")
    rows = [row for split in task.splits.values() for row in split]
    assert Counter(row["answerKey"] for row in rows) == {"A": 14, "B": 13, "C": 13}
    assert rows[0]["choices"] == {"label": ["A", "B", "C"], "text": ["wave", "go: away", "sing a song"]}
    assert rows[0]["question"].startswith("Ann met Bo. What will Bo do")
    assert set(task.prepare(encoder_tokenizer(), "validation")["labels"]) <= {0, 1, 2}
    assert load("social_iqa", language_model=True).splits["validation"].to_list() == task.splits["validation"].to_list()


def test_bad_names_and_sources_are_refused(tmp_path):
    with pytest.raises(ValueError, match="`name` must be one of cola, .*commonsense_qa.*bbc.*, got 'sst-2'"):
        load("sst-2")
    with pytest.raises(
        ValueError, match="`language_model` goes with squad, squad_v2, commonsense_qa, social_iqa, got 'sst2'"
    ):
        load("sst2", language_model=True)
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        load("sst2", tmp_path / "nowhere.jsonl")
    write_rows([{"text": "a", "label": 1}], tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match=r"'sst2', 'train', has the columns \['text', 'label'\]; it lacks \['sentence'\]"):
        load("sst2", tmp_path)


def test_a_corpus_of_a_wheel_is_read_from_a_folder_too(tmp_path):
    rows = [{"text": f"film {i}", "label": ("positive", "negative", "0", None)[i % 4]} for i in range(8)]
    write_rows(rows, tmp_path / "own" / "train.jsonl")
    write_rows(rows[:3], tmp_path / "own" / "dev.jsonl")
    task = load("imdb", tmp_path / "own")
    assert task.labels == ("negative", "positive")
    assert {split: found["label"][:] for split, found in task.splits.items()} == {
        "train": [1, 0, 0] * 2,
        "validation": [1, 0, 0],
    }
    assert task.unlabelled == {"train": 2}
    assert load("imdb", tmp_path / "own", keep_unlabelled=True).splits["train"]["label"][:] == [1, 0, 0, -1] * 2
    with pytest.raises(ValueError, match=r"`label` must be one of \['business', .*got \['negative', 'positive'\]"):
        load("bbc", tmp_path / "own")
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        load("sarcasm", tmp_path / "nowhere")


def test_a_file_is_its_own_source(tmp_path):
    write_rows(REVIEWS, tmp_path / "reviews.jsonl")
    with pytest.raises(ValueError, match=r"`source` is '.*other', but `name` '.*reviews.jsonl' .* Leave out `source`"):
        load(str(tmp_path / "reviews.jsonl"), tmp_path / "other")


def test_rows_of_a_file_without_a_label_are_kept_where_a_teacher_may_label_them(tmp_path):
    rows = [row if i % 4 else row | {"label": None} for i, row in enumerate(REVIEWS)]
    write_rows(rows, tmp_path / "reviews.jsonl")
    task, kept = (load(str(tmp_path / "reviews.jsonl"), keep_unlabelled=keep) for keep in (False, True))
    assert task.labels == kept.labels == ("bad", "fair", "good")
    known = {row["text"]: row["label"] for row in rows}
    found = dict(zip(kept.splits["train"]["text"], kept.splits["train"]["label"], strict=True))
    assert {text: None if label < 0 else kept.labels[label] for text, label in found.items()} == {
        text: known[text] for text in found
    }
    hidden = {row["text"] for row in rows if row["label"] is None}
    held_out = kept.unlabelled["validation"]
    assert len(hidden & set(found)) == len(hidden) - held_out > held_out > 0
    assert kept.splits["validation"]["text"][:] == task.splits["validation"]["text"][:]
    assert set(task.splits["train"]["text"]) == set(found) - hidden


@pytest.mark.parametrize(
    ("name", "hidden"), [("commonsense_qa", {"answerKey": ""}), ("squad", {"answers": None}), ("stsb", {"label": -1})]
)
def test_splits_are_checked_before_work(name, hidden, tmp_path):
    folder = write_task(name, tmp_path)
    check_splits(load(name, folder), "train", "validation")
    write_rows([row | hidden for row in VALIDATION[name]], folder / "validation.jsonl")
    with pytest.raises(
        ValueError, match=f"`task` '{name}': its split 'validation' has no labels, on which models are judged"
    ):
        check_splits(load(name, folder), "train", "validation")
    check_splits(load(name, folder), "validation", labels=False)
    (folder / "train.jsonl").unlink()
    with pytest.raises(
        ValueError, match=rf"'{name}' lacks the split 'train', on which .* has \['validation'\].*`task_source`"
    ):
        check_splits(load(name, folder), "train", labels=False)


def test_one_class_is_nothing_to_learn(tmp_path):
    rows = [row for row in VALIDATION["sst2"] if row["label"]]
    write_rows([*rows, {"sentence": "dull", "label": -1, "idx": 9}], tmp_path / "train.jsonl")
    write_rows(rows, tmp_path / "validation.jsonl")  # may be judged
    with pytest.raises(ValueError, match="all rows of 'train' that have a label are 'positive'.*-1 counts as none"):
        check_splits(load("sst2", tmp_path, keep_unlabelled=True), "train", "validation")


def test_names_do_not_clash():
    assert not set(TASKS) & set(BUNDLED_CORPORA)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["rotten_tomatoes", "bbc"])
def test_bundled_corpora_are_tasks(name):
    task = load(name)
    sizes = {split: len(rows) for split, rows in task.splits.items()}
    assert 0.17 < sizes["validation"] / sum(sizes.values()) < 0.23
    assert len(set(task.splits["validation"]["label"])) == task.num_labels


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("evals") is None, reason="evals is not installed")
def test_the_real_sarcasm_and_social_iqa_are_whole():
    sizes = {name: {split: len(rows) for split, rows in load(name).splits.items()} for name in ("sarcasm", "social_iqa")}
    assert sizes["sarcasm"] == {"train": 22803, "validation": 5811}
    assert sizes["social_iqa"] == {"train": 1776, "validation": 448}
    rows = load("social_iqa").splits["train"]
    assert all(len(choices["text"]) == 3 and all(choices["text"]) for choices in rows["choices"])
