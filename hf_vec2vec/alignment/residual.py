"""What a linear map misses, learned from estimated partners."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.layers_vec2vec import LinearPlusMLP
from .refine import BLOCK, Anchors, nearest_means, solve_ridge

LENGTH_SHARE = 20  # fitted rows come out longer than new ones
AVERAGED = 10  # rows that make a prototype: one of a single row would carry that row into the published weights
PROTOTYPES = 2048  # as many again give .002 of centred cosine


def fit_residual(
    rows: Tensor,
    partners: Tensor,
    weight: Tensor,
    features: Tensor,
    *,
    hidden_dim: int,
    sharpness: float = 13.5,
    penalty: float = 0.003,
    share: float = 0.2,
    anchors: Anchors | None = None,
    generator: torch.Generator,
) -> LinearPlusMLP:
    """Fit a linear map and a layer of prototypes that take rows to their partners; one of the two is always estimated.

    Estimates come from neighbours, so they are nearly constant among rows that lie close together and turn where the
    neighbours change. A softmax over prototypes has that shape from the start; a layer of SiLU units that is trained on the
    same estimates for ten passes takes four times as long and does not come as near to the truth. Given the prototypes, all
    else is one ridge regression.

    Args:
        rows: `(n, d_a)`, centred and scaled, real ones first: one in `LENGTH_SHARE` is not fitted and tells lengths.
        partners: `(n, d_b)`: `BackTranslation.target_partners`. Estimates for real rows bring outputs near to the truth,
            real partners of estimated rows keep them apart.
        weight: `(d_a, d_b)`, a linear map that keeps rows apart, whose outputs have the length that the network's are given.
        features: `(d_a, r)`, directions in which rows are compared with prototypes.
        hidden_dim: prototypes, each the mean of `AVERAGED` rows that lie close together; at most one for every ten rows.
        sharpness: of the competition: the weight of a prototype falls by that power of e from cosine 1 to 0.
        penalty: of the regression, in mean eigenvalues of what it reads.
        share: of the linear map's outputs in the network's.
        anchors: known pairs, each of which counts as five estimates.
        generator: source of randomness, on the CPU.

    Returns:
        The network, in evaluation mode and without gradients; its outputs are as long as those of `weight`.

    Source: a layer of normalised radial units (Moody and Darken, "Fast learning in networks of locally-tuned processing
    units", 1989), which is attention with learned keys and values.
    """
    measured, rows, partners = rows[: len(rows) // LENGTH_SHARE], *(r[len(r) // LENGTH_SHARE :] for r in (rows, partners))
    outputs = F.normalize(partners, dim=1)
    if anchors is not None:
        rows = torch.cat([rows, anchors.source.repeat(5, 1)])
        outputs = torch.cat([outputs, F.normalize(anchors.target, dim=1).repeat(5, 1)])
    width = max(1, min(hidden_dim, len(rows) // AVERAGED))
    compared = rows @ features
    usual_length = compared.norm(dim=1).mean()
    compared = F.normalize(compared, dim=1)
    chosen = torch.randperm(len(rows), generator=generator)[:width].to(rows.device)
    prototypes = F.normalize(nearest_means(compared[chosen], compared, compared, AVERAGED), dim=1)

    config = Vec2VecConfig(embedding_dims=dict(zip("ab", weight.shape, strict=True)), hidden_dim=width, activation="softmax")
    network = LinearPlusMLP(config, *weight.shape, 1).to(rows.device).eval().requires_grad_(False)
    network.hidden[0][0].weight.copy_(sharpness / usual_length * prototypes @ features.T)
    network.hidden[0][0].bias.zero_()
    usual = sum(network.hidden(block).sum(0) for block in rows.split(BLOCK)) / len(rows)
    scale = rows.shape[1] ** -0.5  # gives rows the length of units, so that the penalty weighs on both alike
    inner, outer = 0, 0  # sums over rows: what all of them read would fill a gigabyte
    for block, wanted in zip(rows.split(BLOCK), outputs.split(BLOCK), strict=True):
        read = torch.cat([network.hidden(block) - usual, block * scale], dim=1)
        inner, outer = inner + read.T @ read, outer + read.T @ wanted
    solved = solve_ridge(inner, outer, penalty)
    network.output.weight.copy_(solved[:width].T)
    network.output.bias.copy_(-usual @ solved[:width])
    network.linear.weight.copy_(solved[width:].T * scale)

    # Cosines do not see lengths: give rows as long as the linear map does, which has the real length.
    linear, fitted = measured @ weight, network(measured)
    stretch = (1 - share) * linear.norm() / fitted.norm()
    length = linear.norm() / (stretch * fitted + share * linear).norm()
    for parameter in (network.linear.weight, network.output.weight, network.output.bias):
        parameter.mul_(length * stretch)
    network.linear.weight.add_(length * share * weight.T)
    return network
