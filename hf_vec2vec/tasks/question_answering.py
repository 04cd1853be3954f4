"""SQuAD by a span head: windows over long passages, and the best span of all windows."""

import json
import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset, List, Value
from transformers import AutoModelForQuestionAnswering, EvalPrediction, PreTrainedTokenizerBase

from .base import Task, check_offsets, first_of_pair
from .metrics import squad, squad_v2

logger = logging.getLogger(__name__)
ANSWERS = {"text": List(Value("string")), "answer_start": List(Value("int32"))}
N_BEST = 20  # start and end tokens that are combined in each window
OUTSIDE = (-1, -1)  # offsets of tokens that are not of the passage


@dataclass(frozen=True)
class QuestionAnsweringTask(Task):
    """Answers are spans of a passage. Encoders and causal language models with a span head.

    A passage that is too long is read in overlapping windows. In windows without the answer, and where there is none, the
    span is the `cls` token. A tokenizer that writes none gets its end token behind the passage for that, since in a causal
    model only the last token has read all others.

    Args:
        name, splits: see [`Task`]; rows have `id`, `question`, `context` and `answers`, `{text, answer_start}`.
        unanswerable: whether there are questions without an answer (SQuAD 2.0).
        stride: tokens by which windows overlap.
        max_answer_length: tokens.
        null_threshold: how much higher than the best span (sum of both logits) no answer must score to be given.

    Source: Devlin et al., "BERT: pre-training of deep bidirectional transformers", 2019, section 4.2 and 4.3.
    """

    unanswerable: bool
    stride: int = 128
    max_answer_length: int = 30
    null_threshold: float = 0.0

    head: ClassVar[Any] = AutoModelForQuestionAnswering
    default_length: ClassVar[int] = 384
    outputs: ClassVar[tuple[str, ...]] = ("start_logits", "end_logits")

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. One row a window, with `start_positions` and `end_positions` of the first right answer.

        `example` is the row of the split, `null_position` the token that stands for no answer, `offsets` `(tokens, 2)` the
        place of each token in the passage, -1 for tokens that are not of it.

        Raises:
            ValueError: also for a tokenizer without offsets, or without an end token where it writes no `cls` token.
        """
        check_offsets(tokenizer)
        rows, max_length = self.rows(split), self.length(max_length)
        if written_cls(tokenizer) is None and tokenizer.eos_token_id is None:
            raise ValueError(
                "`tokenizer` has neither a cls nor an end token, which would stand for no answer. A cls token must be one "
                "that it writes beside texts."
            )
        self._check_room(tokenizer, rows["question"], max_length)

        options = {"tokenizer": tokenizer, "max_length": max_length, "stride": self.stride}
        return rows.map(_windows, batched=True, with_indices=True, remove_columns=rows.column_names, fn_kwargs=options)

    def _check_room(self, tokenizer: PreTrainedTokenizerBase, questions: list[str], max_length: int) -> None:
        asked = [question.strip() for question in questions]
        longest = max(map(len, tokenizer(first_of_pair(tokenizer, asked), add_special_tokens=False)["input_ids"]))
        needed = longest + tokenizer.num_special_tokens_to_add(pair=True) + self.stride + 1
        needed += written_cls(tokenizer) is None  # the end token
        if max_length < needed:
            raise ValueError(
                f"`max_length` {max_length} leaves no room beside the longest question ({longest} tokens) and `stride` "
                f"{self.stride}: give {needed} at least."
            )

    def has_label(self, split: str) -> np.ndarray:
        """See [`Task`]."""
        return answered(self.rows(split)["answers"][:], self.unanswerable)

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are start and end logits, one row a window, padded at will."""
        rows = self.rows(split).select(sorted(set(features["example"])))
        known = self.known(split, answered(rows["answers"][:], self.unanswerable))
        references = right_answers(rows, self.unanswerable)
        unlabelled = self.unlabelled_rows(split, known)

        def compute(found: EvalPrediction) -> dict[str, float]:
            predictions, no_answer = self.answers(features, split, *found.predictions)
            if self.unanswerable:
                return squad_v2(predictions, references, no_answer, self.null_threshold) | unlabelled
            return squad(predictions, references) | unlabelled

        return compute

    def answers(
        self, features: Dataset, split: str, start_logits: Sequence[np.ndarray], end_logits: Sequence[np.ndarray]
    ) -> tuple[dict[str, str], dict[str, float]]:
        """The best span of all windows of each question, and by how much no answer scores higher.

        Args:
            features: of `prepare`, w windows.
            split: that they come from.
            start_logits: w rows, each as long as its window, or longer if it is padded.
            end_logits: the same.

        Returns:
            `{id: answer}`, empty only where no window has a span, and `{id: null score - span score}`, in which the null
            score is the lowest of all windows.
        """
        rows = self.rows(split)
        best: dict[int, tuple[float, tuple[int, int]]] = {}
        null: dict[int, float] = {}
        windows = zip(features.with_format("numpy"), start_logits, end_logits, strict=True)
        for window, start, end in windows:
            example, at = int(window["example"]), window["null_position"]
            score, span = best_span(start, end, window["offsets"], self.max_answer_length)
            best[example] = max(best.get(example, (-np.inf, (0, 0))), (score, span))
            null[example] = min(null.get(example, np.inf), float(start[at] + end[at]))
        predictions, differences = {}, {}
        for example, (score, (first, last)) in best.items():
            row = rows[example]
            predictions[row["id"]] = row["context"][first:last].strip()
            differences[row["id"]] = null[example] - score
        return predictions, differences


def written_cls(tokenizer: PreTrainedTokenizerBase) -> int | None:
    """The `cls` token, if the tokenizer writes it beside texts: some only name one."""
    cls = tokenizer.cls_token_id
    return cls if cls is not None and cls in tokenizer("a", "a")["input_ids"] else None


def _windows(
    batch: dict[str, list], examples: list[int], tokenizer: PreTrainedTokenizerBase, max_length: int, stride: int
) -> dict[str, list]:
    null_token = written_cls(tokenizer)
    encoded = tokenizer(
        first_of_pair(tokenizer, [question.strip() for question in batch["question"]]),
        batch["context"],
        truncation="only_second",
        max_length=max_length - (null_token is None),
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    owners, spans = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
    windows = dict(encoded) | {"start_positions": [], "end_positions": [], "null_position": [], "offsets": []}
    for i, owner in enumerate(owners):
        sides = encoded.sequence_ids(i)
        offsets = [span if side == 1 else OUTSIDE for span, side in zip(spans[i], sides, strict=True)]
        if null_token is None:
            for name in encoded:  # mask 1, and the passage's type
                windows[name][i] = windows[name][i] + windows[name][i][-1:]
            windows["input_ids"][i][-1] = tokenizer.eos_token_id
            offsets.append(OUTSIDE)
            null = len(offsets) - 1
        else:
            null = windows["input_ids"][i].index(null_token)
        start, end = _target(offsets, batch["answers"][owner]) or (null, null)
        windows["start_positions"].append(start)
        windows["end_positions"].append(end)
        windows["null_position"].append(null)
        windows["offsets"].append(offsets)
    return windows | {"example": [examples[owner] for owner in owners]}


def answered(answers: Sequence[dict[str, list] | None], unanswerable: bool) -> np.ndarray:
    """Whether each question has its label, `(n,)`: an answer, or, if `unanswerable`, an empty list of them."""
    found = [None if row is None else row["text"] for row in answers]
    return np.array([texts is not None and (unanswerable or bool(texts)) for texts in found])


def with_places(rows: Dataset, where: str, *, to_train_on: bool) -> Dataset:
    """Rows whose first answer stands where its `answer_start` says: a span head would learn another span else.

    Answers that stand elsewhere in their passage, as where bytes were counted or the passage was edited, get their place.

    Args:
        rows: with `context` and `answers`, `{text, answer_start}`, or a list of such, one an answer.
        where: what the rows are of, for errors.
        to_train_on: leave out rows whose answer is not in the passage; they stay where answers are only compared.

    Raises:
        ValueError: for answers of another form.
    """
    given, found = rows["answers"][:], []
    moved: list[int] = []
    lost: list[int] = []
    for i, (context, answers) in enumerate(zip(rows["context"], given, strict=True)):
        try:
            answers = _in_columns(answers)
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise ValueError(
                f"{where}, row {i}: `answers` must be {{'text': [...], 'answer_start': [...]}}, got {answers!r:.200}."
            ) from error
        if answers and answers["text"]:
            text, start = answers["text"][0], answers["answer_start"][0]
            stands = bool(text) and start >= 0 and context.startswith(text, start)
            place = start if stands else _nearest(context, text, start)
            if place != start:
                (lost if place is None else moved).append(i)
                answers = answers | {"answer_start": [start if place is None else place, *answers["answer_start"][1:]]}
        found.append(answers)
    if moved:
        logger.warning("%s: %s answer(s) get the place where they stand, such as of row %s.", where, len(moved), moved[0])
    if lost:
        done = " They are left out." if to_train_on else ""
        example = found[lost[0]]["text"][0]
        logger.warning(
            "%s: %s answer(s) are not in the passage, such as %r of row %s.%s", where, len(lost), example, lost[0], done
        )
    if found != given:
        rows = rows.remove_columns("answers").add_column("answers", found, feature=ANSWERS)
    return rows.select(sorted(set(range(len(rows))) - set(lost))) if lost and to_train_on else rows


def _in_columns(answers: Any) -> dict[str, list] | None:
    """Answers as the Hub has them."""
    if isinstance(answers, str):
        answers = json.loads(answers)  # in a CSV, or where rows are of several forms
    if answers is None:
        return None
    if isinstance(answers, list):
        answers = {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}
    texts, starts = list(answers["text"]), [int(start) for start in answers["answer_start"]]
    if len(texts) != len(starts) or not all(isinstance(text, str) for text in texts) or isinstance(answers["text"], str):
        raise ValueError
    return {"text": texts, "answer_start": starts}


def _nearest(context: str, text: str, start: int) -> int | None:
    """The place of a text that is nearest to where it should be; `None` if it is nowhere."""
    places = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)] if text else []
    return min(places, key=lambda place: abs(place - start), default=None)


def right_answers(rows: Dataset, unanswerable: bool) -> dict[str, list[str]]:
    """`{id: right answers}`.

    Raises:
        ValueError: if an id stands there twice, or, unless `unanswerable`, without an answer.
    """
    answers = {row["id"]: row["answers"]["text"] for row in rows}
    if len(answers) < len(rows):
        raise ValueError(f"`id` must be another for each question; {len(rows)} have {len(answers)}.")
    if not unanswerable:
        squad(dict.fromkeys(answers, ""), answers)  # finds hidden answers before a model runs
    return answers


def best_span(
    start: np.ndarray, end: np.ndarray, offsets: np.ndarray, max_answer_length: int
) -> tuple[float, tuple[int, int]]:
    """The likeliest span of one window: the sum of its logits, and its characters in the passage.

    Args:
        start: `(tokens,)` or longer.
        end: the same.
        offsets: `(tokens, 2)`, -1 for tokens that are not of the passage.
        max_answer_length: tokens.

    Returns:
        Score and place; -inf and an empty place if there is none.
    """
    passage = offsets[:, 0] >= 0
    start, end = (np.where(passage, logits[: len(offsets)], -np.inf) for logits in (start, end))
    starts, ends = np.argsort(-start, kind="stable")[:N_BEST], np.argsort(-end, kind="stable")[:N_BEST]
    lengths = ends[None] - starts[:, None] + 1
    scores = np.where((lengths > 0) & (lengths <= max_answer_length), start[starts][:, None] + end[ends][None], -np.inf)
    i, j = np.unravel_index(scores.argmax(), scores.shape)
    if scores[i, j] == -np.inf:
        return -np.inf, (0, 0)
    return float(scores[i, j]), (int(offsets[starts[i], 0]), int(offsets[ends[j], 1]))


def _target(offsets: list[tuple[int, int]], answers: dict[str, list] | None) -> tuple[int, int] | None:
    """First and last token of the first right answer, if it lies in the window whole."""
    if not answers or not answers["text"]:
        return None
    first, last = answers["answer_start"][0], answers["answer_start"][0] + len(answers["text"][0])
    touched = [i for i, (start, end) in enumerate(offsets) if start >= 0 and start < last and end > first]
    if touched and offsets[touched[0]][0] <= first and offsets[touched[-1]][1] >= last:
        return touched[0], touched[-1]
    return None
