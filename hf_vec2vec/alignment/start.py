"""First guesses of the rotation between two spaces, from the shapes of their point clouds alone.

Rows of the two spaces are never compared one with one. Each cloud is cut into a few clusters; the matrix of inner
products between the cluster centres is (nearly) the same in both spaces up to the order of the clusters, and finding
that order is a quadratic assignment problem. A matched set of centres fixes a rotation.
"""

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from .refine import Anchors


def polar_factor(cross_covariance: Tensor) -> Tensor:
    """Nearest (semi-)orthogonal matrix, the solution of the orthogonal Procrustes problem.

    Args:
        cross_covariance: `(d_a, d_b)`, for matched rows `x` and `y` the sum of their outer products `x.T @ y`.

    Returns:
        `(d_a, d_b)`: `u @ v.T` of the thin SVD. Its smaller side is orthonormal, so rectangular maps need no padding.

    Source: Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966.
    """
    # float64: the factor is a small matrix, and an error made here would be carried through every later step.
    left, _, right = torch.linalg.svd(cross_covariance.double(), full_matrices=False)
    return (left @ right).to(cross_covariance.dtype)


def partial_whitening(rows: Tensor, exponent: float) -> Tensor:
    """Map that divides principal axis `i` by `eigenvalue_i ** (exponent / 2)`: 0 only turns the rows, 1 whitens them.

    Args:
        rows: `(n, d)`, centred.
        exponent: between 0 and 1.

    Returns:
        `(d, d)`, acts on rows from the right, into the coordinates of the principal axes. Inner products do not depend on
        that choice of basis.
    """
    eigenvalues, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    return axes * eigenvalues.clamp_min(eigenvalues[-1] * 1e-6).pow(-exponent / 2)


def cluster(rows: Tensor, num_anchors: int, seed: int) -> Tensor:
    """k-means labels of the rows, shape `(n,)`."""
    labels = KMeans(num_anchors, n_init=1, max_iter=50, random_state=seed).fit(rows.cpu().numpy()).labels_
    return torch.from_numpy(labels).long().to(rows.device)


def centroids(rows: Tensor, labels: Tensor, num_anchors: int) -> Tensor:
    """Mean of each cluster: `(num_anchors, d)`."""
    # Summed on the CPU: a GPU adds in another order each time, and the search that starts here would end elsewhere.
    sums = torch.zeros(num_anchors, rows.shape[1], dtype=rows.dtype).index_add_(0, labels.cpu(), rows.cpu())
    return sums.to(rows.device) / torch.bincount(labels, minlength=num_anchors).clamp_min(1)[:, None]


def gram(anchors: Tensor) -> Tensor:
    """Doubly centred matrix of inner products, scaled to Frobenius norm 1: `(k, d)` to `(k, k)`."""
    inner = _centred_products(anchors, anchors)
    return inner / inner.norm()


def profiles(anchors: Tensor, known: Tensor) -> Tensor:
    """Inner products of anchors `(k, d)` with rows `(p, d)` whose partners are known, in the units of `gram`: `(k, p)`."""
    return _centred_products(anchors, known) / _centred_products(anchors, anchors).norm()


def _centred_products(anchors: Tensor, others: Tensor) -> Tensor:
    mean = anchors.mean(0)
    return (anchors - mean) @ (others - mean).T


def _swap_gains(a: Tensor, b: Tensor) -> Tensor:
    """Change of `sum(a * b)` when rows and columns i and j of `b` trade places, for every (i, j): `(..., k, k)`."""
    product = a @ b
    own = torch.diagonal(product, dim1=-2, dim2=-1)
    a_diagonal, b_diagonal = torch.diagonal(a, dim1=-2, dim2=-1), torch.diagonal(b, dim1=-2, dim2=-1)
    gains = product + product.mT - own[..., :, None] - own[..., None, :]
    # The sum above runs over all rows t; the two rows that take part (t = i, t = j) do not move against themselves.
    gains -= (a_diagonal[..., :, None] - a) * (b - b_diagonal[..., :, None])
    gains -= (a - a_diagonal[..., None, :]) * (b_diagonal[..., None, :] - b)
    return 2 * gains + (a_diagonal[..., :, None] - a_diagonal[..., None, :]) * (
        b_diagonal[..., None, :] - b_diagonal[..., :, None]
    )


def _linear_swap_gains(linear: Tensor) -> Tensor:
    """Change of `linear.diagonal().sum()` when columns i and j trade places, for every (i, j): `(..., k, k)`."""
    own = torch.diagonal(linear, dim1=-2, dim2=-1)
    return linear + linear.mT - own[..., :, None] - own[..., None, :]


def quadratic_assignment(
    a: Tensor,
    b: Tensor,
    linear: Tensor | None = None,
    *,
    restarts: int = 16,
    kicks: int = 40,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Permutations that make a batch of symmetric matrices alike: maximise `trace(a @ P @ b @ P.T + P.T @ linear)`.

    Best-swap local search from random permutations, with kicks (a random 4-cycle) out of local optima, all problems and
    restarts at once as tensor algebra: the gains of all k² swaps come from one product `a @ b_p`.

    Args:
        a: `(problems, k, k)`, symmetric.
        b: `(problems, k, k)`, symmetric.
        linear: `(problems, k, k)`, what is known of the pairs: [i, j] is gained where row i of `a` goes with row j of `b`.
        restarts: random starts for each problem.
        kicks: how often each start is kicked out of its local optimum.
        generator: source of randomness, on the CPU.

    Returns:
        Permutations `(problems, k)`, row i of `a` goes with row `p[i]` of `b`; and their objectives `(problems,)`.

    Source: the objective is Koopmans and Beckmann's, 1957; the search is iterated local search (Lourenço, Martin and
    Stützle, 2003).
    """
    problems, k, _ = a.shape
    batch = problems * restarts
    device = a.device
    linear = torch.zeros_like(a) if linear is None else linear
    a, b, linear = (matrix.repeat_interleave(restarts, 0) for matrix in (a, b, linear))
    rows = torch.arange(batch, device=device)

    def permuted(order: Tensor) -> Tensor:
        return b[rows[:, None, None], order[:, :, None], order[:, None, :]]

    def linear_permuted(order: Tensor) -> Tensor:
        return linear.gather(2, order[:, None].expand_as(linear))

    def swap(order: Tensor, i: Tensor, j: Tensor, where: Tensor) -> Tensor:
        i, j = i[where], j[where]
        order = order.clone()
        order[where, i], order[where, j] = order[where, j], order[where, i]
        return order

    order = torch.rand(batch, k, generator=generator).argsort(1).to(device)
    best_order, best = order, torch.full((batch,), -torch.inf, device=device)
    for kick in range(kicks + 1):
        if kick:
            picked = torch.rand(batch, k, generator=generator).argsort(1)[:, :4].to(device)
            order = best_order.clone()
            order[rows[:, None], picked] = best_order[rows[:, None], picked.roll(1, dims=1)]
        for _ in range(4 * k):  # a bound: local search ends long before it
            gains = _swap_gains(a, permuted(order)) + _linear_swap_gains(linear_permuted(order))
            gain, flat = gains.flatten(1).max(1)
            improves = (gain > 1e-7).nonzero().squeeze(1)
            if not len(improves):
                break
            order = swap(order, flat // k, flat % k, improves)
        value = (a * permuted(order)).sum((1, 2)) + linear.gather(2, order[:, :, None]).sum((1, 2))
        better = value > best
        best_order, best = torch.where(better[:, None], order, best_order), torch.where(better, value, best)
    winner = best.view(problems, restarts).argmax(1) + torch.arange(problems, device=device) * restarts
    return best_order[winner], best[winner]


def starting_rotations(
    source: Tensor,
    target: Tensor,
    *,
    num_starts: int,
    num_anchors: int,
    sample: int,
    whitening: tuple[float, ...],
    generator: torch.Generator,
    known: Anchors | None = None,
) -> Tensor:
    """Candidate rotations from matched cluster centres, one for each random sample of rows, and their joint one first.

    Args:
        source: `(n, d_a)`, centred rows of the one space.
        target: `(m, d_b)`, centred rows of the other; no row has a partner.
        num_starts: samples that are clustered and matched.
        num_anchors: clusters a side.
        sample: rows of each side in a sample.
        whitening: exponents of `partial_whitening` for the anchors, used by the starts in turn. k-means cuts clouds along
            their widest axes, which differ from encoder to encoder; damping those axes makes the two cuts of text
            embeddings agree more often, but spoils clouds of well separated clusters.
        generator: source of randomness, on the CPU.
        known: pairs. Where clusters lie among them constrains which go together.

    Returns:
        `(num_starts + 1, d_a, d_b)`.
    """
    anchors, grams, across, linear = ([], []), ([], []), ([], []), None
    for side, rows in enumerate((source, target)):
        whiteners = [partial_whitening(rows, exponent) for exponent in whitening]
        for start in range(num_starts):
            whitener = whiteners[start % len(whitening)]
            picked = rows[torch.randperm(len(rows), generator=generator)[:sample].to(rows.device)]
            whitened = picked @ whitener
            seed = int(torch.randint(2**31 - 1, (), generator=generator))
            labels = cluster(whitened, num_anchors, seed)
            centres = centroids(picked, labels, num_anchors)
            anchors[side].append(centres - centres.mean(0))
            shape = centroids(whitened, labels, num_anchors)
            grams[side].append(gram(shape))
            if known is not None:
                across[side].append(profiles(shape, (known.source, known.target)[side] @ whitener))
    if known is not None:  # twice: products of anchors with known rows stand above and below those of anchors alone
        linear = 2 * torch.stack(across[0]) @ torch.stack(across[1]).mT
    order, _ = quadratic_assignment(torch.stack(grams[0]), torch.stack(grams[1]), linear, generator=generator)
    cross = torch.stack([a.T @ b[p] for a, b, p in zip(*anchors, order, strict=True)])
    single = torch.stack([polar_factor(c) for c in cross])
    return torch.cat([polar_factor(single.sum(0))[None], single])
