"""What a linear map misses, learned from estimated partners."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from ..configuration_vec2vec import Vec2VecConfig
from ..modeling_vec2vec import LinearPlusMLP
from .refine import Anchors

BATCH = 256


def fit_residual(
    rows: Tensor,
    estimates: Tensor,
    weight: Tensor,
    *,
    hidden_dim: int,
    epochs: int,
    trust: float = 0.8,
    learning_rate: float = 5e-4,
    weight_decay: float = 0.01,
    anchors: Anchors | None = None,
    generator: torch.Generator,
    progress: Callable[[], object] = lambda: None,
) -> LinearPlusMLP:
    """Train an MLP that, added to a linear map, takes real rows to the estimates of their unknown partners.

    Args:
        rows: `(n, d_a)`, centred and scaled.
        estimates: `(n, d_b)`, of their partners: `BackTranslation.target_estimates`.
        weight: `(d_a, d_b)`, the linear map, which stays as it is.
        hidden_dim: width of the MLP.
        epochs: passes over the rows.
        trust: in the estimates; the rest goes to the linear map's own output. Estimates lie nearer to the truth, but also
            nearer to one another: higher cosine, lower top-1.
        learning_rate: of AdamW at first; falls to 0 on a line.
        weight_decay: of AdamW.
        anchors: known pairs, each of which counts as five estimates.
        generator: source of randomness, on the CPU.
        progress: called after every pass.

    Returns:
        The sum of both, in evaluation mode and without gradients. Loss: 1 minus cosine.
    """
    estimates = trust * F.normalize(estimates, dim=1) + (1 - trust) * F.normalize(rows @ weight, dim=1)
    if anchors is not None:
        rows = torch.cat([rows, anchors.source.repeat(5, 1)])
        estimates = torch.cat([estimates, anchors.target.repeat(5, 1)])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31 - 1, (), generator=generator)))
        config = Vec2VecConfig(embedding_dims=dict(zip("ab", weight.shape, strict=True)), hidden_dim=hidden_dim)
        network = LinearPlusMLP(config, *weight.shape, 1)
    network.to(rows.device).linear.weight = torch.nn.Parameter(weight.T.contiguous(), requires_grad=False)
    torch.nn.init.zeros_(network.output.weight)
    torch.nn.init.zeros_(network.output.bias)
    optimizer = torch.optim.AdamW(
        [p for p in network.parameters() if p.requires_grad], lr=learning_rate, weight_decay=weight_decay
    )
    steps = epochs * -(-len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows), generator=generator).to(rows.device).split(BATCH):
            loss = 1 - F.cosine_similarity(network(rows[batch]), estimates[batch]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        progress()
    network.eval().requires_grad_(False)
    # The loss does not see lengths: give rows as long as the linear map does, which has the real length.
    length = ((rows @ weight).square().sum() / network(rows).square().sum()).sqrt()
    for parameter in (network.linear.weight, network.output.weight, network.output.bias):
        parameter.mul_(length)
    return network
