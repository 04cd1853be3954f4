"""Optimal transport between two unpaired samples, as a baseline. Needs POT (`pip install POT`), but for `"hungarian"`."""

import warnings
from types import ModuleType
from typing import Literal, get_args

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ..alignment.procrustes import paired_rotation
from .baselines import Translate

Transport = Literal["hungarian", "emd", "sinkhorn", "entropic_gromov_wasserstein"]


def transport_map(source: Tensor, target: Tensor, method: Transport, *, rows: int = 2000, seed: int = 0) -> Tensor:
    """Rotation fitted to the transport plan between a sample of each space.

    The first three methods compare coordinates of one space with coordinates of the other (squared distances, the
    smaller space padded with zeros), as a naive user might. Encoders share no coordinates, so they are not expected to
    find anything. Gromov-Wasserstein compares distances within the one space with distances within the other.

    Args:
        source: `(n, d_a)`, centred, norm 1.
        target: `(m, d_b)`, centred, norm 1.
        method: `"hungarian"`: one-to-one matching, as scipy solves it; `"emd"`: exact transport, the same but for
            samples of unequal size; `"sinkhorn"`: transport with entropy of weight .05; or
            `"entropic_gromov_wasserstein"`: on cosine distances divided by their mean, with entropy of weight .001.
        rows: at most so many of each space, drawn at random. Time grows with their number cubed.
        seed: of the draw.

    Returns:
        `(d_a, d_b)`, the best rotation of the rows to the plan's barycentres (see `paired_rotation`).

    Raises:
        ImportError: if POT is needed and missing.
        ValueError: for a method that is none of the four.

    Source: Alvarez-Melis and Jaakkola, "Gromov-Wasserstein alignment of word embedding spaces", 2018, for the last
    method: cosine distances, division by their mean, Procrustes on the plan. Their code has weights .001 and .0005; on
    text embeddings the former did better. The others: Kuhn, 1955; Bonneel et al., 2011; Cuturi, 2013.
    """
    if method not in get_args(Transport):
        raise ValueError(f"`method` must be one of {', '.join(get_args(Transport))}; got {method!r}.")
    generator = torch.Generator().manual_seed(seed)
    source, target = (r[torch.randperm(len(r), generator=generator)[:rows]].double() for r in (source, target))
    plan = _gromov_wasserstein(source, target) if method == "entropic_gromov_wasserstein" else _plan(source, target, method)
    return paired_rotation(source, torch.from_numpy(plan) @ target).float()


def unpaired_transport(source: Tensor, target: Tensor, method: Transport, *, seed: int = 0) -> tuple[Translate, Translate]:
    """The map of `transport_map` between raw rows `(n, d_a)` and `(m, d_b)` of different texts, there and back."""
    means = source.mean(0), target.mean(0)
    a, b = (F.normalize(rows - mean, dim=1) for rows, mean in zip((source, target), means, strict=True))
    weight = transport_map(a, b, method, seed=seed)
    return (lambda rows: (rows - means[0]) @ weight + means[1]), (lambda rows: (rows - means[1]) @ weight.T + means[0])


def _plan(source: Tensor, target: Tensor, method: Transport) -> np.ndarray:
    """Transport plan `(n, m)` on squared distances between raw coordinates."""
    width = max(source.shape[1], target.shape[1])
    a, b = (F.pad(rows, (0, width - rows.shape[1])) for rows in (source, target))
    cost = torch.cdist(a, b).square().numpy()
    if method == "hungarian":
        plan = np.zeros_like(cost)
        plan[linear_sum_assignment(cost)] = 1
        return plan
    ot = _pot()
    weights = [np.full(n, 1 / n) for n in cost.shape]
    if method == "emd":
        return ot.emd(*weights, cost, numItermax=1_000_000)
    # In logarithms: exponentials of costs this large against the entropy would underflow. Stopped early, the plan's
    # marginals are off by a little, which a rotation does not show: no warning.
    return ot.sinkhorn(*weights, cost, 0.05, method="sinkhorn_log", numItermax=200, warn=False)


def _gromov_wasserstein(source: Tensor, target: Tensor) -> np.ndarray:
    """Entropic Gromov-Wasserstein plan `(n, m)` by at most 100 projected gradient steps of 50 Sinkhorn steps each."""
    distances = []
    for rows in (source, target):
        unit = F.normalize(rows, dim=1)
        cosine_distance = 1 - unit @ unit.T
        distances.append((cosine_distance / cosine_distance.mean()).numpy())
    weights = [np.full(len(d), 1 / len(d)) for d in distances]
    with warnings.catch_warnings():
        # The inner loop is cut short on purpose: it goes on in the next step from where it stopped (`warmstart`), and
        # solving it to the end takes three times as long for the same map.
        warnings.filterwarnings("ignore", message="Sinkhorn did not converge", category=UserWarning)
        return _pot().gromov.entropic_gromov_wasserstein(
            *distances, *weights, "square_loss", epsilon=1e-3, symmetric=True, max_iter=100, tol=1e-8,
            warmstart=True, numItermax=50,
        )  # fmt: skip


def _pot() -> ModuleType:
    try:
        import ot
    except ImportError as error:
        raise ImportError("Transport plans need POT, which is not installed: pip install POT") from error
    return ot


__all__ = ["Transport", "transport_map", "unpaired_transport"]
