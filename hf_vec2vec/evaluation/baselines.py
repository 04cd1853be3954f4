"""What a translator must beat (baselines, which learn nothing) and what it may hope for (oracles, which see pairs)."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..alignment.procrustes import paired_rotation
from ..alignment.regression import ridge
from ..alignment.statistics import Statistics, fit_statistics
from ..data.overlap import groups_of_pairs
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.layers_vec2vec import LinearPlusMLP, ZeroLinear

LEAST_PAIRS = 3  # two to fit an oracle on, one to translate
Translate = Callable[[Tensor], Tensor]  # raw `(n, d_a)` to raw `(n, d_b)`


def mean_vector(target_mean: Tensor) -> Translate:
    """Answer everything with the target's mean vector, `(d_b,)`: high raw cosine, no information."""
    return lambda rows: target_mean.float().expand(len(rows), -1)


def random_rotation(source: Statistics, target: Statistics, seed: int) -> Translate:
    """A random semi-orthogonal map between the centred, scaled spaces; mean and scale of each are given."""
    source_mean, source_scale, target_mean, target_scale = (part.float() for part in (*source, *target))
    generator = torch.Generator().manual_seed(seed)
    shape = len(source_mean), len(target_mean)
    axes, signs = torch.linalg.qr(torch.randn(max(shape), min(shape), generator=generator))
    axes *= signs.diagonal().sign()  # which makes all rotations equally likely
    rotation = axes if shape[0] >= shape[1] else axes.T
    return lambda rows: (rows.float() - source_mean) / source_scale @ rotation * target_scale + target_mean


def paired_procrustes(source: Tensor, target: Tensor) -> Translate:
    """Oracle: the best rotation between centred, scaled spaces, fitted on pairs `(n, d_a)`, `(n, d_b)`.

    Source: Schönemann, 1966.
    """
    (a_mean, a_scale), (b_mean, b_scale) = fit_statistics(source), fit_statistics(target)
    rotation = paired_rotation((source - a_mean) / a_scale, (target - b_mean) / b_scale)
    return lambda rows: (rows - a_mean) / a_scale @ rotation * b_scale + b_mean


def paired_ridge(source: Tensor, target: Tensor, strengths: tuple[float, ...] = (0.003, 0.01, 0.03, 0.1, 0.3)) -> Translate:
    """Oracle: ridge regression on pairs, its strength chosen by squared error on the last tenth of them.

    Args:
        source: `(n, d_a)`.
        target: `(n, d_b)`, row by row.
        strengths: tried penalties, in units of the mean eigenvalue.
    """
    (a_mean, a_scale), (b_mean, b_scale) = fit_statistics(source), fit_statistics(target)
    x, y = (source - a_mean) / a_scale, (target - b_mean) / b_scale
    cut = len(x) - max(1, len(x) // 10)
    errors = {s: (x[cut:] @ ridge(x[:cut], y[:cut], s) - y[cut:]).square().mean().item() for s in strengths}
    weight = ridge(x, y, min(errors, key=errors.__getitem__))
    return lambda rows: (rows - a_mean) / a_scale @ weight * b_scale + b_mean


@torch.inference_mode(False)
@torch.enable_grad()  # it trains, whatever the caller does
def paired_mlp(source: Tensor, target: Tensor, *, hidden_dim: int = 512, epochs: int = 15, seed: int = 0) -> Translate:
    """Oracle: ridge regression on pairs and what a small network adds to it, trained on the same pairs.

    Args:
        source: `(n, d_a)`.
        target: `(n, d_b)`, row by row.
        hidden_dim: width of the network.
        epochs: passes over the pairs.
        seed: of weights and order.
    """
    source, target = source.detach(), target.detach()
    (a_mean, a_scale), (b_mean, b_scale) = fit_statistics(source), fit_statistics(target)
    x, y = (source - a_mean) / a_scale, (target - b_mean) / b_scale
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        config = Vec2VecConfig(embedding_dims={"a": x.shape[1], "b": y.shape[1]}, hidden_dim=hidden_dim)
        network = LinearPlusMLP(config, x.shape[1], y.shape[1], 1)
    network.to(x.device).linear.weight = nn.Parameter(ridge(x, y, 0.03).T.contiguous(), requires_grad=False)
    output = cast(ZeroLinear, network.output)
    nn.init.zeros_(output.weight)
    nn.init.zeros_(output.bias)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=5e-4, weight_decay=0.01)
    batch = 256
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=epochs * -(-len(x) // batch))
    for _ in range(epochs):
        for rows in torch.randperm(len(x), generator=generator).to(x.device).split(batch):
            loss = 1 - F.cosine_similarity(network(x[rows]), y[rows]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    network.eval().requires_grad_(False)
    return lambda rows: network((rows - a_mean) / a_scale) * b_scale + b_mean


def cross_fitted(fit: Callable[[Tensor, Tensor], Translate], source: Tensor, target: Tensor, folds: int = 5) -> Tensor:
    """Oracle translations of rows that the oracle was not fitted on, where no other pairs are at hand.

    Args:
        fit: one of the paired oracles.
        source: `(n, d_a)`.
        target: `(n, d_b)`, row by row.
        folds: each is translated by a map fitted on the others. Pairs that share a vector are in one.

    Returns:
        `(n, d_b)`.

    Raises:
        ValueError: if fewer than three pairs share no vector: of two, one is too little to fit a map on.
    """
    out = torch.empty(len(source), target.shape[1])
    group = groups_of_pairs(source, target)
    if (different := int(group.max()) + 1) < LEAST_PAIRS:
        raise ValueError(
            f"`pairs` must hold at least {LEAST_PAIRS} pairs that share no vector, got {different}: an oracle is judged on "
            "other texts than it is fitted on."
        )
    fold = group % folds
    for k in fold.unique().tolist():
        out[fold == k] = fit(source[fold != k], target[fold != k])(source[fold == k])
    return out


# The rows of a table of translations, in its order: a method that is to stand in every table needs a line here.
BASELINES: dict[str, Callable[[Statistics, Statistics, int], Translate]] = {
    "mean vector": lambda source, target, seed: mean_vector(target[0]),
    "random rotation": random_rotation,
}
ORACLES: dict[str, Callable[[Tensor, Tensor], Translate]] = {
    "paired Procrustes": paired_procrustes,
    "paired ridge": paired_ridge,
}
SLOW_ORACLES: dict[str, Callable[[Tensor, Tensor], Translate]] = {"paired MLP": paired_mlp}  # of full tables only
