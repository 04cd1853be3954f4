"""First guesses of the rotation between two spaces, from the shapes of their point clouds alone.

Rows of the two spaces are never compared one with one. Each cloud is cut into a few clusters; the matrix of inner
products between the cluster centres is (nearly) the same in both spaces up to the order of the clusters, and finding
that order is a quadratic assignment problem. A matched set of centres fixes a rotation.
"""

from dataclasses import dataclass

import torch
from sklearn.cluster import KMeans
from torch import Tensor

from .anchors import Anchors
from .procrustes import partial_isometry
from .quadratic_assignment import quadratic_assignment
from .refine import draw

SAMPLE = 6000  # rows of each side that a guess clusters: other rows for each guess, so that guesses differ
# Exponents of `partial_whitening` for what is clustered, drawn in turn. k-means cuts clouds along their widest axes, which
# differ from encoder to encoder; damping those axes makes the two cuts of text embeddings agree more often, but spoils
# clouds of well separated clusters.
WHITENING = (0.6, 0.0)
LEAST_EIGENVALUE = 1e-6  # that whitening divides by, in units of the largest: below it is rounding
PASSES = 50  # of k-means at most: centres that still move then move little


def partial_whitening(rows: Tensor, exponent: float) -> Tensor:
    """Map that divides principal axis `i` by `eigenvalue_i ** (exponent / 2)`: 0 only turns the rows, 1 whitens them.

    Args:
        rows: `(n, d)`, centred.
        exponent: between 0 and 1.

    Returns:
        `(d, d)`, acts on rows from the right, into the coordinates of the principal axes. Inner products do not depend on
        that choice of basis.
    """
    return _whitening(*_principal_axes(rows), exponent)


def _principal_axes(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Variances `(d,)` of centred rows along their principal axes, ascending, and the axes `(d, d)`, one a column."""
    eigenvalues, axes = torch.linalg.eigh(rows.T @ rows / len(rows))
    return eigenvalues, axes


def _whitening(eigenvalues: Tensor, axes: Tensor, exponent: float) -> Tensor:
    return axes * eigenvalues.clamp_min(eigenvalues[-1] * LEAST_EIGENVALUE).pow(-exponent / 2)


def cluster(rows: Tensor, num_anchors: int, seed: int) -> Tensor:
    """k-means labels of the rows, shape `(n,)`."""
    labels = KMeans(num_anchors, n_init=1, max_iter=PASSES, random_state=seed).fit(rows.cpu().numpy()).labels_
    return torch.from_numpy(labels).long().to(rows.device)


def centroids(rows: Tensor, labels: Tensor, num_anchors: int) -> Tensor:
    """Mean of each cluster: `(num_anchors, d)`."""
    # Summed on the CPU: a GPU adds in another order each time, and the search that starts here would end elsewhere.
    sums = torch.zeros(num_anchors, rows.shape[1], dtype=rows.dtype).index_add_(0, labels.cpu(), rows.cpu())
    return sums.to(rows.device) / torch.bincount(labels, minlength=num_anchors).clamp_min(1)[:, None]


def gram(centres: Tensor) -> Tensor:
    """Doubly centred matrix of inner products, scaled to Frobenius norm 1: `(k, d)` to `(k, k)`."""
    inner = _centred_products(centres, centres)
    return inner / inner.norm()


def profiles(centres: Tensor, known: Tensor) -> Tensor:
    """Inner products of centres `(k, d)` with rows `(p, d)` whose partners are known, in the units of `gram`: `(k, p)`."""
    return _centred_products(centres, known) / _centred_products(centres, centres).norm()


def _centred_products(centres: Tensor, others: Tensor) -> Tensor:
    mean = centres.mean(0)
    return (centres - mean) @ (others - mean).T


@dataclass(frozen=True)
class _Clustering:
    """One cut of one space.

    Args:
        centres: `(k, d)`, centred.
        shape: `(k, k)`, their `gram` matrix in whitened coordinates.
        profiles: `(k, p)`, how they lie to rows with known partners; `None` without any.
    """

    centres: Tensor
    shape: Tensor
    profiles: Tensor | None


def _clusterings(
    rows: Tensor, num_starts: int, num_anchors: int, generator: torch.Generator, known: Tensor | None
) -> list[_Clustering]:
    """As many cuts of one space as there are starts, each of other rows."""
    variances, axes = _principal_axes(rows)
    whiteners, found = [_whitening(variances, axes, exponent) for exponent in WHITENING], []
    for start in range(num_starts):
        whitener = whiteners[start % len(whiteners)]
        picked = draw(rows, SAMPLE, generator)
        whitened = picked @ whitener
        seed = int(torch.randint(2**31 - 1, (), generator=generator))
        labels = cluster(whitened, num_anchors, seed)
        centres, shape = centroids(picked, labels, num_anchors), centroids(whitened, labels, num_anchors)
        across = None if known is None else profiles(shape, known @ whitener)
        found.append(_Clustering(centres - centres.mean(0), gram(shape), across))
    return found


def starting_rotations(
    source: Tensor,
    target: Tensor,
    *,
    num_starts: int,
    num_anchors: int,
    generator: torch.Generator,
    known: Anchors | None = None,
) -> Tensor:
    """Candidate rotations from matched cluster centres, one for each random sample of rows.

    Args:
        source: `(n, d_a)`, centred rows of the one space.
        target: `(m, d_b)`, centred rows of the other; no row has a partner.
        num_starts: samples that are clustered and matched.
        num_anchors: clusters a side.
        generator: source of randomness, on the CPU.
        known: pairs. Where clusters lie among them constrains which go together.

    Returns:
        `(num_starts, d_a, d_b)`: rotations of the directions that the centres span, 0 elsewhere.
    """
    ours = _clusterings(source, num_starts, num_anchors, generator, None if known is None else known.source)
    theirs = _clusterings(target, num_starts, num_anchors, generator, None if known is None else known.target)
    linear = None
    if known is not None:  # twice: products of centres with known rows stand above and below those of centres alone
        across = [torch.stack([cut.profiles for cut in side if cut.profiles is not None]) for side in (ours, theirs)]
        linear = 2 * across[0] @ across[1].mT
    shapes = [torch.stack([cut.shape for cut in side]) for side in (ours, theirs)]
    order, _ = quadratic_assignment(shapes[0], shapes[1], linear, generator=generator)
    pairs = zip(ours, theirs, order, strict=True)
    return torch.stack([partial_isometry(a.centres.T @ b.centres[matched]) for a, b, matched in pairs])
