"""Linear maps between two embedding spaces, found without pairs.

`start` guesses rotations from the shape of the clouds, `refine` makes the best of them right, `score` tells which is
best. [`align`] runs all three.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..modeling_vec2vec import check_embeddings
from .refine import MapPair, anneal, average_step, back_translate, ridge
from .score import alignment_score, matched_cosines
from .start import polar_factor, starting_rotations

Statistics = tuple[Tensor, Tensor]  # mean and scale of a space, `(d,)` each


@dataclass(frozen=True)
class Alignment:
    """Linear maps between two spaces, in normalised coordinates, and the statistics that normalise.

    Args:
        source: name of the one space.
        target: name of the other.
        source_to_target: `(d_a, d_b)`, acts on rows from the right.
        target_to_source: `(d_b, d_a)`. No transpose of the other: see `back_translate`.
        source_statistics: mean and scale of the source's training rows, `(d_a,)` each.
        target_statistics: the same of the target.
        score: `alignment_score` of the rotation that the maps were grown from, on rows held out from the fit; mean of
            both directions.
        start_scores: the same of every start after a short refinement. Far below the best: a wrong start.
    """

    source: str
    target: str
    source_to_target: Tensor
    target_to_source: Tensor
    source_statistics: Statistics
    target_statistics: Statistics
    score: float
    start_scores: tuple[float, ...] = ()


def fit_statistics(rows: Tensor, standardize: bool | Literal["auto"] = "auto") -> Statistics:
    """Mean, and scale that gives centred rows unit mean square.

    Args:
        rows: `(n, d)`, training rows only.
        standardize: scale every dimension by its own deviation, as hidden states of language models need, where one
            dimension can hold nearly all variance. `"auto"` does so if one dimension has over 30 times the mean variance
            (sentence encoders have less than 10, language models hundreds).

    Returns:
        `(d,)` and `(d,)`.
    """
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)
    if standardize == "auto":
        standardize = bool(variance.max() > 30 * variance.mean())
    if not standardize:
        return mean, variance.mean().sqrt().expand_as(mean).clone()
    return mean, variance.clamp_min(variance.mean() * 1e-6).sqrt()


def align(
    source: Tensor,
    target: Tensor,
    *,
    source_name: str = "source",
    target_name: str = "target",
    standardize: bool | Literal["auto"] = "auto",
    num_starts: int = 20,
    num_anchors: int = 25,
    steps: int = 60,
    back_translation_rounds: int = 3,
    neighbours: int = 15,
    seed: int = 0,
    progress: bool = True,
) -> Alignment:
    """Find linear maps between two spaces from rows that have no partners.

    1. Guess: cluster random samples of each space, match the clusters' shapes, take the rotation (`starting_rotations`).
    2. Select: refine every guess for a few steps, the best four for more, and keep the highest `alignment_score`.
    3. Refine: annealed mutual-neighbour steps on fresh samples, then neighbour averages on all rows.
    4. Free the maps from being a rotation by iterated back-translation.

    Args:
        source: `(n, d_a)`, raw vectors of the one space.
        target: `(m, d_b)`, raw vectors of the other, of other texts.
        source_name: for the returned alignment.
        target_name: the same.
        standardize: see `fit_statistics`.
        num_starts: guesses.
        num_anchors: clusters a side and guess.
        steps: of the annealing.
        back_translation_rounds: 0 keeps the rotation.
        neighbours: that back-translation averages. Fewer: higher cosine; more: higher top-1.
        seed: of everything random.
        progress: show a bar.

    Returns:
        An [`Alignment`], on the CPU.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, or too few of them.
    """
    raw = {"source": check_embeddings(source, "source").float(), "target": check_embeddings(target, "target").float()}
    for name, rows in raw.items():
        if len(rows) < 4 * num_anchors:
            raise ValueError(
                f"`{name}` has {len(rows)} rows, too few for {num_anchors} anchors: give at least {4 * num_anchors}, "
                "better 10,000, or lower `num_anchors`."
            )
        if not (rows - rows[0]).any():
            raise ValueError(f"`{name}` has {len(rows)} rows that are all alike.")
    for name, value, least in (("num_starts", num_starts, 1), ("num_anchors", num_anchors, 2), ("steps", steps, 1)):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    generator = torch.Generator().manual_seed(seed)
    statistics = [fit_statistics(rows, standardize) for rows in raw.values()]
    # Order is shuffled away, so that nothing below can lean on it.
    rows = [
        ((r - mean) / scale)[torch.randperm(len(r), generator=generator).to(r.device)]
        for r, (mean, scale) in zip(raw.values(), statistics, strict=True)
    ]
    held_out = min(1000, min(map(len, rows)) // 5)
    units = [F.normalize(r, dim=1) for r in rows]
    (held_a, fit_a), (held_b, fit_b) = ((u[:held_out], u[held_out:]) for u in units)

    def score(rotation: Tensor) -> float:
        return (alignment_score(held_a @ rotation, held_b) + alignment_score(held_b @ rotation.T, held_a)) / 2

    candidates = starting_rotations(
        fit_a, fit_b, num_starts=num_starts, num_anchors=num_anchors, sample=6000, whitening=(0.6, 0.0), generator=generator
    )
    short_steps, finalists, dense_steps = 8, 4, 8
    with tqdm(
        total=len(candidates) * short_steps + finalists * 20 + steps + dense_steps, desc="align", disable=not progress
    ) as bar:
        run = partial(anneal, fit_a, fit_b, generator=generator, progress=bar.update)
        # Successive halving: the score tells right starts from wrong ones better the more they are refined.
        short = {"powers": (0.5, 0.5), "neighbours": (30, 30), "sample": 2500}
        tried = [run(candidate, steps=short_steps, **short) for candidate in candidates]
        start_scores = tuple(map(score, tried))
        best = sorted(range(len(tried)), key=start_scores.__getitem__)[-finalists:]
        rotation = max((run(tried[i], steps=20, **short | {"powers": (0.5, 0.3)}) for i in best), key=score)
        rotation = run(rotation, steps=steps, powers=(0.5, 0.1), neighbours=(30, 10), sample=4000)
        # Denser samples have nearer neighbours, which carry the map past the point where the small ones stall.
        rotation = run(rotation, steps=dense_steps, powers=(0.1, 0.05), neighbours=(10, 10), sample=10_000)
    rotation = polar_factor(rotation)
    for k in tqdm((10, 10), desc="average", disable=not progress):
        rotation = average_step(fit_a, fit_b, rotation, k)
    final_score = score(rotation)
    maps = MapPair(rotation, rotation.T)
    for _ in tqdm(range(back_translation_rounds), desc="back-translate", disable=not progress):
        maps = back_translate(*rows, maps, k=neighbours, strength=0.03)
    return Alignment(
        source=source_name,
        target=target_name,
        source_to_target=maps.source_to_target.cpu(),
        target_to_source=maps.target_to_source.cpu(),
        source_statistics=tuple(t.cpu() for t in statistics[0]),
        target_statistics=tuple(t.cpu() for t in statistics[1]),
        score=final_score,
        start_scores=start_scores,
    )


__all__ = [
    "Alignment",
    "Statistics",
    "align",
    "alignment_score",
    "fit_statistics",
    "matched_cosines",
    "polar_factor",
    "ridge",
]
