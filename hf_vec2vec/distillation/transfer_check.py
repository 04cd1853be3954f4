"""Before a student is trained: does the translation hold anything that the student lacks?"""

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.stats import bootstrap
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import Tensor
from torch.nn import functional as F

from ..data.labels import MISSING
from ..evaluation.attributes import linear_probe_pipeline

FOLDS, NEIGHBOURS = 5, 15
GAIN, NOTHING, LOSS = "holds more than the student", "holds no more than the student", "holds less than the student"


@dataclass(frozen=True)
class TransferReport:
    """What probes read off teacher, translation and student.

    Args:
        probe: accuracy of a linear probe, by kind of vectors: `teacher`, `translated teacher`, `student`, `student + noise`
            (as far from the student as the translation is) and `random isometry of the teacher`.
        neighbours: accuracy of the nearest neighbours by cosine, the same kinds.
        gain: accuracy of the probe on the translation minus that on the student.
        interval: 95 % of it, a paired bootstrap over texts.
        texts: how many there were.
        asked: how many neighbours: 15, or all texts that the smallest training fold holds.
    """

    probe: dict[str, float]
    neighbours: dict[str, float]
    gain: float
    interval: tuple[float, float]
    texts: int
    asked: int = NEIGHBOURS

    @property
    def verdict(self) -> str:
        """Whether there is something to distil."""
        low, high = self.interval
        return GAIN if low > 0 else LOSS if high < 0 else NOTHING

    @property
    def worthwhile(self) -> bool:
        """Whether the verdict speaks for training."""
        return self.verdict == GAIN

    def to_dict(self) -> dict:
        """All fields and the verdict, for JSON."""
        return asdict(self) | {"verdict": self.verdict}

    def __str__(self) -> str:
        width = max(map(len, self.probe))
        lines = [f"{'':{width}}  linear probe  {self.asked} neighbours"]
        lines += [f"{kind:{width}}  {self.probe[kind]:12.3f}  {self.neighbours[kind]:13.3f}" for kind in self.probe]
        low, high = self.interval
        lines.append(
            f"The translated teacher {self.verdict}: {self.gain:+.3f} [{low:+.3f}, {high:+.3f}] accuracy of the probe over "
            f"{self.texts:,} texts."
        )
        if not self.worthwhile:
            lines.append("On these labels training towards it has nothing to give: try another teacher.")
        return "\n".join(lines)


def transfer_report(
    teacher: Tensor, translated: Tensor, student: Tensor, labels: np.ndarray, *, seed: int = 0
) -> TransferReport:
    """Probes, by cross-validation in five folds, on vectors of the same labelled texts, each kind less its own mean.

    A random isometry of the teacher shows what a probe reads off any faithful copy of it: where it does as well as the
    translation, the target's *place* helps the student to get there, not its content.

    Args:
        teacher: `(n, d_t)`.
        translated: `(n, d_s)`, the same texts, translated into the student's space.
        student: `(n, d_s)`, by the student as it is.
        labels: `(n,)`, classes; none of them -1, which stands for a text without one.
        seed: of folds, noise, isometry and bootstrap.

    Raises:
        ValueError: for numbers of rows that differ, texts without a class, or a class with fewer than five texts.
    """
    teacher, translated, student = (rows.detach().cpu().float() for rows in (teacher, translated, student))
    sizes = {"teacher": len(teacher), "translated": len(translated), "student": len(student), "labels": len(labels)}
    if len(set(sizes.values())) != 1:
        raise ValueError(f"`labels` and vectors must have a row for each text, but their numbers of rows are {sizes}.")
    if without := int((np.asarray(labels) == MISSING).sum()):
        raise ValueError(
            f"`labels` has {without} row(s) of {MISSING}, which stands for no class: leave these rows out, or number the "
            "classes from 0 on."
        )
    classes, counts = np.unique(labels, return_counts=True)
    if len(classes) < 2 or counts.min() < FOLDS:
        sizes = dict(zip(classes.tolist(), counts.tolist(), strict=True))
        raise ValueError(f"`labels` have {sizes} texts a class; two classes of {FOLDS} are needed at least.")
    generator = torch.Generator().manual_seed(seed)
    teacher, translated, student = (rows - rows.mean(0) for rows in (teacher, translated, student))
    centred = F.normalize(student, dim=1)
    cosine = F.cosine_similarity(centred, translated, dim=1).mean().clamp(0.05, 0.999)
    noise = F.normalize(torch.randn(student.shape, generator=generator), dim=1)
    square = torch.randn(teacher.shape[1], teacher.shape[1], generator=generator)
    vectors = {
        "teacher": teacher,
        "translated teacher": translated,
        "student": student,
        "student + noise": centred + noise * (1 / cosine.square() - 1).sqrt(),
        "random isometry of the teacher": teacher @ torch.linalg.qr(square)[0],
    }
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    asked = min(NEIGHBOURS, *(len(known) for known, _ in folds.split(student, labels)))
    neighbours = make_pipeline(Normalizer(), KNeighborsClassifier(asked))
    right = {
        kind: {
            attack: (cross_val_predict(model, rows.numpy(), labels, cv=folds) == labels).astype(float)
            for attack, model in (("probe", linear_probe_pipeline()), ("neighbours", neighbours))
        }
        for kind, rows in vectors.items()
    }
    difference = right["translated teacher"]["probe"] - right["student"]["probe"]
    interval = (difference.mean(), difference.mean())
    if difference.any():
        interval = bootstrap((difference,), np.mean, method="percentile", rng=seed, batch=100).confidence_interval
    return TransferReport(
        **{
            attack: {kind: found[attack].mean().item() for kind, found in right.items()}
            for attack in ("probe", "neighbours")
        },
        gain=difference.mean().item(),
        interval=(float(interval[0]), float(interval[1])),
        texts=len(labels),
        asked=asked,
    )


__all__ = ["TransferReport", "transfer_report"]
