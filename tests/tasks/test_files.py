"""Benchmarks as their authors publish them become the rows that the Hub's schema has."""

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from helpers.tasks import VALIDATION, write_rows, write_task
from hf_vec2vec.tasks import load_task, loading


def lines(*rows: tuple) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


QUOTE = 'she said "yes'  # which no other quote closes: in these files it is a character like others
PAIR = ("index", "sentence1", "sentence2")
# Task, file, what is in it, texts and labels of its rows.
SEPARATED = {
    "sst2": ("dev.tsv", lines(("sentence", "label"), (QUOTE, 1), ("a bore", 0)), [(QUOTE, 1), ("a bore", 0)]),
    "cola": ("dev.tsv", lines(("gj04", 1, "", QUOTE), ("cj99", 0, "*", "him saw I")), [(QUOTE, 1), ("him saw I", 0)]),
    "mrpc": (
        "msr_paraphrase_test.txt",
        "\ufeff"
        + lines(("Quality", "#1 ID", "#2 ID", "#1 String", "#2 String"), (1, 7, 8, QUOTE, "yes"), (0, 9, 5, "a", "b")),
        [(QUOTE, "yes", 1), ("a", "b", 0)],
    ),
    "stsb": (
        "dev.tsv",
        lines(
            ("index", "genre", "filename", "year", "old_index", "source1", "source2", "sentence1", "sentence2", "score"),
            (0, "news", "f", 2012, 3, "none", "none", QUOTE, "no", "2.400"),
        ),
        [(QUOTE, "no", pytest.approx(2.4))],
    ),
    "stsb, by its authors": (
        "sts-dev.csv",
        lines(("news", "f", 2012, 3, "5.000", "one, two", "two"), ("news", "f", 2012, 4, "0.2", "a", "b", "http", "ftp")),
        [("one, two", "two", 5), ("a", "b", pytest.approx(0.2))],
    ),
    "qqp": (
        "dev.tsv",
        lines(("id", "qid1", "qid2", "question1", "question2", "is_duplicate"), (1, 2, 3, QUOTE, "is it?", 1)),
        [(QUOTE, "is it?", 1)],
    ),
    "qqp, partition": ("dev.tsv", lines((1, QUOTE, "why?", 17), (0, "a", "b", 18)), [(QUOTE, "why?", 1), ("a", "b", 0)]),
    "mnli": (
        "dev_matched.tsv",
        lines(("index", "pairID", "sentence1_parse", "sentence1", "sentence2", "label1", "gold_label"),
              (0, "1n", "( )", QUOTE, "it is", "neutral", "neutral"), (1, "2c", "( )", "up", "down", "-", "-"),
              (2, "3c", "( )", "in", "out", "contradiction", "contradiction")),
        [(QUOTE, "it is", 1), ("in", "out", 2)],
    ),
    "qnli": (
        "dev.tsv",
        lines(("index", "question", "sentence", "label"), (0, "who?", QUOTE, "not_entailment")),
        [("who?", QUOTE, 1)],
    ),
    "rte": ("dev.tsv", lines((*PAIR, "label"), (0, QUOTE, "a", "entailment")), [(QUOTE, "a", 0)]),
    "wnli": ("dev.tsv", lines((*PAIR, "label"), (0, QUOTE, "it", 1)), [(QUOTE, "it", 1)]),
}  # fmt: skip


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize("name", SEPARATED)
def test_separated_files_of_glue(name, single, tmp_path):
    file, content, expected = SEPARATED[name]
    (tmp_path / file).write_text(content, encoding="utf-8")
    task = load_task(name.split(",")[0], tmp_path / file if single else tmp_path)
    split = "test" if "test" in file else "validation"
    assert [(*(row[column] for column in task.columns), row["label"]) for row in task.splits[split]] == expected
    assert list(task.splits) == [split]


def test_suffixes_in_capitals_are_the_same(tmp_path):
    (tmp_path / "DEV.TSV").write_text(SEPARATED["sst2"][1], encoding="utf-8")
    assert load_task("sst2", tmp_path).splits["validation"]["sentence"][:] == [QUOTE, "a bore"]


def test_columns_that_no_data_set_can_hold_are_left_out(tmp_path):
    kinds = {"sentence": pa.string(), "label": pa.int64(), "facts": pa.map_(pa.string(), pa.int64())}
    table = pa.table({"sentence": ["a bore"], "label": [0], "facts": [[("year", 1999)]]}, schema=pa.schema(kinds.items()))
    pq.write_table(table, tmp_path / "dev.parquet")
    assert load_task("sst2", tmp_path).splits["validation"].column_names == ["sentence", "label"]


def test_what_macos_puts_beside_files_is_no_split(tmp_path):
    (tmp_path / "dev.tsv").write_text(SEPARATED["sst2"][1], encoding="utf-8")
    (tmp_path / "._dev.tsv").write_bytes(b"\0\5\x16\7")
    assert list(load_task("sst2", tmp_path).splits) == ["validation"]


def test_shards_that_are_missing_or_unlike_are_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_vec2vec.tasks.files.logger.warning", lambda text, *values: said.append(text % values))
    for k, labels in ((0, "01"), (2, "ab")):
        text = "\n".join(["sentence,label", *(f"row {k},{label}" for label in labels)])
        (tmp_path / f"train-0000{k}-of-00003.csv").write_text(text)
    with pytest.raises(ValueError, match="`source` .*: the 2 files of 'train' have columns of unlike types: .* label "):
        load_task("sst2", tmp_path)
    assert said == [f"{tmp_path}: of 3 files of 'train' only 2 are there."]


def test_jsonl_of_multinli_snli_and_boolq(tmp_path):
    rows = [
        {"gold_label": "contradiction", "sentence1": "a", "sentence2": "b"},
        {"gold_label": "-", "sentence1": "c", "sentence2": "d"},
    ]
    for file, split in (("multinli_1.0_dev_mismatched", "validation_mismatched"), ("snli_1.0_dev", "validation")):
        write_rows(rows, tmp_path / file / f"{file}.jsonl")
        task = load_task("mnli", tmp_path / file)
        assert task.splits[split].select_columns(["premise", "hypothesis", "label"]).to_list() == [
            {"premise": "a", "hypothesis": "b", "label": 2}
        ]
        assert task.unlabelled == {split: 1}
    rows = [{"question": "is it", "title": "t", "answer": answer, "passage": "p"} for answer in (True, False, True)]
    write_rows(rows, tmp_path / "boolq" / "dev.jsonl")
    task = load_task("boolq", tmp_path / "boolq")
    assert (task.labels, task.splits["validation"]["label"][:]) == (("False", "True"), [1, 0, 1])
    write_rows([{"question": "is it", "passage": "p", "label": "true"}], tmp_path / "super" / "val.jsonl")
    assert load_task("boolq", tmp_path / "super").splits["validation"]["label"][:] == [1]


def test_test_sets_without_labels_are_read_and_not_scored(tmp_path):
    (tmp_path / "test.tsv").write_text(lines(("index", "sentence"), (0, "so"), (1, "no")))
    (tmp_path / "dev.tsv").write_text(lines(("a", 1, "", "so"), ("b", 0, "", "no")))
    task = load_task("cola", tmp_path)
    assert {split: rows["label"][:] for split, rows in task.splits.items()} == {"validation": [1, 0], "test": [-1, -1]}
    (tmp_path / "dev.tsv").write_text(lines(("index", "sentence"), (0, "so")))
    with pytest.raises(ValueError, match=r"'cola', 'validation', has the columns .* it lacks \['label'\]"):
        load_task("cola", tmp_path)


def test_lines_of_another_width_are_left_out_and_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_vec2vec.tasks.files.logger.warning", lambda text, *values: said.append(text % values))
    header = ("id", "qid1", "qid2", "question1", "question2", "is_duplicate")
    (tmp_path / "train.tsv").write_text(lines(header, (1, 2, 3, "a", "b", 1), (2, 3, "half a row"), (3, 4, 5, "c", "d", 0)))
    (tmp_path / "dev.tsv").write_text(lines(header, (1, 2, 3, "a", "b", 1)))
    assert load_task("qqp", tmp_path).splits["train"]["question1"][:] == ["a", "c"]
    assert said == ["train.tsv: 1 line(s) have another number of values than the first and are left out, such as line 3."]


def article(*questions: dict) -> dict:
    return {
        "version": "x",
        "data": [{"title": "T", "paragraphs": [{"context": "It opened in 1907.", "qas": list(questions)}]}],
    }


ANSWERED = {
    "id": "1",
    "question": "When?",
    "answers": [{"text": "1907", "answer_start": 13}, {"text": "in 1907", "answer_start": 10}],
}
NONE = {
    "id": "2",
    "question": "Who?",
    "answers": [],
    "is_impossible": True,
    "plausible_answers": [{"text": "It", "answer_start": 0}],
}


@pytest.mark.parametrize("single", [False, True])
@pytest.mark.parametrize(
    ("name", "file"), [("squad", "dev-v1.1.json"), ("squad_v2", "dev-v2.0.json"), ("squad_v2", "dev.json")]
)
def test_squad_as_published(name, file, single, tmp_path):
    questions = [ANSWERED] if name == "squad" else [ANSWERED | {"is_impossible": False}, NONE]
    (tmp_path / file).write_text(json.dumps(article(*questions)))
    rows = load_task(name, tmp_path / file if single else tmp_path).splits["validation"]
    assert rows[0] == {
        "id": "1", "title": "T", "context": "It opened in 1907.", "question": "When?",
        "answers": {"text": ["1907", "in 1907"], "answer_start": [13, 10]},
    }  # fmt: skip
    assert len(rows) == len(questions)
    assert name == "squad" or rows[1]["answers"] == {"text": [], "answer_start": []}


def test_squad_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "dev-v2.0.json").write_text(json.dumps(article(ANSWERED, NONE)))
    with pytest.raises(ValueError, match="dev-v2.0.json' cannot be read: it has questions without an answer.*'squad_v2'"):
        load_task("squad", tmp_path)
    for broken in (
        {"data": [{"paragraphs": 3}]},
        {"data": ["x"]},
        article({"id": "1"}),
        article(ANSWERED | {"answers": [{}]}),
    ):
        (tmp_path / "dev-v2.0.json").write_text(json.dumps(broken))
        with pytest.raises(ValueError, match="`source` .*dev-v2.0.json' cannot be read: it is not in the form of SQuAD"):
            load_task("squad_v2", tmp_path)
    (tmp_path / "dev-v2.0.json").write_text("{")
    with pytest.raises(ValueError, match="dev-v2.0.json' cannot be read"):
        load_task("squad_v2", tmp_path)


def test_commonsense_qa_arc_and_social_iqa_as_published(tmp_path):
    listed = [{"label": label, "text": text} for label, text in zip("ABC", ["oven", "fridge", "hat"], strict=True)]
    official = {"id": "x", "answerKey": "B", "question": {"question_concept": "milk", "stem": "Where?", "choices": listed}}
    arc = {"id": "y", "answerKey": "2", "question": {"stem": "Where?", "choices": listed}}
    hub = {
        "id": "z",
        "question": "Where?",
        "choices": {"label": list("ABC"), "text": ["oven", "fridge", "hat"]},
        "answerKey": "B",
    }
    for row in (official, arc, hub):
        write_rows([row, row | {"id": "w"}], tmp_path / "dev_rand_split.jsonl")
        write_rows([{k: v for k, v in row.items() if k != "answerKey"}], tmp_path / "test_rand_split_no_answers.jsonl")
        task = load_task("commonsense_qa", tmp_path)
        found = task.splits["validation"][0]
        assert (found["question"], found["choices"]) == (hub["question"], hub["choices"])
        assert task.splits["test"]["answerKey"][:] == [None]
        assert loading.right_choices(task.splits["validation"][:]) == [1, 1]
    social = {"context": "Ann met Bo.", "question": "Then?", "answerA": "wave", "answerB": "go", "answerC": "sing"}
    for answer in ({"correct": "C"}, {"label": "3"}):
        write_rows([social | answer], tmp_path / "social" / "dev.jsonl")
        Dataset.from_list([social | answer]).to_parquet(tmp_path / "social" / "train.parquet")
        task = load_task("social_iqa", tmp_path / "social")
        for rows in task.splits.values():
            assert rows[0]["question"] == "Ann met Bo. Then?"
            assert rows[0]["choices"]["text"] == ["wave", "go", "sing"]
            assert loading.right_choices(rows[:]) == [2]
    write_rows([{"question": {"stem": "Where?"}, "answerKey": "A"}], tmp_path / "dev_rand_split.jsonl")
    with pytest.raises(ValueError, match="dev_rand_split.jsonl' cannot be read: row 1 is no question with choices"):
        load_task("commonsense_qa", tmp_path)


def test_two_files_of_one_split_and_empty_or_missing_texts_are_refused(tmp_path):
    write_rows(VALIDATION["sst2"], tmp_path / "validation.jsonl")
    (tmp_path / "dev.tsv").write_text(lines(("sentence", "label"), ("a", 1)))
    with pytest.raises(ValueError, match="has 2 files of 'validation': dev.tsv, validation.jsonl"):
        load_task("sst2", tmp_path)
    (tmp_path / "dev.tsv").unlink()
    write_rows([*VALIDATION["sst2"], {"sentence": None, "label": 1, "idx": 9}], tmp_path / "validation.jsonl")
    with pytest.raises(ValueError, match=r"has 1 row\(s\) without a text in 'sentence', such as number 5"):
        load_task("sst2", tmp_path)
    (tmp_path / "validation.jsonl").unlink()
    (tmp_path / "dev.tsv").write_text("")
    with pytest.raises(ValueError, match="dev.tsv' cannot be read: it is empty"):
        load_task("sst2", tmp_path)
    (tmp_path / "dev.tsv").write_text("sentence\tlabel\n")
    with pytest.raises(ValueError, match="'sst2', 'validation', has"):
        load_task("sst2", tmp_path)


def test_quotes_that_a_program_doubled_are_single_again(tmp_path):
    (tmp_path / "dev.tsv").write_text(lines(("sentence", "label"), ('"he said ""hello"" to me"', 1), (QUOTE, 0)))
    assert load_task("sst2", tmp_path).rows("validation")["sentence"][:] == ['he said "hello" to me', QUOTE]


def test_a_saved_split_is_whole(tmp_path):
    rows = Dataset.from_dict({"sentence": [f"text {k}" for k in range(40)], "label": [0, 1] * 20})
    rows.save_to_disk(str(tmp_path / "validation"))
    task = load_task("sst2", tmp_path / "validation")
    assert {split: len(found) for split, found in task.splits.items()} == {"validation": 40}


@pytest.mark.parametrize("name", ["squad", "squad_v2", "commonsense_qa", "mrpc"])
def test_lines_of_json_are_read_by_any_suffix(name, tmp_path):
    expected = load_task(name, write_task(name, tmp_path / "lines")).splits
    (tmp_path / "other").mkdir()
    for split in ("train", "validation"):
        shutil.copy(tmp_path / "lines" / f"{split}.jsonl", tmp_path / "other" / f"{split}.json")
    found = load_task(name, tmp_path / "other").splits
    assert {split: rows.to_list() for split, rows in found.items()} == {k: rows.to_list() for k, rows in expected.items()}
