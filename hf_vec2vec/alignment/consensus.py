"""Which of many guesses agree, and what they say together.

A score that needs no pairs is noisy: it does not rise for a hundred steps over which a rotation comes ever nearer to the
truth. How far two rotations agree is not. Right guesses err independently, so each agrees a little with every other, wrong
ones with few or none; and the mean of right ones is nearer to the truth than any of them.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from .procrustes import polar_factor

APART = 0.25  # of the largest weight: a guess below it does not belong to those that agree


def agreements(rotations: Tensor, rows: Tensor) -> Tensor:
    """Mean cosine between translations of rows `(h, d_a)` by each two of the maps `(c, d_a, d_b)`: `(c, c)`."""
    translated = F.normalize(rows @ rotations, dim=2).flatten(1)
    return translated @ translated.T / len(rows)


def groups(agreement: Tensor, best: int) -> list[Tensor]:
    """Weights `(c,)` of the guesses that agree most; of those that agree most among the others; of what agrees with one.

    Wrong guesses can agree, too: on the mirror image of the truth, most often. And a right one can be alone.

    Args:
        agreement: `(c, c)`, of `agreements`.
        best: the guess that stands out by its score.

    Source: weights by the leading eigenvector are eigenvector centrality (Bonacich, 1972).
    """
    first = _leading(agreement)
    found = [first, agreement[best].clamp_min(0)]
    others = (first < APART * first.max()).nonzero().squeeze(1)
    if len(others) > 1:
        second = torch.zeros_like(first)
        second[others] = _leading(agreement[others][:, others])
        found.append(second)
    return found


def halves(weights: Tensor, origins: list[int]) -> tuple[Tensor, Tensor]:
    """Weights `(c,)` cut in two of nearly the same sum; guesses of one origin, which can share a mistake, stay together."""
    sums = torch.zeros(max(origins) + 1).index_add_(0, torch.tensor(origins), weights.cpu())
    parts: tuple[list[int], list[int]] = [], []
    for origin in sums.argsort(descending=True, stable=True).tolist():
        lighter = min(parts, key=lambda part: sums[part].sum())
        lighter.append(origin)
    first = torch.tensor([origin in parts[0] for origin in origins], device=weights.device)
    return weights * first, weights * ~first


def weighted_mean(rotations: Tensor, weights: Tensor) -> Tensor:
    """Rotation `(d_a, d_b)` nearest to the weighted sum of rotations `(c, d_a, d_b)`."""
    return polar_factor((weights[:, None, None] * rotations).sum(0))


def _leading(agreement: Tensor) -> Tensor:
    """Leading eigenvector, its larger part positive, without the rest."""
    vector = torch.linalg.eigh(agreement.double().fill_diagonal_(0))[1][:, -1].to(agreement)
    return (vector if vector.sum() >= 0 else -vector).clamp_min(0)
