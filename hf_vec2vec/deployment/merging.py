"""One direction of a translator as few layers as it needs: linear maps in a row merged, normalisation folded in."""

from copy import deepcopy
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from ..model.layers_vec2vec import LinearPlusMLP
from ..model.modeling_vec2vec import Map, Vec2VecModel


@dataclass
class Affine:
    """An affine function of features that come in groups: raw rows first, then what each hidden network yields.

    Args:
        weights: `(width of the group, d)` for each group, float64.
        bias: `(d,)`.
    """

    weights: list[Tensor]
    bias: Tensor

    def then(self, linear: nn.Module) -> "Affine":
        """This function, then a `nn.Linear` or `nn.Identity`."""
        if not isinstance(linear, nn.Linear):
            return Affine(list(self.weights), self.bias)
        weight = linear.weight.double().T
        bias = self.bias @ weight
        return Affine([w @ weight for w in self.weights], bias if linear.bias is None else bias + linear.bias.double())

    def only(self, groups: list[int]) -> "Affine":
        """The same function of some of the groups, where it does not depend on the others."""
        return Affine([self.weights[k] for k in groups if k < len(self.weights)], self.bias)


class GroupedLinear(nn.Module):
    """An [`Affine`] function in float32: one matrix a group of features, added up."""

    def __init__(self, affine: Affine):
        super().__init__()
        # `(d, width)`: the layout of `nn.Linear`.
        weights = (w.T.float().contiguous() for w in affine.weights)
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)
        self.bias = nn.Parameter(affine.bias.float(), requires_grad=False)

    def forward(self, features: list[Tensor], out: Tensor | None = None) -> Tensor:
        result = torch.addmm(self.bias, features[0], self.weights[0].T, out=out)
        for rows, weight in zip(features[1:], self.weights[1:], strict=True):
            result.addmm_(rows, weight.T)
        return result


class MergedTranslation(nn.Module):
    """Raw vectors of one space `(n, d_source)`, float32, to raw vectors of the other `(n, d_target)`. Not for training.

    Where hidden networks are left, each reads the raw rows and what the networks before it yield; so does the output.
    """

    def __init__(self, networks: list[tuple[Affine, nn.Module]], output: Affine):
        super().__init__()
        self.first = nn.ModuleList(GroupedLinear(affine) for affine, _ in networks)
        self.rest = nn.ModuleList(rest for _, rest in networks)
        self.output = GroupedLinear(output)
        self.requires_grad_(False)
        self.eval()

    @property
    def linear(self) -> bool:
        """Whether the whole translation is one matrix and a bias."""
        return not len(self.first)

    def forward(self, embeddings: Tensor, out: Tensor | None = None) -> Tensor:
        """`(n, d_source)` to `(n, d_target)`, into the memory `out` if it is given."""
        features = [embeddings]
        for first, rest in zip(self.first, self.rest, strict=True):
            features.append(rest(first(features)))
        return self.output(features, out)


class WholeTranslation(nn.Module):
    """One direction of a model whose parts cannot be merged (`residual="zero_pad"`), as it is."""

    linear = False

    def __init__(self, model: Vec2VecModel, source: str, target: str):
        super().__init__()
        self.source = model.normalizer(source)
        self.network = nn.Sequential(model.input_adapters[source], model.backbone, model.output_adapters[target])
        self.target = model.normalizer(target)
        self.eval()

    def forward(self, embeddings: Tensor, out: Tensor | None = None) -> Tensor:
        """`(n, d_source)` to `(n, d_target)`, into the memory `out` if it is given."""
        rows = self.source(embeddings.to(self.source.mean.dtype))
        translated = self.target.inverse(self.network(rows)).float()
        return translated if out is None else out.copy_(translated)


@torch.no_grad()
def merge(model: Vec2VecModel, source: str, target: str, map: Map = "auto") -> MergedTranslation | WholeTranslation:
    """The network that translates one way, equal to `model.translate` up to rounding, without what that way has no use for.

    The latent of a model made by `from_alignment` holds a part for each space, of which a target reads one, and MLPs that
    were not trained yield zeros. Products of matrices are taken in float64.

    Args:
        model: the translator. It is not changed, and later changes of it do not reach the result.
        source: name of the space that vectors come from.
        target: name of the space to translate into.
        map: see `Vec2VecModel.translate`.

    Raises:
        ValueError: for a space or a map that the model does not have.
    """
    chosen = model.chosen_map(map, source, target)
    if chosen == "full" and model.config.residual != "linear":
        return WholeTranslation(deepcopy(model), source, target)
    normalizer = model.normalizer(source)
    networks: list[tuple[Affine, nn.Module]] = []
    scale = normalizer.scale.double()
    rows = Affine([torch.diag(1 / scale)], -normalizer.mean.double() / scale)
    if chosen == "linear":
        weight = model.linear_map(source, target).weight.double().T
        rows = Affine([w @ weight for w in rows.weights], rows.bias @ weight)
    else:
        for part in (model.input_adapters[source], model.backbone, model.output_adapters[target]):
            rows = _through(cast(LinearPlusMLP, part), rows, networks)
    normalizer = model.normalizer(target)
    scale = normalizer.scale.double()
    output = Affine([w * scale for w in rows.weights], rows.bias * scale + normalizer.mean.double())
    # From the end: a network stays if the output, or a network that stays, reads it.
    needed = {0} | {k for k, weight in enumerate(output.weights) if weight.any()}
    for k in range(len(networks), 0, -1):
        if k in needed:
            needed |= {j for j, weight in enumerate(networks[k - 1][0].weights) if weight.any()}
    groups = sorted(needed)
    kept = [(networks[k - 1][0].only(groups), networks[k - 1][1]) for k in groups if k]
    return MergedTranslation(kept, output.only(groups)).to(model.device)


def merged_linear(model: Vec2VecModel, source: str, target: str, map: Map = "auto") -> tuple[Tensor, Tensor] | None:
    """The one matrix and the bias that a linear map comes to, with both normalisations folded in.

    Args:
        model: the translator.
        source: name of the space that vectors come from.
        target: name of the space to translate into.
        map: see `Vec2VecModel.translate`.

    Returns:
        weight `(d_source, d_target)` and bias `(d_target,)`, float32 (computed in float64): a translation is
        `rows @ weight + bias`. `None` if this map is not linear.

    Raises:
        ValueError: for a space or a map that the model does not have.
    """
    merged = merge(model, source, target, map)
    if not merged.linear or isinstance(merged, WholeTranslation):
        return None
    return merged.output.weights[0].data.T, merged.output.bias.data


def _through(part: LinearPlusMLP, rows: Affine, networks: list[tuple[Affine, nn.Module]]) -> Affine:
    """What `part` makes of rows; its MLP, unless it yields a constant, joins `networks` as another group of features."""
    mapped = rows.then(part.linear)
    if part.output is None:
        return mapped
    mapped.bias = mapped.bias + part.output.bias.double()
    if part.output.weight.any():
        blocks = (cast(nn.Sequential, block) for block in part.hidden)
        first, *rest = [layer for block in blocks for layer in block if not isinstance(layer, nn.Dropout)]
        networks.append((rows.then(first), deepcopy(nn.Sequential(*rest)).float()))
        mapped.weights.append(part.output.weight.double().T)
    return mapped


__all__ = ["MergedTranslation", "WholeTranslation", "merge", "merged_linear"]
