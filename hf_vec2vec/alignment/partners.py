"""Estimates of unknown partners, calibrated by simulation.

For a real row `y` of the one space, the rows of the other that lie nearest to its translation tell what its unknown
partner `x` may be. Their mean is a biased guess: neighbours are other texts, averages are short, and directions in which
neighbours are far apart come out too weak. How biased, a simulation tells. Under the current joint covariance, draw from
every real `x` a synthetic partner, hide `x`, look for the neighbours of that partner in the same way, and regress the
hidden `x` on what was found. Applied to the real `y`, that regression gives an estimate of `x` which is unbiased where the
model is true, and whose covariance with `y` corrects the model where it is not.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .moments import Moments
from .neighbours import nearest_means
from .regression import solve_ridge
from .soft_matching import scales

SIMULATIONS = 4  # synthetic partners of every row: more change little and take as long again
CALIBRATION_PENALTY = 0.01  # of the regression, in mean variances of what was found


def partner_estimator(
    x: Tensor,
    moments: Moments,
    cross: Tensor,
    features: tuple[Tensor, Tensor],
    *,
    neighbours: int,
    generator: torch.Generator,
) -> Callable[[Tensor], Tensor]:
    """Learn to tell the unknown partners of rows `y`, in the space of `x`.

    Args:
        x: `(n, d_a)`, centred and scaled.
        moments: covariances, the space of `x` as source.
        cross: `(d_a, d_b)`, cross-covariance so far.
        features: `(d_a, r)` and `(d_b, r)`, canonical directions in which rows are compared.
        neighbours: that a guess averages, and fewer and more; see `scales`.
        generator: source of randomness, on the CPU.

    Returns:
        A function from `(m, d_b)`, centred and scaled, to posterior means `(m, d_a)`.

    Source: indirect inference, Gouriéroux, Monfort and Renault, 1993.
    """
    evidence = _Evidence(x, features, scales(neighbours))  # how to weigh them, the calibration learns
    simulate = _partner_simulator(moments, cross)
    inner = outer = x.new_zeros(())  # sums over rows: the evidence of all simulations would fill gigabytes
    for _ in range(SIMULATIONS):
        found = evidence(simulate(x, generator), leave_one_out=True)
        inner, outer = inner + found.T @ found, outer + found.T @ x
        del found  # before the next is made
    calibration = solve_ridge(inner, outer, CALIBRATION_PENALTY)
    return lambda y: evidence(y) @ calibration


class _Evidence:
    """What rows `(m, d_b)` tell of their partners: means of their nearest rows of `x`, and the rows themselves."""

    def __init__(self, x: Tensor, features: tuple[Tensor, Tensor], counts: Sequence[int]):
        self.x, self.counts = x, counts
        self.keys = F.normalize(x @ features[0], dim=1)
        self.query_features = features[1]

    def __call__(self, rows: Tensor, *, leave_one_out: bool = False) -> Tensor:
        """`(m, len(counts) * d_a + d_b)`. `leave_one_out`: row i was made from row i of `x` and may not find it."""
        queries = F.normalize(rows @ self.query_features, dim=1)
        means = nearest_means(queries, self.keys, self.x, self.counts, leave_one_out=leave_one_out)
        return torch.cat([means, rows], dim=1)


def _partner_simulator(moments: Moments, cross: Tensor) -> Callable[[Tensor, torch.Generator], Tensor]:
    """A function that draws a partner `(n, d_b)` for each row `(n, d_a)`, as the joint Gaussian has them."""
    weight = moments.source_inverse_root @ moments.source_inverse_root @ cross
    values, axes = torch.linalg.eigh(moments.target - cross.T @ weight)
    noise = (axes * values.clamp_min(0).sqrt() @ axes.T).float()
    mean = weight.float()

    def simulate(x: Tensor, generator: torch.Generator) -> Tensor:
        random = torch.randn(len(x), len(noise), generator=generator).to(x.device)
        return x @ mean + random @ noise

    return simulate
