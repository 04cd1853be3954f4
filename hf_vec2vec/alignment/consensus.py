"""Several guesses, each with steps of its own, until two lead to one rotation.

A score that needs no pairs is noisy: it does not rise for a hundred steps over which the rotation comes ever nearer to the
truth. How far two rotations agree is not: they come from different guesses and see other samples of the rows, so their
errors differ. Their agreement chooses among guesses and tells when to stop. It is no proof: guesses that were made of the
same moments can share a mistake, so the verdict asks the score, too. (Guesses from two halves of the rows share none, but
with 24,000 rows of film reviews they were too poor to climb.)
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import functional as F

from .anchors import Anchors
from .neighbours import mutual_covariance
from .procrustes import polar_factor
from .refine import draw
from .third_moments import moment_rotations

NEIGHBOURS = 10  # of a step: 3 and 5 climb more slowly from afar, 30 stands still early
MOMENTUM = 0.9  # of the rotation: far from the truth, steps go the same way for long
FIRST_SAMPLE, FIRST_STEPS = 2000, 20  # rows and steps of every guess, before any is chosen
SAMPLE = 4000  # rows of a step after that
GIVEN = 2  # guesses that a user may add: by known pairs, and one of their own
CHUNK = 10  # steps between two looks at the agreement
LOOKS = 3  # chunks without a rise that end the climb
LEAST_RISE = 0.01  # of the agreement in so many chunks, to go on
ENOUGH = 0.7  # agreement from which denser steps, which come after, do the rest


@dataclass(frozen=True)
class Patience:
    """How much is tried.

    Args:
        guesses: that make their first steps.
        chunks: of `CHUNK` steps that the two chosen ones make, at most.
    """

    guesses: int
    chunks: int

    @property
    def most_steps(self) -> int:
        """Steps at most, of all guesses."""
        return (self.guesses + GIVEN) * FIRST_STEPS + 2 * self.chunks * CHUNK


class Climber:
    """A rotation that climbs on rows of its own, with momentum.

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

    def twin(self) -> "Climber":
        """Another at the same place."""
        return Climber(self.source, self.target, self.rotation, self.generator, self.anchors)

    def climb(self, steps: int, sample: int, momentum: float = MOMENTUM) -> None:
        """So many steps over mutual neighbours, each on fresh rows, at most half of them."""
        samples = [min(sample, -(-len(rows) // 2)) for rows in (self.source, self.target)]
        cosines = self.source.new_empty(*samples)
        for _ in range(steps):
            a, b = (draw(rows, most, self.generator) for rows, most in zip((self.source, self.target), samples, strict=True))
            covariance = mutual_covariance(a, b, self.rotation, NEIGHBOURS, out=cosines)
            if self.anchors is not None:
                covariance = self.anchors.mixed_in(covariance, min(len(self.source), len(self.target)))
            self.velocity = momentum * self.velocity + polar_factor(covariance) - self.rotation
            self.rotation = polar_factor(self.rotation + self.velocity)


@dataclass(frozen=True, eq=False)
class Consensus:
    """What two guesses lead to.

    Args:
        rotation: `(d_a, d_b)`, semi-orthogonal, the mean of both.
        agreement: mean cosine between the translations of the same rows by the one and by the other.
    """

    rotation: Tensor
    agreement: float


def find_consensus(
    source: Tensor,
    target: Tensor,
    held_out: Tensor,
    patience: Patience,
    *,
    generator: torch.Generator,
    given: Sequence[Tensor] = (),
    anchors: Anchors | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Iterator[Consensus]:
    """Climb from several guesses, choose the two that agree best, and go on until they agree no better.

    Args:
        source: `(n, d_a)`, norm 1, in random order.
        target: `(m, d_b)`, norm 1, in random order.
        held_out: `(h, d_a)`, norm 1, rows whose translations are compared.
        patience: how much is tried.
        generator: source of randomness, on the CPU.
        given: `(d_a, d_b)` each, other guesses to climb from.
        anchors: known pairs, norm 1.
        progress: called with the number of steps done.

    Yields:
        The consensus so far, after every look at it.
    """
    guesses = [*given, *moment_rotations(source, target, patience.guesses, generator)]
    climbers = [Climber(source, target, guess, generator, anchors) for guess in guesses]
    for climber in climbers:
        climber.climb(FIRST_STEPS, FIRST_SAMPLE)
        progress(FIRST_STEPS)
    # One alone has nobody to agree with: it goes on twice, with other samples.
    pairs = combinations(climbers, 2) if len(climbers) > 1 else [(climbers[0], climbers[0].twin())]
    pair = max(pairs, key=lambda pair: _consensus(pair, held_out).agreement)
    looks = [_consensus(pair, held_out)]
    yield looks[-1]
    for _ in range(patience.chunks):
        if looks[-1].agreement >= ENOUGH:
            break
        for climber in pair:
            climber.climb(CHUNK, SAMPLE)
            progress(CHUNK)
        looks.append(_consensus(pair, held_out))
        yield looks[-1]
        if len(looks) > LOOKS and looks[-1].agreement < looks[-1 - LOOKS].agreement + LEAST_RISE:
            break


def _consensus(pair: tuple[Climber, Climber], held_out: Tensor) -> Consensus:
    one, other = (climber.rotation for climber in pair)
    agreement = F.cosine_similarity(held_out @ one, held_out @ other).mean().item()
    return Consensus(polar_factor(one + other), agreement)
