"""The transfer check on any task: what probes that fit the task read off teacher, translation and student."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from torch import Tensor

from ..encoders.text import TextEncoder
from ..model.modeling_vec2vec import Vec2VecModel
from ..tasks.base import Task
from ..tasks.judging import Judgement, TaskVectors, judge, points_of
from ..tasks.question_answering import QuestionAnsweringTask
from .transfer_check import GAIN, LOSS, NOTHING

DRAWS = 1000  # of the bootstrap
TEACHER, TRANSLATED, STUDENT, ISOMETRY = "teacher", "translated teacher", "student", "random isometry of the teacher"


@dataclass(frozen=True)
class TaskReport:
    """What probes read off teacher, translation and student on a task.

    Args:
        task: its name.
        figures: official figures, by kind of vectors.
        points: mean of them, 0 to 100, the same kinds.
        gain: points of the translation minus those of the student.
        interval: 95 % of it, a paired bootstrap over rows.
        part: in what the rows differ from the published splits; see [`Judgement`].
    """

    task: str
    figures: dict[str, dict[str, float]]
    points: dict[str, float]
    gain: float
    interval: tuple[float, float]
    part: str

    @property
    def verdict(self) -> str:
        """Whether there is something to distil."""
        low, high = self.interval
        return GAIN if low > 0 else LOSS if high < 0 else NOTHING

    def to_dict(self) -> dict:
        """All fields and the verdict, for JSON."""
        return asdict(self) | {"verdict": self.verdict}

    def __str__(self) -> str:
        width = max(map(len, self.points))
        lines = [f"{self.task}: points"]
        lines += [
            f"{kind:{width}}  {points:6.2f}  ({', '.join(f'{n} {v:.4g}' for n, v in self.figures[kind].items())})"
            for kind, points in self.points.items()
        ]
        low, high = self.interval
        lines.append(f"The translated teacher {self.verdict}: {self.gain:+.2f} [{low:+.2f}, {high:+.2f}] points.")
        lines.append(
            f"A random isometry of the teacher, which knows nothing of the student, has {self.points[ISOMETRY]:.2f}: the "
            "check tells what the teacher holds, not whether the translator is right. Its verdict tells that."
        )
        if self.part:
            lines.append(f"A part: {self.part}.")
        return "\n".join(lines)


class MappedVectors(TaskVectors):
    """Vectors of texts that are mapped after an encoder made them.

    Args:
        vectors: of the encoder.
        mapped: rows `(n, d)` to rows `(n, d')`.
    """

    def __init__(self, vectors: TaskVectors, mapped: Callable[[Tensor], Tensor]):
        self.encoder, self.vectors, self.mapped = vectors.encoder, vectors, mapped

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """As the parent's."""
        return self.mapped(torch.from_numpy(self.vectors(texts))).numpy()


def task_report(
    task: Task,
    teacher: TextEncoder,
    student: TextEncoder,
    translator: Vec2VecModel,
    *,
    teacher_space: str,
    student_space: str,
    max_rows: int | None = None,
    seed: int = 0,
) -> TaskReport:
    """Judge each kind of vectors by a probe that is fitted on the training split.

    Args:
        task: texts, pairs, scores or choices.
        teacher: whose vectors are translated.
        student: as it is.
        translator: knows both.
        teacher_space: of the teacher's vectors.
        student_space: of the student's.
        max_rows: of either split, at most.
        seed: of draws, isometry and bootstrap.

    Raises:
        ValueError: for SQuAD, whose spans need states of tokens, which no translator of texts' vectors gives; and as
            `judge`.
    """
    if isinstance(task, QuestionAnsweringTask):
        raise ValueError(
            f"`task` {task.name!r} is answered from states of tokens, which a translator of whole texts does not translate. "
            "Take a task of texts, pairs, scores or choices."
        )
    own = TaskVectors(teacher)
    dim = (translator.config.embedding_dims or {})[teacher_space]
    turned = torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(seed)))[0]
    kinds = {
        TEACHER: own,
        TRANSLATED: MappedVectors(own, lambda rows: translator.translate(rows, source=teacher_space, target=student_space)),
        STUDENT: TaskVectors(student),
        ISOMETRY: MappedVectors(own, lambda rows: rows @ turned),
    }
    found = {
        kind: judge(vectors, task, max_train_rows=max_rows, max_rows=max_rows, seed=seed) for kind, vectors in kinds.items()
    }
    gain, interval = _gain(found[TRANSLATED], found[STUDENT], seed)
    return TaskReport(
        task=task.name,
        figures={kind: judged.figures for kind, judged in found.items()},
        points={kind: judged.points for kind, judged in found.items()},
        gain=gain,
        interval=interval,
        part=found[STUDENT].part,
    )


def _gain(one: Judgement, other: Judgement, seed: int) -> tuple[float, tuple[float, float]]:
    """Difference in points, and its interval over draws of the rows."""
    generator, count = np.random.default_rng(seed), len(one.references)
    right = np.array(one.references)
    said = np.array(one.predictions), np.array(other.predictions)
    drawn = []
    for _ in range(DRAWS):
        rows = generator.integers(count, size=count)
        first, second = (points_of(one.metric, answers[rows], right[rows]) for answers in said)
        drawn.append(first - second)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return one.points - other.points, (float(low), float(high))


__all__ = ["MappedVectors", "TaskReport", "task_report"]
