"""Guesses of the rotation from third moments: along which directions, and which three of them together, a cloud is skewed.

Covariances tell the widest axes of a cloud but not which end of an axis is which, and axes of nearly equal width not at
all. Third moments tell both: a rotation that lays one cloud on the other carries the one's moments to the other's. They
cost one pass over the rows, and comparing two sets of them costs nothing, so thousands of random rotations of the leading
axes can be tried where a step over mutual neighbours tries one.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

AXES = 24  # leading principal axes of each space that are matched: 16 and 32 gave poorer guesses
WHITENING = 0.3  # axis i is divided by `eigenvalue_i ** (WHITENING / 2)`: else the first axis decides alone
LEAST_EIGENVALUE = 1e-6  # of the largest, for the division
STARTS = 128  # random rotations, all climbed at once
ASCENT = 40  # iterations of each
INERTIA = 0.05  # share of the rotation that an iteration keeps, which stops it from jumping to and fro
KEPT = 16  # best ones, which are kicked and climbed again
KICK_ROUNDS = 2
KICK = 0.75  # largest kick, in lengths of a rotation: up to about a right angle
SAME = 0.95  # cosine from which two rotations of the leading axes are one guess
BLOCK = 4096  # rows whose products are held at a time


def third_moments(rows: Tensor) -> Tensor:
    """Mean of the products of each row's entries, three by three, scaled to Frobenius norm 1: `(n, p)` to `(p, p, p)`."""
    axes = rows.shape[1]
    moments = rows.new_zeros(axes * axes, axes)
    for block in rows.split(BLOCK):
        moments += (block[:, :, None] * block[:, None, :]).flatten(1).T @ block
    return (moments / moments.norm()).view(axes, axes, axes)


def moment_rotations(source: Tensor, target: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Maps between the leading axes that carry third moments to third moments best, best first, no two alike.

    Iterated local search: from random rotations, the best of which are kicked and climbed again.

    Args:
        source: `(n, d_a)`, centred.
        target: `(m, d_b)`, centred.
        count: how many, at most.
        generator: source of randomness, on the CPU.

    Returns:
        `(count, d_a, d_b)`: rotations of the leading axes of each space, 0 elsewhere.

    Source: matching cumulant tensors is how independent component analysis finds its axes (Comon, "Independent component
    analysis, a new concept?", 1994); the climb is the higher-order power method (De Lathauwer, De Moor and Vandewalle,
    2000) with a polar factor, here on two tensors.
    """
    axes = min(AXES, source.shape[1], target.shape[1])
    (frame_a, moments_a), (frame_b, moments_b) = (_leading(rows, axes) for rows in (source, target))
    random = torch.randn(STARTS, axes, axes, generator=generator).to(source)
    rotations, fits = _ascend(moments_a, moments_b, _polar(random))
    for _ in range(KICK_ROUNDS):
        best = fits.topk(KEPT).indices
        rotations, fits = rotations[best], fits[best]
        kicked = rotations.repeat(STARTS // KEPT - 1, 1, 1)
        sizes = KICK * torch.rand(len(kicked), 1, 1, generator=generator)
        kicks = sizes * torch.randn(kicked.shape, generator=generator) / axes**0.5
        kicked, kicked_fits = _ascend(moments_a, moments_b, _polar(kicked + kicks.to(kicked)))
        rotations, fits = torch.cat([rotations, kicked]), torch.cat([fits, kicked_fits])
    return frame_a @ _unlike(rotations[fits.argsort(descending=True)], count) @ frame_b.T


def _leading(rows: Tensor, axes: int) -> tuple[Tensor, Tensor]:
    """Leading principal axes `(d, axes)`, and third moments along them, partly whitened."""
    eigenvalues, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
    eigenvalues, directions = eigenvalues[-axes:], directions[:, -axes:]
    scales = eigenvalues.clamp_min(eigenvalues[-1] * LEAST_EIGENVALUE).pow(-WHITENING / 2)
    return directions, third_moments(rows @ (directions * scales))


def _ascend(moments_a: Tensor, moments_b: Tensor, rotations: Tensor) -> tuple[Tensor, Tensor]:
    """Climb from each rotation `(s, p, p)`; also how well each end carries the one's moments to the other's, `(s,)`."""
    for _ in range(ASCENT):
        gradients = _gradients(moments_a, moments_b, rotations)
        lengths = gradients.flatten(1).norm(dim=1)[:, None, None] / rotations.shape[1] ** 0.5
        rotations = _polar(gradients + INERTIA * lengths * rotations)
    return rotations, (_gradients(moments_a, moments_b, rotations) * rotations).sum((1, 2))


def _gradients(moments_a: Tensor, moments_b: Tensor, rotations: Tensor) -> Tensor:
    """Two of the three sides of the one tensor rotated, compared with the other: `(s, p, p)`, a third of the gradient."""
    starts, axes, _ = rotations.shape
    once = (moments_a.view(axes * axes, axes) @ rotations).view(starts, axes, axes, axes)
    twice = rotations.mT[:, None] @ once  # [s, i, b, c]
    return twice.flatten(2) @ moments_b.view(axes, axes * axes).T


def _polar(matrices: Tensor) -> Tensor:
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    return left @ right


def _unlike(rotations: Tensor, count: int) -> Tensor:
    """The first so many that differ from all before."""
    chosen = rotations[:1]
    for rotation in rotations[1:]:
        if len(chosen) == count:
            break
        if F.cosine_similarity(chosen.flatten(1), rotation.flatten()[None]).max() < SAME:
            chosen = torch.cat([chosen, rotation[None]])
    return chosen
