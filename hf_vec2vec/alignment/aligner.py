"""From two clouds of rows to maps between them: every stage of the alignment, one after the other."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..model.modeling_vec2vec import check_embeddings
from .anchors import Anchors
from .back_translation import BackTranslation, back_translate
from .options import AlignmentOptions
from .residual import fit_residual
from .result import Alignment
from .search import find_rotation, search_steps
from .statistics import LARGEST_SHARE, fit_statistics, largest_share, normalise
from .verdict import judge

ROWS_A_CLUSTER = 4  # at least: below, centres are single rows
USUAL_ROWS = 10_000  # that most pairs need; for the message


@torch.no_grad()
def align(
    source: Tensor,
    target: Tensor,
    options: AlignmentOptions | None = None,
    *,
    source_name: str = "source",
    target_name: str = "target",
    anchors: tuple[Tensor, Tensor] | None = None,
    guess: Tensor | None = None,
    **overrides,
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
        options: how it runs.
        source_name: for the returned alignment.
        target_name: the same.
        anchors: known pairs, raw vectors `(p, d_a)` and `(p, d_b)`, if there are any: row i of both is the same text. They
            guide every stage; more of them count more.
        guess: a rotation `(d_a, d_b)` to try beside those that are guessed, in normalised coordinates: of other rows of the
            same two spaces, or by way of a third space, from `synchronize`, where the direct way is too far.
        overrides: single options by name, such as `seed=1`: fields of [`AlignmentOptions`].

    Returns:
        An [`Alignment`], on the CPU.

    Raises:
        TypeError, ValueError: for options that are wrong, rows that `check_embeddings` refuses, or too few of them.
    """
    options = (options or AlignmentOptions()).replaced(**overrides)
    raw = [_checked(rows, name, options) for name, rows in (("source", source), ("target", target))]
    generator = torch.Generator().manual_seed(options.seed)
    statistics = [fit_statistics(rows, options.standardize) for rows in raw]
    # Order is shuffled away, so that nothing below can lean on it.
    x, y = (_shuffled(normalise(*of_space), generator) for of_space in zip(raw, statistics, strict=True))
    _warn_of_one_direction(x, y)
    if guess is not None and guess.shape != (wanted := (x.shape[1], y.shape[1])):
        raise ValueError(f"`guess` has the shape {tuple(guess.shape)}; between these spaces it must be {wanted}.")
    known = None if anchors is None else Anchors.of(anchors, *statistics)

    with _Stages(options) as stages:
        with stages.stage("rotation", "align"):
            found = find_rotation(
                F.normalize(x, dim=1),
                F.normalize(y, dim=1),
                options,
                generator=generator,
                anchors=None if known is None else known.units(),
                guess=guess,
                progress=stages.bar.update,
            )
        maps, residuals, agreement = (found.rotation, found.rotation.T), None, None
        with stages.stage("back-translation", "back-translate"):
            if options.back_translation_rounds:
                translated = back_translate(
                    x,
                    y,
                    found.rotation,
                    rounds=options.back_translation_rounds,
                    neighbours=options.neighbours,
                    generator=generator,
                    anchors=known,
                    progress=stages.bar.update,
                )
                maps, agreement = translated.maps, translated.agreement
        with stages.stage("full", "residual"):
            if options.back_translation_rounds and options.hidden_dim:
                residuals = _residuals(translated, options.hidden_dim, generator, known)
                stages.bar.update(len(residuals))

    return Alignment(
        source=source_name,
        target=target_name,
        source_to_target=maps[0].cpu(),
        target_to_source=maps[1].cpu(),
        source_statistics=_on_cpu(*statistics[0]),
        target_statistics=_on_cpu(*statistics[1]),
        rotation=found.rotation.cpu(),
        report=judge(found.rotation, found.others, found.held_out, agreement, generator),
        residuals=residuals,
        start_scores=found.start_scores,
        seconds=stages.seconds,
    )


def _checked(rows: Tensor, name: str, options: AlignmentOptions) -> Tensor:
    rows = check_embeddings(rows, name).float().to(options.resolved_device())
    least = ROWS_A_CLUSTER * options.num_anchors
    if len(rows) < least:
        raise ValueError(
            f"`{name}` has {len(rows)} rows, too few for {options.num_anchors} anchors: give at least {least}, better "
            f"{USUAL_ROWS:,}, or lower `num_anchors`."
        )
    if not (rows - rows[0]).any():
        raise ValueError(f"`{name}` has {len(rows)} rows that are all alike.")
    return rows


def _shuffled(rows: Tensor, generator: torch.Generator) -> Tensor:
    return rows[torch.randperm(len(rows), generator=generator).to(rows.device)]


def _warn_of_one_direction(x: Tensor, y: Tensor) -> None:
    for name, rows in (("source", x), ("target", y)):
        share = largest_share(rows)
        if share > LARGEST_SHARE:
            warnings.warn(
                f"`{name}`: one direction holds {share:.0%} of the variance, which drowns all others. Hidden states of "
                "language models need `standardize` in their own coordinates, before any rotation, and no first token.",
                stacklevel=4,  # of whoever called `align`, past `no_grad`
            )


def _residuals(
    found: BackTranslation, hidden_dim: int, generator: torch.Generator, known: Anchors | None
) -> tuple[nn.Module, nn.Module]:
    """A network for each direction, on the CPU."""
    forward = fit_residual(
        found.source,
        found.target_partners,
        found.maps[0],
        found.features[0],
        hidden_dim=hidden_dim,
        anchors=known,
        generator=generator,
    )
    backward = fit_residual(
        found.target,
        found.source_partners,
        found.maps[1],
        found.features[1],
        hidden_dim=hidden_dim,
        anchors=None if known is None else known.swapped(),
        generator=generator,
    )
    return forward.cpu(), backward.cpu()


def _on_cpu(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return mean.cpu(), scale.cpu()


class _Stages:
    """The bar over all stages, and the seconds that each took."""

    def __init__(self, options: AlignmentOptions):
        networks = 2 if options.hidden_dim and options.back_translation_rounds else 0
        self.search_steps = search_steps(options)
        total = self.search_steps + options.back_translation_rounds + networks
        self.bar = tqdm(total=total, **({} if options.progress else {"disable": True}))  # else as TQDM_DISABLE has it
        self.seconds: dict[str, float] = {}

    def __enter__(self) -> "_Stages":
        return self

    def __exit__(self, *error: object) -> None:
        self.bar.close()

    @contextmanager
    def stage(self, name: str, description: str) -> Iterator[None]:
        """Time a stage, and show what goes on."""
        self.bar.set_description(description)
        start = time.perf_counter()
        yield
        self.seconds[name] = time.perf_counter() - start
        if name == "rotation":
            self.bar.update(self.search_steps - self.bar.n)  # guesses that were not needed
