"""Published methods that align two spaces without pairs, as baselines: written from the papers, with their settings.

Each takes rows that are centred by the training mean and have norm 1, and returns one linear map. Of the authors' codes
only the second takes spaces of unequal dimensions; as in it, the rectangular polar factor is the rotation in all three.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.optimize import quadratic_assignment as scipy_quadratic_assignment
from sklearn.cluster import KMeans
from torch import Tensor, nn
from torch.nn import functional as F

from ..alignment.procrustes import polar_factor
from ..alignment.quadratic_assignment import quadratic_assignment
from ..alignment.start import gram
from ..data.progress import progress_bar
from ..metrics.hubness import hub_penalties

BLOCK = 2048  # rows of one side compared with all rows of the other at a time
CSLS_NEIGHBOURS = 10  # of a row that tell how much of a hub it is


def mini_vec2vec(
    source: Tensor,
    target: Tensor,
    *,
    runs: int = 30,
    clusters: int = 20,
    restarts: int = 30,
    sample: int = 10_000,
    neighbours: int = 50,
    iterations: int = 100,
    refine_sample: int = 10_000,
    smoothing: float = 0.5,
    refine_clusters: int = 500,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """mini-vec2vec: matched anchors, relative representations, then two refinements.

    The defaults are those of the author's notebook but for `refine_sample`: there it has 1,000, the paper (as two
    independent re-implementations quote it) 10,000. Where the two could be read differently, this follows the notebook:
    the matrices that are matched are doubly centred inner products, not cosines; rows are described by their cosines to
    the anchors; the map is not projected back on the rotations.

    Args:
        source: `(n, d_a)`, centred, norm 1.
        target: `(m, d_b)`, centred, norm 1.
        runs: clusterings of each space that are matched.
        clusters: k-means centres in each.
        restarts: 2-opt searches for each matching; the best counts.
        sample: rows of each space that a clustering sees.
        neighbours: rows averaged to make the partner of a row, in both stages that pair rows.
        iterations: of the first refinement (partners are neighbours).
        refine_sample: source rows that an iteration sees.
        smoothing: weight of the new map against the old one.
        refine_clusters: k-means centres of the second refinement (partners are centres).
        seed: of everything random.
        progress: show bars.

    Returns:
        `(d_a, d_b)`, nearly but not exactly semi-orthogonal: an average of such maps.

    Source: Dar, "mini-vec2vec: Scaling Universal Geometry Alignment with Linear Transformations", arXiv 2510.02348.
    """
    generator, solver_generator = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    anchors: tuple[list[Tensor], list[Tensor]] = ([], [])
    for _ in progress_bar(range(runs), desc="anchors", shown=progress):
        centres = []
        for rows in (source, target):
            picked = torch.randperm(len(rows), generator=generator)[:sample]
            centres.append(_centres(rows[picked], clusters, generator))
        grams = [gram(c.double()).numpy() for c in centres]
        # scipy's solver, slow as it is, because it is the author's and the wall time is compared.
        options = {"maximize": True, "rng": solver_generator}
        found = [scipy_quadratic_assignment(*grams, method="2opt", options=options) for _ in range(restarts)]
        order = torch.from_numpy(max(found, key=lambda result: result.fun).col_ind)
        anchors[0].append(centres[0])
        anchors[1].append(centres[1][order])
    of_source, of_target = (F.normalize(torch.cat(centres), dim=1) for centres in anchors)
    relative_source, relative_target = (F.normalize(r @ a.T, dim=1) for r, a in ((source, of_source), (target, of_target)))
    weight = polar_factor(source.T @ _mean_of_nearest(relative_source, relative_target, target, neighbours))
    for _ in progress_bar(range(iterations), desc="refine 1", shown=progress):
        rows = source[torch.randperm(len(source), generator=generator)[:refine_sample]]
        partners = _mean_of_nearest(F.normalize(rows @ weight, dim=1), target, target, neighbours)
        weight = torch.lerp(weight, polar_factor(rows.T @ partners), smoothing)
    source_centres = _centres(source, refine_clusters, generator)
    target_centres = _centres(target, refine_clusters, generator, start=source_centres @ weight)
    return torch.lerp(weight, polar_factor(source_centres.T @ target_centres), smoothing)


def wasserstein_procrustes(
    source: Tensor,
    target: Tensor,
    *,
    restarts: int = 30,
    clusters: int = 30,
    batch: int = 10_000,
    iterations: int = 100,
    projected_out: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> Tensor:
    """Wasserstein-Procrustes from a coarse geometric start: optimal one-to-one matchings and rotations in turn.

    Known from the paper's repository, with the four settings that are the defaults here: k-means centres of random
    batches are matched so that their linear CKA is highest; the cross-covariances of all matchings are averaged to `m`;
    rows are matched on `source @ m @ target.T` in random blocks; then random batches are matched anew under each map.

    Replaced: the authors match the centres by MPOpt, whose bindings are under the GPL. The local search of `alignment`
    takes its place, with restarts and kicks enough to score no lower on six such problems, in less time. Left out: known
    pairs, which the authors can add.

    A batch that took all rows would make a step a function of the map alone, which stands still at its first fixed point.
    So a batch has at most half of the rows, and every round draws other ones.

    Args:
        source: `(n, d_a)`, centred, norm 1.
        target: `(m, d_b)`, centred, norm 1.
        restarts: pairs of clusterings.
        clusters: k-means centres in each.
        batch: rows of each space in a clustering, a block and a step, at most half of either. A matching costs their number
            cubed.
        iterations: steps of the refinement.
        projected_out: widest principal axes of each space that the start does without. They are the encoder's own more than
            the texts' (Mu and Viswanath, "All-but-the-top", 2018).
        seed: of everything random.
        progress: show a bar.

    Returns:
        `(d_a, d_b)`, semi-orthogonal.

    Source: Schnaus et al., "Shared Geometry as a Rosetta Stone: Cross-Modal Alignment Without Paired Data", 2026, arXiv
    2610.09411, algorithms 1 and 2.
    """
    generator = torch.Generator().manual_seed(seed)
    batch = min(batch, len(source) // 2, len(target) // 2)

    def draw(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:batch]]

    seen = [_without_widest(rows, projected_out) for rows in (source, target)]
    pairs = [[_centres(draw(rows), clusters, generator) for rows in seen] for _ in range(restarts)]
    grams = [torch.stack([gram(pair[side]) for pair in pairs]) for side in (0, 1)]
    order, _ = quadratic_assignment(*grams, restarts=64, kicks=200, generator=generator)
    coarse = torch.stack([a.T @ b[p] for (a, b), p in zip(pairs, order, strict=True)]).sum(0) / (restarts * clusters)

    shuffled = [rows[torch.randperm(len(rows), generator=generator)] for rows in (source, target)]
    covariance = torch.zeros_like(coarse)
    for rows_a, rows_b in zip(*(rows.split(batch) for rows in shuffled)):  # blocks that only one space has stay out
        matched_a, matched_b = _assignment(rows_a @ coarse, rows_b)
        covariance += rows_a[matched_a].T @ rows_b[matched_b]
    weight = polar_factor(covariance)
    for _ in progress_bar(range(iterations), desc="match and rotate", shown=progress):
        rows_a, rows_b = draw(source), draw(target)
        matched_a, matched_b = _assignment(rows_a @ weight, rows_b)
        weight = polar_factor(rows_a[matched_a].T @ rows_b[matched_b])
    return weight


def adversarial_map(
    source: Tensor,
    target: Tensor,
    *,
    epochs: int = 5,
    steps: int = 120,
    discriminator_steps: int = 5,
    batch: int = 32,
    hidden: int = 2048,
    learning_rate: float = 0.1,
    beta: float = 0.01,
    refinements: int = 5,
    scale: float | None = None,
    seed: int = 0,
) -> Tensor:
    """MUSE: a linear map learned against a discriminator, refined by Procrustes on mutual nearest neighbours.

    Settings are the paper's: discriminator of two hidden layers, input dropout .1, label smoothing .2, SGD, decay .95 an
    epoch and halving when the criterion falls, `beta`. (Defaults of its code are .1, .98 and .001 for smoothing, decay
    and `beta`.) Where the paper has none, they are the code's: 5 epochs, 5 steps of the discriminator for one of the
    map, 5 refinements. What differs:

    - An epoch of the code has 31,250 steps of the map, on a GPU; `steps` makes the whole run two to three minutes on
      one core.
    - The paper's rows are words sorted by frequency: the discriminator sees the 50,000 most frequent, dictionaries are
      built from frequent words. Texts have no such order; all rows take part.
    - The paper's word vectors are longer than 1. Rows of norm 1 are so small a signal that neither network moves at
      this rate; so the adversarial part, and it alone, sees them scaled.

    Args:
        source: `(n, d_a)`, centred, norm 1.
        target: `(m, d_b)`, centred, norm 1.
        epochs: after each, the criterion is taken and the rates decay.
        steps: of the map, an epoch.
        discriminator_steps: for each of them.
        batch: rows of each space.
        hidden: width of the discriminator.
        learning_rate: of both.
        beta: strength of the pull to the rotations.
        refinements: rounds of mutual neighbours and Procrustes.
        scale: length of the rows that the networks see, by default `sqrt(d_b)`.
        seed: of everything random.

    Returns:
        `(d_a, d_b)`, the map with the highest mean cosine to the CSLS neighbours, which needs no pairs. Semi-orthogonal
        if that is a refined one, else nearly so.

    Source: Conneau et al., "Word translation without parallel data", 2018, arXiv 1710.04087; the steps that refer to
    "the code" follow its repository.
    """
    scale = target.shape[1] ** 0.5 if scale is None else scale
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        discriminator = nn.Sequential(
            nn.Dropout(0.1), nn.Linear(target.shape[1], hidden), nn.LeakyReLU(0.2),
            nn.Linear(hidden, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, 1),
        )  # fmt: skip
        weight = nn.Parameter(torch.eye(source.shape[1], target.shape[1]))
        groups = torch.optim.SGD([weight], learning_rate), torch.optim.SGD(discriminator.parameters(), learning_rate)
        labels = torch.cat([torch.full((batch, 1), 0.8), torch.full((batch, 1), 0.2)])  # 1 is: mapped from the source

        def loss(labels: Tensor, mapping: Tensor) -> Tensor:
            rows_a, rows_b = (rows[torch.randint(len(rows), (batch,))] * scale for rows in (source, target))
            return F.binary_cross_entropy_with_logits(discriminator(torch.cat([rows_a @ mapping, rows_b])), labels)

        best, best_criterion, last = weight.detach().clone(), -1.0, -1.0
        for _ in range(epochs):
            for _ in range(steps):
                discriminator.train()
                for _ in range(discriminator_steps):
                    _step(groups[1], loss(labels, weight.detach()))
                discriminator.eval()
                _step(groups[0], loss(1 - labels, weight))
                with torch.no_grad():
                    weight.copy_((1 + beta) * weight - beta * weight @ weight.T @ weight)
            criterion, _ = _csls_pairs(source, target, weight.detach())
            for optimizer in groups:
                optimizer.param_groups[0]["lr"] *= 0.95 * (0.5 if criterion < last else 1)
            last = criterion
            if criterion > best_criterion:
                best, best_criterion = weight.detach().clone(), criterion
    refined = best
    for _ in range(refinements):
        _, (rows_a, rows_b) = _csls_pairs(source, target, refined)
        refined = polar_factor(source[rows_a].T @ target[rows_b])
        criterion, _ = _csls_pairs(source, target, refined)
        if criterion > best_criterion:
            best, best_criterion = refined, criterion
    return best


def of_raw_rows(weight: Tensor, source: Tensor, target: Tensor) -> Callable[[Tensor], Tensor]:
    """Translate raw rows by a map between rows that are centred and have norm 1.

    Encoders need not give rows of norm 1. So translations get the mean length of the target's rows before its mean is
    added: else the mean would drown rows that are too short.

    Args:
        weight: `(d_a, d_b)`.
        source: `(n, d_a)`, raw training rows.
        target: `(m, d_b)`, raw training rows.

    Returns:
        A function from `(k, d_a)` to `(k, d_b)`.
    """
    source_mean, target_mean = source.mean(0), target.mean(0)
    length = (target - target_mean).norm(dim=1).mean() / ((source - source_mean) @ weight).norm(dim=1).mean()
    return lambda rows: (rows - source_mean) @ weight * length + target_mean


def _centres(rows: Tensor, clusters: int, generator: torch.Generator, start: Tensor | None = None) -> Tensor:
    """k-means centres `(clusters, d)`, from k-means++ or from given ones."""
    seed = int(torch.randint(2**31 - 1, (), generator=generator))
    init = "k-means++" if start is None else start.numpy()
    return torch.from_numpy(KMeans(clusters, init=init, n_init=1, random_state=seed).fit(rows.numpy()).cluster_centers_)


def _mean_of_nearest(queries: Tensor, keys: Tensor, values: Tensor, k: int) -> Tensor:
    """Mean of the `values` of each query's `k` nearest keys by cosine, `(n, e)`. Rows have norm 1."""
    k = min(k, len(keys))
    nearest = (((block @ keys.T).topk(k, sorted=False).indices) for block in queries.split(BLOCK))
    return torch.cat([F.embedding_bag(indices, values, mode="mean") for indices in nearest])


def _without_widest(rows: Tensor, axes: int) -> Tensor:
    """Rows `(n, d)` without their part along so many widest principal axes, norm 1."""
    if not axes:
        return rows
    widest = torch.linalg.eigh(rows.T @ rows)[1][:, -axes:]
    return F.normalize(rows - rows @ widest @ widest.T, dim=1)


def _assignment(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """One-to-one matching with the highest sum of inner products: positions in both, `(min(n, m),)` each."""
    rows, columns = linear_sum_assignment((-queries @ keys.T).numpy())
    return torch.from_numpy(rows), torch.from_numpy(columns)


def _step(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


def _csls_pairs(source: Tensor, target: Tensor, weight: Tensor) -> tuple[float, tuple[Tensor, Tensor]]:
    """Mean cosine of mapped rows and their nearest target rows by CSLS, and the pairs that are each other's nearest."""
    mapped = F.normalize(source @ weight, dim=1)

    def nearest(queries: Tensor, keys: Tensor) -> Tensor:
        penalties = hub_penalties(keys, queries, k=min(CSLS_NEIGHBOURS, len(queries)))
        return torch.cat([torch.addmm(-penalties, b, keys.T).argmax(1) for b in queries.split(BLOCK)])

    there, back = nearest(mapped, target), nearest(target, mapped)
    mutual = (back[there] == torch.arange(len(mapped))).nonzero().squeeze(1)
    return (mapped * target[there]).sum(1).mean().item(), (mutual, there[mutual])


__all__ = ["adversarial_map", "mini_vec2vec", "of_raw_rows", "wasserstein_procrustes"]
