"""Stores of texts that overlap, such as windows over documents: what to keep of them so that they do not.

Rows of such a store have near neighbours as the rows of no other store have them, and a search that sees both takes them
for the shape of the space. One pair of rows does not tell whether it overlaps: some different texts lie as near. The share
of rows that have such a neighbour does: docs/measurements/alignment.md, "Repeated rows and chunks that overlap".
"""

import numpy as np
import torch
from torch import Tensor

from .duplicates import SEED, usual_distance_among

# Both in distances that a row's nearest usually has in a store without overlap (`_spacing`). Where more rows than MANY have
# a neighbour nearer than NEAR, texts overlap: windows that share 80 % of their words do for .66 to .81 of the rows, captions
# (five to an image) and questions for up to .12, pairs of questions that were asked twice for .31, phrases with the phrases
# they are made of for .51. Then no two rows stay that are nearer than APART.
NEAR, MANY = 0.5, 0.55
APART = 0.8
SAMPLED = 1000  # rows that are asked for their nearest
NEIGHBOURS = 10  # of a sampled row, that tell how many dimensions the rows fill
LEAST_ROWS = 200  # of which a share can be told
# Rows on a line, a plane or in space have near neighbours by chance. Those of encoders fill 18 dimensions and more.
LEAST_DIMENSIONS = 5.0
BLOCK = 8192  # rows that others are compared with at a time
GREEDY_BLOCK = 1024  # rows that are compared with one another at a time


def rows_apart(rows: Tensor) -> Tensor:
    """Which rows to keep: all, or where texts overlap, so many that those that stay do so little.

    Args:
        rows: `(n, d)`, different from one another, without outliers.

    Returns:
        Indices `(k,)`, ascending.

    Source: the number of dimensions is Levina and Bickel's ("Maximum likelihood estimation of intrinsic dimension", 2004).
    """
    everything = torch.arange(len(rows), device=rows.device)
    if len(rows) < LEAST_ROWS:
        return everything
    rows = rows - rows.mean(0)
    spacing = _spacing(rows)
    if spacing is None or _share_with_neighbour(rows, NEAR * spacing) <= MANY:
        return everything
    return _thinned(rows, APART * spacing)


def _sample(rows: Tensor) -> Tensor:
    size = max(LEAST_ROWS // NEIGHBOURS, min(SAMPLED, len(rows) // NEIGHBOURS))
    return torch.randperm(len(rows), generator=torch.Generator().manual_seed(SEED))[:size].to(rows.device)


def _spacing(rows: Tensor) -> float | None:
    """How far the nearest row usually is; `None` where rows fill so few dimensions that they are near by chance.

    The usual distance in a small sample, without those that overlap there, less what so many more rows make it less.
    """
    sample = rows[_sample(rows)]
    sample = sample[_thinned(sample, NEAR * usual_distance_among(sample))]
    nearest = torch.cdist(sample, sample).fill_diagonal_(torch.inf).sort(1).values[:, :NEIGHBOURS]
    if len(sample) <= NEIGHBOURS:
        return None
    ratios = (nearest[:, -1:] / nearest[:, :-1].clamp_min(torch.finfo(torch.float32).tiny)).log()
    dimensions = 1 / ratios.mean(1).median().item()
    if not dimensions >= LEAST_DIMENSIONS:
        return None
    return usual_distance_among(sample) * (len(sample) / len(rows)) ** (1 / dimensions)


def _share_with_neighbour(rows: Tensor, radius: float) -> float:
    """Share of sampled rows that have another of all within the radius."""
    sampled = _sample(rows)
    near = torch.zeros(len(sampled), device=rows.device)
    for block in rows.split(BLOCK):
        near += (torch.cdist(rows[sampled], block) <= radius).sum(1)
    return (near > 1).float().mean().item()  # 1: the row itself


def _thinned(rows: Tensor, radius: float) -> Tensor:
    """Indices `(k,)` of rows that are all farther apart than the radius, as many as come one after the other."""
    kept = torch.empty(0, dtype=torch.long, device=rows.device)
    for indices in torch.arange(len(rows), device=rows.device).split(GREEDY_BLOCK):
        block = rows[indices]
        far = torch.ones(len(block), dtype=torch.bool, device=rows.device)
        for others in kept.split(BLOCK):
            far &= (torch.cdist(block, rows[others]) > radius).all(1)
        indices, block = indices[far], block[far]
        kept = torch.cat([kept, indices[_first_come(torch.cdist(block, block) <= radius)]])
    return kept


def _first_come(near: Tensor) -> Tensor:
    """Mask `(n,)` of those that stay: each that does sends away all behind it that it is `near` to, `(n, n)`."""
    apart = ~near.cpu().numpy()
    stays = np.ones(len(apart), dtype=bool)
    for i in range(len(apart)):
        if stays[i]:
            stays[i + 1 :] &= apart[i, i + 1 :]
    return torch.from_numpy(stays)
