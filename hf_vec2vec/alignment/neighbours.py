"""Nearest rows of another cloud, hubs corrected (`metrics.hubness`), and what is averaged or paired by them."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from ..metrics.hubness import NEIGHBOURS, penalties
from ..metrics.selection import largest, top

HUBNESS_ROWS = 1024  # queries that tell how much of a hub a key is: as good as all of them, and cheaper than the search
BLOCK = 2048  # rows of one side compared with all rows of the other at a time: memory is linear in rows
LEAST_LENGTH = 1e-12  # that is divided by
NOBODY = -2.0  # below every cosine: may not be found


def nearest_means(
    queries: Tensor, keys: Tensor, values: Tensor, k: int | Sequence[int], *, leave_one_out: bool = False
) -> Tensor:
    """Mean of the `values` of each query's `k` nearest keys, hubs corrected.

    Args:
        queries: `(n, d)`, norm 1, in random order.
        keys: `(m, d)`, norm 1.
        values: `(m, e)`, what is averaged.
        k: neighbours; several numbers give several means, side by side.
        leave_one_out: query i was made from key i and may not find it.

    Returns:
        `(n, e)`, or `(n, len(k) * e)`.
    """
    counts = [min(count, len(keys) - leave_one_out) for count in ([k] if isinstance(k, int) else k)]
    penalty = _penalties(keys, queries[:HUBNESS_ROWS], leave_one_out)
    means, memory = [], queries.new_empty(min(BLOCK, len(queries)), len(keys))
    for i, block in enumerate(queries.split(BLOCK)):
        corrected = _cosines(block, keys, BLOCK * i, leave_one_out, memory[: len(block)]).sub_(penalty)
        nearest = top(corrected, max(counts))[1]
        means.append(
            torch.cat([F.embedding_bag(nearest[:, :count].contiguous(), values, mode="mean") for count in counts], dim=1)
        )
    return torch.cat(means)


def _penalties(keys: Tensor, sample: Tensor, leave_one_out: bool) -> Tensor:
    """Penalty of each key by a sample of queries: `(m,)`."""
    k = min(NEIGHBOURS, len(sample) - leave_one_out)
    blocks = (_cosines(block, sample, BLOCK * i, leave_one_out) for i, block in enumerate(keys.split(BLOCK)))
    return torch.cat([penalties(cosines, k, approximate=True) for cosines in blocks])


def _cosines(a: Tensor, b: Tensor, first: int, leave_one_out: bool, out: Tensor | None = None) -> Tensor:
    """Cosines of rows of norm 1. Row i of `a` is number `first + i` of its side and may be kept from that row of `b`."""
    cosines = torch.mm(a, b.T, out=out)
    if leave_one_out and first < len(b):
        cosines.diagonal(first)[: len(a)] = NOBODY
    return cosines


def mutual_covariance(source: Tensor, target: Tensor, rotation: Tensor, k: int, *, out: Tensor | None = None) -> Tensor:
    """Cross-covariance over all pairs of rows that are among each other's `k` nearest, hubs of both sides corrected.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1. The `(n, m)` matrix of cosines is held whole: pass samples.
        rotation: `(d_a, d_b)`, the map so far.
        k: neighbours.
        out: `(n, m)`, where to put the cosines: fresh memory for them costs a quarter of the product that makes them.

    Returns:
        `(d_a, d_b)`.
    """
    translated, compared = source @ rotation, target
    if rotation.shape[0] < rotation.shape[1]:  # the same products, in as many dimensions as the source has
        translated, compared = source / translated.norm(dim=1, keepdim=True).clamp_min(LEAST_LENGTH), target @ rotation.T
    else:
        translated = F.normalize(translated, dim=1)
    cosines = torch.mm(translated, compared.T, out=out)
    of_source, of_target = (penalties(cosines, dim=dim, approximate=True) for dim in (1, 0))
    corrected = cosines.sub_(of_source[:, None]).sub_(of_target)
    similarity, nearest = top(corrected, min(k, len(target)))
    least = largest(corrected, k, 0).amin(0)
    mutual = (similarity >= least[nearest]).to(target.dtype)
    return source.T @ F.embedding_bag(nearest, target, per_sample_weights=mutual, mode="sum")
