"""Nearest rows of another cloud, hubs corrected, and what is averaged or paired by them.

The correction is cross-domain similarity local scaling (CSLS): a row that lies near to many rows of the other side counts as
farther from each.

Source: Conneau et al., "Word translation without parallel data", 2018, section 2.3.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

HUBNESS_ROWS = 1024  # queries that tell how much of a hub a key is: as good as all of them, and cheaper than the search
HUBNESS_NEIGHBOURS = 10  # that are averaged for it, as in the paper
GROUPS_A_NEIGHBOUR = 16  # groups for each of the k largest, so that two of them seldom fall into one
GROUP = 8  # entries of a row whose maximum is looked at first: of 4 to 64 the fastest, for 10 to 150 of 2,500 to 20,000
BLOCK = 2048  # rows of one side compared with all rows of the other at a time: memory is linear in rows
NOBODY = -2.0  # below every cosine: may not be found


def largest(values: Tensor, k: int, dim: int) -> Tensor:
    """About the `k` largest along a dimension whose entries come in random order, in no order.

    They are the largest of groups, at least `GROUPS_A_NEIGHBOUR` to each of the `k`, so that two of them seldom fall into
    one group. That reads the matrix once, as fast as memory gives it; a search for exactly the `k` largest takes several
    times as long, along columns most of all, and costs as much as the product that made the matrix.

    Args:
        values: `(n, m)`.
        k: how many, at most; all, if there are fewer.
        dim: 0 for each column, 1 for each row.

    Returns:
        `(k, m)` or `(n, k)`.
    """
    entries = values.shape[dim]
    k = min(k, entries)
    size = max(1, entries // (GROUPS_A_NEIGHBOUR * k))
    groups = values.narrow(dim, 0, entries // size * size).unflatten(dim, (size, -1)).amax(dim)
    return groups.topk(k, dim=dim, sorted=False).values


def top(values: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The `k` largest of every row and where they stand, largest first, like `torch.topk`, in two thirds of its time.

    The `k` largest stand in the `k` groups with the largest maxima, and those are found at the speed of memory.

    Args:
        values: `(n, m)`.
        k: how many, at most `m`.

    Returns:
        Values and indices, `(n, k)` each.
    """
    rows, entries = values.shape
    groups = entries // GROUP
    if groups < 2 * k:
        found = values.topk(k, dim=1)
        return found.values, found.indices
    grouped = groups * GROUP
    best = values[:, :grouped].unflatten(1, (GROUP, groups)).amax(1).topk(k, dim=1, sorted=False).indices
    members = best[:, :, None] + torch.arange(0, grouped, groups, device=values.device)
    ungrouped = torch.arange(grouped, entries, device=values.device).expand(rows, -1)
    candidates = torch.cat([members.flatten(1), ungrouped], dim=1)
    found = values.gather(1, candidates).topk(k, dim=1)
    return found.values, candidates.gather(1, found.indices)


def nearest_means(
    queries: Tensor, keys: Tensor, values: Tensor, k: int | Sequence[int], *, leave_one_out: bool = False
) -> Tensor:
    """Mean of the `values` of each query's `k` nearest keys, hubs corrected.

    The correction orders the keys of one query, so the query's own term is left out.

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
    penalty = _hubness(keys, queries[:HUBNESS_ROWS], leave_one_out)
    means, memory = [], queries.new_empty(min(BLOCK, len(queries)), len(keys))
    for i, block in enumerate(queries.split(BLOCK)):
        csls = _cosines(block, keys, BLOCK * i, leave_one_out, memory[: len(block)]).mul_(2).sub_(penalty)
        nearest = top(csls, max(counts))[1]
        means.append(
            torch.cat([F.embedding_bag(nearest[:, :count].contiguous(), values, mode="mean") for count in counts], dim=1)
        )
    return torch.cat(means)


def _hubness(keys: Tensor, sample: Tensor, leave_one_out: bool) -> Tensor:
    """Mean cosine of each key and the nearest of a sample of queries: `(m,)`."""
    k = min(HUBNESS_NEIGHBOURS, len(sample) - leave_one_out)
    blocks = enumerate(keys.split(BLOCK))
    return torch.cat([largest(_cosines(block, sample, BLOCK * i, leave_one_out), k, 1).mean(1) for i, block in blocks])


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
    doubled = torch.mm(F.normalize(source @ rotation, dim=1).mul_(2), target.T, out=out)
    source_hubness, target_hubness = (largest(doubled, HUBNESS_NEIGHBOURS, dim).mean(dim) / 2 for dim in (1, 0))
    csls = doubled.sub_(source_hubness[:, None]).sub_(target_hubness)
    similarity, nearest = top(csls, min(k, len(target)))
    least = largest(csls, k, 0).amin(0)
    mutual = (similarity >= least[nearest]).to(target.dtype)
    return source.T @ F.embedding_bag(nearest, target, per_sample_weights=mutual, mode="sum")
