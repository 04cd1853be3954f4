"""Rotations between many spaces, made to agree with one another."""

import torch
from torch import Tensor

from .procrustes import polar_factor


def synchronize(rotations: dict[tuple[str, str], Tensor]) -> dict[tuple[str, str], Tensor]:
    """One frame for all spaces, from rotations between some pairs of them.

    Pairwise rotations contradict each other a little: a → b → c is not quite a → c. The block matrix of all rotations
    would have as many eigenvalues equal to the number of spaces as the frame has axes if they agreed; its leading
    eigenvectors are the frame that fits them best. A map a → c comes out of it whether or not a and c were ever aligned,
    and every other path between them takes part in it.

    Args:
        rotations: `(d_a, d_b)` for each pair `(a, b)`, semi-orthogonal, as `Alignment.rotation`. A pair's other direction
            is its transpose. Together they must connect all spaces.

    Returns:
        `(d_a, d_b)`, semi-orthogonal, for every ordered pair of different spaces.

    Raises:
        ValueError: if the spaces fall into parts that no rotation joins, or a space's dimension differs between two.

    Source: Singer, "Angular synchronization by eigenvectors and semidefinite programming", 2011; for orthogonal groups
    Bandeira, Singer and Spielman, 2013.
    """
    dims: dict[str, int] = {}
    for (a, b), rotation in rotations.items():
        for name, dim in ((a, rotation.shape[0]), (b, rotation.shape[1])):
            if dims.setdefault(name, dim) != dim:
                raise ValueError(f"`rotations` give {name!r} {dims[name]} and {dim} dimensions.")
    reached = set(list(dims)[:1])
    for _ in dims:
        reached |= {name for pair in rotations for name in pair if reached & set(pair)}
    if len(reached) < len(dims):
        raise ValueError(f"`rotations` leave no way from {min(reached)!r} to {min(set(dims) - reached)!r}: add one.")
    starts, total = {}, 0
    for name, dim in dims.items():
        starts[name] = slice(total, total := total + dim)
    blocks = torch.eye(total, dtype=torch.float64)
    for (a, b), rotation in rotations.items():
        blocks[starts[a], starts[b]] = rotation.double()
        blocks[starts[b], starts[a]] = rotation.T.double()
    # Spaces with fewer rotations would weigh less in the frame.
    degrees = {name: 1 + sum(name in pair for pair in rotations) for name in dims}
    weights = torch.cat([torch.full((dim,), degrees[name] ** -0.5) for name, dim in dims.items()]).double()
    values, axes = torch.linalg.eigh(weights[:, None] * blocks * weights)
    if len(set(dims.values())) == 1:
        frame = axes[:, -max(dims.values()) :]
        frames = {name: polar_factor(frame[where]) for name, where in starts.items()}
    else:
        # Where dimensions differ, leading eigenvectors take in axes in which two spaces have opposite signs. The
        # exponential adds up every path between two spaces instead, long ones less; maps then agree nearly, not exactly.
        frames = {name: (axes * values.exp())[where] for name, where in starts.items()}
    return {(a, b): polar_factor(frames[a] @ frames[b].T).float() for a in dims for b in dims if a != b}
