"""Beyond a rotation: back-translation that is calibrated by simulation, and the maps that it gives.

For a real row `y` of the one space, the rows of the other that lie nearest to its translation tell what its unknown
partner `x` may be. Their mean is a biased guess: neighbours are other texts, averages are short, and directions in which
neighbours are far apart come out too weak. How biased, a simulation tells. Under the current joint covariance, draw from
every real `x` a synthetic partner, hide `x`, look for the neighbours of that partner in the same way, and regress the
hidden `x` on what was found. Applied to the real `y`, that regression gives an estimate of `x` which is unbiased where the
model is true, and whose covariance with `y` corrects the model where it is not.

The step is one of expectation maximisation for a joint Gaussian of which only the margins are seen, with neighbours as
the evidence that a Gaussian lacks. Nothing paired enters it, unless anchors are given.

Calibrated estimates lie nearest to the truth, but also nearer to one another. Maps from broad means, in which every row has
the same share, keep rows apart better. So the linear maps that are returned are made of those. The network learns from
calibrated estimates, both ways: real rows go to their estimated partners, and estimated partners go back to the real rows
that they were made of.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from .refine import Anchors, nearest_means, ridge, solve_ridge

SAMPLE = 20_000  # rows of each side that a round compares: its cost does not grow with the rows beyond
BALANCED = 10_000  # rows of each side whose cosines are held whole, to be balanced
ENTROPY = 0.05  # of the balanced plan, in cosines
BALANCED_PENALTY = 0.2  # of the maps made of it, in mean variances: equal shares make weak directions too strong
LARGEST_CORRELATION = 0.97


@dataclass(frozen=True)
class BackTranslation:
    """What the rounds leave.

    Args:
        maps: linear maps `(d_a, d_b)` and `(d_b, d_a)`, which keep rows apart best; see `balanced_covariance`.
        source: rows `(n + m, d_a)`: real ones, then estimated partners of the target's.
        target: rows `(m + n, d_b)`, in the same way.
        source_partners: `(m + n, d_a)`, of `target`: estimates of real rows' partners, then the real rows whose partners
            were estimated.
        target_partners: `(n + m, d_b)`, of `source`, in the same way.
        features: `(d_a, r)` and `(d_b, r)`, directions in which rows of the one space are compared with rows of the other.
        agreement: cosine between the corrections that the two directions ask for in the first round. They look at other
            rows in another space; noise agrees by chance only.
    """

    maps: tuple[Tensor, Tensor]
    source: Tensor
    target: Tensor
    source_partners: Tensor
    target_partners: Tensor
    features: tuple[Tensor, Tensor]
    agreement: float


@dataclass(frozen=True)
class Moments:
    """Covariances of the two spaces, their symmetric roots and inverse roots; float64."""

    source: Tensor
    target: Tensor

    @classmethod
    def of(cls, source: Tensor, target: Tensor) -> "Moments":
        """From normalised rows `(n, d_a)` and `(m, d_b)`."""
        return cls(*((rows.T @ rows / len(rows)).double() for rows in (source, target)))

    def __post_init__(self):
        for name in ("source", "target"):
            values, axes = torch.linalg.eigh(getattr(self, name))
            # Directions without variance would be blown up to the size of the others.
            roots = values.clamp_min(values.mean() * 1e-4).sqrt()
            object.__setattr__(self, f"{name}_root", axes * roots @ axes.T)
            object.__setattr__(self, f"{name}_inverse_root", axes / roots @ axes.T)

    def canonical(self, cross: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """SVD `u, s, v.T` of the whitened cross-covariance: canonical directions and correlations."""
        return torch.linalg.svd(self.source_inverse_root @ cross @ self.target_inverse_root, full_matrices=False)

    def possible(self, cross: Tensor) -> Tensor:
        """Nearest cross-covariance that two spaces can have: no canonical correlation above (nearly) 1."""
        left, correlations, right = self.canonical(cross)
        return self.source_root @ (left * correlations.clamp(max=LARGEST_CORRELATION) @ right) @ self.target_root

    def swapped(self) -> "Moments":
        """The same with the sides exchanged."""
        return Moments(self.target, self.source)


def back_translate(
    source: Tensor,
    target: Tensor,
    rotation: Tensor,
    *,
    rounds: int,
    neighbours: int,
    generator: torch.Generator,
    anchors: Anchors | None = None,
    progress: Callable[[], object] = lambda: None,
) -> BackTranslation:
    """Rounds of calibrated back-translation in both directions.

    Args:
        source: `(n, d_a)`, centred and scaled.
        target: `(m, d_b)`, centred and scaled.
        rotation: `(d_a, d_b)`, semi-orthogonal, the map to start from.
        rounds: how many, at least 1. Each takes fresh rows if there are more than `SAMPLE`.
        neighbours: that a guess averages, and fewer and more; see `scales`.
        generator: source of randomness, on the CPU.
        anchors: known pairs.
        progress: called after every round.

    Source: back-translation is Sennrich et al.'s, "Improving neural machine translation models with monolingual data",
    2016; the calibration is indirect inference (Gouriéroux, Monfort and Renault, 1993).
    """
    moments = Moments.of(source, target)
    known, weight = 0.0, 0.0
    if anchors is not None:
        known = (anchors.source.T @ anchors.target / len(anchors)).double()
        weight = anchors.share(min(len(source), len(target), SAMPLE))

    def informed(cross: Tensor) -> Tensor:
        return moments.possible((1 - weight) * cross + weight * known)

    cross = informed(neighbour_covariance(source, target, rotation, moments, neighbours, generator))
    balanced = informed(balanced_covariance(source, target, linear_maps(moments, cross), moments, generator))
    maps, agreement = linear_maps(moments, balanced, BALANCED_PENALTY), None
    for _ in range(rounds):
        x, y = (draw(rows, generator) for rows in (source, target))
        left, correlations, right = moments.canonical(cross)
        weights = correlations.clamp(0, 1).sqrt()
        features = (
            (moments.source_inverse_root @ left * weights).float(),
            (moments.target_inverse_root @ right.T * weights).float(),
        )
        options = {"neighbours": neighbours, "generator": generator}
        partners_of_y = partner_estimator(x, moments, cross, features, **options)
        partners_of_x = partner_estimator(y, moments.swapped(), cross.T, features[::-1], **options)
        x_of_y, y_of_x = partners_of_y(y), partners_of_x(x)
        backward, forward = (x_of_y.T @ y / len(y)).double(), (x.T @ y_of_x / len(x)).double()
        agreeing = F.cosine_similarity((backward - cross).flatten(), (forward - cross).flatten(), dim=0).item()
        agreement = agreeing if agreement is None else agreement
        # What only one direction asks for is noise: go as far as the two agree.
        cross = informed(cross + max(agreeing, 0.0) * ((backward + forward) / 2 - cross))
        progress()
    # Estimated partners of the one side's rows are rows that the other side has not, and theirs are real.
    return BackTranslation(
        maps=maps,
        source=torch.cat([x, as_long_as(x_of_y, x)]),
        target=torch.cat([y, as_long_as(y_of_x, y)]),
        source_partners=torch.cat([x_of_y, x]),
        target_partners=torch.cat([y_of_x, y]),
        features=features,
        agreement=agreement,
    )


def scales(neighbours: int) -> list[int]:
    """How many neighbours are averaged: so many, and fewer and more. Few are near and noisy, many the reverse."""
    return [max(1, round(neighbours * share)) for share in (1 / 9, 1 / 3, 1, 3, 10)]


def as_long_as(rows: Tensor, real: Tensor) -> Tensor:
    """Every row scaled to the root mean square length of real ones: estimates are averages, so they are short."""
    return F.normalize(rows, dim=1) * real.square().sum(1).mean().sqrt()


def draw(rows: Tensor, generator: torch.Generator, most: int = SAMPLE) -> Tensor:
    """At most so many of the rows, in random order."""
    return rows[torch.randperm(len(rows), generator=generator)[:most].to(rows.device)]


def neighbour_covariance(
    source: Tensor, target: Tensor, rotation: Tensor, moments: Moments, neighbours: int, generator: torch.Generator
) -> Tensor:
    """First cross-covariance `(d_a, d_b)`: real rows regressed on the means of their neighbours.

    Five rounds of back-translation without calibration forget the rotation that they start from: from a rotation fitted
    to pairs they end in the same place. Calibrated rounds, which move slowly, then start from there. Each round averages
    the maps that few and many neighbours give: their errors differ.
    """
    maps, counts = (rotation, rotation.T), scales(neighbours)[:-1]
    for _ in range(5):
        x, y = draw(source, generator), draw(target, generator)
        x_of_y = nearest_means(F.normalize(y @ maps[1], dim=1), F.normalize(x, dim=1), x, counts)
        y_of_x = nearest_means(F.normalize(x @ maps[0], dim=1), F.normalize(y, dim=1), y, counts)
        maps = _regression(x_of_y, y, x), _regression(y_of_x, x, y)
    return _covariance(moments, maps)


def balanced_covariance(
    source: Tensor, target: Tensor, maps: tuple[Tensor, Tensor], moments: Moments, generator: torch.Generator
) -> Tensor:
    """Cross-covariance from means in which every row of the other side has the same share in all.

    Some translations lie near to many rows, and those rows would all be told to have the same partners; with equal shares
    they are kept apart. Means are broad, of some fifty rows: narrow ones, as `neighbour_covariance` has them too, come
    nearer to the truth and lose more rows to one another.

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
    x, y = draw(source, generator, BALANCED), draw(target, generator, BALANCED)
    plan = F.normalize(x @ maps[0], dim=1) @ F.normalize(y, dim=1).T
    plan.addmm_(F.normalize(x, dim=1), F.normalize(y @ maps[1], dim=1).T, beta=0.5, alpha=0.5)
    plan.sub_(1).div_(ENTROPY).exp_()
    columns = plan.new_ones(len(y))
    for _ in range(10):
        rows = 1 / (plan @ columns)
        columns = 1 / (rows @ plan)
    plan.mul_(columns).mul_(rows[:, None])
    x_of_y, y_of_x = plan.T @ x / plan.sum(0)[:, None], plan @ y / plan.sum(1, keepdim=True)
    return _covariance(moments, (_regression(x_of_y, y, x), _regression(y_of_x, x, y)))


def _covariance(moments: Moments, maps: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-covariance of rows and their translations, mean of both directions."""
    # Of a unit of length in one space, about .7 is known in the other: a first value, which calibration replaces.
    return 0.35 * (moments.source @ maps[0].double() + maps[1].T.double() @ moments.target)


def _regression(means: Tensor, rows: Tensor, others: Tensor) -> Tensor:
    """Mean of the maps that take several means of each row's neighbours, side by side, to the row.

    Averages are short, so a fit to them overshoots: each map is scaled to give `others` the length of real rows.
    """
    length, maps = rows.square().sum(1).mean(), []
    for inputs in means.split(others.shape[1], dim=1):
        weight = ridge(inputs, rows, 0.03)
        maps.append(weight * (length / (others @ weight).square().sum(1).mean()).sqrt())
    return torch.stack(maps).mean(0)


def partner_estimator(
    x: Tensor,
    moments: Moments,
    cross: Tensor,
    features: tuple[Tensor, Tensor],
    *,
    neighbours: int,
    generator: torch.Generator,
    simulations: int = 4,
) -> Callable[[Tensor], Tensor]:
    """Learn to tell the unknown partners of rows `y`, in the space of `x`.

    Args:
        x: `(n, d_a)`, centred and scaled.
        moments: covariances, the space of `x` as source.
        cross: `(d_a, d_b)`, cross-covariance so far.
        features: `(d_a, r)` and `(d_b, r)`, canonical directions in which rows are compared.
        neighbours: that a guess averages, and fewer and more; see `scales`.
        generator: source of randomness, on the CPU.
        simulations: synthetic partners of every row.

    Returns:
        A function from `(m, d_b)`, centred and scaled, to posterior means `(m, d_a)`.
    """
    keys = F.normalize(x @ features[0], dim=1)
    counts = scales(neighbours)  # how to weigh them, the calibration learns

    def guess(rows: Tensor, simulated: bool) -> Tensor:
        queries = F.normalize(rows @ features[1], dim=1)
        return torch.cat([nearest_means(queries, keys, x, counts, leave_one_out=simulated), rows], dim=1)

    weight = moments.source_inverse_root @ moments.source_inverse_root @ cross
    values, axes = torch.linalg.eigh(moments.target - cross.T @ weight)
    noise = (axes * values.clamp_min(0).sqrt() @ axes.T).float()

    inner, outer = 0, 0  # sums over rows: the guesses of all simulations would fill gigabytes
    for _ in range(simulations):
        random = torch.randn(len(x), len(noise), generator=generator).to(x.device)
        found = guess(x @ weight.float() + random @ noise, True)
        inner, outer = inner + found.T @ found, outer + found.T @ x
        del found  # before the next is made
    calibration = solve_ridge(inner, outer, 0.01)
    return lambda y: guess(y, False) @ calibration


def linear_maps(moments: Moments, cross: Tensor, strength: float = 0.03) -> tuple[Tensor, Tensor]:
    """Ridge regressions of each space on the other, `(d_a, d_b)` and `(d_b, d_a)`, from their covariances.

    Predictions are shorter than real rows; the maps are scaled to give rows of real length, since a store ranks by raw
    cosine, where short rows drown in the mean.
    """

    def solve(covariance: Tensor, right: Tensor, other: Tensor) -> Tensor:
        penalty = strength * covariance.diagonal().mean()
        weight = torch.linalg.solve(covariance + penalty * torch.eye(len(covariance)).to(covariance), right)
        return (weight * (other.trace() / (weight.T @ covariance @ weight).trace()).sqrt()).float()

    return solve(moments.source, cross, moments.target), solve(moments.target, cross.T, moments.source)
