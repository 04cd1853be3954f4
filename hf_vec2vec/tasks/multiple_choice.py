"""Questions with a few choices, by a head that scores each choice: CommonsenseQA and its kind."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from datasets import Dataset
from transformers import AutoModelForMultipleChoice, EvalPrediction

from .base import Task, first_of_pair
from .metrics import accuracy


@dataclass(frozen=True)
class MultipleChoiceTask(Task):
    """Each choice is read behind the question and gets one score. For encoders.

    Args:
        name, splits: see [`Task`]; rows have `question`, `choices`, `{label, text}`, and `answerKey`, empty where it is
            hidden.

    Source: Talmor et al., "CommonsenseQA: a question answering challenge targeting commonsense knowledge", 2019.
    """

    head: ClassVar[type] = AutoModelForMultipleChoice
    default_length: ClassVar[int] = 128

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. Columns are `(choices, tokens)`, `labels` the number of the right choice; questions are cut.

        Raises:
            ValueError: also if questions differ in their number of choices, which a head cannot score in one batch.
        """
        rows, max_length = self.rows(split), max_length or self.default_length
        counts = {len(choices["text"]) for choices in rows["choices"]}
        if len(counts) > 1:
            raise ValueError(f"`choices` of {self.name!r} are {sorted(counts)} a question; a head needs one number.")

        def encode(batch: dict[str, list]) -> dict[str, list]:
            texts = [choices["text"] for choices in batch["choices"]]
            questions = [q for q, choices in zip(batch["question"], texts, strict=True) for _ in choices]
            encoded = tokenizer(
                first_of_pair(tokenizer, questions),
                [choice for choices in texts for choice in choices],
                truncation="only_first",
                max_length=max_length,
            )
            (count,) = counts
            nested = {
                name: [values[i : i + count] for i in range(0, len(values), count)] for name, values in encoded.items()
            }
            return nested | {"labels": right_choices(batch)}

        return rows.map(encode, batched=True, remove_columns=rows.column_names)

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are `(n, choices)`."""
        references = known_answers(self.name, features["labels"][:])

        def compute(found: EvalPrediction) -> dict[str, float]:
            return accuracy(np.asarray(found.predictions).argmax(1), references)

        return compute


def right_choices(batch: dict[str, list]) -> list[int]:
    """Number of the right choice of each question, -1 where the answer is hidden.

    Raises:
        ValueError: if `answerKey` is none of the labels.
    """
    found = []
    for choices, answer in zip(batch["choices"], batch["answerKey"], strict=True):
        if answer and answer not in choices["label"]:
            raise ValueError(f"`answerKey` must be one of {list(choices['label'])}, got {answer!r}.")
        found.append(list(choices["label"]).index(answer) if answer else -1)
    return found


def known_answers(name: str, labels: list[int]) -> np.ndarray:
    """The numbers of the right choices.

    Raises:
        ValueError: if some are hidden.
    """
    if min(labels) < 0:
        raise ValueError(f"`features` of {name!r} have hidden answers: there is nothing to compare with.")
    return np.asarray(labels)
