"""From a rough rotation to a good one, by steps over mutual neighbours."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .anchors import Anchors
from .neighbours import mutual_covariance
from .procrustes import spectral_power


@dataclass(frozen=True)
class Schedule:
    """How the steps of a refinement change from the first to the last.

    Args:
        powers: of `spectral_power`, first and last; in between on a line.
        neighbours: of `mutual_covariance`, first and last; in between geometrically.
        sample: rows of each side a step, which bounds memory at a few `sample²` floats.
    """

    powers: tuple[float, float]
    neighbours: tuple[int, int]
    sample: int

    def power(self, done: float) -> float:
        """Power where a share `done` of the steps, 0 to 1, is done."""
        first, last = self.powers
        return first + (last - first) * done

    def k(self, done: float) -> int:
        """Neighbours at that point."""
        first, last = self.neighbours
        return round(first * (last / first) ** done)


def anneal(
    source: Tensor,
    target: Tensor,
    rotation: Tensor,
    schedule: Schedule,
    *,
    steps: int,
    generator: torch.Generator,
    anchors: Anchors | None = None,
) -> Tensor:
    """Turn a map that is barely better than chance into a good one, on a fresh sample of rows in every step.

    Fresh rows matter: on one fixed sample the same steps soon reach a fixed point far from the solution.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1.
        rotation: `(d_a, d_b)`, where to start.
        schedule: of the steps.
        steps: how many.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1, which have their share in every step.

    Returns:
        `(d_a, d_b)`, not yet a rotation unless the last power is 0.
    """
    cosines = source.new_empty(min(schedule.sample, len(source)), min(schedule.sample, len(target)))
    for step in range(steps):
        done = step / max(steps - 1, 1)
        a, b = (draw(rows, schedule.sample, generator) for rows in (source, target))
        covariance = mutual_covariance(a, b, rotation, schedule.k(done), out=cosines)
        if anchors is not None:
            covariance = anchors.mixed_in(covariance, min(len(source), len(target)))
        rotation = spectral_power(covariance, schedule.power(done))
    return rotation


def draw(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """At most so many of the rows, in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]
