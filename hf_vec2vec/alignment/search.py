"""From many guesses to one rotation, chosen without pairs."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .anchors import Anchors
from .options import AlignmentOptions
from .procrustes import polar_factor
from .refine import Schedule, anneal
from .score import alignment_score
from .start import starting_rotations
from .verdict import judge

WAVE = 6  # guesses at a time, until two of them lead to the same rotation
FIRST_STEPS = 4  # for every guess of a wave
CLIMBERS = 3  # guesses of a wave that go on
HELD_OUT = 1000  # rows of each side, at most a fifth, that no step sees: scores and verdict are told by them
COARSE = Schedule(powers=(0.5, 0.5), neighbours=(30, 30), sample=2500)
FINE = Schedule(powers=(0.5, 0.1), neighbours=(30, 15), sample=4000)
# Denser samples have nearer neighbours, which carry the map past the point where small ones stall.
DENSE = Schedule(powers=(0.1, 0.0), neighbours=(15, 10), sample=8000)


@dataclass(frozen=True)
class Climb:
    """Steps of one schedule again and again, as long as the score rises.

    Args:
        schedule: of the steps of a chunk.
        steps: of a chunk.
        least_rise: of the score in a chunk, to go on: about what it varies by itself.
        chunks: how many at most.
    """

    schedule: Schedule
    steps: int
    least_rise: float
    chunks: int

    @property
    def most_steps(self) -> int:
        """Steps at most."""
        return self.steps * self.chunks


CLIMB = Climb(COARSE, steps=6, least_rise=0.003, chunks=6)
LAST_CLIMB = Climb(DENSE, steps=4, least_rise=0.0003, chunks=8)


@dataclass(frozen=True, eq=False)
class Candidate:
    """A map `(d_a, d_b)` on its way to the rotation, its `alignment_score` on rows held out, and what it was made of."""

    rotation: Tensor
    score: float
    parent: "Candidate | None" = None


@dataclass(frozen=True)
class Search:
    """A rotation and how it was found.

    Args:
        rotation: `(d_a, d_b)`, semi-orthogonal.
        score: its `alignment_score` on rows held out, source to target.
        start_scores: the same of every guess after a few steps, wave by wave, best first.
        others: maps `(o, d_a, d_b)` that other guesses led to, refined less.
        held_out: the rows `(h, d_a)` and `(h, d_b)`, norm 1, that were not fitted.
    """

    rotation: Tensor
    score: float
    start_scores: tuple[float, ...]
    others: Tensor
    held_out: tuple[Tensor, Tensor]


def search_steps(options: AlignmentOptions) -> int:
    """How many steps `find_rotation` makes at most."""
    waves = -(-options.num_starts // WAVE)
    first = (options.num_starts + waves) * FIRST_STEPS  # a wave has one guess more, the sum of the others
    return first + waves * (CLIMBERS * CLIMB.most_steps + options.steps) + LAST_CLIMB.most_steps


def find_rotation(
    source: Tensor,
    target: Tensor,
    options: AlignmentOptions,
    *,
    generator: torch.Generator,
    anchors: Anchors | None = None,
    guess: Tensor | None = None,
    progress: Callable[[int], object] = lambda steps: None,
) -> Search:
    """Guess rotations, refine the better ones further and further, and go on guessing until two lead to the same place.

    Easy pairs are settled by the first wave of guesses; hard ones get all of them. The first guess of a wave is the sum of
    the others, so two finalists of one wave can have a guess in common.

    Args:
        source: `(n, d_a)`, norm 1, in random order.
        target: `(m, d_b)`, norm 1, in random order.
        options: of the alignment.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1. They guide guesses and steps, and their own rotation is a guess, too.
        guess: `(d_a, d_b)`, a rotation to try beside the others.
        progress: called with the number of steps done.
    """
    steps = _Steps(source, target, generator, anchors, progress)
    climbed: list[Candidate] = []
    finalists: list[Candidate] = []
    start_scores: list[float] = []
    for first in range(0, options.num_starts, WAVE):
        guesses = steps.guesses(min(WAVE, options.num_starts - first), options.num_anchors)
        if anchors is not None and not first:
            guesses[0] = polar_factor(anchors.source.T @ anchors.target)
        if guess is not None and not first:
            guesses[-1] = guess
        wave = _best_first([steps.refined(rotation, FIRST_STEPS, COARSE) for rotation in guesses])
        start_scores += [candidate.score for candidate in wave]
        climbed = _best_first(climbed + [steps.climbed(candidate, CLIMB) for candidate in wave[:CLIMBERS]])
        if not any(climbed[0] is finalist.parent for finalist in finalists):
            finalists.append(steps.finished(climbed[0], options.steps))
        best = max(finalists, key=lambda finalist: finalist.score)
        others = torch.stack([candidate.rotation for candidate in climbed if candidate is not best.parent])
        if judge(best.rotation, others, steps.held_out, None, generator).verdict == "aligned":
            break
    last = steps.climbed(best, LAST_CLIMB)
    rotation = polar_factor(last.rotation)
    return Search(rotation, steps.score(rotation), tuple(start_scores), others, steps.held_out)


def _best_first(candidates: list[Candidate]) -> list[Candidate]:
    return sorted(candidates, key=lambda candidate: candidate.score, reverse=True)


class _Steps:
    """The rows of both sides and what is done with them; arguments as `find_rotation`."""

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        generator: torch.Generator,
        anchors: Anchors | None,
        progress: Callable[[int], object],
    ):
        held_out = min(HELD_OUT, len(source) // 5, len(target) // 5)
        self.held_out = source[:held_out], target[:held_out]
        self.fitted = source[held_out:], target[held_out:]
        self.generator, self.anchors, self.progress = generator, anchors, progress

    def guesses(self, num_starts: int, num_anchors: int) -> Tensor:
        """A wave of `starting_rotations`."""
        source, target = self.fitted
        return starting_rotations(
            source, target, num_starts=num_starts, num_anchors=num_anchors, generator=self.generator, known=self.anchors
        )

    def score(self, rotation: Tensor) -> float:
        """`alignment_score` on the rows held out."""
        source, target = self.held_out
        return alignment_score(source @ rotation, target)

    def _anneal(self, rotation: Tensor, steps: int, schedule: Schedule) -> Tensor:
        source, target = self.fitted
        refined = anneal(source, target, rotation, schedule, steps=steps, generator=self.generator, anchors=self.anchors)
        self.progress(steps)
        return refined

    def refined(self, rotation: Tensor, steps: int, schedule: Schedule) -> Candidate:
        """So many steps from a rotation."""
        refined = self._anneal(rotation, steps, schedule)
        return Candidate(refined, self.score(refined))

    def climbed(self, candidate: Candidate, climb: Climb) -> Candidate:
        """Steps from a candidate for as long as the score rises."""
        for _ in range(climb.chunks):
            before, candidate = candidate.score, self.refined(candidate.rotation, climb.steps, climb.schedule)
            if candidate.score < before + climb.least_rise:
                break
        return candidate

    def finished(self, parent: Candidate, steps: int) -> Candidate:
        """The last refinement of one of the best, a rotation."""
        rotation = polar_factor(self._anneal(parent.rotation, steps, FINE))
        return Candidate(rotation, self.score(rotation), parent)
