"""Figures of translation, as plain functions and as `evaluate.Metric` classes that can be used alone."""

import datasets
import evaluate
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

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


def mean_cosines(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, float]:
    """Raw and centred cosine of matching rows.

    Vectors of most encoders share a large mean, so that answering with the mean vector alone gets a high raw cosine. The
    centred one takes the target space's mean off first: chance is 0.

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`.
        mean: `(d,)`, of the target space's *training* rows.
    """
    return {
        "cosine": F.cosine_similarity(predictions, references, dim=1).mean().item(),
        "centred_cosine": F.cosine_similarity(predictions - mean, references - mean, dim=1).mean().item(),
    }


def ranks(predictions: Tensor, references: Tensor, block: int = 2048) -> Tensor:
    """Rank of the true row among all references, by raw cosine to each prediction. 1 is best; ties share the middle.

    Args:
        predictions: `(n, d)`.
        references: `(n, d)`, the pool; row i is the true one for prediction i.
        block: predictions compared at a time.

    Returns:
        `(n,)`, float.

    Raises:
        ValueError: if predictions hold NaN or infinite values.
    """
    if not predictions.isfinite().all():
        raise ValueError("`predictions` hold NaN or infinite values; they have no rank.")
    pool = F.normalize(references, dim=1)
    found = []
    for start in range(0, len(predictions), block):
        cosines = F.normalize(predictions[start : start + block], dim=1) @ pool.T
        rows = torch.arange(len(cosines), device=cosines.device)
        own = cosines[rows, start + rows, None]
        better, equal = (cosines > own).sum(1), (cosines == own).sum(1)  # a row equals itself
        found.append(1 + better + (equal - 1) / 2)
    return torch.cat(found)


def rank_metrics(predictions: Tensor, references: Tensor) -> dict[str, float]:
    """Top-1, -5 and -10, mean and median rank (see `ranks`), mean reciprocal rank, and the size of the pool.

    Chance top-1 is one by the size of the pool.
    """
    found = ranks(predictions, references)
    means = {name: values.mean().item() for name, values in _rank_figures(found).items()}
    return means | {"median_rank": found.quantile(0.5).item(), "pool_size": len(references)}


def _rank_figures(found: Tensor) -> dict[str, Tensor]:
    hits = {f"top{k}": (found <= k).float() for k in (1, 5, 10)}
    return hits | {"mean_rank": found, "mrr": 1 / found}


def translation_metrics(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, float]:
    """`mean_cosines` and `rank_metrics` together."""
    return mean_cosines(predictions, references, mean) | rank_metrics(predictions, references)


def neighbour_overlap(predictions: Tensor, references: Tensor, k: int = 10, block: int = 2048) -> Tensor:
    """Share of each row's `k` nearest rows, by raw cosine, that are the same texts in both clouds.

    It sees whether the translated cloud has kept who is near whom, wherever it lies. Chance is `k / (n - 1)`.

    Args:
        predictions: `(n, d)`.
        references: `(n, e)`, row by row; the dimensions may differ.
        k: neighbours, at most `n - 1`; a row is none of its own.
        block: rows compared at a time.

    Returns:
        `(n,)`, between 0 and 1.
    """
    k = min(k, len(predictions) - 1)
    units = [F.normalize(rows, dim=1) for rows in (predictions, references)]
    shares = []
    for start in range(0, len(predictions), block):
        nearest = []
        for unit in units:
            cosines = unit[start : start + block] @ unit.T
            cosines.diagonal(start).fill_(-2)
            nearest.append(cosines.topk(k).indices)
        shares.append((nearest[0][:, :, None] == nearest[1][:, None, :]).any(2).float().mean(1))
    return torch.cat(shares)


def linear_cka(predictions: Tensor, references: Tensor, weights: Tensor | None = None) -> float:
    """Linear centred kernel alignment of two clouds: 1 for clouds that are equal up to rotation, shift and scale.

    Args:
        predictions: `(n, d)`.
        references: `(n, e)`, row by row; the dimensions may differ.
        weights: `(n,)`, how often each row counts; default: once.

    Returns:
        Between 0 and 1; 0 where one side is a single point. Not corrected for few rows: two
        independent clouds of `n` rows in many dimensions score well above 0.

    Source: Kornblith et al., "Similarity of neural network representations revisited", 2019, equation 3.
    """
    weights = (torch.ones(len(predictions)) if weights is None else weights).double()
    x, y = (
        (rows - weights @ rows / weights.sum()) * weights.sqrt()[:, None]
        for rows in (predictions.double(), references.double())
    )
    norm = torch.linalg.matrix_norm
    scale = norm(x.T @ x) * norm(y.T @ y)
    return (norm(x.T @ y).square() / scale).item() if scale > 0 else 0.0


def structure_metrics(predictions: Tensor, references: Tensor) -> dict[str, float]:
    """Mean `neighbour_overlap` (10 neighbours) and `linear_cka`: what stays when both clouds are turned as one likes."""
    overlap = neighbour_overlap(predictions, references).mean().item()
    return {"neighbour_overlap": overlap, "cka": linear_cka(predictions, references)}


def bootstrap_intervals(
    predictions: Tensor,
    references: Tensor,
    mean: Tensor,
    *,
    resamples: int = 1000,
    confidence: float = 0.95,
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
    from scipy.stats import bootstrap  # slow to import, and seldom needed

    found = ranks(predictions, references)
    figures = _rank_figures(found) | {
        "cosine": F.cosine_similarity(predictions, references, dim=1),
        "centred_cosine": F.cosine_similarity(predictions - mean, references - mean, dim=1),
        "neighbour_overlap": neighbour_overlap(predictions, references),
    }
    options = {"n_resamples": resamples, "confidence_level": confidence, "method": "percentile", "batch": 50, "axis": -1}
    stacked = torch.stack(list(figures.values())).double().numpy()
    of_means = bootstrap((stacked,), np.mean, **options, rng=seed).confidence_interval
    intervals = {name: (low, high) for name, low, high in zip(figures, *of_means, strict=True)}
    intervals["median_rank"] = tuple(bootstrap((found.numpy(),), np.median, **options, rng=seed).confidence_interval)
    rows = min(len(found), 2048)
    draws = np.random.default_rng(seed).multinomial(rows, np.full(rows, 1 / rows), size=max(resamples // 10, 1))
    ckas = [linear_cka(predictions[:rows], references[:rows], torch.from_numpy(draw)) for draw in draws]
    intervals["cka"] = tuple(np.quantile(ckas, [(1 - confidence) / 2, (1 + confidence) / 2]))
    return {name: (float(low), float(high)) for name, (low, high) in intervals.items()}


def mean_interval(
    values: np.ndarray, *, resamples: int = 1000, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of `(n,)` values, one a text. A point where all are alike."""
    from scipy.stats import bootstrap  # slow to import, and seldom needed

    if values.min() == values.max():
        return float(values[0]), float(values[0])
    options = {"n_resamples": resamples, "confidence_level": confidence, "method": "percentile", "batch": 50}
    low, high = bootstrap((values,), np.mean, **options, rng=seed).confidence_interval
    return float(low), float(high)


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
    """Mean raw and centred cosine of translated and true vectors. `compute(..., mean=)` takes the `(d,)` mean of the
    target space's training rows; without it the mean of the references."""

    def _compute(self, predictions, references, mean: Tensor | None = None) -> dict[str, float]:
        predictions, references = _rows(predictions), _rows(references)
        return mean_cosines(predictions, references, references.mean(0) if mean is None else torch.as_tensor(mean))


class TranslationRank(_VectorMetric):
    """Top-1, -5 and -10, mean, median and mean reciprocal rank of the true vector among all references, by raw cosine."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return rank_metrics(_rows(predictions), _rows(references))


class TranslationStructure(_VectorMetric):
    """Overlap of 10 nearest neighbours and linear CKA: whether the translated cloud has the shape of the true one."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return structure_metrics(_rows(predictions), _rows(references))


class TranslationIntervals(_VectorMetric):
    """95 % bootstrap intervals over texts, `(low, high)` each, of every figure of the other three. `compute` also takes
    `mean`, as [`TranslationCosine`], `resamples`, `confidence` and `seed`."""

    def _compute(self, predictions, references, mean: Tensor | None = None, **options) -> dict[str, tuple[float, float]]:
        predictions, references = _rows(predictions), _rows(references)
        mean = references.mean(0) if mean is None else torch.as_tensor(mean)
        return bootstrap_intervals(predictions, references, mean, **options)


def _rows(values: list) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
