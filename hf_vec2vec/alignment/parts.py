"""Halves of the rows, where the whole clouds do not match.

Two stores may share only some of their topics. Rows without a counterpart vote in every step of the search, and where they
are half of a side, the others are outvoted. k-means cuts a side into two kinds of text: one of them may be the shared one.
"""

from collections.abc import Iterator
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from .start import cluster

LEAST_ROWS = 3000  # of a half: the search seldom succeeds with fewer, and each try takes as long as a search


def halves(rows: Tensor, seed: int) -> list[Tensor]:
    """Places of the two kinds of rows `(n, d)`, in their order; nothing where a kind has too few."""
    if len(rows) < 2 * LEAST_ROWS:
        return []
    labels = cluster(F.normalize(rows, dim=1), 2, seed)
    found = [(labels == kind).nonzero().flatten() for kind in range(2)]
    return found if min(map(len, found)) >= LEAST_ROWS else []


def parts_to_try(source: Tensor, target: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Places of rows of both sides, one try after the other: each half with the whole other side, then half with half.

    Args:
        source: `(n, d_a)`, centred.
        target: `(m, d_b)`, centred.
        seed: of k-means.
    """
    whole = [torch.arange(len(rows), device=rows.device) for rows in (source, target)]
    cut = [halves(rows, seed) for rows in (source, target)]
    yield from ((half, whole[1]) for half in cut[0])
    yield from ((whole[0], half) for half in cut[1])
    yield from product(*cut)


__all__ = ["halves", "parts_to_try"]
