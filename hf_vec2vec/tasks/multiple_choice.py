"""Questions with a few choices, by a head that scores each choice: CommonsenseQA and its kind."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import Any, ClassVar

import numpy as np
from datasets import Dataset
from transformers import AutoModelForMultipleChoice, EvalPrediction

from ..data.labels import MISSING
from .base import Task, first_of_pair, refuse_without_tokens
from .metrics import accuracy


@dataclass(frozen=True)
class MultipleChoiceTask(Task):
    """Each choice is read behind the question and gets one score. For encoders.

    Args:
        name, splits: see [`Task`]; rows have `question`, `choices`, `{label, text}`, and `answerKey`, empty where it is
            hidden.

    Source: Talmor et al., "CommonsenseQA: a question answering challenge targeting commonsense knowledge", 2019.
    """

    head: ClassVar[Any] = AutoModelForMultipleChoice
    default_length: ClassVar[int] = 128

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. Columns are `(choices, tokens)`, `labels` the number of the right choice; questions are cut.

        Raises:
            ValueError: also if questions differ in their number of choices, which a head cannot score in one batch, if the
                tokenizer makes no token of question and choice, or a choice is as long as a row may be.
        """
        rows, max_length = self.rows(split), self.length(max_length)
        count, name = one_number_of_choices(self.name, rows), self.name

        def encode(batch: dict[str, list], numbers: list[int]) -> dict[str, list]:
            texts = [choices["text"] for choices in batch["choices"]]
            questions = [q for q, choices in zip(batch["question"], texts, strict=True) for _ in choices]
            answers = [choice for choices in texts for choice in choices]
            room = max_length - tokenizer.num_special_tokens_to_add(pair=True)
            lengths = map(len, tokenizer(answers, add_special_tokens=False, verbose=False)["input_ids"])
            if long := [answer for answer, length in zip(answers, lengths, strict=True) if length >= room]:
                raise ValueError(
                    f"`max_length` {max_length} leaves no place for a question beside the choice {long[0][:60]!r} of "
                    f"{split!r}. Give a larger one."
                )
            encoded = tokenizer(first_of_pair(tokenizer, questions), answers, truncation="only_first", max_length=max_length)
            nested = {key: [values[i : i + count] for i in range(0, len(values), count)] for key, values in encoded.items()}
            refuse_without_tokens(nested["input_ids"], numbers, name, split)
            return nested | {"labels": right_choices(batch)}

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names)

    def has_label(self, split: str) -> np.ndarray:
        """See [`Task`]."""
        return np.array(right_choices(self.rows(split)[:])) >= 0

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are `(n, choices)`."""
        references = np.asarray(features["labels"][:])
        known = self.known(split, references >= 0)

        def compute(found: EvalPrediction) -> dict[str, float]:
            answers = np.asarray(found.predictions).argmax(1)
            return accuracy(answers[known], references[known]) | self.unlabelled_rows(split, known)

        return compute


def one_number_of_choices(name: str, rows: Dataset) -> int:
    """How many choices each question has.

    Raises:
        ValueError: if questions differ in it.
    """
    counts = {len(choices["text"]) for choices in rows["choices"]}
    if len(counts) > 1:
        raise ValueError(f"`choices` of {name!r} are {sorted(counts)} a question; one number is needed.")
    return counts.pop()


def right_choices(batch: dict[str, list]) -> list[int]:
    """Number of the right choice of each question, -1 where the answer is hidden.

    Raises:
        ValueError: if `answerKey` is none of the labels.
    """
    return [_place(answer, choices["label"]) for choices, answer in zip(batch["choices"], batch["answerKey"], strict=True)]


def _place(answer: str | int | None, labels: Sequence[str | int]) -> int:
    """Where an answer stands among the labels of the choices.

    Some sets letter the choices and number the answers from 1, or the other way round (ARC has both kinds of rows).
    """
    key, names = str("" if answer is None else answer).strip(), [str(label).strip() for label in labels]
    if not key or key == str(MISSING):
        return MISSING
    if len(set(names)) < len(names):
        raise ValueError(f"`choices` have the labels {names}; each choice needs its own.")
    positions = {str(i + 1): i for i in range(len(names))}
    letters = {letter: i for i, letter in enumerate(ascii_uppercase[: len(names)])}
    other = positions if names == list(letters) else letters if names == list(positions) else {}
    found = {name.upper(): i for i, name in enumerate(names)}.get(key.upper(), other.get(key.upper()))
    if found is None:
        raise ValueError(f"`answerKey` must be one of {names}, got {answer!r}.")
    return found
