"""Cross-covariances from soft matches: what the linear maps are made of, and what calibration starts from."""

import torch
from torch import Tensor
from torch.nn import functional as F

from .moments import Moments
from .neighbours import nearest_means
from .refine import draw
from .regression import ridge

SAMPLE = 20_000  # rows of each side that a round compares: its cost does not grow with the rows beyond
ROUNDS = 5  # of plain back-translation: after so many the rotation that they start from is forgotten
BALANCED = 10_000  # rows of each side whose cosines are held whole, to be balanced
ENTROPY = 0.05  # of the balanced plan, in cosines: a row's mean is over some fifty others
BALANCING = 10  # passes that make the shares of all rows equal
MEANS_PENALTY = 0.03  # of regressions on means, in mean variances
# Of a unit of length in one space, about .7 is known in the other, in the mean of two directions: a first value, which
# calibration replaces.
KNOWN_LENGTH = 0.35


def scales(neighbours: int) -> list[int]:
    """How many neighbours are averaged: so many, and fewer and more. Few are near and noisy, many the reverse."""
    return [max(1, round(neighbours * share)) for share in (1 / 9, 1 / 3, 1, 3, 10)]


def neighbour_covariance(
    source: Tensor, target: Tensor, rotation: Tensor, moments: Moments, neighbours: int, generator: torch.Generator
) -> Tensor:
    """First cross-covariance `(d_a, d_b)`: real rows regressed on the means of their neighbours.

    Rounds of back-translation without calibration forget the rotation that they start from: from a rotation fitted to
    pairs they end in the same place. Calibrated rounds, which move slowly, then start from there. Each round averages
    the maps that few and many neighbours give: their errors differ.
    """
    maps, counts = (rotation, rotation.T), scales(neighbours)[:-1]
    for _ in range(ROUNDS):
        x, y = draw(source, SAMPLE, generator), draw(target, SAMPLE, generator)
        x_of_y = nearest_means(F.normalize(y @ maps[1], dim=1), F.normalize(x, dim=1), x, counts)
        y_of_x = nearest_means(F.normalize(x @ maps[0], dim=1), F.normalize(y, dim=1), y, counts)
        maps = _regression(x_of_y, y, x), _regression(y_of_x, x, y)
    return _covariance(moments, maps)


def balanced_covariance(
    source: Tensor, target: Tensor, maps: tuple[Tensor, Tensor], moments: Moments, generator: torch.Generator
) -> Tensor:
    """Cross-covariance from means in which every row of the other side has the same share in all.

    Some translations lie near to many rows, and those rows would all be told to have the same partners; with equal shares
    they are kept apart. Means are broad: narrow ones, as `neighbour_covariance` has them too, come nearer to the truth and
    lose more rows to one another.

    Args:
        source: `(n, d_a)`, centred and scaled.
        target: `(m, d_b)`, centred and scaled.
        maps: `(d_a, d_b)` and `(d_b, d_a)`, whose translations are compared with real rows, in both spaces.
        moments: covariances.
        generator: source of randomness, on the CPU.

    Returns:
        `(d_a, d_b)`.

    Source: Cuturi, "Sinkhorn distances", 2013.
    """
    x, y = draw(source, BALANCED, generator), draw(target, BALANCED, generator)
    plan = F.normalize(x @ maps[0], dim=1) @ F.normalize(y, dim=1).T
    plan.addmm_(F.normalize(x, dim=1), F.normalize(y @ maps[1], dim=1).T, beta=0.5, alpha=0.5)
    plan.sub_(1).div_(ENTROPY).exp_()
    columns = plan.new_ones(len(y))
    for _ in range(BALANCING):
        rows = 1 / (plan @ columns)
        columns = 1 / (rows @ plan)
    plan.mul_(columns).mul_(rows[:, None])
    x_of_y, y_of_x = plan.T @ x / plan.sum(0)[:, None], plan @ y / plan.sum(1, keepdim=True)
    return _covariance(moments, (_regression(x_of_y, y, x), _regression(y_of_x, x, y)))


def _covariance(moments: Moments, maps: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-covariance of rows and their translations, of both directions."""
    return KNOWN_LENGTH * (moments.source @ maps[0].double() + maps[1].T.double() @ moments.target)


def _regression(means: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Mean of the maps that take several means of each row's neighbours, side by side, to the row.

    Averages are short, so a fit to them overshoots: each map is scaled to give `others` the length of real rows.
    """
    length, maps = rows.square().sum(1).mean(), []
    for inputs in means.split(others.shape[1], dim=1):
        weight = ridge(inputs, rows, MEANS_PENALTY)
        maps.append(weight * (length / (others @ weight).square().sum(1).mean()).sqrt())
    return torch.stack(maps).mean(0)
