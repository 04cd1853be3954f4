"""From two clouds of rows to maps between them: every stage of the alignment, one after the other."""

import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.devices import in_full_precision
from ..data.progress import progress_bar
from .anchors import Anchors
from .back_translation import BackTranslation, back_translate
from .options import AlignmentOptions
from .parts import parts_to_try
from .residual import fit_residual
from .result import Alignment
from .search import Search, find_rotation, search_steps
from .statistics import LARGEST_SHARE, Statistics, fit_statistics, largest_share, normalise
from .subspace import Subspace, lifted_map, lifted_network, reduced_map
from .usable_rows import UsableRows, usable_rows
from .verdict import judge

ROWS_A_CLUSTER = 4  # at least: below, centres are single rows
LEAST_ROWS = 10  # a fifth judges, and one half of that is compared with the other
USUAL_ROWS = 10_000  # that most pairs need; for the message


@in_full_precision
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

    1. Guess: match the third moments of the clouds (`moment_rotations`) and the shapes of clusters (`starting_rotations`).
    2. Refine and select: some mutual-neighbour steps for every guess; then two rotations, each made of other guesses that
       agree, climb until they meet (`find_rotation`).
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

    Repeated rows and outliers are left out, and the report counts them: see `usable_rows`. With `effort="thorough"`, where
    no rotation is "aligned" and neither pairs nor a guess are given, halves of the rows are tried: see `parts`. What is
    found is then made of these halves, and the report says so.

    A `KeyboardInterrupt` ends the search, back-translation or the fit of the networks, and what was found before is returned
    with its verdict and a warning; while there is nothing yet, it is raised.

    Returns:
        An [`Alignment`], on the CPU.

    Raises:
        TypeError, ValueError: for options that are wrong, rows that `check_embeddings` refuses, or too few of them.
    """
    if source_name == target_name:
        raise ValueError(f"`source_name` and `target_name` are both {source_name!r}: give two names.")
    options = (options or AlignmentOptions()).replaced(**overrides)
    generator = torch.Generator().manual_seed(options.seed)
    a, b = _space(source, "source", options, generator), _space(target, "target", options, generator)
    known = None if anchors is None else _known_pairs(anchors, a, b)
    if guess is not None:
        guess = _checked_guess(guess, a, b)

    stages = _Stages(options.progress)
    with stages.stage("rotation", "align", search_steps(options, 0 if known is None else len(known))):
        found = find_rotation(
            *_units(a, b),
            options,
            generator=generator,
            anchors=None if known is None else known.units(),
            guess=guess,
            progress=stages.advance,
            agreed=stages.show_agreement,
        )
    stages.interrupted = found.interrupted
    rows = len(a.rows), len(b.rows)
    if options.effort == "thorough" and anchors is None and guess is None and not stages.interrupted:
        a, b, found = _found_in_parts(a, b, found, options, stages)
    if known is not None and found.trusted:
        known = known.trusted()
    maps, residuals, agreement = (found.rotation, found.rotation.T), None, None
    if options.back_translation_rounds and not stages.interrupted:
        with stages.stage("back-translation", "back-translate", 1 + options.back_translation_rounds):
            translated = back_translate(
                a.rows,
                b.rows,
                found.rotation,
                rounds=options.back_translation_rounds,
                neighbours=options.neighbours,
                generator=generator,
                anchors=known,
                progress=stages.advance,
            )
            maps, agreement = translated.maps, translated.agreement
    if options.back_translation_rounds and options.hidden_dim and not stages.interrupted:
        with stages.stage("full", "residual", 1):
            residuals = _residuals(translated, a.subspace, b.subspace, options.hidden_dim, generator, known)
    if stages.interrupted:
        warnings.warn("The alignment was interrupted: its maps are the best so far, its verdict is theirs.", stacklevel=4)
    report = replace(
        judge(found.judged, found.consensus, found.held_out, agreement, generator),
        repeated_rows={"source": a.repeated, "target": b.repeated},
        outlying_rows={"source": a.outlying, "target": b.outlying},
        shares={"source": len(a.rows) / rows[0], "target": len(b.rows) / rows[1]},
    )
    return Alignment(
        source=source_name,
        target=target_name,
        source_to_target=lifted_map(maps[0], a.subspace, b.subspace).cpu(),
        target_to_source=lifted_map(maps[1], b.subspace, a.subspace).cpu(),
        source_statistics=_on_cpu(*a.statistics),
        target_statistics=_on_cpu(*b.statistics),
        rotation=lifted_map(found.rotation, a.subspace, b.subspace).cpu(),
        report=report,
        residuals=residuals,
        guesses=found.guesses,
        seconds=stages.seconds,
        interrupted=stages.interrupted,
    )


@dataclass(frozen=True)
class _Space:
    """Rows `(n, r)` that the stages see: usable ones, normalised, in coordinates of a subspace, in random order."""

    rows: Tensor
    statistics: Statistics
    subspace: Subspace
    repeated: int
    outlying: int

    def part(self, places: Tensor, options: AlignmentOptions) -> "_Space":
        """Some of the rows, with a mean and a scale of their own."""
        mean, scale = self.statistics
        rows = self.subspace.lifted(self.rows[places]) * scale + mean
        statistics = fit_statistics(rows, options.standardize)
        rows = normalise(rows, statistics)
        subspace = Subspace.of(rows)
        return replace(self, rows=subspace.coordinates(rows), statistics=statistics, subspace=subspace)


def _units(a: _Space, b: _Space) -> tuple[Tensor, Tensor]:
    return F.normalize(a.rows, dim=1), F.normalize(b.rows, dim=1)


def _verdict(found: Search, options: AlignmentOptions) -> str:
    """What will be said of a rotation; without a draw from the generator of the alignment."""
    generator = torch.Generator().manual_seed(options.seed)
    return judge(found.judged, found.consensus, found.held_out, None, generator).verdict


def _found_in_parts(
    a: _Space, b: _Space, found: Search, options: AlignmentOptions, stages: "_Stages"
) -> tuple[_Space, _Space, Search]:
    """Spaces and a rotation: of the first parts where it is "aligned", unless it is so already; else as they were."""
    if _verdict(found, options) == "aligned":
        return a, b, found
    search = replace(options, effort="default")
    tries = list(parts_to_try(a.rows, b.rows, options.seed))
    for number, places in enumerate(tries, 1):
        parts = a.part(places[0], options), b.part(places[1], options)
        with stages.stage("parts", f"align, part {number} of {len(tries)}", search_steps(search)):
            tried = find_rotation(
                *_units(*parts),
                search,
                generator=torch.Generator().manual_seed(options.seed),
                progress=stages.advance,
                agreed=stages.show_agreement,
            )
            stages.interrupted = tried.interrupted
            if _verdict(tried, options) == "aligned":
                return *parts, tried
        if stages.interrupted:
            break
    return a, b, found


def _space(embeddings: Tensor, name: str, options: AlignmentOptions, generator: torch.Generator) -> _Space:
    usable = usable_rows(embeddings, name, options.resolved_device())
    _check_number(usable, name, options.num_anchors)
    statistics = fit_statistics(usable.rows, options.standardize)
    rows = normalise(usable.rows, statistics)
    subspace = Subspace.of(rows)
    rows = subspace.coordinates(rows)
    share = largest_share(rows)
    if share > LARGEST_SHARE:
        warnings.warn(
            f"`{name}`: one direction holds {share:.0%} of the variance, which drowns all others. Hidden states of "
            "language models need `standardize` in their own coordinates, before any rotation, and no first token.",
            stacklevel=5,  # of whoever called `align`, past its decorators
        )
    # Order is shuffled away, so that nothing can lean on it.
    order = torch.randperm(len(rows), generator=generator).to(rows.device)
    return _Space(rows[order], statistics, subspace, usable.repeated, usable.outlying)


def _check_number(usable: UsableRows, name: str, num_anchors: int) -> None:
    least, rows = max(ROWS_A_CLUSTER * num_anchors, LEAST_ROWS), len(usable.rows)
    of_all = f"different ones among {rows + usable.repeated:,} " if usable.repeated else ""
    if rows == 1:
        raise ValueError(f"`{name}` has {rows + usable.repeated} rows that are all alike.")
    if rows < least:
        fewer = f" In Python, a lower `num_anchors` than {num_anchors} asks for fewer." if least > LEAST_ROWS else ""
        raise ValueError(
            f"`{name}` has {rows} {of_all}rows, too few to align: give at least {least}, better {USUAL_ROWS:,}.{fewer}"
        )


def _known_pairs(anchors: tuple[Tensor, Tensor], a: _Space, b: _Space) -> Anchors:
    known = Anchors.of(anchors, a.statistics, b.statistics)
    return Anchors(a.subspace.coordinates(known.source), b.subspace.coordinates(known.target))


def _checked_guess(guess: Tensor, a: _Space, b: _Space) -> Tensor:
    """A guess of the user's, in the coordinates of the subspaces."""
    wanted, guess = (len(a.statistics[0]), len(b.statistics[0])), torch.as_tensor(guess).contiguous()
    if guess.shape != wanted:
        raise ValueError(f"`guess` has the shape {tuple(guess.shape)}; between these spaces it must be {wanted}.")
    if not guess.isfinite().all() or not guess.any():
        raise ValueError("`guess` must be a rotation; it holds NaN or infinite values, or zeros alone.")
    return reduced_map(guess.to(a.rows), a.subspace, b.subspace)


def _residuals(
    found: BackTranslation,
    a: Subspace,
    b: Subspace,
    hidden_dim: int,
    generator: torch.Generator,
    known: Anchors | None,
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
    return lifted_network(forward, a, b).cpu(), lifted_network(backward, b, a).cpu()


def _on_cpu(mean: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
    return mean.cpu(), scale.cpu()


class _Stages:
    """A bar for each stage, as steps of one stage take equally long; and the seconds of each."""

    def __init__(self, shown: bool):
        self.shown = shown
        self.bar = progress_bar(shown=False)
        self.seconds = {"rotation": 0.0, "parts": 0.0, "back-translation": 0.0, "full": 0.0}
        self.interrupted = False

    def advance(self, steps: int = 1) -> None:
        """So many steps of the stage are done."""
        self.bar.update(steps)

    def show_agreement(self, agreement: float) -> None:
        """On the bar: how far the two rotations, made of other guesses, agree."""
        self.bar.set_postfix(agreement=f"{agreement:.2f}")

    @contextmanager
    def stage(self, name: str, description: str, steps: int) -> Iterator[None]:
        """Time a stage, and show what goes on."""
        start = time.perf_counter()
        with progress_bar(total=steps, desc=description, shown=self.shown) as self.bar:
            try:
                yield
            except KeyboardInterrupt:
                if name == "rotation":  # there is nothing yet
                    raise
                self.interrupted = True
            else:
                self.bar.update(steps - self.bar.n)  # steps that were not needed
        self.seconds[name] += time.perf_counter() - start
