"""Beyond a rotation: rounds of back-translation, and the maps that they give.

A round estimates the unknown partners of real rows in both directions (`partners`), and their covariances with those rows
correct the joint covariance that the next round starts from. It is a step of expectation maximisation for a joint Gaussian
of which only the margins are seen, with neighbours as the evidence that a Gaussian lacks. Nothing paired enters it, unless
anchors are given.

Calibrated estimates lie nearest to the truth, but also nearer to one another. Maps from broad means, in which every row has
the same share (`soft_matching`), keep rows apart better, and so does partial whitening. So the linear maps that are returned
are made of both kinds of estimates, and whitened a little. The network learns from calibrated estimates, both ways: real
rows go to their estimated partners, and estimated partners go back to the real rows that they were made of.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .anchors import Anchors
from .moments import Moments, linear_maps
from .partners import partner_estimator
from .refine import draw
from .soft_matching import SAMPLE, balanced_covariance, neighbour_covariance

# Of the linear maps, measured on film reviews and glosses, docs/measurements/search.md: the share of balanced means beside
# calibrated estimates, the penalty in mean variances, and the whitening of what comes out.
BALANCED_SHARE, PENALTY, WHITENING = 0.3, 0.2, 0.25


@dataclass(frozen=True)
class BackTranslation:
    """What the rounds leave.

    Args:
        maps: linear maps `(d_a, d_b)` and `(d_b, d_a)`, which keep rows apart best; see `balanced_covariance`.
        source: rows `(n + m, d_a)`: real ones, then estimated partners of the target's.
        target: rows `(m + n, d_b)`, in the same way.
        source_partners: `(m + n, d_a)`, of `target`: estimates of real rows' partners, then the real rows whose partners
            were estimated.
        target_partners: `(n + m, d_b)`, of `source`, in the same way.
        features: `(d_a, r)` and `(d_b, r)`, directions in which rows of the one space are compared with rows of the other.
        agreement: cosine between the corrections that the two directions ask for in the first round. They look at other
            rows in another space; noise agrees by chance only.
    """

    maps: tuple[Tensor, Tensor]
    source: Tensor
    target: Tensor
    source_partners: Tensor
    target_partners: Tensor
    features: tuple[Tensor, Tensor]
    agreement: float


def back_translate(
    source: Tensor,
    target: Tensor,
    rotation: Tensor,
    *,
    rounds: int,
    neighbours: int,
    generator: torch.Generator,
    anchors: Anchors | None = None,
    progress: Callable[[], object] = lambda: None,
) -> BackTranslation:
    """Rounds of calibrated back-translation in both directions.

    Args:
        source: `(n, d_a)`, centred and scaled.
        target: `(m, d_b)`, centred and scaled.
        rotation: `(d_a, d_b)`, semi-orthogonal, the map to start from.
        rounds: how many, at least 1. Each takes fresh rows if there are more than `SAMPLE`.
        neighbours: that a guess averages, and fewer and more; see `scales`.
        generator: source of randomness, on the CPU.
        anchors: known pairs.
        progress: called once before the first round, and after every one.

    Source: back-translation is Sennrich et al.'s, "Improving neural machine translation models with monolingual data",
    2016.
    """
    moments = Moments.of(source, target)
    rows = min(len(source), len(target), SAMPLE)
    cross = _informed(neighbour_covariance(source, target, rotation, moments, neighbours, generator), moments, anchors, rows)
    balanced = balanced_covariance(source, target, linear_maps(moments, cross), moments, generator)
    progress()
    agreements = []
    for _ in range(rounds):
        x, y = draw(source, SAMPLE, generator), draw(target, SAMPLE, generator)
        estimates = _estimate_partners(x, y, moments, cross, neighbours, generator)
        correction, agreement = estimates.correction(cross)
        # What only one direction asks for is noise: go as far as the two agree.
        cross = _informed(cross + max(agreement, 0.0) * correction, moments, anchors, rows)
        agreements.append(agreement)
        progress()
    mixed = BALANCED_SHARE * balanced / balanced.norm() + (1 - BALANCED_SHARE) * cross / cross.norm()
    maps = linear_maps(moments, _informed(mixed * cross.norm(), moments, anchors, rows), PENALTY, WHITENING)
    return estimates.back_translation(maps, agreements[0])


def _informed(cross: Tensor, moments: Moments, anchors: Anchors | None, rows: int) -> Tensor:
    """A possible cross-covariance, in which known pairs have their share beside so many rows."""
    known, share = torch.zeros_like(cross), 0.0
    if anchors is not None:
        known = (anchors.source.T @ anchors.target / len(anchors)).double()
        share = anchors.share(rows)
    return moments.possible((1 - share) * cross + share * known)


@dataclass(frozen=True)
class _Estimates:
    """Rows `x` `(n, d_a)` and `y` `(m, d_b)` of one round, and the partners estimated for them."""

    x: Tensor
    y: Tensor
    x_of_y: Tensor
    y_of_x: Tensor
    features: tuple[Tensor, Tensor]

    def correction(self, cross: Tensor) -> tuple[Tensor, float]:
        """What both directions ask to add to a cross-covariance, in the mean, and the cosine of the two."""
        backward = (self.x_of_y.T @ self.y / len(self.y)).double()
        forward = (self.x.T @ self.y_of_x / len(self.x)).double()
        agreement = F.cosine_similarity((backward - cross).flatten(), (forward - cross).flatten(), dim=0).item()
        return (backward + forward) / 2 - cross, agreement

    def back_translation(self, maps: tuple[Tensor, Tensor], agreement: float) -> BackTranslation:
        """With the pairs that a network learns from."""
        # Estimated partners of the one side's rows are rows that the other side has not, and theirs are real.
        return BackTranslation(
            maps=maps,
            source=torch.cat([self.x, _as_long_as(self.x_of_y, self.x)]),
            target=torch.cat([self.y, _as_long_as(self.y_of_x, self.y)]),
            source_partners=torch.cat([self.x_of_y, self.x]),
            target_partners=torch.cat([self.y_of_x, self.y]),
            features=self.features,
            agreement=agreement,
        )


def _estimate_partners(
    x: Tensor, y: Tensor, moments: Moments, cross: Tensor, neighbours: int, generator: torch.Generator
) -> _Estimates:
    features = moments.features(cross)
    partners_of_y = partner_estimator(x, moments, cross, features, neighbours=neighbours, generator=generator)
    partners_of_x = partner_estimator(
        y, moments.swapped(), cross.T, features[::-1], neighbours=neighbours, generator=generator
    )
    return _Estimates(x, y, partners_of_y(y), partners_of_x(x), features)


def _as_long_as(rows: Tensor, real: Tensor) -> Tensor:
    """Every row scaled to the root mean square length of real ones: estimates are averages, so they are short."""
    return F.normalize(rows, dim=1) * real.square().sum(1).mean().sqrt()
