"""Layers of a translator. Travels with the model."""

import torch
from torch import Tensor, nn

from .configuration_vec2vec import Vec2VecConfig


class Normalizer(nn.Module):
    """Takes raw vectors of a space to centred, scaled coordinates and back. Statistics are persistent buffers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Raw vectors `(n, d)` to normalised rows."""
        return (embeddings - self.mean) / self.scale

    def inverse(self, rows: Tensor) -> Tensor:
        """Normalised rows `(n, d)` to raw vectors."""
        return rows * self.scale + self.mean


class LinearMap(nn.Linear):
    """The linear part of an adapter: starts orthogonal."""


class ZeroLinear(nn.Linear):
    """Last layer of a residual MLP: starts at zero."""


class Competition(nn.Module):
    """Softmax over the units of a layer, times the root of their number, so that rows are as long whatever the width."""

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `(n, hidden_dim)`, to weights that are positive."""
        return rows.softmax(-1) * rows.shape[-1] ** 0.5


class Block(nn.Sequential):
    """One hidden layer: linear, norm, SiLU, dropout; or linear, softmax, dropout."""

    def __init__(self, config: Vec2VecConfig, in_dim: int):
        width = config.hidden_dim
        norm = nn.LayerNorm if config.norm == "layer" else nn.BatchNorm1d
        units = [Competition()] if config.activation == "softmax" else [norm(width), nn.SiLU()]
        super().__init__(nn.Linear(in_dim, width), *units, nn.Dropout(config.dropout))


class LinearPlusMLP(nn.Module):
    """A linear map (the identity where `in_dim == out_dim` is asked for) plus an MLP whose last layer starts at zero."""

    def __init__(self, config: Vec2VecConfig, in_dim: int, out_dim: int, num_layers: int, *, identity: bool = False):
        super().__init__()
        self.linear = nn.Identity() if identity else LinearMap(in_dim, out_dim, bias=False)
        self.hidden = nn.Sequential(*(Block(config, config.hidden_dim if i else in_dim) for i in range(num_layers)))
        self.output = ZeroLinear(config.hidden_dim, out_dim) if num_layers else None

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `(n, in_dim)` to `(n, out_dim)`."""
        mapped = self.linear(rows)
        if self.output is None or self._yields_zeros(self.output):
            return mapped
        return mapped + self.output(self.hidden(rows))

    def _yields_zeros(self, output: nn.Linear) -> bool:
        """Whether the MLP yields zeros, and nobody trains it: two thirds of what a fresh translator would compute."""
        if self.training or torch.is_grad_enabled():
            return False
        extremes = (torch.aminmax(parameter) for parameter in output.parameters())
        return all(low == high == 0 for low, high in extremes)

    def copy_network(self, other: "LinearPlusMLP", part: slice) -> None:
        """Take over the MLP of `other`, whose outputs become that part of the outputs here.

        Raises:
            ValueError: if the hidden layers have another shape.
        """
        widths = [[tuple(p.shape) for p in network.hidden.parameters()] for network in (self, other)]
        if widths[0] != widths[1]:
            raise ValueError(
                "`hidden_dim`, `adapter_layers` or `activation` differ from those of the alignment's networks. Leave them "
                "out, or align with `hidden_dim=0` to start from linear maps."
            )
        self.hidden.load_state_dict(other.hidden.state_dict())
        for name in ("output.weight", "output.bias"):
            self.get_parameter(name)[part] = other.get_parameter(name)


class ZeroPaddedMLP(nn.Module):
    """The published network: each layer adds its own input, padded with zeros or cut to the layer's width.

    Source: paper, appendix on architecture, and the code released with it (the first layer has no norm, the last has
    two linear maps).
    """

    def __init__(self, config: Vec2VecConfig, in_dim: int, out_dim: int, num_layers: int):
        super().__init__()
        width, norm = config.hidden_dim, nn.LayerNorm if config.norm == "layer" else nn.BatchNorm1d
        layers = [nn.Sequential(nn.Linear(in_dim, width), nn.SiLU())]
        for _ in range(num_layers - 2):
            layers.append(nn.Sequential(nn.Linear(width, width), nn.SiLU(), norm(width), nn.Dropout(config.dropout)))
        layers.append(
            nn.Sequential(nn.Linear(width, width), nn.Dropout(config.dropout), nn.SiLU(), nn.Linear(width, out_dim))
        )
        self.layers = nn.ModuleList(layers)

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `(n, in_dim)` to `(n, out_dim)`."""
        for layer in self.layers:
            out = layer(rows)
            rows = out + nn.functional.pad(rows, (0, out.shape[1] - rows.shape[1]))  # a negative pad cuts
        return rows
