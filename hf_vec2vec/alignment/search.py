"""From many guesses to one rotation, chosen without pairs."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .anchors import Anchors
from .consensus import Consensus, Patience, find_consensus
from .options import AlignmentOptions
from .procrustes import polar_factor
from .refine import Schedule, anneal
from .score import alignment_score
from .start import starting_rotations
from .verdict import consensus_of, judge

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


# Few steps settle easy pairs; for others these are bounds, which a climb that stands still does not reach.
PATIENCE = {"quick": Patience(guesses=3, chunks=8), "default": Patience(4, 20), "thorough": Patience(12, 60)}


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
        start_scores: the same of every guess from matched clusters after a few steps, wave by wave, best first; empty where
            none was needed.
        consensus: mean cosine between translations by it and by what an independent guess led to, from matched clusters.
        held_out: the rows `(h, d_a)` and `(h, d_b)`, norm 1, that were not fitted.
        interrupted: whether a `KeyboardInterrupt` ended the search.
    """

    rotation: Tensor
    score: float
    start_scores: tuple[float, ...]
    consensus: float
    held_out: tuple[Tensor, Tensor]
    interrupted: bool = False


def search_steps(options: AlignmentOptions) -> int:
    """How many steps `find_rotation` makes at most."""
    starts = min(options.num_starts, WAVE) if options.effort == "quick" else options.num_starts
    waves = -(-starts // WAVE)
    of_waves = (starts + waves) * FIRST_STEPS + waves * (CLIMBERS * CLIMB.most_steps + options.steps)
    # A wave has one guess more, the sum of the others.
    return of_waves + PATIENCE[options.effort].most_steps + options.steps + LAST_CLIMB.most_steps


def find_rotation(
    source: Tensor,
    target: Tensor,
    options: AlignmentOptions,
    *,
    generator: torch.Generator,
    anchors: Anchors | None = None,
    guess: Tensor | None = None,
    progress: Callable[[int], object] = lambda steps: None,
    agreed: Callable[[float], object] = lambda consensus: None,
) -> Search:
    """Guess rotations, refine the better ones further and further, and go on guessing until two lead to the same place.

    Easy pairs are settled by a first wave of guesses, from matched clusters; hard ones get all waves, unless the effort is
    `"quick"`. Where none is believed, guesses from third moments follow (`find_consensus`).

    Args:
        source: `(n, d_a)`, norm 1, in random order.
        target: `(m, d_b)`, norm 1, in random order.
        options: of the alignment.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1. They guide guesses and steps, and their own rotation is a guess, too.
        guess: `(d_a, d_b)`, a rotation to try beside the others.
        progress: called with the number of steps done.
        agreed: called with the consensus of the best so far.

    Raises:
        KeyboardInterrupt: while there is nothing to return. Later, it ends the search, and the best so far is returned.
    """
    steps = _Steps(source, target, generator, anchors, progress)
    # By their place in the first wave, whose first guess is otherwise the sum of the others.
    given = {} if anchors is None else {0: polar_factor(anchors.source.T @ anchors.target)}
    given |= {} if guess is None else {-1: guess.to(source)}
    found, interrupted = None, False
    try:
        for found in _ever_better(steps, options, given):
            agreed(found.consensus)
    except KeyboardInterrupt:
        interrupted = True
    if found is None:
        raise KeyboardInterrupt
    rotation = polar_factor(found.rotation)
    # By guesses from matched clusters alone: those from third moments can share a mistake, and then agree on it.
    consensus = consensus_of(rotation, steps.independent, steps.held_out[0])
    score, scores = steps.score(rotation), tuple(steps.start_scores)
    return Search(rotation, score, scores, consensus, steps.held_out, interrupted)


@dataclass(frozen=True, eq=False)
class _Found:
    """The best map so far, its consensus with what other guesses led to, and whether it would be believed."""

    rotation: Tensor
    consensus: float
    aligned: bool = False


def _ever_better(steps: "_Steps", options: AlignmentOptions, given: Mapping[int, Tensor]) -> Iterator[_Found]:
    """The best so far, each time that there is news; the last is the end of the search."""
    for found in _waves(steps, options, given):
        yield found
        if found.aligned or options.effort == "quick":
            break
    if not found.aligned:
        for consensus in steps.consensus(PATIENCE[options.effort], list(given.values())):
            patient = _Found(consensus.rotation, consensus.agreement)
            if steps.score(patient.rotation) > steps.score(found.rotation):
                yield patient
        patient = _Found(steps.finished(steps.candidate(patient.rotation), options.steps).rotation, patient.consensus)
        if steps.score(patient.rotation) > steps.score(found.rotation):
            found = patient
            yield found
    yield _Found(steps.climbed(steps.candidate(found.rotation), LAST_CLIMB).rotation, found.consensus)


def _waves(steps: "_Steps", options: AlignmentOptions, given: Mapping[int, Tensor]) -> Iterator[_Found]:
    """Guesses from matched clusters, wave by wave; each time the best so far.

    The first guess of a wave is the sum of the others, so two finalists of one wave can have a guess in common.
    """
    climbed: list[Candidate] = []
    finalists: list[Candidate] = []
    for begin in range(0, options.num_starts, WAVE):
        guesses = steps.guesses(min(WAVE, options.num_starts - begin), options.num_anchors)
        if not begin:
            for place, rotation in given.items():
                guesses[place] = rotation
        wave = _best_first([steps.refined(rotation, FIRST_STEPS, COARSE) for rotation in guesses])
        steps.start_scores += [candidate.score for candidate in wave]
        climbed = _best_first(climbed + [steps.climbed(candidate, CLIMB) for candidate in wave[:CLIMBERS]])
        if not any(climbed[0] is finalist.parent for finalist in finalists):
            finalists.append(steps.finished(climbed[0], options.steps))
        best = _best_first(finalists)[0]
        steps.independent = torch.stack([candidate.rotation for candidate in climbed if candidate is not best.parent])
        consensus = consensus_of(best.rotation, steps.independent, steps.held_out[0])
        yield _Found(best.rotation, consensus, steps.believed(best.rotation, consensus))


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
        self.start_scores: list[float] = []
        self.independent: Tensor  # maps that guesses from matched clusters led to, without those that the best was made of

    def consensus(self, patience: Patience, given: list[Tensor]) -> Iterator[Consensus]:
        """`find_consensus` on the rows that are fitted."""
        return find_consensus(
            *self.fitted,
            self.held_out[0],
            patience,
            generator=self.generator,
            given=given,
            anchors=self.anchors,
            progress=self.progress,
        )

    def believed(self, rotation: Tensor, consensus: float) -> bool:
        """Whether the verdict would be "aligned"."""
        return judge(rotation, consensus, self.held_out, None, self.generator).verdict == "aligned"

    def candidate(self, rotation: Tensor) -> Candidate:
        """A map with its score."""
        return Candidate(rotation, self.score(rotation))

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
        return self.candidate(self._anneal(rotation, steps, schedule))

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
