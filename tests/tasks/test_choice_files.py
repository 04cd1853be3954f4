"""Questions with choices as people have them in their own files."""

import json

import pytest
from datasets import Dataset

from helpers.tasks import write_rows
from hf_vec2vec.tasks import load_task
from hf_vec2vec.tasks.multiple_choice import right_choices

TEXTS = ["oven", "fridge", "hat"]
HUB = {"label": list("ABC"), "text": TEXTS}
LISTED = [{"label": label, "text": text} for label, text in zip("ABC", TEXTS, strict=True)]


def write(rows, folder, kind):
    """One file of training rows."""
    folder.mkdir(exist_ok=True)
    if kind == "jsonl":
        write_rows(rows, folder / "train.jsonl")
    elif kind == "parquet":
        Dataset.from_list(rows).to_parquet(folder / "train.parquet")
    else:
        Dataset.from_list([row | {"choices": json.dumps(row["choices"])} for row in rows]).to_csv(folder / "train.csv")
    return folder


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
@pytest.mark.parametrize(
    ("choices", "keys"),
    [
        (HUB, ["B", "A", "C"]),
        (LISTED, ["B", "A", "C"]),
        (TEXTS, ["B", "a", "C"]),
        (TEXTS, [1, 0, 2]),
        (TEXTS, ["2", "1", "3"]),
    ],
    ids=["hub", "list", "letters", "from 0", "from 1"],
)
def test_choices_in_any_form_and_file(tmp_path, choices, keys, kind):
    hidden = -1 if isinstance(keys[0], int) else None
    rows = [{"question": f"Where {key}?", "choices": choices, "answerKey": key} for key in [*keys, hidden]]
    task = load_task("commonsense_qa", write(rows, tmp_path / "task", kind), keep_unlabelled=True)
    found = task.splits["train"]
    assert found["choices"][:] == [HUB] * len(found)
    assert right_choices(found[:]) == [1, 0, 2, -1][: len(found)]


def test_rows_without_any_answer_keep_their_choices(tmp_path):
    rows = [{"question": "Where?", "choices": TEXTS}] * 2
    found = load_task("commonsense_qa", write(rows, tmp_path / "task", "parquet")).splits["train"]
    assert found[0]["choices"] == HUB
    assert right_choices(found[:]) == [-1, -1]


GOOD = {"question": "Where?", "choices": HUB, "answerKey": "B"}
PLAIN = GOOD | {"choices": TEXTS}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([GOOD, GOOD | {"choices": None}], "row 2: `choices` is null"),
        (
            [GOOD, GOOD | {"choices": {"label": list("ABC"), "text": ["a", None, "c"]}}],
            "row 2: `choices` has None in 'text'",
        ),
        ([GOOD | {"choices": [*LISTED[:2], {"label": None, "text": "x"}]}], "row 1: `choices` has None in 'label'"),
        ([GOOD | {"choices": {"label": list("AB"), "text": TEXTS}}], "row 1: `choices` has 2 labels and 3 texts"),
        ([PLAIN, PLAIN | {"choices": ["a", None]}], "row 2: `choices` has None in 'text'"),
        ([GOOD | {"choices": []}], "row 1: `choices` is empty"),
        ([GOOD | {"choices": 3}], "row 1: `choices` must be"),
        ([GOOD | {"choices": "{'label': ['A'], 'text': ['a']}"}], "row 1: `choices` is .* no JSON"),
        (
            [PLAIN | {"answerKey": 1}, PLAIN | {"answerKey": 2}],
            "`answerKey` counts choices from 0 or from 1, and no row tells",
        ),
        ([PLAIN | {"answerKey": 0}, PLAIN | {"answerKey": 3}], "`answerKey` counts choices from 0 and from 1"),
        ([PLAIN, PLAIN | {"answerKey": "fridge"}], "row 2: `answerKey` is 'fridge'"),
        ([PLAIN, PLAIN | {"answerKey": "D"}], "row 2: `answerKey` is 'D'"),
        ([PLAIN, PLAIN | {"answerKey": 1}], "row 2: `answerKey` is '1'"),
        ([GOOD, {"question": {"stem": "Where?"}, "answerKey": "A"}], "row 2 is no question with choices"),
    ],
    ids=str,
)
def test_choices_that_cannot_be_read_are_named(rows, message, tmp_path):
    with pytest.raises(ValueError, match=f"train.jsonl' cannot be read: {message}"):
        load_task("commonsense_qa", write(rows, tmp_path / "task", "jsonl"))


def test_missing_columns_are_named(tmp_path):
    for kind in ("jsonl", "parquet"):
        rows = [{"question": "Where?", "answerKey": "A"}]
        with pytest.raises(ValueError, match=r"it lacks \['choices'\]"):
            load_task("commonsense_qa", write(rows, tmp_path / kind, kind))
