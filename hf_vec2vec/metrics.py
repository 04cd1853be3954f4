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
    """Top-1, top-5, mean and median rank (see `ranks`), with the size of the pool: chance top-1 is one by that."""
    found = ranks(predictions, references)
    return {
        "top1": (found <= 1).float().mean().item(),
        "top5": (found <= 5).float().mean().item(),
        "mean_rank": found.mean().item(),
        "median_rank": found.quantile(0.5).item(),
        "pool_size": len(references),
    }


def translation_metrics(predictions: Tensor, references: Tensor, mean: Tensor) -> dict[str, float]:
    """`mean_cosines` and `rank_metrics` together."""
    return mean_cosines(predictions, references, mean) | rank_metrics(predictions, references)


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
    """Top-1, top-5, mean and median rank of the true vector among all references, by raw cosine to the translation."""

    def _compute(self, predictions, references) -> dict[str, float]:
        return rank_metrics(_rows(predictions), _rows(references))


def _rows(values: list) -> Tensor:
    return torch.from_numpy(np.asarray(values, dtype=np.float32))
