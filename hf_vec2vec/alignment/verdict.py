"""Whether to believe an alignment, told without pairs."""

from dataclasses import asdict, dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from .score import alignment_score

NULLS = 20  # reflections of the source that tell what chance gives: enough for a deviation
# Between what right and wrong alignments were measured to have; docs/measurements/alignment.md, "Thresholds of the verdict".
LEAST_EXCESS = 5.0  # of the score over chance, in deviations of chance
# Share of the way from chance to the best that two samples of one space reach: at least, and without a good consensus.
LEAST_FIT, LONE_FIT = 0.4, 0.5
GOOD_CONSENSUS = 0.53  # cosine of translations by two rotations made of other guesses
LEAST_DEVIATION = 1e-6  # of the null scores, where all of them are equal


@dataclass(frozen=True)
class AlignmentReport:
    """Verdict on an alignment and the figures behind it, all from unpaired rows.

    Args:
        score: `alignment_score` of the rotation, source to target, on half of the rows held out from its fit.
        null_score: the same when the source is reflected along a random half of its principal axes: a cloud with the same
            mean and covariance and no row that fits. What chance and covariance alone give. Mean of several.
        excess: `score - null_score`, in standard deviations over the reflections.
        ceiling: the score that two samples of one space reach with each other, the lower of both spaces.
        fit: `(score - null_score) / (ceiling - null_score)`: 0 by chance, 1 for one and the same space. 0, too, where the
            ceiling is no higher than chance: such a space has no shape beyond its covariance.
        consensus: mean cosine between translations of the same rows by the two rotations that this one is the mean of, each
            made of other guesses. Wrong maps differ from one another, right ones do not.
        agreement: of the two directions in back-translation; see `BackTranslation`. `None` without it.
        repeated_rows: how many of `"source"` and `"target"` were there already. They are left out unless they are very few.
        outlying_rows: how many of both are far longer or shorter than the others, or far from them. They are left out.
        shares: of the rows of both that it was made of; less than 1 where only a part of the texts has a counterpart.
    """

    score: float
    null_score: float
    excess: float
    ceiling: float
    fit: float
    consensus: float
    agreement: float | None
    repeated_rows: dict[str, int] = field(default_factory=dict)
    outlying_rows: dict[str, int] = field(default_factory=dict)
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        """`"aligned"`, `"doubtful"` or `"not aligned"`."""
        agreed = self.consensus >= GOOD_CONSENSUS
        if self.excess < LEAST_EXCESS or self.fit < (LEAST_FIT if agreed else LONE_FIT):
            return "not aligned"
        return "aligned" if agreed else "doubtful"

    def __str__(self) -> str:
        counts = [(self.repeated_rows, "repeated"), (self.outlying_rows, "outlying")]
        counted = [f"{n:,} {kind} row(s) of the {side}" for rows, kind in counts for side, n in rows.items() if n]
        counted += [f"made of {share:.0%} of the {side}'s rows" for side, share in self.shares.items() if share < 1]
        return (
            f"{self.verdict}: score {self.score:.3f}, by chance {self.null_score:.3f} ({self.excess:.0f} deviations "
            f"below), at best {self.ceiling:.3f}; consensus of independent guesses {self.consensus:.2f}"
        ) + (f"; {', '.join(counted)}" if counted else "")

    def to_dict(self) -> dict:
        """Verdict and figures, for JSON."""
        return {"verdict": self.verdict, **asdict(self)}


def judge(
    rotation: Tensor,
    consensus: float,
    held_out: tuple[Tensor, Tensor],
    agreement: float | None,
    generator: torch.Generator,
) -> AlignmentReport:
    """Report on a rotation.

    Args:
        rotation: `(d_a, d_b)`, semi-orthogonal.
        consensus: with another guess; see `find_rotation`.
        held_out: rows `(h, d_a)` and `(h, d_b)`, norm 1, that no rotation was fitted to.
        agreement: of back-translation.
        generator: source of randomness, on the CPU.
    """
    x, y = held_out
    ceiling = min(_ceiling(x), _ceiling(y))
    axes = torch.linalg.eigh(x.T @ x)[1]
    null_scores = []
    for _ in range(NULLS):
        signs = torch.ones(len(axes))
        signs[torch.randperm(len(axes), generator=generator)[: len(axes) // 2]] = -1
        reflected = x @ (axes * signs.to(axes)) @ axes.T
        null_scores.append(_half_score(reflected @ rotation, y))
    score, nulls = _half_score(x @ rotation, y), torch.tensor(null_scores)
    null = nulls.mean().item()
    return AlignmentReport(
        score=score,
        null_score=null,
        excess=(score - null) / max(nulls.std().item(), LEAST_DEVIATION),
        ceiling=ceiling,
        fit=(score - null) / (ceiling - null) if ceiling - null > nulls.std().item() else 0.0,
        consensus=consensus,
        agreement=agreement,
    )


def _half_score(x: Tensor, y: Tensor) -> float:
    """`alignment_score` of as many rows as the ceiling has, so that the two can be compared."""
    rows = min(len(x), len(y)) // 2
    return alignment_score(F.normalize(x[:rows], dim=1), y[:rows])


def _ceiling(rows: Tensor) -> float:
    half = len(rows) // 2
    return alignment_score(rows[:half], rows[half:])
