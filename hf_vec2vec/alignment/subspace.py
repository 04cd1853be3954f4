"""Spaces of more dimensions than rows, in as many coordinates as their rows can tell something about.

Rows span no more dimensions than there are of them, and of the shortest of those a few rows decide alone. In the others an
alignment costs what so many dimensions cost: otherwise matrices of 4,000 by 4,000 are decomposed hundreds of times.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.layers_vec2vec import LinearPlusMLP

ROWS_AN_AXIS = 2  # at least: what is known of more directions is noise, and their number cubed is what an alignment costs
LEAST_LENGTH = 1e-6  # of a direction that rows reach, in lengths of the longest: below it is rounding


@dataclass(frozen=True)
class Subspace:
    """Coordinates of a space that its rows are told apart by.

    Args:
        axes: `(d, r)`, orthonormal, the longest principal axes of the rows; `None` for all coordinates as they are.
    """

    axes: Tensor | None

    @classmethod
    def of(cls, rows: Tensor) -> "Subspace":
        """That of centred rows `(n, d)`: all coordinates, unless there are more of them than rows."""
        if rows.shape[1] <= len(rows):
            return cls(None)
        _, lengths, axes = torch.linalg.svd(rows, full_matrices=False)
        reached = lengths > LEAST_LENGTH * lengths[0]
        return cls(axes[reached][: len(rows) // ROWS_AN_AXIS].T)

    def coordinates(self, rows: Tensor) -> Tensor:
        """Rows `(n, d)` in these coordinates, `(n, r)`."""
        return rows if self.axes is None else rows @ self.axes

    def lifted(self, coordinates: Tensor) -> Tensor:
        """Rows `(n, r)` in the coordinates of the space, `(n, d)`."""
        return coordinates if self.axes is None else coordinates @ self.axes.T


def reduced_map(weight: Tensor, source: Subspace, target: Subspace) -> Tensor:
    """A map `(d_a, d_b)` between two spaces as one between their subspaces, `(r_a, r_b)`."""
    return source.coordinates(target.coordinates(weight).T).T


def lifted_map(weight: Tensor, source: Subspace, target: Subspace) -> Tensor:
    """A map `(r_a, r_b)` between two subspaces as one between the spaces, `(d_a, d_b)`. What lies outside goes to 0."""
    return source.lifted(target.lifted(weight).T).T


def lifted_network(network: LinearPlusMLP, source: Subspace, target: Subspace) -> LinearPlusMLP:
    """A network between two subspaces, of one hidden layer, as one between the spaces."""
    if source.axes is None and target.axes is None:
        return network
    parameter = network.get_parameter
    keys = source.lifted(parameter("hidden.0.0.weight"))
    linear = lifted_map(parameter("linear.weight"), target, source)  # weights are stored the other way round
    dims = {"a": linear.shape[1], "b": linear.shape[0]}
    config = Vec2VecConfig(embedding_dims=dims, hidden_dim=len(keys), activation="softmax")
    lifted = LinearPlusMLP(config, dims["a"], dims["b"], 1).to(keys.device).eval().requires_grad_(False)
    lifted.load_state_dict(
        {
            "linear.weight": linear,
            "hidden.0.0.weight": keys,
            "hidden.0.0.bias": parameter("hidden.0.0.bias"),
            "output.weight": target.lifted(parameter("output.weight").T).T,
            "output.bias": target.lifted(parameter("output.bias")[None])[0],
        }
    )
    return lifted
