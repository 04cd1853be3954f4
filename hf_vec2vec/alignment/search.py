"""From many guesses to one rotation, chosen without pairs."""

from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

import torch
from torch import Tensor

from .refine import Anchors, anneal
from .score import alignment_score
from .start import polar_factor, starting_rotations
from .verdict import judge

WAVE = 6  # guesses at a time, until two of them lead to the same rotation
COARSE = {"powers": (0.5, 0.5), "neighbours": (30, 30), "sample": 2500}
FINE = {"powers": (0.5, 0.1), "neighbours": (30, 15), "sample": 4000}
# Denser samples have nearer neighbours, which carry the map past the point where small ones stall.
DENSE = {"powers": (0.1, 0.0), "neighbours": (15, 10), "sample": 8000}
FIRST_STEPS = 4  # for every guess of a wave
CLIMBERS = 3  # guesses of a wave that go on
# Steps at a time, as long as the score still rises by more than it varies, and how often at most.
CLIMB = {"steps": 6, "least_rise": 0.003, "chunks": 6}
LAST_CLIMB = {"steps": 4, "least_rise": 0.0003, "chunks": 8}
HELD_OUT = 1000


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


def search_steps(num_starts: int, steps: int) -> int:
    """How many steps `find_rotation` makes at most."""
    longest, last = (climb["steps"] * climb["chunks"] for climb in (CLIMB, LAST_CLIMB))
    waves = -(-num_starts // WAVE)
    return (num_starts + waves) * FIRST_STEPS + waves * (CLIMBERS * longest + steps) + last


def find_rotation(
    source: Tensor,
    target: Tensor,
    *,
    num_starts: int,
    num_anchors: int,
    steps: int,
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
        num_starts: guesses, at most.
        num_anchors: clusters a side and guess.
        steps: of the last refinement.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1. They guide guesses and steps, and their own rotation is a guess, too.
        guess: `(d_a, d_b)`, a rotation to try beside the others.
        progress: called with the number of steps done.
    """
    held_out = min(HELD_OUT, len(source) // 5, len(target) // 5)
    (held_a, fit_a), (held_b, fit_b) = ((u[:held_out], u[held_out:]) for u in (source, target))

    def score(rotation: Tensor) -> float:
        return alignment_score(held_a @ rotation, held_b)

    def refine(rotation: Tensor, length: int, schedule: dict) -> Tensor:
        refined = anneal(fit_a, fit_b, rotation, steps=length, generator=generator, anchors=anchors, **schedule)
        progress(length)
        return refined

    def climb(
        reached: float, rotation: Tensor, schedule: dict, *, steps: int, least_rise: float, chunks: int
    ) -> tuple[float, Tensor]:
        for _ in range(chunks):
            rotation = refine(rotation, steps, schedule)
            before, reached = reached, score(rotation)
            if reached < before + least_rise:
                break
        return reached, rotation

    climbed, fined, start_scores = [], [], []
    for first in range(0, num_starts, WAVE):
        candidates = starting_rotations(
            fit_a,
            fit_b,
            num_starts=min(WAVE, num_starts - first),
            num_anchors=num_anchors,
            sample=6000,
            whitening=(0.6, 0.0),
            generator=generator,
            known=anchors,
        )
        if anchors is not None and not first:
            candidates[0] = polar_factor(anchors.source.T @ anchors.target)
        if guess is not None and not first:
            candidates[-1] = guess
        wave = (refine(rotation, FIRST_STEPS, COARSE) for rotation in candidates)
        wave = sorted(((score(rotation), rotation) for rotation in wave), key=itemgetter(0), reverse=True)
        start_scores += [value for value, _ in wave]
        climbed += [climb(*guess, COARSE, **CLIMB) for guess in wave[:CLIMBERS]]
        climbed.sort(key=itemgetter(0), reverse=True)
        if not any(climbed[0] is parent for _, _, parent in fined):
            rotation = polar_factor(refine(climbed[0][1], steps, FINE))
            fined.append((score(rotation), rotation, climbed[0]))
        _, best, ancestor = max(fined, key=itemgetter(0))
        others = torch.stack([guess[1] for guess in climbed if guess is not ancestor])
        if judge(best, others, (held_a, held_b), None, generator).verdict == "aligned":
            break
    rotation = polar_factor(climb(score(best), best, DENSE, **LAST_CLIMB)[1])
    return Search(rotation, score(rotation), tuple(start_scores), others, (held_a, held_b))
