"""Layers of a translator, and what rows they take. Travels with the model."""

import numpy as np
import torch
from torch import Tensor, nn

from .configuration_vec2vec import Vec2VecConfig


def check_embeddings(
    embeddings: Tensor | np.ndarray | list[Tensor], name: str, dim: int | None = None, *, only_finite: bool = False
) -> Tensor:
    """Return the rows as floating-point `(n, d)`, or raise an error that says what is wrong with them.

    Args:
        embeddings: anything that `torch.as_tensor` takes, or a list of tensors. Half precision is widened to float32.
        name: of the argument or space, for the error.
        dim: expected number of columns.
        only_finite: let rows of zeros pass, and values beyond float32.

    Raises:
        TypeError: if the values are no numbers, or integers or booleans (a quantised index, or token ids by mistake), or if
            the tensor is sparse.
        ValueError: if the shape is not `(n, d)`, n is 0, or a row holds NaN, infinity, values beyond float32 or only zeros.
    """
    given: object = embeddings
    try:
        if isinstance(given, list | tuple) and given and all(isinstance(row, Tensor) for row in given):
            given = torch.stack(list(given))  # as `encode` of sentence-transformers gives them
        rows = torch.as_tensor(given)
    except (TypeError, ValueError, RuntimeError, LookupError) as error:  # tables of pandas look for a column 0
        raise TypeError(
            f"`{name}` must be rows of numbers, all of one length, as an array, a tensor or lists; got a "
            f"{type(embeddings).__name__}: {error}"
        ) from error
    if rows.layout != torch.strided:
        raise TypeError(f"`{name}` is a sparse tensor; translators read dense rows. Call its `to_dense()` first.")
    if not rows.is_floating_point():
        raise TypeError(
            f"`{name}` holds {rows.dtype} values; embeddings are floating-point. If they are quantised, scale them back "
            "to floats first."
        )
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"`{name}` must have shape (rows, dimension), got {tuple(rows.shape)}.")
    if not len(rows):
        raise ValueError(f"`{name}` is empty: it has no rows.")
    if dim is not None and rows.shape[1] != dim:
        raise ValueError(f"`{name}` has vectors of dimension {rows.shape[1]}, but this space has dimension {dim}.")
    if rows.dtype.itemsize < torch.float32.itemsize:
        rows = rows.float()
    # One pass: a row's largest magnitude is NaN or infinite if any value is, and zero only if all are.
    peaks = rows.abs().amax(1)
    narrow = peaks.float()
    faults = [
        (~peaks.isfinite(), "NaN or infinite values"),
        (~narrow.isfinite(), "values beyond the range of float32"),
        (narrow == 0, "only zeros"),
    ]
    for broken, what in faults[:1] if only_finite else faults:
        if broken.any():
            where = broken.nonzero().flatten().tolist()
            raise ValueError(
                f"`{name}` has {len(where)} row(s) with {what}, the first at index {where[0]}. Drop or re-embed them."
            )
    return rows


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

    def usual_norm(self) -> float:
        """Root mean square of the norms of the raw vectors that the statistics are of."""
        return (self.mean.double().square().sum() + self.scale.double().square().sum()).sqrt().item()


class LinearMap(nn.Linear):
    """The linear part of an adapter: starts orthogonal."""


class FixedMap(nn.Module):
    """A linear map that no training changes: its matrix is a buffer."""

    weight: Tensor

    def __init__(self, in_dim: int, out_dim: int):
        super().__init__()
        self.register_buffer("weight", torch.zeros(out_dim, in_dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Rows `(n, in_dim)` to `(n, out_dim)`."""
        return nn.functional.linear(rows, self.weight)


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
        # While nobody trains it, an MLP that yields zeros is two thirds of what a fresh translator would compute.
        trains = self.training or torch.is_grad_enabled()
        if self.output is None or (not trains and self.is_linear()):
            return mapped
        return mapped + self.output(self.hidden(rows))

    def is_linear(self) -> bool:
        """Whether there is no MLP, or one that yields zeros."""
        extremes = (torch.aminmax(parameter.detach()) for parameter in self.output.parameters()) if self.output else ()
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
    two linear maps; what leaves the network is scaled to one length).

    Args:
        config: width, normalisation, dropout.
        in_dim, out_dim: of rows.
        num_layers: hidden ones.
        normalize: scale rows to the length `sqrt(out_dim)`.
    """

    def __init__(self, config: Vec2VecConfig, in_dim: int, out_dim: int, num_layers: int, *, normalize: bool = False):
        super().__init__()
        self.normalize = normalize
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
        return nn.functional.normalize(rows, dim=1) * rows.shape[1] ** 0.5 if self.normalize else rows
