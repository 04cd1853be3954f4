"""Mean and scale of a space, which take raw vectors to coordinates that two spaces can be compared in."""

from typing import Literal

import torch
from torch import Tensor

Statistics = tuple[Tensor, Tensor]  # mean and scale of a space, `(d,)` each

# One dimension's variance, in means over all dimensions, from which each is scaled by itself: sentence encoders have less
# than 10, hidden states of language models hundreds.
OUTLYING_VARIANCE = 30
# Least variance of a dimension that is scaled by itself, in means over all: a constant column stays near 0.
LEAST_VARIANCE = 1e-6
# Share of the variance in one direction that is pointed out; encoders and standardised hidden states have up to .07.
LARGEST_SHARE = 0.5


def fit_statistics(rows: Tensor, standardize: bool | Literal["auto"] = "auto") -> Statistics:
    """Mean, and scale that gives centred rows unit mean square.

    Args:
        rows: `(n, d)`, training rows only.
        standardize: scale every dimension by its own deviation, as hidden states of language models need, where one
            dimension can hold nearly all variance. `"auto"` does so if one dimension has over `OUTLYING_VARIANCE` times
            the mean variance.

    Returns:
        `(d,)` and `(d,)`.
    """
    mean = rows.mean(0)
    variance = (rows - mean).square().mean(0)
    if standardize == "auto":
        standardize = bool(variance.max() > OUTLYING_VARIANCE * variance.mean())
    if not standardize:
        return mean, variance.mean().sqrt().expand_as(mean).clone()
    return mean, variance.clamp_min(variance.mean() * LEAST_VARIANCE).sqrt()


def normalise(rows: Tensor, statistics: Statistics) -> Tensor:
    """Raw vectors `(n, d)` to centred and scaled rows."""
    mean, scale = statistics
    return (rows - mean) / scale


def largest_share(rows: Tensor) -> float:
    """Share of the variance of centred rows `(n, d)` that lies in one direction."""
    variances = torch.linalg.eigvalsh(rows.T @ rows)
    return (variances[-1] / variances.sum()).item()
