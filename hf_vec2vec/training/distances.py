"""How far two batches are from being of one distribution, without a discriminator. Pure functions.

All take rows of variance 1 a coordinate, `(n, d)` translated and `(n, d)` real, which are no pairs, and return a scalar.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

LINES = 256  # random directions of the sliced Wasserstein distance
WIDTHS = (0.125, 0.25, 0.5, 1.0, 2.0)  # of the kernels, by the mean squared distance
ENTROPY, ROUNDS = 0.05, 20  # of a transport plan, by the mean squared distance, and of its potentials
NEAREST = (1, 10, 50)


def energy_distance(fake: Tensor, real: Tensor) -> Tensor:
    """2 E|x - y| - E|x - x'| - E|y - y'|, without each row's distance to itself. Source: Székely and Rizzo, 2013."""
    return 2 * torch.cdist(fake, real).mean() - sum(
        torch.cdist(rows, rows).sum() / (len(rows) * (len(rows) - 1)) for rows in (fake, real)
    )


def sliced_wasserstein(fake: Tensor, real: Tensor) -> Tensor:
    """Mean squared gap of sorted projections on random lines, times d. Source: Bonneel et al., 2015."""
    lines = F.normalize(torch.randn(fake.shape[1], LINES, device=fake.device, dtype=fake.dtype), dim=0)
    return ((fake @ lines).sort(0).values - (real @ lines).sort(0).values).square().mean() * fake.shape[1]


def mmd(fake: Tensor, real: Tensor) -> Tensor:
    """Squared maximum mean discrepancy, Gaussian kernels of five widths. Source: Gretton et al., 2012."""
    n, both = len(fake), torch.cat([fake, real])
    squared = torch.cdist(both, both).square()
    width = squared.detach().mean()
    kernel = torch.stack([torch.exp(-squared / (width * scale)) for scale in WIDTHS]).sum(0)
    return kernel[:n, :n].mean() + kernel[n:, n:].mean() - 2 * kernel[:n, n:].mean()


def sinkhorn_divergence(fake: Tensor, real: Tensor) -> Tensor:
    """Transport cost with entropy, less half of that of each side to itself. Source: Feydy et al., 2019.

    Potentials are found without gradients; the plan, held fixed, weighs the costs.
    """
    return _cost(fake, real) - (_cost(fake, fake) + _cost(real, real)) / 2


def _cost(a: Tensor, b: Tensor) -> Tensor:
    squared = torch.cdist(a, b).square()
    with torch.no_grad():
        scaled = squared / (ENTROPY * squared.mean())
        f, g = scaled.new_zeros(len(a), 1), scaled.new_zeros(1, len(b))
        for _ in range(ROUNDS):
            f = -torch.logsumexp(g - scaled, 1, keepdim=True)
            g = -torch.logsumexp(f - scaled, 0, keepdim=True)
        plan = torch.exp(f + g - scaled) / len(b)
    return (plan * squared).sum()


def hub_statistics(fake: Tensor, real: Tensor) -> Tensor:
    """Squared gap, times d, of sorted mean cosines to the 1, 10 and 50 nearest rows of a bank; no source: ours.

    The bank is the second half of `real`, which the first half and as many of `fake` look at.
    """
    half = len(real) // 2
    bank, others = F.normalize(real[half:], dim=1), F.normalize(real[:half], dim=1)
    most = min(NEAREST[-1], len(bank))
    near = [(F.normalize(rows, dim=1) @ bank.T).topk(most, dim=1).values for rows in (fake[:half], others)]
    gaps = [near[0][:, :k].mean(1).sort().values - near[1][:, :k].mean(1).sort().values for k in NEAREST]
    return torch.stack([gap.square().mean() for gap in gaps]).sum() * fake.shape[1]


Objective = Literal["game", "energy", "sliced_wasserstein", "mmd", "sinkhorn", "hubs"]
DISTANCES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "energy": energy_distance,
    "sliced_wasserstein": sliced_wasserstein,
    "mmd": mmd,
    "sinkhorn": sinkhorn_divergence,
    "hubs": hub_statistics,
}


__all__ = [
    "DISTANCES",
    "Objective",
    "energy_distance",
    "hub_statistics",
    "mmd",
    "sinkhorn_divergence",
    "sliced_wasserstein",
]
