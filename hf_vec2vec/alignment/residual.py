"""What a linear map misses, learned from estimated partners."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.layers_vec2vec import LinearPlusMLP
from .anchors import PAIR_WEIGHT, Anchors
from .neighbours import BLOCK, nearest_means
from .refine import draw
from .regression import solve_ridge

LENGTH_SHARE = 20  # one row in so many is not fitted and tells lengths: fitted rows come out longer than new ones
AVERAGED = 10  # rows that make a prototype: one of a single row would carry that row into the published weights
SHARPNESS = 13.5  # of the competition: the weight of a prototype falls by that power of e from cosine 1 to 0
PENALTY = 0.003  # of the regression, in mean variances of what it reads
LINEAR_SHARE = 0.2  # of the linear map's outputs in the network's: keeps rows apart, at little cost in cosine


def fit_residual(
    rows: Tensor,
    partners: Tensor,
    weight: Tensor,
    features: Tensor,
    *,
    hidden_dim: int,
    sharpness: float = SHARPNESS,
    share: float = LINEAR_SHARE,
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
        sharpness: of the competition.
        share: of the linear map's outputs in the network's.
        anchors: known pairs, each of which counts as `PAIR_WEIGHT` estimates.
        generator: source of randomness, on the CPU.

    Returns:
        The network, in evaluation mode and without gradients; its outputs are as long as those of `weight`.

    Source: a layer of normalised radial units (Moody and Darken, "Fast learning in networks of locally-tuned processing
    units", 1989), which is attention with learned keys and values.
    """
    held_out = len(rows) // LENGTH_SHARE
    measured, rows, partners = rows[:held_out], rows[held_out:], partners[held_out:]
    outputs = F.normalize(partners, dim=1)
    if anchors is not None:
        rows = torch.cat([rows, anchors.source.repeat(PAIR_WEIGHT, 1)])
        outputs = torch.cat([outputs, F.normalize(anchors.target, dim=1).repeat(PAIR_WEIGHT, 1)])
    compared = rows @ features
    usual_length = compared.norm(dim=1).mean()
    prototypes = _prototypes(F.normalize(compared, dim=1), hidden_dim, generator)
    # A row of usual length has `sharpness` times its cosine to a prototype as product with that key.
    network = _network(sharpness / usual_length * prototypes @ features.T, weight.shape)
    _solve(network, rows, outputs)
    _mix_in(network, weight, share, measured)
    return network


def _prototypes(compared: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Directions `(p, r)` of norm 1 that rows `(n, r)` of norm 1 crowd around."""
    width = max(1, min(most, len(compared) // AVERAGED))
    chosen = draw(compared, width, generator)
    return F.normalize(nearest_means(chosen, compared, compared, AVERAGED), dim=1)


def _network(keys: Tensor, shape: torch.Size) -> LinearPlusMLP:
    """A network whose hidden units are those keys `(p, d_a)`; what they give, and the linear map, is yet to be solved."""
    in_dim, out_dim = shape
    config = Vec2VecConfig(embedding_dims={"a": in_dim, "b": out_dim}, hidden_dim=len(keys), activation="softmax")
    network = LinearPlusMLP(config, in_dim, out_dim, 1).to(keys.device).eval().requires_grad_(False)
    network.get_parameter("hidden.0.0.weight").copy_(keys)
    network.get_parameter("hidden.0.0.bias").zero_()
    return network


def _solve(network: LinearPlusMLP, rows: Tensor, outputs: Tensor) -> None:
    """Ridge regression of outputs `(n, d_b)` on hidden units and rows `(n, d_a)`, by blocks."""
    usual = sum(network.hidden(block).sum(0) for block in rows.split(BLOCK)) / len(rows)
    scale = rows.shape[1] ** -0.5  # gives rows the length of units, so that the penalty weighs on both alike
    inner = cross = rows.new_zeros(())  # sums over rows: what all of them read would fill a gigabyte
    for block, wanted in zip(rows.split(BLOCK), outputs.split(BLOCK), strict=True):
        read = torch.cat([network.hidden(block) - usual, block * scale], dim=1)
        inner, cross = inner + read.T @ read, cross + read.T @ wanted
    solved = solve_ridge(inner, cross, PENALTY)
    of_units, of_rows = solved[: len(usual)], solved[len(usual) :]
    network.get_parameter("output.weight").copy_(of_units.T)
    network.get_parameter("output.bias").copy_(-usual @ of_units)
    network.get_parameter("linear.weight").copy_(of_rows.T * scale)


def _mix_in(network: LinearPlusMLP, weight: Tensor, share: float, measured: Tensor) -> None:
    """Give a linear map `(d_a, d_b)` its share in the network, and the outputs of the sum the length of the map's.

    The fit was to directions, for cosines do not see lengths; the linear map has the real length.
    """
    linear, fitted = measured @ weight, network(measured)
    stretch = (1 - share) * linear.norm() / fitted.norm()
    length = linear.norm() / (stretch * fitted + share * linear).norm()
    for name in ("linear.weight", "output.weight", "output.bias"):
        network.get_parameter(name).mul_(length * stretch)
    network.get_parameter("linear.weight").add_(length * share * weight.T)
