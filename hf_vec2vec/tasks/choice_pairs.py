"""Choices as pairs: a question and one of its choices are two texts, right or wrong together.

So a model of any family answers by a head for classes, language models among them, for which transformers has no head for
choices; and what a teacher makes of such a pair is one vector a choice.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict
from transformers import AutoConfig, EvalPrediction

from ..data.corpora import LABEL
from ..encoders.folders import model_folder, opening
from .base import Task
from .classification import ClassificationTask
from .labels import output_names, with_classes
from .multiple_choice import MultipleChoiceTask, one_number_of_choices, right_choices

WRONG, RIGHT = "wrong", "right"
QUESTION, CHOICE = "question", "choice"


@dataclass(frozen=True)
class ChoicePairsTask(ClassificationTask):
    """Rows are pairs, in groups of one number of choices; figures are those of the likeliest choice of each question.

    Args:
        choices: how many rows one after the other are of one question.
    """

    choices: int = 1

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are `(n, 2)`, of wrong and right."""
        right = np.asarray(features["labels"][:]).reshape(-1, self.choices)
        known = self.known(split, right.max(1) > 0)

        def compute(found: EvalPrediction) -> dict[str, float]:
            chosen = self._chosen(np.asarray(found.predictions))
            return self.metrics(chosen[known], right.argmax(1)[known]) | self.unlabelled_rows(split, known)

        return compute

    def has_label(self, split: str) -> np.ndarray:
        """See the parent's: a question whose choices are all wrong has no label."""
        right = np.asarray(self.rows(split)[LABEL][:]).reshape(-1, self.choices)
        return (right.max(1) > 0).repeat(self.choices)

    def answers(self, logits: np.ndarray) -> np.ndarray:
        """See the parent's: of each question the likeliest choice is right."""
        chosen = self._chosen(logits)
        return (chosen[:, None] == np.arange(self.choices)).astype(int).ravel()

    def _chosen(self, logits: np.ndarray) -> np.ndarray:
        return (logits[:, 1] - logits[:, 0]).reshape(-1, self.choices).argmax(1)


def as_pairs(task: MultipleChoiceTask) -> ChoicePairsTask:
    """The same questions, each choice a row of its own with the columns `question`, `choice` and `label`.

    Of questions whose answer is hidden all labels are "wrong", and they are left out of the figures.

    Raises:
        ValueError: if questions differ in their number of choices.
    """
    counts = {split: one_number_of_choices(task.name, rows) for split, rows in task.splits.items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"`choices` of {task.name!r} are {counts} a question; one number is needed in all splits.")
    splits = {split: with_classes(_pairs(rows), (WRONG, RIGHT)) for split, rows in task.splits.items()}
    return ChoicePairsTask(
        task.name,
        DatasetDict(splits),
        (QUESTION, CHOICE),
        (WRONG, RIGHT),
        unlabelled=task.unlabelled,
        choices=next(iter(counts.values())),
    )


def suited_to(task: Task, model: str, *, trust_remote_code: bool = False) -> Task:
    """The task as pairs, if it has choices and the model, a folder or Hub id, was trained on such pairs; else as it is."""
    folder = model_folder(model, trust_remote_code=trust_remote_code)
    if not isinstance(task, MultipleChoiceTask) or (Path(folder) / "adapter_config.json").exists():
        return task
    with opening(folder):
        names = output_names(AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code))
    return as_pairs(task) if names == [WRONG, RIGHT] else task


def _pairs(rows: Dataset) -> Dataset:
    texts = [choices["text"] for choices in rows["choices"]]
    return Dataset.from_dict(
        {
            QUESTION: [question for question, each in zip(rows["question"], texts, strict=True) for _ in each],
            CHOICE: [text for each in texts for text in each],
            LABEL: [
                int(i == right) for right, each in zip(right_choices(rows[:]), texts, strict=True) for i in range(len(each))
            ],
        }
    )


__all__ = ["ChoicePairsTask", "as_pairs", "suited_to"]
