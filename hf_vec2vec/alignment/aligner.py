"""From two clouds of rows to maps between them: every stage of the alignment, one after the other."""

import time
import warnings
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..model.modeling_vec2vec import check_embeddings
from .back_translation import back_translate
from .refine import Anchors
from .residual import PROTOTYPES, fit_residual
from .search import find_rotation, search_steps
from .verdict import AlignmentReport, judge

LARGEST_SHARE = 0.5  # of the variance in one direction; sentence encoders and standardised hidden states have up to .07
Statistics = tuple[Tensor, Tensor]  # mean and scale of a space, `(d,)` each


@dataclass(frozen=True)
class Alignment:
    """Maps between two spaces, in normalised coordinates, and the statistics that normalise.

    Args:
        source: name of the one space.
        target: name of the other.
        source_to_target: `(d_a, d_b)`, acts on rows from the right.
        target_to_source: `(d_b, d_a)`. No transpose of the other: see `back_translate`.
        source_statistics: mean and scale of the source's training rows, `(d_a,)` each.
        target_statistics: the same of the target.
        rotation: `(d_a, d_b)`, semi-orthogonal, that the maps were grown from; `None` for maps of your own.
        report: whether to believe it; `None` for maps of your own.
        residuals: networks that replace the two linear maps by better ones.
        start_scores: score of every guess after a short refinement. Far below the best: a wrong one.
        seconds: that each stage took.
    """

    source: str
    target: str
    source_to_target: Tensor
    target_to_source: Tensor
    source_statistics: Statistics
    target_statistics: Statistics
    rotation: Tensor | None = None
    report: AlignmentReport | None = None
    residuals: tuple[nn.Module, nn.Module] | None = None
    start_scores: tuple[float, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)


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


@torch.no_grad()
def align(
    source: Tensor,
    target: Tensor,
    *,
    source_name: str = "source",
    target_name: str = "target",
    anchors: tuple[Tensor, Tensor] | None = None,
    guess: Tensor | None = None,
    standardize: bool | Literal["auto"] = "auto",
    num_starts: int = 24,
    num_anchors: int = 25,
    steps: int = 20,
    back_translation_rounds: int = 2,
    neighbours: int = 15,
    hidden_dim: int = PROTOTYPES,
    seed: int = 0,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Alignment:
    """Find maps between two spaces from rows that have no partners.

    1. Guess: cluster random samples of each space, match the clusters' shapes, take the rotation (`starting_rotations`).
    2. Select and refine: a few mutual-neighbour steps for every guess, more for the better ones, and new guesses until two
       lead to the same rotation (`find_rotation`).
    3. Free the map from being a rotation: calibrated back-translation (`back_translate`).
    4. Free it from being linear: prototypes are added, fitted to estimated pairs; a share of the linear map stays
       (`fit_residual`).

    Args:
        source: `(n, d_a)`, raw vectors of the one space.
        target: `(m, d_b)`, raw vectors of the other, of other texts.
        source_name: for the returned alignment.
        target_name: the same.
        anchors: known pairs, raw vectors `(p, d_a)` and `(p, d_b)`, if there are any: row i of both is the same text. They
            guide every stage; more of them count more.
        guess: a rotation `(d_a, d_b)` to try beside those that are guessed, in normalised coordinates: of other rows of the
            same two spaces, or by way of a third space, from `synchronize`, where the direct way is too far.
        standardize: see `fit_statistics`.
        num_starts: guesses, at most: easy pairs are settled by the first few.
        num_anchors: clusters a side and guess.
        steps: of the last refinement of the rotation.
        back_translation_rounds: 0 keeps the rotation.
        neighbours: that back-translation averages, and fewer and more.
        hidden_dim: prototypes; 0 keeps the map linear: a lower cosine, and a higher top-1 where translations ask real rows.
        seed: of everything random.
        device: where it runs; a GPU if there is one. k-means and the matching that scores guesses run on the CPU.
        progress: show a bar.

    Returns:
        An [`Alignment`], on the CPU.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, or too few of them.
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    raw = {name: check_embeddings(rows, name).float().to(device) for name, rows in (("source", source), ("target", target))}
    for name, rows in raw.items():
        if len(rows) < 4 * num_anchors:
            raise ValueError(
                f"`{name}` has {len(rows)} rows, too few for {num_anchors} anchors: give at least {4 * num_anchors}, "
                "better 10,000, or lower `num_anchors`."
            )
        if not (rows - rows[0]).any():
            raise ValueError(f"`{name}` has {len(rows)} rows that are all alike.")
    for name, value, least in (
        ("num_starts", num_starts, 1),
        ("num_anchors", num_anchors, 2),
        ("steps", steps, 1),
        ("neighbours", neighbours, 1),
        ("back_translation_rounds", back_translation_rounds, 0),
        ("hidden_dim", hidden_dim, 0),
    ):
        if value < least:
            raise ValueError(f"`{name}` must be at least {least}, got {value}.")
    generator = torch.Generator().manual_seed(seed)
    statistics = [fit_statistics(rows, standardize) for rows in raw.values()]
    # Order is shuffled away, so that nothing below can lean on it.
    x, y = (
        ((r - mean) / scale)[torch.randperm(len(r), generator=generator).to(r.device)]
        for r, (mean, scale) in zip(raw.values(), statistics, strict=True)
    )
    for name, rows in (("source", x), ("target", y)):
        variances = torch.linalg.eigvalsh(rows.T @ rows)
        share = (variances[-1] / variances.sum()).item()
        if share > LARGEST_SHARE:
            warnings.warn(
                f"`{name}`: one direction holds {share:.0%} of the variance, which drowns all others. Hidden states of "
                "language models need `standardize` in their own coordinates, before any rotation, and no first token.",
                stacklevel=3,  # past `no_grad`
            )
    if guess is not None and guess.shape != (wanted := (x.shape[1], y.shape[1])):
        raise ValueError(f"`guess` has the shape {tuple(guess.shape)}; between these spaces it must be {wanted}.")
    known, unit_known, known_backward = None, None, None
    if anchors is not None:
        known = _normalised_anchors(anchors, statistics)
        unit_known = Anchors(F.normalize(known.source, dim=1), F.normalize(known.target, dim=1))
        known_backward = Anchors(known.target, known.source)
    network = bool(hidden_dim and back_translation_rounds)
    total = search_steps(num_starts, steps) + back_translation_rounds + 2 * network
    with tqdm(total=total, desc="align", disable=not progress) as bar:
        options = {"generator": generator, "progress": bar.update}
        clock = [time.perf_counter()]
        found = find_rotation(
            F.normalize(x, dim=1),
            F.normalize(y, dim=1),
            num_starts=num_starts,
            num_anchors=num_anchors,
            steps=steps,
            anchors=unit_known,
            guess=guess,
            **options,
        )
        bar.update(search_steps(num_starts, steps) - bar.n)  # waves that were not needed
        clock.append(time.perf_counter())
        maps, residuals, agreement = (found.rotation, found.rotation.T), None, None
        if back_translation_rounds:
            bar.set_description("back-translate")
            translated = back_translate(
                x,
                y,
                found.rotation,
                rounds=back_translation_rounds,
                neighbours=neighbours,
                anchors=known,
                **options,
            )
            agreement = translated.agreement
            maps = translated.maps
        clock.append(time.perf_counter())
        if network:
            bar.set_description("residual")
            t, options = translated, {"hidden_dim": hidden_dim, "generator": generator}
            residuals = (
                fit_residual(t.source, t.target_partners, maps[0], t.features[0], anchors=known, **options),
                fit_residual(t.target, t.source_partners, maps[1], t.features[1], anchors=known_backward, **options),
            )
            bar.update(2)
    clock.append(time.perf_counter())
    report = judge(found.rotation, found.others, found.held_out, agreement, generator)
    return Alignment(
        source=source_name,
        target=target_name,
        source_to_target=maps[0].cpu(),
        target_to_source=maps[1].cpu(),
        source_statistics=tuple(t.cpu() for t in statistics[0]),
        target_statistics=tuple(t.cpu() for t in statistics[1]),
        rotation=found.rotation.cpu(),
        report=report,
        residuals=residuals and tuple(network.cpu() for network in residuals),
        start_scores=found.start_scores,
        seconds={
            stage: later - earlier
            for stage, earlier, later in zip(("rotation", "back-translation", "full"), clock, clock[1:], strict=False)
        },
    )


def _normalised_anchors(anchors: tuple[Tensor, Tensor], statistics: list[Statistics]) -> Anchors:
    sides = []
    for i, (rows, (mean, scale)) in enumerate(zip(anchors, statistics, strict=True)):
        rows = check_embeddings(rows, f"anchors[{i}]", len(mean)).float().to(mean.device)
        sides.append((rows - mean) / scale)
    if len(sides[0]) != len(sides[1]):
        raise ValueError(f"`anchors` are {len(sides[0])} and {len(sides[1])} rows: row i of both must be the same text.")
    return Anchors(*sides)
