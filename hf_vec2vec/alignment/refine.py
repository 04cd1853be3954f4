"""From a rough rotation to a good map: mutual neighbours, neighbour averages, then iterated back-translation."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .start import polar_factor

HUBNESS_ROWS = 8192
BLOCK = 2048  # rows of one side compared with all rows of the other at a time: memory is linear in rows, time is not


def neighbourhood_similarity(queries: Tensor, keys: Tensor, k: int) -> Tensor:
    """Mean cosine of each query to its `k` nearest keys, `(n,)`: how much of a hub it is. Rows must have norm 1."""
    return torch.cat([(block @ keys.T).topk(k, sorted=False).values.mean(1) for block in queries.split(BLOCK)])


def nearest_means(queries: Tensor, keys: Tensor, values: Tensor, k: int, hubness_k: int = 10) -> Tensor:
    """Mean of the `values` of each query's `k` nearest keys, hubs corrected.

    The correction is CSLS: a key that lies near many queries counts as farther from each. It orders the keys of one
    query, so the query's own term may be left out.

    Args:
        queries: `(n, d)`, norm 1, in random order.
        keys: `(m, d)`, norm 1.
        values: `(m, e)`, what is averaged.
        k: neighbours.
        hubness_k: neighbours that tell how much of a hub a key is.

    Returns:
        `(n, e)`.

    Source: Conneau et al., "Word translation without parallel data", 2018, section 2.3.
    """
    # A sample tells hubs as well as all queries do, and costs less than the search itself.
    penalty = neighbourhood_similarity(keys, queries[:HUBNESS_ROWS], min(hubness_k, len(queries)))
    k = min(k, len(keys))
    means = []
    for block in queries.split(BLOCK):
        nearest = torch.addmm(-penalty, block, keys.T, alpha=2).topk(k, sorted=False).indices
        means.append(F.embedding_bag(nearest, values, mode="mean"))
    return torch.cat(means)


def spectral_power(cross_covariance: Tensor, power: float) -> Tensor:
    """Map `u @ diag(s ** power) @ v.T` of a cross-covariance with the thin SVD `u, s, v`, scaled so that `s[0]` is 1.

    Power 0 is the polar factor, which trusts every direction alike. While most matches are wrong, only the directions
    with large singular values carry signal; a positive power keeps the others from drowning it.
    """
    left, values, right = torch.linalg.svd(cross_covariance.double(), full_matrices=False)
    return (left * (values / values[0]).pow(power) @ right).to(cross_covariance.dtype)


def mutual_covariance(source: Tensor, target: Tensor, rotation: Tensor, k: int, hubness_k: int = 10) -> Tensor:
    """Cross-covariance over all pairs of rows that are among each other's `k` nearest after CSLS correction.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1. The `(n, m)` matrix of cosines is held whole: pass samples.
        rotation: `(d_a, d_b)`, the map so far.
        k: neighbours.
        hubness_k: neighbours that tell how much of a hub a row is.

    Returns:
        `(d_a, d_b)`.
    """
    cosines = F.normalize(source @ rotation, dim=1) @ target.T
    source_hubness = cosines.topk(min(hubness_k, len(target)), dim=1).values.mean(1)
    target_hubness = cosines.topk(min(hubness_k, len(source)), dim=0).values.mean(0)
    csls = cosines.mul_(2).sub_(source_hubness[:, None]).sub_(target_hubness)
    mutual = (csls >= csls.topk(min(k, len(target)), dim=1).values[:, -1:]) & (
        csls >= csls.topk(min(k, len(source)), dim=0).values[-1:]
    )
    return source.T @ (mutual.to(target.dtype) @ target)


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
    progress: Callable[[], object] = lambda: None,
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
        progress: called after every step.

    Returns:
        `(d_a, d_b)`, not yet a rotation unless the last power is 0.
    """
    for step in range(steps):
        done = step / max(steps - 1, 1)
        rows_a, rows_b = (
            rows[torch.randperm(len(rows), generator=generator)[:sample].to(rows.device)] for rows in (source, target)
        )
        k = round(neighbours[0] * (neighbours[1] / neighbours[0]) ** done)
        covariance = mutual_covariance(rows_a, rows_b, rotation, k)
        rotation = spectral_power(covariance, powers[0] + (powers[1] - powers[0]) * done)
        progress()
    return rotation


def average_step(source: Tensor, target: Tensor, rotation: Tensor, k: int) -> Tensor:
    """One step of both-way neighbour averaging on all rows: pair each with the mean of its `k` neighbours, refit.

    Args:
        source: `(n, d_a)`, norm 1.
        target: `(m, d_b)`, norm 1.
        rotation: `(d_a, d_b)`, semi-orthogonal, the map so far.
        k: neighbours.

    Returns:
        `(d_a, d_b)`, semi-orthogonal.
    """
    forward = nearest_means(F.normalize(source @ rotation, dim=1), target, target, k)
    backward = nearest_means(F.normalize(target @ rotation.T, dim=1), source, source, k)
    return polar_factor(source.T @ forward + backward.T @ target)


def ridge(inputs: Tensor, outputs: Tensor, strength: float) -> Tensor:
    """Linear map that takes `inputs` to `outputs` in least squares, `(d_a, d_b)`.

    Args:
        inputs: `(n, d_a)`, centred.
        outputs: `(n, d_b)`, centred, row i belongs to row i of `inputs`.
        strength: penalty, in units of the mean eigenvalue of the inputs' covariance.
    """
    covariance = (inputs.T @ inputs).double()
    penalty = strength * covariance.diagonal().mean()
    covariance.diagonal().add_(penalty)
    return torch.linalg.solve(covariance, (inputs.T @ outputs).double()).to(inputs.dtype)


@dataclass(frozen=True)
class MapPair:
    """Linear maps of normalised rows: `source_to_target` `(d_a, d_b)`, `target_to_source` `(d_b, d_a)`."""

    source_to_target: Tensor
    target_to_source: Tensor


def back_translate(source: Tensor, target: Tensor, maps: MapPair, k: int, strength: float) -> MapPair:
    """One round of iterated back-translation, which frees the two maps from being a rotation and its transpose.

    Each *real* target row is regressed on the mean of its `k` nearest source rows under the backward map: a synthetic
    source, a real target, as in unsupervised machine translation. The other way round (real source, averaged target)
    would learn to give averages. Both directions start from the same maps.

    Args:
        source: `(n, d_a)`, centred and scaled.
        target: `(m, d_b)`, centred and scaled.
        maps: the maps so far.
        k: neighbours in an average.
        strength: of the `ridge`.

    Source: the idea is Sennrich et al., "Improving neural machine translation models with monolingual data", 2016.
    """
    unit_source, unit_target = F.normalize(source, dim=1), F.normalize(target, dim=1)
    moved_target = F.normalize(target @ maps.target_to_source, dim=1)
    moved_source = F.normalize(source @ maps.source_to_target, dim=1)
    synthetic_source = nearest_means(moved_target, unit_source, source, k)
    synthetic_target = nearest_means(moved_source, unit_target, target, k)
    forward = ridge(synthetic_source, target, strength)
    backward = ridge(synthetic_target, source, strength)
    return MapPair(_keep_length(forward, source, target), _keep_length(backward, target, source))


def _keep_length(weight: Tensor, inputs: Tensor, outputs: Tensor) -> Tensor:
    """Rescale a map so that it gives rows as long as real ones: averages are short, so a fit to them overshoots."""
    return weight * (outputs.square().sum(1).mean() / (inputs @ weight).square().sum(1).mean()).sqrt()
