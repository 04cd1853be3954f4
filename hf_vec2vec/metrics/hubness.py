"""Search that hubs do not lead astray.

Some rows of a store lie near to many queries, whatever these ask for, and crowd out the rows that were meant. Translated
vectors meet them more often than others, for translations are averages. How much of a hub a row is, any queries of the kind
tell, without their partners: the mean cosine to those that lie nearest to it. Taken off its cosines, it leaves a ranking
that needs one more coordinate in any index that compares by inner product.

Source: cross-domain similarity local scaling (CSLS), Conneau et al., "Word translation without parallel data", 2018, section
2.3: `2 cos(q, s) - r(q) - r(s)`, with r the mean cosine to the nearest rows of the other side. Penalties here are r / 2.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..data.devices import in_full_precision
from ..data.progress import progress_bar
from ..model.modeling_vec2vec import check_embeddings
from .selection import largest
from .units import unit_rows

NEIGHBOURS = 10  # that tell how much of a hub a row is, as in the paper


def penalties(cosines: Tensor, k: int = NEIGHBOURS, *, dim: int = 1, approximate: bool = False) -> Tensor:
    """What is to be taken off the cosines of each row or column: half the mean of its `k` largest.

    Args:
        cosines: `(m, n)`.
        k: how many are averaged; all, if there are fewer.
        dim: 1 for each row, 0 for each column.
        approximate: about the `k` largest, several times as fast; entries must come in random order. See `largest`.

    Returns:
        `(m,)` or `(n,)`, in cosines.
    """
    k = min(k, cosines.shape[dim])
    nearest = largest(cosines, k, dim) if approximate else cosines.topk(k, dim=dim, sorted=False).values
    return nearest.mean(dim) / 2


@in_full_precision
def hub_penalties(store: Tensor, sample: Tensor, *, k: int = NEIGHBOURS, block: int = 2048) -> Tensor:
    """[`penalties`] of stored rows, by a sample of queries. A query's own penalty would not change the order of its answers.

    Args:
        store: `(m, d)`, rows that are searched.
        sample: `(n, d)`, queries like those to come, in the space of `store`: of 1,000 rows a gain, of 10,000 a better one.
        k: queries that are averaged.
        block: rows of `store` compared at a time.

    Returns:
        `(m,)`, in cosines.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, fewer than `k` of `sample`, or a `block` of none.
    """
    store = check_embeddings(store, "store")
    sample = check_embeddings(sample, "sample", store.shape[1])
    if not 0 < k <= len(sample):
        raise ValueError(f"`k` must be between 1 and the {len(sample)} rows of `sample`, got {k}.")
    if block < 1:
        raise ValueError(f"`block` must be at least 1 row, got {block}.")
    queries = unit_rows(sample.float()).T
    blocks = progress_bar(store.split(block), desc="hubs", unit="block", delay=2)  # a million rows take minutes
    return torch.cat([penalties(unit_rows(rows.float()) @ queries, k) for rows in blocks])


def hub_corrected(store: Tensor, sample: Tensor, *, k: int = NEIGHBOURS) -> Tensor:
    """Rows for an index that compares by inner product: norm 1, and [`hub_penalties`] as one more coordinate.

    Args:
        store: `(m, d)`, rows that are searched.
        sample: `(n, d)`, queries like those to come, in the space of `store`.
        k: queries that are averaged.

    Returns:
        `(m, d + 1)`, to be asked with [`hub_queries`].

    Raises:
        TypeError, ValueError: as `hub_penalties`.
    """
    penalties = hub_penalties(store, sample, k=k)
    return torch.cat([unit_rows(check_embeddings(store, "store")), -penalties[:, None]], dim=1)


def hub_queries(queries: Tensor) -> Tensor:
    """Queries `(n, d)` for an index of [`hub_corrected`] rows, `(n, d + 1)`; errors as `check_embeddings`."""
    return F.pad(unit_rows(check_embeddings(queries, "queries")), (0, 1), value=1.0)
