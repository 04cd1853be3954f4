"""Figures of translation, as plain functions and as `evaluate.Metric` classes that can be used alone."""

from functools import lru_cache

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor

from ..data.devices import in_full_precision
from ..model.modeling_vec2vec import check_embeddings
from .hubness import NEIGHBOURS, hub_penalties
from .units import unit_rows

RESAMPLES = 1000  # draws of a bootstrap
CONFIDENCE = 0.95  # of its intervals
# Cosines of equal rows differ by so much at most: a product sums in another order for each shape of its factors.
ROUNDING = 1e-6
_CITATION = """\
@article{jha2025harnessing,
  title={Harnessing the Universal Geometry of Embeddings},
  author={Jha, Rishi and Zhang, Collin and Shmatikov, Vitaly and Morris, John X.},
  journal={arXiv preprint arXiv:2505.12540},
  year={2025}
}"""
_INPUTS = """\
Args:
    predictions: translated vectors, `(n, d)`.
    references: true vectors of the same texts, row by row, `(n, d)`."""


@in_full_precision
def mean_cosines(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, float]:
    """Raw and centred cosine of matching rows.

    Vectors of most encoders share a large mean, so that answering with the mean vector alone gets a high raw cosine. The
    centred one takes the target space's mean off first: chance is 0.

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`.
        mean: `(d,)`, of the target space's *training* rows.

    Raises:
        ValueError: for rows that do not go one by one, or hold NaN, infinite values or such as float32 has not, or a mean of
            another dimension. So do all functions here.
    """
    predictions, references = _checked(predictions, references)
    return {name: values.mean().item() for name, values in _cosine_figures(predictions, references, mean).items()}


def _cosine_figures(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, Tensor]:
    mean = _checked_mean(mean, references)

    def cosines(ours: Tensor, theirs: Tensor) -> Tensor:
        return (unit_rows(ours) * unit_rows(theirs)).sum(1)

    return {
        "cosine": cosines(predictions, references),
        "centred_cosine": cosines(predictions - mean, references - mean),
    }


def _checked(predictions: Tensor, references: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32: where a common mean is long, half precision leaves no ranks."""
    given = {"predictions": predictions, "references": references}
    ours, theirs = (check_embeddings(rows, name, only_finite=True).float() for name, rows in given.items())
    for name, rows in zip(given, (ours, theirs), strict=True):
        if not rows.isfinite().all():
            raise ValueError(f"`{name}` has values beyond the range of float32. Scale all rows, and the mean, alike.")
    if len(ours) != len(theirs):
        raise ValueError(
            f"`predictions` and `references` have {len(ours):,} and {len(theirs):,} rows; row i of both must be the same "
            "text."
        )
    return ours, theirs


def _checked_mean(mean: Tensor, references: Tensor) -> Tensor:
    mean = torch.as_tensor(mean).to(references)
    if mean.shape != references.shape[1:] or not mean.isfinite().all():
        raise ValueError(
            f"`mean` must be {references.shape[1]} finite numbers, the mean of the target space's training rows; got the "
            f"shape {tuple(mean.shape)}{'' if mean.isfinite().all() else ', not all finite'}."
        )
    return mean


@in_full_precision
def ranks(predictions: Tensor, references: Tensor, block: int = 2048, penalties: Tensor | None = None) -> Tensor:
    """Rank of the true row among all references, by raw cosine to each prediction. 1 is best; ties share the middle.

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`, the pool; row i is the true one for prediction i.
        block: predictions compared at a time.
        penalties: `(n,)`, of the references, taken off their cosines; see `hub_penalties`.

    Returns:
        `(n,)`, float.
    """
    predictions, references = _checked(predictions, references)
    queries, pool, found = unit_rows(predictions), unit_rows(references), []
    for start in range(0, len(queries), block):
        cosines = queries[start : start + block] @ pool.T
        if penalties is not None:
            cosines -= penalties
        rows = torch.arange(len(cosines), device=cosines.device)
        own = cosines[rows, start + rows, None]
        better, as_good = (cosines > own + ROUNDING).sum(1), (cosines >= own - ROUNDING).sum(1)  # a row is as good as itself
        found.append(1 + better + (as_good - better - 1) / 2)
    return torch.cat(found)


def rank_metrics(predictions: Tensor, references: Tensor) -> dict[str, float]:
    """Top-1, -5 and -10, mean and median rank (see `ranks`), mean reciprocal rank, reverse top-1, FOSCTTM, size of the pool.

    Top-1 is what a store of real vectors gives to translated queries, reverse top-1 what a translated store gives to real
    ones. Chance is one by the size of the pool. FOSCTTM is the fraction of samples closer than the true match, by cosine, in
    the mean over both ways of asking: the right answer stands at 0, chance is .5, and the size of the pool does not matter.
    One way alone it is `(mean rank - 1) / (pool_size - 1)`.

    Source: of FOSCTTM, Liu et al., "Jointly embedding multiple single-cell omics measurements", 2019.
    """
    figures = _rank_figures(predictions, references)
    means = {name: values.mean().item() for name, values in figures.items()}
    return means | {"median_rank": figures["mean_rank"].quantile(0.5).item(), "pool_size": len(references)}


def _rank_figures(predictions: Tensor, references: Tensor) -> dict[str, Tensor]:
    predictions, references = _checked(predictions, references)  # by their names, before they change places
    found = ranks(predictions, references)
    hits = {f"top{k}": (found <= k).float() for k in (1, 5, 10)}
    back = ranks(references, predictions)
    closer = (found + back - 2) / (2 * max(len(references) - 1, 1))  # of two means over texts the mean
    reverse = (back <= 1).float()
    return hits | {"mean_rank": found, "mrr": 1 / found, "reverse_top1": reverse, "foscttm": closer}


def translation_metrics(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, float]:
    """`mean_cosines` and `rank_metrics` together."""
    return mean_cosines(predictions, references, mean) | rank_metrics(predictions, references)


def csls_metrics(
    predictions: Tensor, references: Tensor, other_predictions: Tensor, other_references: Tensor
) -> dict[str, float]:
    """Top-1 and reverse top-1, as in `rank_metrics`, of a search that corrects hubs (see `hub_penalties`).

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`.
        other_predictions: `(m, d)`, translations of other texts, which tell what real vectors are hubs.
        other_references: `(k, d)`, real vectors of other texts, which tell what translations are hubs. No pairs.
    """

    def corrected(queries: Tensor, store: Tensor, sample: Tensor) -> Tensor:
        return ranks(queries, store, penalties=hub_penalties(store, sample, k=min(NEIGHBOURS, len(sample))))

    found = {
        "csls_top1": corrected(predictions, references, other_predictions),
        "csls_reverse_top1": corrected(references, predictions, other_references),
    }
    return {name: (values <= 1).float().mean().item() for name, values in found.items()}


@in_full_precision
def neighbour_overlap(predictions: Tensor, references: Tensor, k: int = 10, block: int = 2048) -> Tensor:
    """Share of each row's `k` nearest rows, by raw cosine, that are the same texts in both clouds.

    It sees whether the translated cloud has kept who is near whom, wherever it lies. Chance is `k / (n - 1)`. Where more
    rows are equally near than there are places left among the `k`, each of them has the same part of these.

    Args:
        predictions: `(n, d)`.
        references: `(n, e)`, row by row; the dimensions may differ.
        k: neighbours, at most `n - 1`; a row is none of its own.
        block: rows compared at a time.

    Returns:
        `(n,)`, between 0 and 1.
    """
    predictions, references = _checked(predictions, references)
    if k < 1 or len(predictions) < 2:
        raise ValueError(f"`k` must be at least 1, of two rows or more; got {k} of {len(predictions)}.")
    k = min(k, len(predictions) - 1)
    units = [unit_rows(rows) for rows in (predictions, references)]
    shares = []
    for start in range(0, len(predictions), block):
        nearest = []
        for unit in units:
            cosines = unit[start : start + block] @ unit.T
            cosines.diagonal(start).fill_(-2)
            nearest.append(_parts(cosines, k))
        shares.append(torch.minimum(*nearest).sum(1) / k)
    return torch.cat(shares)


def _parts(cosines: Tensor, k: int) -> Tensor:
    """How far each entry `(m, n)` is among the `k` largest of its row: 1, 0, or a part of the places that ties share."""
    least = cosines.topk(k, sorted=True).values[:, -1:]
    above, level = cosines > least + ROUNDING, (cosines - least).abs() <= ROUNDING
    return above + level * ((k - above.sum(1, keepdim=True)) / level.sum(1, keepdim=True))


@in_full_precision
def linear_cka(predictions: Tensor, references: Tensor) -> float:
    """Linear centred kernel alignment of two clouds: 1 for clouds that are equal up to rotation, shift and scale.

    Args:
        predictions: `(n, d)`.
        references: `(n, e)`, row by row; the dimensions may differ.

    Returns:
        Between 0 and 1; 0 where one side is a single point. Not corrected for few rows: two
        independent clouds of `n` rows in many dimensions score well above 0.

    Source: Kornblith et al., "Similarity of neural network representations revisited", 2019, equation 3.
    """
    x, y = (rows.double() - rows.double().mean(0) for rows in _checked(predictions, references))
    norm = torch.linalg.matrix_norm
    scale = norm(x.T @ x) * norm(y.T @ y)
    return (norm(x.T @ y).square() / scale).item() if scale > 0 else 0.0


def _resampled_cka(predictions: Tensor, references: Tensor, counts: Tensor) -> Tensor:
    """`linear_cka` of resampled rows: `counts` `(r, n)` says how often each row is drawn. Gives `(r,)`.

    By Gram matrices, so that every draw costs a few products with a vector: the kernels, centred by the draw's mean, meet in
    `sum_ij w_i w_j K_ij L_ij` less the means' part.
    """
    counts = counts.T.double()  # (n, r)
    kernels = []
    for rows in (predictions.double(), references.double()):
        rows = rows - rows.mean(0)  # draws centre anew; this keeps the numbers small
        kernels.append(rows @ rows.T)
    marginals = [kernel @ counts / counts.sum(0) for kernel in kernels]
    totals = [(counts * marginal).sum(0) / counts.sum(0) for marginal in marginals]

    def dependence(i: int, j: int) -> Tensor:
        joint = (counts * ((kernels[i] * kernels[j]) @ counts)).sum(0)
        one_sided = (counts * marginals[i] * marginals[j]).sum(0)
        return joint - 2 * counts.sum(0) * one_sided + counts.sum(0).square() * totals[i] * totals[j]

    scale = (dependence(0, 0) * dependence(1, 1)).clamp_min(0).sqrt()
    return torch.where(scale > 0, dependence(0, 1) / scale, 0.0)


def structure_metrics(predictions: Tensor, references: Tensor) -> dict[str, float]:
    """Mean `neighbour_overlap` (10 neighbours) and `linear_cka`: what stays when both clouds are turned as one likes."""
    overlap = neighbour_overlap(predictions, references).mean().item()
    return {"neighbour_overlap": overlap, "cka": linear_cka(predictions, references)}


@in_full_precision
def bootstrap_intervals(
    predictions: Tensor,
    references: Tensor,
    mean: Tensor,
    *,
    resamples: int = RESAMPLES,
    confidence: float = CONFIDENCE,
    seed: int = 0,
) -> dict[str, tuple[float, float]]:
    """Percentile bootstrap intervals, over texts, of all figures of `translation_metrics` and `structure_metrics`.

    They say how far a figure may lie off for other texts of the same kind. The pool stays as it is, and so does the
    translator: luck in training is not in them.

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`.
        mean: `(d,)`, of the target space's training rows.
        resamples: draws of n texts. CKA, which is no mean over texts, gets a tenth of them, of its first 2,048 texts.
        confidence: of the intervals.
        seed: of the draws.

    Source: Efron, "Bootstrap methods: another look at the jackknife", 1979.
    """
    if not 0 < confidence < 1 or resamples < 1:
        raise ValueError(
            f"`confidence` must be between 0 and 1 and `resamples` at least 1, got {confidence} and {resamples}."
        )
    predictions, references = _checked(predictions, references)
    figures = _cosine_figures(predictions, references, mean) | _rank_figures(predictions, references)
    figures["neighbour_overlap"] = neighbour_overlap(predictions, references)
    counts = _draws(len(references), resamples, seed)
    drawn = dict(zip(figures, (counts @ torch.stack(list(figures.values()), dim=1) / len(references)).T, strict=True))
    drawn["median_rank"] = _weighted_median(figures["mean_rank"], counts)
    rows = min(len(references), 2048)
    counts = _draws(rows, max(resamples // 10, 1), seed)
    drawn["cka"] = _resampled_cka(predictions[:rows], references[:rows], counts)
    return {name: _percentiles(values, confidence) for name, values in drawn.items()}


@lru_cache(4)  # a table's methods are judged on the same draws
def _draws(n: int, resamples: int, seed: int) -> Tensor:
    """How often each of n texts is drawn: `(resamples, n)`, each row sums to n."""
    generator = torch.Generator().manual_seed(seed)
    counts = torch.zeros(resamples, n)
    for row in counts:
        row += torch.bincount(torch.randint(n, (n,), generator=generator), minlength=n)
    return counts


def _weighted_median(values: Tensor, counts: Tensor) -> Tensor:
    """Median of n values `(n,)` for every row of counts `(r, n)`."""
    values, order = values.sort()
    reached = counts[:, order].cumsum(1)
    n = int(counts[0].sum())
    places = torch.tensor([(n - 1) // 2 + 1.0, n // 2 + 1.0]).expand(len(counts), 2).contiguous()
    return values[torch.searchsorted(reached, places)].mean(1)


def _percentiles(values: Tensor, confidence: float) -> tuple[float, float]:
    low, high = values.double().quantile(torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.double))
    return low.item(), high.item()


def mean_interval(values: np.ndarray, *, seed: int = 0) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean of `(n,)` values, one a text."""
    drawn = _draws(len(values), RESAMPLES, seed).double() @ torch.from_numpy(values).double() / len(values)
    return _percentiles(drawn, CONFIDENCE)


class _VectorMetric(evaluate.Metric):
    def _info(self) -> evaluate.MetricInfo:
        vector = datasets.Sequence(datasets.Value("float32"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation=_CITATION,
            inputs_description=_INPUTS,
            features=datasets.Features({"predictions": vector, "references": vector}),
        )


class TranslationCosine(_VectorMetric):
    """Mean raw and centred cosine of translated and true vectors.

    `compute(..., mean=)` takes the `(d,)` mean of the target space's training rows; without it the mean of the references.
    """

    def _compute(self, predictions, references, mean: Tensor | None = None) -> dict[str, float]:
        predictions, references = _rows(predictions), _rows(references)
        return mean_cosines(predictions, references, references.mean(0) if mean is None else torch.as_tensor(mean))


class TranslationRank(_VectorMetric):
    """Ranks of the true vector among all references, by raw cosine: top-1, -5 and -10, mean, median, mean reciprocal rank.

    Reverse top-1: the true vector's own translation among all. FOSCTTM: see `rank_metrics`.
    """

    def _compute(self, predictions, references) -> dict[str, float]:
        return rank_metrics(_rows(predictions), _rows(references))


class TranslationStructure(_VectorMetric):
    """Overlap of 10 nearest neighbours and linear CKA: whether the translated cloud has the shape of the true one."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return structure_metrics(_rows(predictions), _rows(references))


class TranslationIntervals(_VectorMetric):
    """95 % bootstrap intervals over texts, `(low, high)` each, of every figure of the other three.

    `compute` also takes `mean`, as [`TranslationCosine`], `resamples`, `confidence` and `seed`.
    """

    def _compute(self, predictions, references, mean: Tensor | None = None, **options) -> dict[str, tuple[float, float]]:
        predictions, references = _rows(predictions), _rows(references)
        mean = references.mean(0) if mean is None else torch.as_tensor(mean)
        return bootstrap_intervals(predictions, references, mean, **options)


def _rows(values: list) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
