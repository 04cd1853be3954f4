"""Held-out pairs: how near translations come to the true vectors, beside baselines and oracles."""

import logging
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from ..data.devices import in_full_precision
from ..data.overlap import without_shared
from ..data.progress import progress_bar
from ..data.spaces import PairedEmbeddings
from ..metrics.translation import bootstrap_intervals, csls_metrics, structure_metrics, translation_metrics
from ..model.modeling_vec2vec import Vec2VecModel
from .baselines import BASELINES, LEAST_PAIRS, ORACLES, SLOW_ORACLES, Translate, cross_fitted
from .transport import unpaired_transport

TRANSPORT = {
    "Hungarian": "hungarian",
    "earth mover's distance": "emd",
    "Sinkhorn": "sinkhorn",
    "Gromov-Wasserstein, entropic": "entropic_gromov_wasserstein",
}
logger = logging.getLogger(__name__)
Methods = dict[tuple[str, str], dict[tuple[str, str], Translate]]  # by direction, then by name and kind of the row


@in_full_precision
def evaluate_translation(
    models: dict[str, Vec2VecModel],
    pairs: PairedEmbeddings,
    *,
    source: str,
    target: str,
    oracle_pairs: PairedEmbeddings | None = None,
    full: bool = False,
    correct_hubs: bool = False,
    seed: int = 0,
) -> list[dict]:
    """Figures of translation in both directions, for translators, baselines and oracles on the same pool.

    Args:
        models: translators by the name of their row, for instance `{"alignment": …, "trained": …}`.
        pairs: held-out rows of both spaces; row i is the same text.
        source: name of the one space.
        target: name of the other.
        oracle_pairs: other pairs, on which the oracles are fitted: as many as the translator had rows is the fairest. Those
            that are among `pairs` are left out, with a warning. Without them the oracles are fitted on four fifths of
            `pairs` and translate the fifth, five times.
        full: also the slow rows (optimal transport between unpaired halves of the oracle's pairs, or of `pairs`; a paired
            MLP) and columns: those of `structure_metrics` and, under `intervals`, those of `bootstrap_intervals`.
        correct_hubs: also top-1 and reverse top-1 of a search that corrects hubs, which the pool itself tells: each
            side's rows are the sample of queries for the other (see `csls_metrics`).
        seed: of the random rotation, the samples and the intervals.

    Returns:
        One dictionary a row of the table: `direction`, `method`, `kind` (translator, linear map, baseline or oracle) and the
        figures of `translation_metrics`. A translator's row is of its full map; a linear one beside it has a row of its own.

    Raises:
        ValueError: if vectors do not have the model's dimensions, or there are fewer than three pairs (of different texts).
    """
    model, oracles = next(iter(models.values())), oracle_pairs is not None
    for argument, data in (("pairs", pairs), ("oracle_pairs", oracle_pairs)):
        if data is not None:
            _check_pairs(argument, data, model, source, target)
    if oracle_pairs is not None:
        oracle_pairs = apart_from(pairs, oracle_pairs)
    methods = fit_methods(models, oracle_pairs or pairs, source=source, target=target, oracles=oracles, full=full, seed=seed)
    rows: list[dict] = []
    for (a, b), fitted in methods.items():
        x, y = pairs.spaces[a], pairs.spaces[b]
        answers = {method: translate(x) for method, translate in fitted.items()}
        if not oracles:
            answers |= {(f"{name} (5-fold)", "oracle"): cross_fitted(fit, x, y) for name, fit in _oracles(full).items()}
        scored = _score(answers, pairs, a, b, model, full, seed)
        if correct_hubs:
            for row, answer in zip(scored, answers.values(), strict=True):
                row |= csls_metrics(answer, y, answer, y)
        rows += scored
    return rows


@in_full_precision
def fit_methods(
    models: dict[str, Vec2VecModel],
    pairs: PairedEmbeddings,
    *,
    source: str,
    target: str,
    oracles: bool = True,
    full: bool = False,
    seed: int = 0,
) -> Methods:
    """Baselines, translators and oracles, fitted once; `score_methods` measures them on as many pools as one likes.

    Args:
        models: translators by the name of their row.
        pairs: what oracles are fitted on, and, in unpaired halves, optimal transport.
        source, target, full, seed: see `evaluate_translation`.
        oracles: whether to fit them.

    Returns:
        `{(a, b): {(method, kind): function}}` for both directions; a function takes raw vectors of space a, `(n, d_a)`, to
        raw vectors of space b.
    """
    first, half = next(iter(models.values())), len(pairs) // 2
    _check_pairs("pairs", pairs, first, source, target)
    methods: Methods = {}
    transported: dict[str, tuple[Translate, Translate]] = {}
    for name, method in progress_bar(TRANSPORT.items(), desc="transport") if full else ():
        unpaired = pairs.spaces[source][:half], pairs.spaces[target][half:]
        transported[name] = unpaired_transport(*unpaired, method, seed=seed)
    for a, b in ((source, target), (target, source)):
        of_a, of_b = ((first.normalizer(n).mean.cpu(), first.normalizer(n).scale.cpu()) for n in (a, b))
        alike = len(of_a[0]) == len(of_b[0])
        fitted = {("identity", "baseline"): lambda rows: rows} if alike else {}
        shown: list[Vec2VecModel] = []
        for name, baseline in BASELINES.items():
            fitted[name, "baseline"] = baseline(of_a, of_b, seed)
        for name, there_and_back in transported.items():
            fitted[name, "baseline"] = there_and_back[a == target]
        for name, model in models.items():
            fitted[name, "translator"] = partial(model.translate, source=a, target=b, map="full")
            if model.config.linear_maps and not any(_share_linear_map(model, other, a, b) for other in shown):
                shown.append(model)
                fitted[f"{name}: linear map", "linear map"] = partial(model.translate, source=a, target=b, map="linear")
        for name, fit in _oracles(full).items() if oracles else ():
            fitted[f"{name} ({len(pairs):,} pairs)", "oracle"] = fit(pairs.spaces[a], pairs.spaces[b])
        methods[a, b] = fitted
    return methods


@in_full_precision
def score_methods(
    methods: Methods, pairs: PairedEmbeddings, model: Vec2VecModel, *, full: bool = False, seed: int = 0
) -> list[dict]:
    """Figures of `fit_methods` on one pool.

    Args:
        methods: from `fit_methods`.
        pairs: held-out rows; row i is the same text.
        model: knows the means of the spaces' training rows.
        full, seed: see `evaluate_translation`.

    Returns:
        As `evaluate_translation`.

    Raises:
        ValueError: if vectors do not have the model's dimensions.
    """
    _check_pairs("pairs", pairs, model, *next(iter(methods)))
    rows = []
    for (a, b), fitted in methods.items():
        answers = {method: translate(pairs.spaces[a]) for method, translate in fitted.items()}
        rows += _score(answers, pairs, a, b, model, full, seed)
    return rows


def apart_from(pairs: PairedEmbeddings, others: PairedEmbeddings) -> PairedEmbeddings:
    """The other pairs, on which oracles are fitted, without those of which a vector, on either side, is among `pairs`.

    Raises:
        ValueError: if fewer than three are left.
    """
    kept = without_shared({name: rows for name, rows in others.spaces.items() if name in pairs.spaces}, pairs.spaces)
    if len(kept) == len(others):
        return others
    if len(kept) < LEAST_PAIRS:
        raise ValueError(
            f"`oracle_pairs` are held-out ones, too: of {len(others):,} only {len(kept)} are not. Give at least "
            f"{LEAST_PAIRS} pairs of other texts, or none."
        )
    left_out = f"{len(others) - len(kept):,} of the {len(others):,} pairs"
    logger.warning("%s that oracles are to be fitted on are held-out ones, too. They are left out.", left_out)
    return PairedEmbeddings({name: rows[kept] for name, rows in others.spaces.items()})


def _oracles(full: bool) -> dict[str, Callable[[Tensor, Tensor], Translate]]:
    return ORACLES | SLOW_ORACLES if full else ORACLES


def _share_linear_map(model: Vec2VecModel, other: Vec2VecModel, a: str, b: str) -> bool:
    """Whether two translators have one linear map, as before and after training."""
    return torch.equal(model.linear_map(a, b).weight, other.linear_map(a, b).weight)


def _score(answers: dict, pairs: PairedEmbeddings, a: str, b: str, model: Vec2VecModel, full: bool, seed: int) -> list[dict]:
    truth, mean = pairs.spaces[b], model.normalizer(b).mean.cpu()
    rows = []
    for (method, kind), answer in answers.items():
        figures = translation_metrics(answer, truth, mean)
        if full:
            figures |= structure_metrics(answer, truth)
        row = {"direction": f"{a} → {b}", "method": method, "kind": kind, **figures}
        rows.append(row | ({"intervals": bootstrap_intervals(answer, truth, mean, seed=seed)} if full else {}))
    return rows


def _check_pairs(argument: str, pairs: PairedEmbeddings, model: Vec2VecModel, *spaces: str) -> None:
    if len(pairs) < LEAST_PAIRS:
        raise ValueError(
            f"`{argument}` must hold at least {LEAST_PAIRS} pairs, got {len(pairs)}: an oracle cannot be fitted on fewer, "
            "and a rank among so few tells nothing."
        )
    for name in spaces:
        found, expected = pairs.spaces[name].shape[1], len(model.normalizer(name).mean)
        if found != expected:
            raise ValueError(f"`{argument}` has vectors of dimension {found} for {name!r}, but the model has {expected}.")
