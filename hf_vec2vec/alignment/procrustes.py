"""Maps out of a cross-covariance: the best rotation, and its relatives."""

import torch
from torch import Tensor

LEAST_VALUE = 1e-6  # of the largest singular value: below it is rounding


def polar_factor(cross_covariance: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrix, the solution of the orthogonal Procrustes problem.

    Args:
        cross_covariance: `(d_a, d_b)`, for matched rows `x` and `y` the sum of their outer products `x.T @ y`.

    Returns:
        `(d_a, d_b)`: `u @ v.T` of the thin SVD. Its smaller side is orthonormal, so rectangular maps need no padding.

    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    # float64: the factor is a small matrix, and an error made here would be carried through every later step.
    left, _, right = torch.linalg.svd(cross_covariance.double(), full_matrices=False)
    return (left @ right).to(cross_covariance.dtype)


def partial_isometry(cross_covariance: Tensor) -> Tensor:
    """[`polar_factor`] along the directions that the cross-covariance has, 0 along all others: `(d_a, d_b)`.

    Of a matrix of low rank the polar factor would complete the rest out of rounding, which differs from processor to
    processor.
    """
    left, values, right = torch.linalg.svd(cross_covariance.double(), full_matrices=False)
    kept = values > LEAST_VALUE * values[0]
    return (left[:, kept] @ right[kept]).to(cross_covariance.dtype)


def paired_rotation(source: Tensor, target: Tensor) -> Tensor:
    """The best rotation between matched rows `(n, d_a)` and `(n, d_b)`: `(d_a, d_b)`.

    Rows that are fewer than the dimensions of both sides say nothing of the directions that none of them has: the map is 0
    there, and costs what the rows do, not the cube of the dimensions.
    """
    if len(source) >= min(source.shape[1], target.shape[1]):
        return polar_factor(source.T @ target)
    (axes_a, inside_a), (axes_b, inside_b) = (torch.linalg.qr(rows.T.double()) for rows in (source, target))
    return (axes_a @ partial_isometry(inside_a @ inside_b.T) @ axes_b.T).to(source.dtype)
