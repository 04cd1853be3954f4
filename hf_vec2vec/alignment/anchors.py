"""Known pairs of rows, where there are any."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.modeling_vec2vec import check_embeddings
from .statistics import Statistics, normalise

FARTHEST = 100.0  # that a known row may lie from the middle of its space, where the others lie at 1
PAIR_WEIGHT = 5  # estimated partners that one known pair counts as much as
# Share of known pairs, few as they may be, where estimated partners lead away from them: the two sides are of unlike texts.
TRUSTED_SHARE = 0.3


@dataclass(frozen=True)
class Anchors:
    """Known pairs in normalised coordinates: row i of `source` `(p, d_a)` belongs to row i of `target` `(p, d_b)`.

    `least_share` is the least weight that they have beside estimated partners, however many these are.
    """

    source: Tensor
    target: Tensor
    least_share: float = 0.0

    @classmethod
    def of(cls, pairs: tuple[Tensor, Tensor], source: Statistics, target: Statistics) -> "Anchors":
        """From raw vectors `(p, d_a)` and `(p, d_b)` and the statistics of their spaces.

        Raises:
            TypeError, ValueError: for rows that `check_embeddings` refuses, that lie far from all others, or that are more
                on one side than on the other.
        """
        if not isinstance(pairs, (tuple, list)) or len(pairs) != 2:
            raise ValueError("`anchors` must be two sets of rows, one of each space: row i of both is the same text.")
        sides = []
        for i, (rows, statistics) in enumerate(zip(pairs, (source, target), strict=True)):
            rows = check_embeddings(rows, f"anchors[{i}]", len(statistics[0])).float().contiguous().to(statistics[0].device)
            sides.append(normalise(rows, statistics))
            if (lengths := sides[i].square().mean(1).sqrt()).max() > FARTHEST:
                raise ValueError(
                    f"`anchors[{i}]` has a row that lies {lengths.max():.0f} times as far from the middle of its space as "
                    f"others do, at index {int(lengths.argmax())}. Drop or re-embed it."
                )
        if len(sides[0]) != len(sides[1]):
            raise ValueError(f"`anchors` are {len(sides[0])} and {len(sides[1])} rows: row i of both must be the same text.")
        return cls(sides[0], sides[1])

    def __len__(self) -> int:
        return len(self.source)

    def units(self) -> "Anchors":
        """The same with rows of norm 1."""
        return replace(self, source=F.normalize(self.source, dim=1), target=F.normalize(self.target, dim=1))

    def swapped(self) -> "Anchors":
        """The same with the sides exchanged."""
        return replace(self, source=self.target, target=self.source)

    def trusted(self) -> "Anchors":
        """The same with a large share in every step."""
        return replace(self, least_share=TRUSTED_SHARE)

    def split(self, folds: int) -> Iterator[tuple["Anchors", "Anchors"]]:
        """So many times: all pairs but one part, and that part."""
        numbers = torch.arange(len(self))
        for fold in range(folds):
            parts = [numbers % folds != fold, numbers % folds == fold]
            rest, part = (replace(self, source=self.source[mask], target=self.target[mask]) for mask in parts)
            yield rest, part

    def missed(self, rotation: Tensor, rows: Tensor) -> float:
        """How far a rotation `(d_a, d_b)` misses the pairs, all of norm 1.

        Mean share of the target's rows `(m, d_b)` that lie nearer to a translation than its partner does: .5 by chance.
        """
        translated = self.source @ rotation
        own = (translated * self.target).sum(1, keepdim=True)
        return (translated @ rows.T > own).float().mean().item()

    def share(self, rows: int) -> float:
        """Weight in a mean over known pairs and so many rows."""
        return max(self.least_share, PAIR_WEIGHT * len(self) / (PAIR_WEIGHT * len(self) + rows))

    def mixed_in(self, covariance: Tensor, rows: int) -> Tensor:
        """A cross-covariance `(d_a, d_b)` over so many rows, in which known pairs have their share, both at norm 1."""
        known, share = self.source.T @ self.target, self.share(rows)
        return (1 - share) * covariance / covariance.norm() + share * known / known.norm()
