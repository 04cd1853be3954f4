"""From a rough rotation to a good one, by steps over mutual neighbours."""

from math import ceil

import torch
from torch import Tensor

from .anchors import Anchors
from .neighbours import mutual_covariance
from .procrustes import polar_factor

NEIGHBOURS = 10  # of a step: 3 and 5 climb more slowly from afar, 30 a little more slowly where rows are many
# Share of the last movement that a step keeps. Far from the truth, steps go the same way for long; near to it they only
# follow their samples.
FAR, NEAR = 0.9, 0.5


class Climber:
    """A rotation that climbs, on a fresh sample of rows in every step.

    Fresh rows matter: on one fixed sample the same steps soon reach a fixed point far from the solution. Near to it,
    more rows matter more.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1.
        rotation: `(d_a, d_b)`, where to start.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1, which have their share in every step.
    """

    def __init__(
        self, source: Tensor, target: Tensor, rotation: Tensor, generator: torch.Generator, anchors: Anchors | None = None
    ):
        self.source, self.target, self.rotation = source, target, rotation
        self.generator, self.anchors = generator, anchors
        self.velocity = torch.zeros_like(rotation)

    def climb(self, steps: int, sample: int, momentum: float = FAR, share: float = 0.5) -> Tensor:
        """So many steps, each on at most so many rows of each side, or that share of them; the rotation `(d_a, d_b)`."""
        samples = [min(sample, ceil(share * len(rows))) for rows in (self.source, self.target)]
        cosines = self.source.new_empty(*samples)
        for _ in range(steps):
            a, b = (draw(rows, most, self.generator) for rows, most in zip((self.source, self.target), samples, strict=True))
            covariance = mutual_covariance(a, b, self.rotation, NEIGHBOURS, out=cosines)
            if self.anchors is not None:
                covariance = self.anchors.mixed_in(covariance, min(len(self.source), len(self.target)))
            self.velocity = momentum * self.velocity + polar_factor(covariance) - self.rotation
            self.rotation = polar_factor(self.rotation + self.velocity)
        return self.rotation


def draw(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the rows, in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
