"""Which rows of a space an alignment looks at: none twice, and none that is garbage beside the others."""

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from ..model.modeling_vec2vec import check_embeddings
from .duplicates import unique_rows

# Rows of more than ten times the usual length, or less than a thousandth of it (an empty text, zeros), are garbage. One of
# ten times among 1,000 holds a tenth of the variance, one of a million times all of it.
LONGEST, SHORTEST = 10.0, 1e-3
# Usual lengths that float32 can compute with: their squares, sums and quotients stay in its range.
LEAST_LENGTH, MOST_LENGTH = 1e-12, 1e12
# Up to one repeated row in so many stays: it changes no shape, and any row less is as another seed to the search.
HARMLESS_PART = 1000
CENTRE_ROWS = 5000  # that tell where the middle of a space is
BLOCK = 8192  # rows measured at a time


@dataclass(frozen=True)
class UsableRows:
    """Rows of a space, and how many were left out.

    Args:
        rows: `(k, d)`, float32.
        repeated: rows that were there already, as they are or but for rounding. Left out unless they are very few.
        outlying: rows far longer or shorter than the others, or far from all of them.
    """

    rows: Tensor
    repeated: int
    outlying: int


def usable_rows(embeddings: Tensor, name: str, device: torch.device) -> UsableRows:
    """Leave out repeated and outlying rows; warn of the latter.

    Args:
        embeddings: `(n, d)`, raw vectors of a space.
        name: of the argument, for messages.
        device: for the rows.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, except single ones of zeros or of huge values; for
            a space whose usual length float32 cannot compute with.
    """
    # In one order in memory, which sums, and so a search, would tell.
    given = check_embeddings(embeddings, name, only_finite=True).detach().contiguous()
    lengths = _lengths(given)
    usual_length = lengths.median().item()
    if not usual_length:
        zeros = int((lengths == 0).sum())
        raise ValueError(f"`{name}` has {zeros} rows of only zeros among {len(given)}. Drop or re-embed them.")
    if not LEAST_LENGTH < usual_length < MOST_LENGTH:
        raise ValueError(
            f"`{name}` has rows with a usual length of {usual_length:.1e}, which float32 cannot compute with. Scale all of "
            "them, for instance to a usual length of 1, and those that are translated later in the same way."
        )
    inside = (lengths <= LONGEST * usual_length) & (lengths >= SHORTEST * usual_length)
    rows = _only(given, inside).to(device).float()
    unique = unique_rows(rows)
    repeated = len(rows) - len(unique)
    if repeated * HARMLESS_PART <= len(rows):
        unique = torch.arange(len(rows), device=rows.device)
    else:
        rows = rows[unique]
    # Once more from the middle, where copies do not count any more: a space may lie far from the origin.
    distances = _lengths(rows, rows[:: max(1, len(rows) // CENTRE_ROWS)].median(0).values)
    near = distances <= LONGEST * distances.median()
    outlying = len(given) - int(inside.sum()) + len(rows) - int(near.sum())
    if outlying:
        where = torch.arange(len(given))[inside.cpu()][unique.cpu()][~near.cpu()]
        where = torch.cat([(~inside).nonzero().flatten().cpu(), where])
        first = int(where.min())
        warnings.warn(
            f"`{name}`: {outlying} of {len(given)} rows are left out of the alignment, for they are far longer or shorter "
            f"than the others or far from all of them; the first is at index {first}, its length {lengths[first]:.2g}, the "
            f"usual one {usual_length:.2g}. See what made them.",
            stacklevel=6,  # of whoever called `align`, past its decorators
        )
    return UsableRows(_only(rows, near), repeated, outlying)


def _only(rows: Tensor, mask: Tensor) -> Tensor:
    return rows if mask.all() else rows[mask]


def _lengths(rows: Tensor, centre: Tensor | float = 0.0) -> Tensor:
    """Distances `(n,)` from a point, in float64: squares of large values leave the range of float32."""
    lengths = []
    for block in rows.split(BLOCK):
        block = block.double() - centre
        peaks = block.abs().amax(1).clamp_min(torch.finfo(torch.float64).tiny)
        lengths.append((block / peaks[:, None]).norm(dim=1) * peaks)
    return torch.cat(lengths)
