"""From a rough rotation to a good one, by mutual neighbours; and the tools that later steps share."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

HUBNESS_ROWS = 1024
GROUP = 8  # entries of a row whose maximum is looked at first: of 4 to 64 the fastest, for 10 to 150 of 2,500 to 20,000
BLOCK = 2048  # rows of one side compared with all rows of the other at a time: memory is linear in rows


@dataclass(frozen=True)
class Anchors:
    """Known pairs in normalised coordinates: row i of `source` `(p, d_a)` belongs to row i of `target` `(p, d_b)`."""

    source: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.source)

    def share(self, rows: int) -> float:
        """Weight in a mean over known pairs and so many rows: a pair counts as much as five estimated partners."""
        return 5 * len(self) / (5 * len(self) + rows)


def largest(values: Tensor, k: int, dim: int) -> Tensor:
    """About the `k` largest along a dimension whose entries come in random order, in no order.

    They are the largest of groups, at least 16 to each of the `k`, so that two of them seldom fall into one group. That
    reads the matrix once, as fast as memory gives it; a search for exactly the `k` largest takes several times as long,
    along columns most of all, and costs as much as the product that made the matrix.

    Args:
        values: `(n, m)`.
        k: how many, at most; all, if there are fewer.
        dim: 0 for each column, 1 for each row.

    Returns:
        `(k, m)` or `(n, k)`.
    """
    entries = values.shape[dim]
    k = min(k, entries)
    size = max(1, entries // (16 * k))
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
        return tuple(values.topk(k, dim=1))
    grouped = groups * GROUP
    best = values[:, :grouped].unflatten(1, (GROUP, groups)).amax(1).topk(k, dim=1, sorted=False).indices
    members = best[:, :, None] + torch.arange(0, grouped, groups, device=values.device)
    ungrouped = torch.arange(grouped, entries, device=values.device).expand(rows, -1)
    candidates = torch.cat([members.flatten(1), ungrouped], dim=1)
    found = values.gather(1, candidates).topk(k, dim=1)
    return found.values, candidates.gather(1, found.indices)


def nearest_means(
    queries: Tensor,
    keys: Tensor,
    values: Tensor,
    k: int | Sequence[int],
    *,
    leave_one_out: bool = False,
    hubness_k: int = 10,
) -> Tensor:
    """Mean of the `values` of each query's `k` nearest keys, hubs corrected.

    The correction is CSLS: a key that lies near many queries counts as farther from each. It orders the keys of one
    query, so the query's own term may be left out.

    Args:
        queries: `(n, d)`, norm 1, in random order.
        keys: `(m, d)`, norm 1.
        values: `(m, e)`, what is averaged.
        k: neighbours; several numbers give several means, side by side.
        leave_one_out: query i was made from key i and may not find it.
        hubness_k: neighbours that tell how much of a hub a key is.

    Returns:
        `(n, e)`, or `(n, len(k) * e)`.

    Source: Conneau et al., "Word translation without parallel data", 2018, section 2.3.
    """

    def cosines(a: Tensor, b: Tensor, first: int, out: Tensor | None = None) -> Tensor:
        block = torch.mm(a, b.T, out=out)
        if leave_one_out and first < len(b):
            block.diagonal(first)[: len(a)] = -2
        return block

    # A sample tells hubs as well as all queries do, and costs less than the search itself.
    sample = queries[:HUBNESS_ROWS]
    hubness_k = min(hubness_k, len(sample) - leave_one_out)
    counts = [min(count, len(keys) - leave_one_out) for count in ([k] if isinstance(k, int) else k)]
    penalty = torch.cat(
        [largest(cosines(block, sample, BLOCK * i), hubness_k, 1).mean(1) for i, block in enumerate(keys.split(BLOCK))]
    )
    means, memory = [], queries.new_empty(min(BLOCK, len(queries)), len(keys))
    for i, block in enumerate(queries.split(BLOCK)):
        csls = cosines(block, keys, BLOCK * i, memory[: len(block)]).mul_(2).sub_(penalty)
        nearest = top(csls, max(counts))[1]
        means.append(
            torch.cat([F.embedding_bag(nearest[:, :count].contiguous(), values, mode="mean") for count in counts], dim=1)
        )
    return torch.cat(means)


def spectral_power(cross_covariance: Tensor, power: float) -> Tensor:
    """Map `u @ diag(s ** power) @ v.T` of a cross-covariance with the thin SVD `u, s, v`, scaled so that `s[0]` is 1.

    Power 0 is the polar factor, which trusts every direction alike. While most matches are wrong, only the directions
    with large singular values carry signal; a positive power keeps the others from drowning it.
    """
    left, values, right = torch.linalg.svd(cross_covariance, full_matrices=False)
    return left * (values / values[0]).pow(power) @ right


def mutual_covariance(
    source: Tensor, target: Tensor, rotation: Tensor, k: int, hubness_k: int = 10, *, out: Tensor | None = None
) -> Tensor:
    """Cross-covariance over all pairs of rows that are among each other's `k` nearest after CSLS correction.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1. The `(n, m)` matrix of cosines is held whole: pass samples.
        rotation: `(d_a, d_b)`, the map so far.
        k: neighbours.
        hubness_k: neighbours that tell how much of a hub a row is.
        out: `(n, m)`, where to put the cosines: fresh memory for them costs a quarter of the product that makes them.

    Returns:
        `(d_a, d_b)`.
    """
    doubled = torch.mm(F.normalize(source @ rotation, dim=1).mul_(2), target.T, out=out)
    source_hubness, target_hubness = (largest(doubled, hubness_k, dim).mean(dim) / 2 for dim in (1, 0))
    csls = doubled.sub_(source_hubness[:, None]).sub_(target_hubness)
    similarity, nearest = top(csls, min(k, len(target)))
    least = largest(csls, k, 0).amin(0)
    mutual = (similarity >= least[nearest]).to(target.dtype)
    return source.T @ F.embedding_bag(nearest, target, per_sample_weights=mutual, mode="sum")


def anneal(
    source: Tensor,
    target: Tensor,
    rotation: Tensor,
    *,
    steps: int,
    powers: tuple[float, float],
    neighbours: tuple[int, int],
    sample: int,
    generator: torch.Generator,
    anchors: Anchors | None = None,
) -> Tensor:
    """Turn a map that is barely better than chance into a good one, on a fresh sample of rows in every step.

    Fresh rows matter: on one fixed sample the same steps soon reach a fixed point far from the solution.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1.
        rotation: `(d_a, d_b)`, where to start.
        steps: how many.
        powers: of `spectral_power`, first and last; in between on a line.
        neighbours: of `mutual_covariance`, first and last; in between geometrically.
        sample: rows of each side a step, which bounds memory at a few `sample²` floats.
        generator: source of randomness, on the CPU.
        anchors: known pairs, norm 1, which have their share in every step.

    Returns:
        `(d_a, d_b)`, not yet a rotation unless the last power is 0.
    """
    cosines = source.new_empty(min(sample, len(source)), min(sample, len(target)))
    for step in range(steps):
        done = step / max(steps - 1, 1)
        rows_a, rows_b = (
            rows[torch.randperm(len(rows), generator=generator)[:sample].to(rows.device)] for rows in (source, target)
        )
        k = round(neighbours[0] * (neighbours[1] / neighbours[0]) ** done)
        covariance = mutual_covariance(rows_a, rows_b, rotation, k, out=cosines)
        if anchors is not None:
            anchored, share = anchors.source.T @ anchors.target, anchors.share(min(len(source), len(target)))
            covariance = (1 - share) * covariance / covariance.norm() + share * anchored / anchored.norm()
        rotation = spectral_power(covariance, powers[0] + (powers[1] - powers[0]) * done)
    return rotation


def ridge(inputs: Tensor, outputs: Tensor, strength: float) -> Tensor:
    """Linear map that takes `inputs` to `outputs` in least squares, `(d_a, d_b)`.

    Args:
        inputs: `(n, d_a)`, centred.
        outputs: `(n, d_b)`, centred, row i belongs to row i of `inputs`.
        strength: penalty, in units of the mean eigenvalue of the inputs' covariance.
    """
    return solve_ridge(inputs.T @ inputs, inputs.T @ outputs, strength)


def solve_ridge(inner: Tensor, cross: Tensor, strength: float) -> Tensor:
    """[`ridge`] from its sums over rows, `inputs.T @ inputs` `(d_a, d_a)` and `inputs.T @ outputs` `(d_a, d_b)`."""
    covariance = inner.double()
    covariance.diagonal().add_(strength * covariance.diagonal().mean())
    return torch.linalg.solve(covariance, cross.double()).to(inner.dtype)
