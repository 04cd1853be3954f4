"""An index of two kinds of rows, native ones and translated ones, that rank fairly."""

from torch import Tensor

from ..data.devices import in_full_precision
from ..model.modeling_vec2vec import check_embeddings
from .selection import top
from .units import unit_rows

FOUND = 10  # rows that a search shows
BLOCK = 256  # queries compared at a time


@in_full_precision
def fair_length(native: Tensor, translated: Tensor, sample: Tensor, *, k: int = FOUND) -> float:
    """Length that translated rows need to rank as native rows of length 1 do, in an index by inner product.

    A translation lies aside of the true vector, so its cosine to a query that it answers is less, and native rows push it
    out. With this length the best products of a sample of queries are alike, on average, with either kind.

    Args:
        native: `(n, d)`, rows by the index's encoder.
        translated: `(m, d)`, translated rows, of texts of the same kind. If the two kinds differ in number, or in what
            they are about, a fair share is not one half, and the longest rows of the smaller kind are too long.
        sample: `(q, d)`, queries like those to come, by the index's encoder; some hundreds.
        k: answers that a query looks at.

    Returns:
        The length, above 1 where translations are inexact.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, fewer than `k` rows of a kind, or translated rows
            that have no positive product with the queries.
    """
    native = check_embeddings(native, "native")
    dim = native.shape[1]
    sides = {"native": native, "translated": check_embeddings(translated, "translated", dim)}
    queries = unit_rows(check_embeddings(sample, "sample", dim).float())
    best = {}
    for name, rows in sides.items():
        if not 0 < k <= len(rows):
            raise ValueError(f"`k` must be between 1 and the {len(rows)} rows of `{name}`, got {k}.")
        columns = unit_rows(rows.float()).T
        best[name] = sum(top(part @ columns, k)[0].sum().item() for part in queries.split(BLOCK))
    if best["translated"] <= 0 or best["native"] <= 0:
        raise ValueError("`sample` has no positive products with rows of both kinds: they are of another space.")
    return best["native"] / best["translated"]


__all__ = ["fair_length"]
