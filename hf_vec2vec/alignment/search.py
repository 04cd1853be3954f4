"""From many guesses to one rotation, chosen without pairs.

Wave by wave, guesses from third moments and from matched clusters make some cheap steps in the leading axes. Those that
agree are found (`consensus`), and two rotations are made of them, each of other guesses. Both climb for as long as they come
nearer to each other. Where they meet, that is the rotation, and how far they agree goes into the verdict; where they do not,
more guesses follow, and after the last of them a longer climb.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from .anchors import Anchors
from .consensus import agreements, groups, halves, weighted_mean
from .options import AlignmentOptions
from .procrustes import polar_factor
from .refine import NEAR, Climber
from .score import alignment_score
from .start import starting_rotations
from .third_moments import moment_rotations
from .verdict import judge

WAVE = 6  # guesses from matched clusters at a time
MOMENT_GUESSES = 3  # beside those of the first wave
GIVEN = 2  # guesses that a user may add: by known pairs, and one of their own
PATIENCE = 3  # times as many guesses as else, where the effort is "thorough"
HELD_OUT = 1000  # rows of each side, at most a fifth, that no step sees: agreement, scores and verdict are told by them
LEADING = 64  # principal axes of each space in which guesses make their first steps: all axes bring them no further
FIRST_STEPS, SAMPLE = 40, 2000  # of every guess, and rows a step
FEW = 250  # rows that tell which single guess stands out
GROUPS = 3  # at most, of guesses that may be right together
GROUP_STEPS = 20  # of what a group of guesses says together, before the better group is chosen
LOOK = 10  # steps of the two halves between two looks at their agreement
SMALL_LOOKS = 2  # with `SAMPLE` rows a step, before larger samples
MIDDLE_SAMPLE = 4000  # rows a step after that
MOST_LOOKS = 18
STILL = 3  # looks without a rise that end the climb
LEAST_RISE = 0.03  # of the agreement in so many looks, to go on
PATIENT_LOOKS = 9  # at least, of the last climb of the halves, where no shorter one made them meet
LEAST_PAIRS, FOLDS = 10, 4  # known pairs, at least, that judge in so many parts whether to stay with them
PAIR_STEPS = 60  # from known pairs, or without them
ENOUGH = 0.6  # agreement from which the last refinement does the rest
LAST_SAMPLE = 8000  # rows a step of it: denser samples have nearer neighbours
SETTLED, MOST_ROUNDS = 0.98, 3  # agreement of two ends of it in a row, which ends it; rounds of steps, at most


@dataclass(frozen=True)
class Search:
    """A rotation and how it was found.

    Args:
        rotation: `(d_a, d_b)`, semi-orthogonal.
        judged: the same before it was fitted to the held-out rows, too: where rows are few, they are worth it.
        consensus: mean cosine between translations by the two rotations that it is the mean of, each made of other guesses;
            where `trusted`, by what the clouds found and what the pairs lead to.
        guesses: how many were made.
        held_out: the rows `(h, d_a)` and `(h, d_b)`, norm 1, that were not fitted.
        trusted: whether known pairs led elsewhere than the clouds did, and were followed.
        interrupted: whether a `KeyboardInterrupt` ended the search.
    """

    rotation: Tensor
    judged: Tensor
    consensus: float
    guesses: int
    held_out: tuple[Tensor, Tensor]
    trusted: bool = False
    interrupted: bool = False


def search_steps(options: AlignmentOptions, pairs: int = 0) -> int:
    """How many steps `find_rotation` makes at most, with so many known pairs."""
    starts = _starts(options)
    waves = -(-starts // WAVE) + 1  # the last, of patience, makes no guesses
    of_guesses = (starts + MOMENT_GUESSES + GIVEN) * FIRST_STEPS
    of_waves = waves * (GROUPS * GROUP_STEPS + 2 * MOST_LOOKS * LOOK)
    of_pairs = (FOLDS + 2) * PAIR_STEPS if pairs >= LEAST_PAIRS else 0
    return of_guesses + of_waves + of_pairs + 2 * MOST_ROUNDS * options.steps


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
    """Guess rotations until two that are made of other guesses lead to the same place, and refine it.

    Args:
        source: `(n, d_a)`, norm 1, in random order.
        target: `(m, d_b)`, norm 1, in random order.
        options: of the alignment.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1. They guide guesses and steps, and their own rotation is a guess, too.
        guess: `(d_a, d_b)`, a rotation to try beside the others.
        progress: called with the number of steps done.
        agreed: called with the agreement of the two halves, after every look at it.

    Raises:
        KeyboardInterrupt: while there is nothing to return. Later, it ends the search, and the best so far is returned.
    """
    held_out = min(HELD_OUT, len(source) // 5, len(target) // 5)
    clouds = _Clouds(
        source[held_out:], target[held_out:], (source[:held_out], target[:held_out]), generator, anchors, progress
    )
    given = [] if anchors is None else [_of_pairs(anchors)]
    given += [] if guess is None else [guess.to(source)]
    best, last, interrupted = None, None, False
    try:
        for found in _ever_better(clouds, options, given):
            best = last = found
            agreed(best.consensus)
        if best and min(len(clouds.source), len(clouds.target)) < LAST_SAMPLE:
            clouds.source, clouds.target = source, target  # what judged is found: now its rows may be fitted, too
            *_, last = clouds.refined(best, options.steps)
    except KeyboardInterrupt:
        interrupted = True
    if best is None or last is None:
        raise KeyboardInterrupt
    of_guesses = len(clouds.guesses)
    return Search(last.rotation, best.rotation, best.consensus, of_guesses, clouds.held_out, best.trusted, interrupted)


@dataclass(frozen=True, eq=False)
class _Found:
    """A rotation `(d_a, d_b)`, the agreement of the halves that it is the mean of, and its `alignment_score`.

    `trusted`: known pairs had a large share in it.
    """

    rotation: Tensor
    consensus: float
    score: float
    trusted: bool = False


def _starts(options: AlignmentOptions) -> int:
    """Guesses from matched clusters, at most."""
    return {"quick": min(options.num_starts, WAVE), "thorough": PATIENCE * options.num_starts}.get(
        options.effort, options.num_starts
    )


def _ever_better(clouds: "_Clouds", options: AlignmentOptions, given: list[Tensor]) -> Iterator[_Found]:
    """The best so far, each time that there is news; the last is the end of the search."""
    best, starts = None, _starts(options)
    for begin in range(0, starts, WAVE):
        if not begin:
            clouds.add(clouds.moment_guesses(), of_one_origin=True)
            clouds.add(given)
        clouds.add(clouds.cluster_guesses(min(WAVE, starts - begin), options.num_anchors))
        for found in clouds.climbed_halves():
            yield best if best and best.score > found.score else found
        best = best if best and best.score > found.score else found
        if believed := clouds.believed(best):
            break
    assert best is not None  # there is a wave, and it finds something
    if not believed:
        for found in clouds.climbed_halves(PATIENT_LOOKS):
            yield best if best.consensus > found.consensus else found
        best = max(best, found, key=lambda found: found.consensus)
        if clouds.anchors is not None and len(clouds.anchors) >= LEAST_PAIRS and not clouds.believed(best):
            best = clouds.nearer_to_pairs(best, clouds.anchors.trusted())
    yield from clouds.refined(best, options.steps)


class _Clouds:
    """The rows of both sides, and the guesses between them; arguments as `find_rotation`.

    Guesses are kept in coordinates of the leading axes, `(p, p)`, with where they come from.
    """

    def __init__(
        self,
        source: Tensor,
        target: Tensor,
        held_out: tuple[Tensor, Tensor],
        generator: torch.Generator,
        anchors: Anchors | None,
        progress: Callable[[int], object],
    ):
        self.source, self.target, self.held_out = source, target, held_out
        self.generator, self.anchors, self.progress = generator, anchors, progress
        axes = min(LEADING, source.shape[1], target.shape[1])
        self.frames = _leading_axes(source, axes), _leading_axes(target, axes)
        self.leading = _projected(source, self.frames[0]), _projected(target, self.frames[1])
        self.compared = _projected(held_out[0], self.frames[0])
        self.known = None
        if anchors is not None:
            self.known = Anchors(_projected(anchors.source, self.frames[0]), _projected(anchors.target, self.frames[1]))
        self.guesses: list[Tensor] = []
        self.origins: list[int] = []  # guesses of one number can share a mistake

    def moment_guesses(self) -> Tensor:
        return moment_rotations(self.source, self.target, MOMENT_GUESSES, self.generator)

    def cluster_guesses(self, count: int, num_anchors: int) -> Tensor:
        return starting_rotations(
            self.source,
            self.target,
            num_starts=count,
            num_anchors=num_anchors,
            generator=self.generator,
            known=self.anchors,
        )

    def add(self, rotations: Iterable[Tensor], of_one_origin: bool = False) -> None:
        """Guesses `(d_a, d_b)`, after their first steps."""
        for place, rotation in enumerate(rotations):
            climber = Climber(*self.leading, self._reduced(rotation), self.generator, self.known)
            self.guesses.append(climber.climb(FIRST_STEPS, SAMPLE))
            self.origins.append(self.origins[-1] if of_one_origin and place else len(self.origins))
            self.progress(FIRST_STEPS)

    def climbed_halves(self, least_looks: int = 0) -> Iterator[_Found]:
        """Two rotations, made of guesses that agree, on their way to each other; each time their mean.

        With so many looks at least, all of them at larger samples: nearer, where short climbs did not meet.
        """
        guesses = torch.stack(self.guesses)
        parts = halves(self._best_group(guesses), self.origins)
        # With one guess alone, there is nobody to agree with.
        starts = [self._lifted(weighted_mean(guesses, part)) for part in parts if part.any()]
        climbers = [Climber(self.source, self.target, start, self.generator, self.anchors) for start in starts]
        looks: list[float] = []
        while len(looks) < MOST_LOOKS:
            sample = SAMPLE if len(looks) < SMALL_LOOKS and not least_looks else MIDDLE_SAMPLE
            rotations = torch.stack([climber.climb(LOOK, sample) for climber in climbers])
            self.progress(len(climbers) * LOOK)
            looks.append(agreements(rotations, self.held_out[0])[0, 1].item() if len(climbers) > 1 else 0.0)
            mean = polar_factor(rotations.sum(0))
            yield _Found(mean, looks[-1], self._score(mean))
            still = len(looks) > max(STILL, least_looks) and looks[-1] < looks[-1 - STILL] + LEAST_RISE
            if looks[-1] >= ENOUGH or still:
                break

    def nearer_to_pairs(self, best: _Found, pairs: Anchors) -> _Found:
        """What climbs from the known pairs and stays with them, if pairs that it does not know say that it is better.

        Between clouds of unlike texts mutual neighbours lead away from the truth, and the score does not tell. Pairs do:
        part by part they are left out of the climb, and judge. What the clouds found forgets them first.
        """
        rows = self.held_out[1]
        forgetful = self._climbed(best.rotation, None)
        missed = [part.missed(self._climbed(_of_pairs(rest), rest), rows) for rest, part in pairs.split(FOLDS)]
        if sum(missed) / FOLDS >= pairs.missed(forgetful, rows):
            return best
        rotation = self._climbed(_of_pairs(pairs), pairs)
        agreement = agreements(torch.stack([best.rotation, rotation]), self.held_out[0])[0, 1].item()
        return _Found(rotation, agreement, self._score(rotation), trusted=True)

    def _climbed(self, start: Tensor, pairs: Anchors | None) -> Tensor:
        rotation = Climber(self.source, self.target, start, self.generator, pairs).climb(PAIR_STEPS, MIDDLE_SAMPLE)
        self.progress(PAIR_STEPS)
        return rotation

    def _best_group(self, guesses: Tensor) -> Tensor:
        """Weights of the guesses whose mean climbs to the highest score."""
        source, target = self.held_out
        scores = [alignment_score(source @ self._lifted(guess), target, max_rows=FEW) for guess in guesses]
        found = []
        for weights in groups(agreements(guesses, self.compared), max(range(len(scores)), key=scores.__getitem__)):
            climber = Climber(*self.leading, weighted_mean(guesses, weights), self.generator, self.known)
            rotation = climber.climb(GROUP_STEPS, SAMPLE)
            self.progress(GROUP_STEPS)
            found.append((self._score(self._lifted(rotation)), weights))
        return max(found, key=lambda scored: scored[0])[1]

    def believed(self, found: _Found) -> bool:
        """Whether the verdict would be "aligned"."""
        return judge(found.rotation, found.consensus, self.held_out, None, self.generator).verdict == "aligned"

    def refined(self, found: _Found, steps: int) -> Iterator[_Found]:
        """The last refinement, so many steps at a time, until the rotation has come to rest."""
        anchors = self.anchors.trusted() if self.anchors is not None and found.trusted else self.anchors
        climber = Climber(self.source, self.target, found.rotation, self.generator, anchors)
        for _ in range(MOST_ROUNDS):
            before = climber.rotation
            rotation = climber.climb(steps, LAST_SAMPLE, momentum=NEAR, share=1.0)
            self.progress(steps)
            yield replace(found, rotation=rotation, score=self._score(rotation))
            if agreements(torch.stack([before, rotation]), self.held_out[0])[0, 1] >= SETTLED:
                break

    def _score(self, rotation: Tensor) -> float:
        source, target = self.held_out
        return alignment_score(source @ rotation, target)

    def _reduced(self, rotation: Tensor) -> Tensor:
        return self.frames[0].T @ rotation @ self.frames[1]

    def _lifted(self, rotation: Tensor) -> Tensor:
        return self.frames[0] @ rotation @ self.frames[1].T


def _of_pairs(pairs: Anchors) -> Tensor:
    """Rotation `(d_a, d_b)` that fits known pairs best."""
    return polar_factor(pairs.source.T @ pairs.target)


def _leading_axes(rows: Tensor, axes: int) -> Tensor:
    """Principal axes with the largest eigenvalues: `(d, axes)`."""
    return torch.linalg.eigh(rows.T @ rows)[1][:, -axes:]


def _projected(rows: Tensor, frame: Tensor) -> Tensor:
    return F.normalize(rows @ frame, dim=1)
