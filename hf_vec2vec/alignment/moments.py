"""What two clouds of rows are known to be jointly: their covariances, and the linear maps that these give."""

import copy

import torch
from torch import Tensor

# Least variance of a direction, in means over all: those without any would be blown up to the size of the others.
LEAST_VARIANCE = 1e-4
LARGEST_CORRELATION = 0.97  # of two spaces in any direction: at 1 nothing would be left to simulate
MAP_PENALTY = 0.03  # of linear maps, in mean variances; ten times as much costs one or two points of top-1


class Moments:
    """Covariances of two spaces, their symmetric roots and inverse roots; float64.

    Args:
        source: covariance `(d_a, d_a)` of the one space.
        target: `(d_b, d_b)`, of the other.
    """

    def __init__(self, source: Tensor, target: Tensor):
        self.source, self.target = source, target
        self.source_root, self.source_inverse_root = _roots(source)
        self.target_root, self.target_inverse_root = _roots(target)

    @classmethod
    def of(cls, source: Tensor, target: Tensor) -> "Moments":
        """From normalised rows `(n, d_a)` and `(m, d_b)`."""
        return cls(*((rows.T @ rows / len(rows)).double() for rows in (source, target)))

    def canonical(self, cross: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """SVD `u, s, v.T` of the whitened cross-covariance: canonical directions and correlations."""
        left, correlations, right = torch.linalg.svd(
            self.source_inverse_root @ cross @ self.target_inverse_root, full_matrices=False
        )
        return left, correlations, right

    def possible(self, cross: Tensor) -> Tensor:
        """Nearest cross-covariance that two spaces can have: no canonical correlation above (nearly) 1."""
        left, correlations, right = self.canonical(cross)
        return self.source_root @ (left * correlations.clamp(max=LARGEST_CORRELATION) @ right) @ self.target_root

    def features(self, cross: Tensor) -> tuple[Tensor, Tensor]:
        """Directions `(d_a, r)` and `(d_b, r)` to compare rows of two spaces in: each counts as much as it correlates."""
        left, correlations, right = self.canonical(cross)
        weights = correlations.clamp(0, 1).sqrt()
        return (
            (self.source_inverse_root @ left * weights).float(),
            (self.target_inverse_root @ right.T * weights).float(),
        )

    def swapped(self) -> "Moments":
        """The same with the sides exchanged."""
        other = copy.copy(self)  # without decomposing both covariances again
        other.source, other.target = self.target, self.source
        other.source_root, other.target_root = self.target_root, self.source_root
        other.source_inverse_root, other.target_inverse_root = self.target_inverse_root, self.source_inverse_root
        return other


def _power(covariance: Tensor, exponent: float) -> Tensor:
    values, axes = torch.linalg.eigh(covariance)
    return axes * values.clamp_min(values.mean() * LEAST_VARIANCE).pow(exponent) @ axes.T


def _roots(covariance: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric root and inverse root."""
    values, axes = torch.linalg.eigh(covariance)
    roots = values.clamp_min(values.mean() * LEAST_VARIANCE).sqrt()
    return axes * roots @ axes.T, axes / roots @ axes.T


def linear_maps(
    moments: Moments, cross: Tensor, penalty: float = MAP_PENALTY, whitening: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Ridge regressions of each space on the other, `(d_a, d_b)` and `(d_b, d_a)`, from their covariances.

    Predictions are shorter than real rows; the maps are scaled to give rows of real length, since a store ranks by raw
    cosine, where short rows drown in the mean.

    Args:
        moments: of the two spaces.
        cross: `(d_a, d_b)`, cross-covariance.
        penalty: in mean variances.
        whitening: outputs are divided by that power of the variances along the principal axes of their space. A regression
            says little along axes of which it knows little; what tells rows apart stands there, too.
    """

    def solve(covariance: Tensor, right: Tensor, other: Tensor) -> Tensor:
        ridge = penalty * covariance.diagonal().mean() * torch.eye(len(covariance)).to(covariance)
        weight = torch.linalg.solve(covariance + ridge, right)
        if whitening:
            weight = weight @ _power(other, -whitening)
        return (weight * (other.trace() / (weight.T @ covariance @ weight).trace()).sqrt()).float()

    return solve(moments.source, cross, moments.target), solve(moments.target, cross.T, moments.source)
