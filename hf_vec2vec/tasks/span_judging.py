"""SQuAD by a frozen encoder: linear probes for the start and the end of an answer on the states of tokens."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from sklearn.model_selection import GridSearchCV, GroupKFold
from torch import Tensor
from transformers import EvalPrediction, PreTrainedModel, PreTrainedTokenizerBase

from ..encoders.memory import available_memory
from ..encoders.text import TextEncoder
from .base import TaskCollator, evaluate_task, map_batches
from .metrics import question_f1
from .probes import group_probe, place_points
from .question_answering import QuestionAnsweringTask, right_answers

CHUNK = 256  # windows whose states are held at once where none are fitted on
COPIES = 3  # of all states that a probe is fitted on: as they came, in one piece, and while their scale is taken
BATCH = 16
OUTER_FOLDS = 5
TRAIN, JUDGED = "train", "validation"


def judge_spans(
    encoder: TextEncoder, task: QuestionAnsweringTask, train: Dataset, rows: Dataset, *, in_folds: bool, seed: int
) -> tuple[dict[str, float], np.ndarray, float]:
    """Official figures of probes on token states.

    Question and passage are read together, as a span head would. A score is linear in the state of a token; softmax goes
    over the tokens of the passage and the one that stands for no answer.

    Args:
        encoder: frozen, with layers and a tokenizer that gives offsets.
        task: how windows are made, and answers out of scores.
        train: rows that the probes are fitted on.
        rows: rows that are judged.
        in_folds: `train` and `rows` are the same: fit on four fifths of the passages, judge on the fifth, five times.
        seed: of the folds that the penalty is chosen in.

    Returns:
        Figures in percent, the F1 of each question (0 to 1), and the points of the probes in folds of the training rows.

    Raises:
        ValueError: for an encoder without token states, or one that cannot read as many tokens as a window has; for more
            training rows than the memory holds the states of.
    """
    _check_layers(encoder, task)
    task = replace(task, splits=DatasetDict({TRAIN: train, JUDGED: rows}))
    judged = task.prepare(encoder.tokenizer, JUDGED)
    if in_folds:
        _check_memory(encoder, judged, len(rows))
        scores, folds = _scores_in_folds(encoder, judged, rows["context"][:], seed)
    else:
        fitted = task.prepare(encoder.tokenizer, TRAIN)
        _check_memory(encoder, fitted, len(train))
        probes = _fitted(list(_states(encoder, fitted)), fitted, seed)
        scores = [_window_scores(probes, states, window) for states, window in _with_states(encoder, judged)]
        folds = _points(probes)
    starts, ends = zip(*scores, strict=True)
    figures = task.metrics_for(judged, JUDGED)(EvalPrediction(cast(Any, (starts, ends)), np.empty(0)))
    return figures, _f1(task, rows, *task.answers(judged, JUDGED, starts, ends)), folds


@dataclass(frozen=True)
class _KeepsAnswers(QuestionAnsweringTask):
    """Remembers what was answered to a split."""

    said: dict[str, tuple[dict[str, str], dict[str, float]]] = field(default_factory=dict, kw_only=True)

    def answers(self, features, split, start_logits, end_logits):
        """As the parent's."""
        self.said[split] = super().answers(features, split, start_logits, end_logits)
        return self.said[split]


def judge_span_head(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: QuestionAnsweringTask, split: str
) -> tuple[dict[str, float], np.ndarray]:
    """Official figures of a model with a trained span head, in percent, and the F1 of each question (0 to 1)."""
    keeping = _KeepsAnswers(**{each.name: getattr(task, each.name) for each in fields(QuestionAnsweringTask)})
    figures = evaluate_task(model, tokenizer, keeping, split, progress=False)
    return figures, _f1(task, task.rows(split), *keeping.said[split])


def _f1(task: QuestionAnsweringTask, rows: Dataset, answers: dict[str, str], no_answer: dict[str, float]) -> np.ndarray:
    if task.unanswerable:
        answers = {i: "" if no_answer[i] > task.null_threshold else answer for i, answer in answers.items()}
    return np.array(list(question_f1(answers, right_answers(rows, task.unanswerable), of_empty=task.unanswerable).values()))


def _check_layers(encoder: TextEncoder, task: QuestionAnsweringTask) -> None:
    if encoder.is_static or encoder.is_dual or (others := encoder.other_modules()):
        made_by = "a table of tokens" if encoder.is_static else "other modules" if encoder.is_dual else others
        raise ValueError(f"`encoder` {encoder.settings.model!r} makes vectors with {made_by}; spans need states of tokens.")
    longest = getattr(encoder.model.config.get_text_config(), "max_position_embeddings", None)
    if longest is not None and 0 < longest < task.default_length:  # some have no limit
        raise ValueError(
            f"`encoder` {encoder.settings.model!r} reads {longest} tokens at most, and windows of {task.name!r} have "
            f"{task.default_length}: take an encoder of longer texts."
        )


def _check_memory(encoder: TextEncoder, features: Dataset, rows: int) -> None:
    """Raise a ValueError, before anything is encoded, if the states of all windows take more memory than there is."""
    width, room = getattr(encoder.model.config.get_text_config(), "hidden_size", None), available_memory()
    if width is None or room is None or not len(features):
        return
    some = features.select(range(0, len(features), max(1, len(features) // CHUNK)))
    tokens = np.mean([len(_members(window)) for window in some])
    needed = int(len(features) * tokens * width * np.dtype(np.float32).itemsize * COPIES)
    if needed > room:
        enough = max(1, rows * room // needed // 2)
        raise ValueError(
            f"`encoder` makes states of {width} numbers for {len(features):,} windows of {tokens:.0f} tokens; probes on "
            f"them take about {needed / 1e9:.3g} GB of memory, and {room / 1e9:.3g} GB are left here. Give `max_rows` (in "
            f"Python also `max_train_rows`): {enough:,} of {rows:,} rows would take half of that."
        )


def _states(encoder: TextEncoder, features: Dataset) -> Iterator[np.ndarray]:
    """States `(members, d)` of the tokens of each window that may be a start or an end; see `_members`."""
    collator = TaskCollator(encoder.tokenizer)

    def step(batch: dict[str, Tensor]) -> Iterable[np.ndarray]:
        mask = batch["attention_mask"]  # token types stay out, as they do where vectors of texts are made
        found = encoder.model(input_ids=batch["input_ids"], attention_mask=mask, output_hidden_states=True)
        states = found.hidden_states[encoder.settings.layer].float().cpu()
        return [rows[: int(length)].numpy() for rows, length in zip(states, mask.sum(1), strict=True)]

    training = encoder.model.training
    encoder.model.eval()
    try:
        for first in range(0, len(features), CHUNK):
            windows = features.select(range(first, min(first + CHUNK, len(features))))
            with torch.inference_mode():
                found = map_batches(step, windows, collator, BATCH, encoder.device, progress=False)
            for states, window in zip(found, windows, strict=True):
                yield states[_members(window)]
    finally:
        encoder.model.train(training)


def _with_states(encoder: TextEncoder, features: Dataset) -> Iterator[tuple[np.ndarray, dict]]:
    return zip(_states(encoder, features), features, strict=True)


def _members(window: dict) -> np.ndarray:
    """Places of the tokens among which a span is chosen: the passage's, and the one of no answer."""
    of_passage = np.flatnonzero(np.array(window["offsets"])[:, 0] >= 0)
    return np.union1d(of_passage, [window["null_position"]])


def _fitted(states: list[np.ndarray], features: Dataset, seed: int) -> tuple[GridSearchCV, GridSearchCV]:
    """Probes for starts and ends."""
    members = [_members(window) for window in features]
    probes = []
    for column in ("start_positions", "end_positions"):
        places = [np.searchsorted(found, at) for found, at in zip(members, features[column][:], strict=True)]
        probes.append(group_probe(place_points, seed).fit(states, np.array(places)))
    return probes[0], probes[1]


def _window_scores(probes: tuple, states: np.ndarray, window: dict) -> tuple[np.ndarray, np.ndarray]:
    """Start and end scores of all tokens of a window, -inf for those that a span cannot have."""
    found = []
    for probe in probes:
        scores = np.full(len(window["offsets"]), -np.inf)
        scores[_members(window)] = probe.best_estimator_.scores([states])[0]
        found.append(scores)
    return found[0], found[1]


def _scores_in_folds(encoder: TextEncoder, features: Dataset, passages: list[str], seed: int) -> tuple[list, float]:
    states = list(_states(encoder, features))
    windows = list(features)
    owners = [passages[window["example"]] for window in windows]
    folds = min(OUTER_FOLDS, len(set(owners)))
    if folds < 2:
        raise ValueError("`split` has one passage alone, and no rows to train on: it cannot be judged in folds.")
    scores: list = [None] * len(windows)
    points = []
    for known, judged in GroupKFold(folds).split(windows, groups=owners):
        probes = _fitted([states[i] for i in known], features.select(known), seed)
        points.append(_points(probes))
        for i in judged:
            scores[i] = _window_scores(probes, states[i], windows[i])
    return scores, float(np.mean(points))


def _points(probes: tuple) -> float:
    return float(np.mean([probe.best_score_ for probe in probes]))


__all__ = ["judge_span_head", "judge_spans"]
