"""The experiment on pairs and choices: students follow a teacher on a task's texts, and probes that fit it judge."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from datasets import Dataset
from torch import Tensor

from ..data.corpora import LABEL
from ..encoders.text import TextEncoder
from ..tasks.base import Task
from ..tasks.classification import ClassificationTask
from ..tasks.judging import TaskVectors, drawn_rows, judge
from ..tasks.multiple_choice import MultipleChoiceTask
from ..tasks.parts import training_split
from ..training.fingerprint import Fingerprint
from .arms import FROZEN, TEACHER, Lesson, untrained
from .experiment import fingerprint
from .trainer import DistillationTrainer

JUDGED = "validation"


@dataclass(frozen=True)
class TaskExperiment:
    """What all arms share. No arm sees labels: each text of the training rows is followed by itself, as a search would.

    Args:
        task: classes of texts or pairs, or choices.
        lesson: its texts are the `training_texts` of the task.
        teacher: whose vectors the lesson has.
        max_rows: of either split that a probe is fitted to or judged on, at most.
    """

    task: Task
    lesson: Lesson
    teacher: TextEncoder
    max_rows: int | None = None

    @cached_property
    def student(self) -> TextEncoder:
        """The student as it is."""
        trusted = {"trust_remote_code": self.lesson.trust_remote_code}
        return untrained(self.lesson.student, self.lesson.arguments, **trusted)

    @cached_property
    def student_vectors(self) -> Tensor:
        """`(n, d_s)`, the lesson's texts by the student as it is."""
        return self.student.encode(self.lesson.texts)

    @cached_property
    def references(self) -> np.ndarray:
        """`(m,)`, the right classes, or places of the right choices."""
        return np.array(self._frozen["references"])

    @cached_property
    def _frozen(self) -> dict[str, Any]:
        return self._judged(self.student)

    def baselines(self) -> dict[str, dict]:
        """What a probe predicts on the student as it is, and on the teacher."""
        return {FROZEN: self._frozen, TEACHER: self._judged(self.teacher)}

    def judged(self, trainer: DistillationTrainer) -> dict[str, Any]:
        """The same of a student that was trained."""
        return self._judged(trainer.encoder())

    def made_of(self) -> Fingerprint:
        """What all runs are made of."""
        rows = {"training texts": repr(self.lesson.texts)}
        splits = {"rows that probes are fitted to": training_split(self.task, JUDGED), "rows that are judged": JUDGED}
        for name, split in splits.items():
            drawn = drawn_rows(self.task, split, self.max_rows)
            rows[name] = repr([self.task.name, *(drawn[column][:] for column in _columns(self.task))])
        return fingerprint(self, rows)

    def _judged(self, encoder: TextEncoder) -> dict[str, Any]:
        found = judge(TaskVectors(encoder), self.task, split=JUDGED, max_train_rows=self.max_rows, max_rows=self.max_rows)
        return {"predicted": found.predictions, "references": found.references, "figures": found.figures}


def training_texts(task: Task, max_rows: int | None = None) -> list[str]:
    """Texts of a task's training rows, each once; of at most so many rows, drawn with seed 0.

    Raises:
        ValueError: for a task without classes or choices, or without the split `train`.
    """
    if not isinstance(task, MultipleChoiceTask) and not (isinstance(task, ClassificationTask) and task.labels):
        raise ValueError(f"`task` must have classes or choices, got {task.name!r}.")
    rows = task.rows("train").shuffle(seed=0)
    rows = rows.select(range(min(max_rows or len(rows), len(rows))))
    return list(dict.fromkeys(text for text in _texts(task, rows) if text.strip()))


def _columns(task: Task) -> tuple[str, ...]:
    """All that a probe sees of a row."""
    return (*task.columns, LABEL) if isinstance(task, ClassificationTask) else ("question", "choices", "answerKey")


def _texts(task: Task, rows: Dataset) -> Iterator[str]:
    for row in rows:
        if isinstance(task, ClassificationTask):
            yield from (row[column] for column in task.columns)
        else:
            yield from (row["question"], *row["choices"]["text"])


__all__ = ["TaskExperiment", "training_texts"]
