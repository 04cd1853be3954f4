from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from torch import nn
from transformers import BertConfig
from transformers.modeling_outputs import QuestionAnsweringModelOutput

from helpers.tasks import decoder_tokenizer, encoder_tokenizer, write_rows, write_task
from hf_vec2vec.tasks import evaluate_task, load_task
from hf_vec2vec.tasks.question_answering import best_span

ENCODER, DECODER = encoder_tokenizer(), decoder_tokenizer()


@pytest.fixture
def load(tmp_path):
    return lambda name: load_task(name, write_task(name, tmp_path / name))


class Spans(nn.Module):
    """Puts logits where it is told to, `({token: start logit}, {token: end logit})` a window, however it is padded."""

    device = torch.device("cpu")

    def __init__(self, answer):
        super().__init__()
        self.answer, self.config = answer, BertConfig()

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        logits = torch.full((2, *input_ids.shape), -5.0)
        for i, (ids, mask) in enumerate(zip(input_ids, attention_mask, strict=True)):
            for side, places in enumerate(self.answer(tuple(ids[mask.bool()].tolist()))):
                for place, score in places.items():
                    logits[side, i, place] = score
        return QuestionAnsweringModelOutput(start_logits=logits[0], end_logits=logits[1])


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
@pytest.mark.parametrize("tokenizer", [ENCODER, DECODER], ids=["encoder", "decoder"])
@pytest.mark.parametrize("max_length", [384, 24])
def test_an_oracle_recovers_every_answer_also_across_windows(name, tokenizer, max_length, load):
    task = replace(load(name), stride=8)
    features = task.prepare(tokenizer, "validation", max_length)
    assert (len(features) > len(task.splits["validation"])) == (max_length == 24)
    assert max(map(len, features["input_ids"])) <= max_length
    known = {tuple(row["input_ids"]): ({row["start_positions"]: 9.0}, {row["end_positions"]: 9.0}) for row in features}
    found = evaluate_task(Spans(known.__getitem__), tokenizer, task, max_length=max_length, batch_size=3, progress=False)
    if name == "squad":
        assert found == {"exact_match": 100, "f1": 100}
        return
    figures = ("exact", "f1", "HasAns_exact", "HasAns_f1", "NoAns_exact", "NoAns_f1", "best_exact", "best_f1")
    assert {figure: found[figure] for figure in figures} == dict.fromkeys(figures, 100)
    assert (found["total"], found["HasAns_total"], found["NoAns_total"]) == (4, 3, 1)


@pytest.mark.parametrize("tokenizer", [ENCODER, DECODER], ids=["encoder", "decoder"])
def test_constants_score_their_known_values(tokenizer, load):
    """The first word of each passage: "Marla", half of "Marla Venn", and "The", which does not count as a word."""

    def first_word(task, row):
        i = next(i for i, (start, _) in enumerate(row["offsets"]) if start >= 0)
        return {i: 1.0}, {i: 1.0}

    task = load("squad")
    words = {tuple(row["input_ids"]): first_word(task, row) for row in task.prepare(tokenizer, "validation")}
    found = evaluate_task(Spans(words.__getitem__), tokenizer, task, progress=False)
    assert found == pytest.approx({"exact_match": 0, "f1": 100 * (2 / 3) / 3})
    task = load("squad_v2")
    none = {tuple(row["input_ids"]): ({row["null_position"]: 1.0},) * 2 for row in task.prepare(tokenizer, "validation")}
    found = evaluate_task(Spans(none.__getitem__), tokenizer, task, progress=False)
    assert (found["exact"], found["f1"], found["NoAns_exact"], found["HasAns_f1"]) == (25, 25, 100, 0)


def test_the_null_threshold_decides_between_a_span_and_none(load):
    task = load("squad_v2")
    features = task.prepare(ENCODER, "validation")
    known = {  # spans score 8, no answer 2 more
        tuple(row["input_ids"]): ({row["start_positions"]: 4.0, 0: 5.0}, {row["end_positions"]: 4.0, 0: 5.0})
        for row in features
    }
    found = {
        threshold: evaluate_task(Spans(known.__getitem__), ENCODER, replace(task, null_threshold=threshold), progress=False)
        for threshold in (0.0, 3.0)
    }
    assert (found[0.0]["HasAns_exact"], found[0.0]["NoAns_exact"]) == (0, 100)
    assert (found[3.0]["HasAns_exact"], found[3.0]["NoAns_exact"]) == (100, 100)  # there, no span came near
    assert found[0.0]["best_exact"] == found[3.0]["best_exact"] == 100


def test_the_best_window_answers_and_the_least_sure_of_none_counts(load):
    """A passage in two windows, which begin with "The" and with a comma: spans score 4 and 2, no answer 7 and 3."""
    task = replace(load("squad_v2"), stride=8)
    features = task.prepare(ENCODER, "validation", 30).filter(lambda row: row["example"] == 2)
    first, second = (next(i for i, place in enumerate(row["offsets"]) if place[0] >= 0) for row in features)
    assert first == second
    logits = np.full((2, 30), -9.0)
    logits[:, 0], logits[:, first] = (3.5, 1.5), (2.0, 1.0)
    (answer,), (no_answer,) = (found.values() for found in task.answers(features, "validation", logits, logits))
    assert (answer, no_answer) == ("The", 3 - 4)
    logits = logits[::-1]
    (answer,), (no_answer,) = (found.values() for found in task.answers(features, "validation", logits, logits))
    assert (answer, no_answer) == (",", 3 - 4)


def test_windows_cover_the_passage_and_mark_the_answer(load):
    task = replace(load("squad"), stride=8)
    rows, features = task.splits["validation"], task.prepare(ENCODER, "validation", 30)
    for example in range(len(rows)):
        windows = [row for row in features if row["example"] == example]
        covered = {place for row in windows for start, end in row["offsets"] if start >= 0 for place in range(start, end)}
        assert covered >= {i for i, letter in enumerate(rows[example]["context"]) if letter != " "}
        marked = [row for row in windows if row["start_positions"] != row["null_position"]]
        assert 0 < len(marked) <= len(windows)
        for row in marked:
            first, last = row["offsets"][row["start_positions"]][0], row["offsets"][row["end_positions"]][1]
            assert rows[example]["context"][first:last].strip() == rows[example]["answers"]["text"][0]
    assert features[0]["null_position"] == 0
    features = task.prepare(DECODER, "validation", 30)
    assert all(row["input_ids"][row["null_position"]] == DECODER.eos_token_id for row in features)
    assert all(row["null_position"] == len(row["input_ids"]) - 1 == sum(row["attention_mask"]) - 1 for row in features)


def test_best_span_by_hand():
    offsets = np.array([[-1, -1], [0, 3], [4, 7], [8, 12], [-1, -1]])
    start, end = np.array([9.0, 1, 3, 0, 9, 99]), np.array([9.0, 4, 1, 1, 9, 99])  # the sixth is padding
    assert best_span(start, end, offsets, 30) == (5, (0, 3))  # 3 + 4 would end before it starts
    assert best_span(start, np.array([0.0, 0, 1, 2.5, 0]), offsets, 30) == (5.5, (4, 12))
    assert best_span(start, np.array([0.0, 0, 1, 2.5, 0]), offsets, 1) == (4, (4, 7))
    assert best_span(start, end, np.full((5, 2), -1), 30) == (-np.inf, (0, 0))


def test_every_pair_of_likely_tokens_is_tried():
    """Against brute force, in windows short enough for all of their tokens to be among the likely ones."""
    generator = np.random.default_rng(0)
    offsets = np.array([(4 * i, 4 * i + 3) for i in range(15)])
    for _ in range(20):
        start, end = generator.normal(size=(2, 15))
        spans = [(start[i] + end[j], (4 * i, 4 * j + 3)) for i in range(15) for j in range(i, min(i + 4, 15))]
        assert best_span(start, end, offsets, 4) == max(spans)


def test_part_of_a_split_is_scored_alone(load):
    task = load("squad")
    features = task.prepare(ENCODER, "validation")
    part = features.filter(lambda row: row["example"] == 2)
    right = [np.eye(99)[part[name]] for name in ("start_positions", "end_positions")]
    answers, _ = task.answers(part, "validation", *right)
    assert answers == {"Where did the baker sell rolls?": "on the ice"}


def test_bad_settings_are_refused(load):
    task = load("squad")
    with pytest.raises(ValueError, match=r"`max_length` 100 leaves no room .* and `stride` 128: give \d+ at least"):
        task.prepare(ENCODER, "validation", 100)
    for tokenizer in (ENCODER, DECODER):  # what the error asks for is enough, and no more than that
        with pytest.raises(ValueError, match="at least") as raised:
            task.prepare(tokenizer, "validation", 100)
        least = int(str(raised.value).split()[-3])
        assert max(map(len, task.prepare(tokenizer, "validation", least)["input_ids"])) <= least
        with pytest.raises(ValueError, match=f"give {least} at least"):
            task.prepare(tokenizer, "validation", least - 1)
    tokenizer = decoder_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither a cls nor an end token"):
        task.prepare(tokenizer, "validation")
    splits = DatasetDict({"validation": load("squad_v2").splits["validation"]})
    hidden = replace(task, splits=splits)
    with pytest.raises(ValueError, match=r"no answer for 1 id.*'Who owned the lake\?'. Is this `squad_v2`"):
        hidden.metrics_for(hidden.prepare(ENCODER, "validation"), "validation")


ROWS = {
    "bytes were counted": ("Zoë Åberg came in 1912.", ["1912"], [20], 18),
    "one too far": ("Ann came home.", ["came"], [5], 4),
    "of two the nearer": ("in May, or in June, or in July", ["in"], [12], 11),
    "before the beginning": ("Ann came home.", ["Ann"], [-1], 0),
    "behind the end": ("Ann came home.", ["home"], [99], 9),
    "signs of patterns": ("Is it (a.b)? yes", ["(a.b)?"], [7], 6),
    "a number as text": ("Ann came home.", ["came"], ["4"], 4),
}


@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_an_answer_is_learned_where_it_stands(kind, split, tmp_path, caplog):
    context, texts, starts, place = ROWS[kind]
    row = {"id": "1", "title": "t", "context": context, "question": "What?"}
    for form in {"text": texts, "answer_start": starts}, [{"text": texts[0], "answer_start": starts[0]}]:
        write_rows([row | {"answers": form}], tmp_path / f"{split}.jsonl")
        task = load_task("squad", tmp_path)
        assert task.splits[split]["answers"][0] == {"text": texts, "answer_start": [place]}
        window = task.prepare(ENCODER, split)[0]
        first, last = (window["offsets"][window[name]] for name in ("start_positions", "end_positions"))
        assert first[0] <= place < place + len(texts[0]) <= last[1]
        assert last[1] - first[0] <= len(texts[0]) + 1  # a token of a byte-level tokenizer has the space before it


def test_an_answer_that_is_nowhere_is_compared_and_not_learned(tmp_path, caplog):
    row = {"title": "t", "context": "Ann came home.", "question": "Who?"}
    rows = [row | {"id": text, "answers": {"text": [text], "answer_start": [0]}} for text in ("Ann", "Bob", "")]
    for split in "train", "validation":
        write_rows(rows, tmp_path / f"{split}.jsonl")
    task = load_task("squad", tmp_path)
    assert task.splits["train"]["id"][:] == ["Ann"]
    assert task.splits["validation"]["id"][:] == ["Ann", "Bob", ""]
    assert "'train': 2 answer(s) are not in the passage, such as 'Bob' of row 1. They are left out." in caplog.text
    assert load_task("squad", tmp_path, language_model=True).splits["train"]["id"][:] == ["Ann", "Bob", ""]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answers": {"text": ["a"], "answer_start": []}}, r"'validation', row 1: `answers` must be {'text'"),
        ({"answers": {"text": "a", "answer_start": [1]}}, "row 1: `answers` must be"),
        ({"answers": {"text": ["a"], "answer_start": ["here"]}}, "row 1: `answers` must be"),
        ({"question": None}, "1 row.s. without a text in 'question', such as number 1"),
    ],
)
def test_questions_of_another_form_are_named(change, message, tmp_path):
    row = {"id": "1", "title": "t", "context": "a b", "question": "What?", "answers": {"text": ["a"], "answer_start": [0]}}
    write_rows([row, row | {"id": "2"} | change], tmp_path / "validation.jsonl")
    with pytest.raises(ValueError, match=message):
        load_task("squad", tmp_path)


def test_a_cls_token_that_is_never_written_is_none(load):
    tokenizer = decoder_tokenizer()
    tokenizer.cls_token = "Marla"
    task = load("squad_v2")
    named, plain = (task.prepare(known, "validation") for known in (tokenizer, DECODER))
    assert named[:] == plain[:]
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="neither a cls nor an end token.* must be one that it writes beside texts"):
        task.prepare(tokenizer, "validation")
