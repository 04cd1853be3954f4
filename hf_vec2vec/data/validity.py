"""Which rows are no vectors to compute with, and what is done about them."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from .blocks import Block

InvalidRows = Literal["stop", "drop"]
# Magnitudes of a vector's largest value that float32 can compute with: squares of smaller ones vanish beside the term that
# keeps norms from zero, sums of squares and their products of larger ones reach infinity.
SMALLEST, LARGEST = 1e-12, 1e12


def invalid_mask(rows: Tensor) -> Tensor | None:
    """Which rows `(n, d)` hold NaN, infinity or too large values, or only zeros or too small ones.

    Returns:
        `(n,)` booleans; `None` if all rows are valid, which is quickly seen.
    """
    rows = rows.float()
    if rows.device.type == "cpu":
        # By NumPy, in this thread alone: starting and awaiting others costs more than such a pass. NaN compares as False.
        seen = rows.numpy()
        with np.errstate(over="ignore", invalid="ignore"):
            if np.einsum("ij,ij->", seen, seen) <= LARGEST**2 and (np.abs(seen[:, :1]) >= SMALLEST).all():
                return None
    peaks = rows.abs().amax(1)  # NaN or infinite if any value is
    invalid = ~((peaks >= SMALLEST) & (peaks <= LARGEST))
    return invalid if bool(invalid.any()) else None


def what_is_wrong(row: Tensor) -> str:
    """In words, of an invalid row."""
    row = row.float()
    if bool(row.isnan().all()):
        return "no vector, or NaN or infinite values"
    if not bool(row.isfinite().all()):
        return "NaN or infinite values"
    if bool((row == 0).all()):
        return "only zeros"
    return f"values up to {row.abs().max().item():.0e}, where only {SMALLEST:.0e} to {LARGEST:.0e} can be computed with"


def check_choice(invalid_rows: str, allowed: tuple[str, ...] = ("stop", "drop")) -> None:
    """Raise ValueError for a choice that there is not."""
    if invalid_rows not in allowed:
        raise ValueError(f"`invalid_rows` is {invalid_rows!r}; it must be one of {', '.join(allowed)}.")


def keep_valid(block: Block, invalid_rows: InvalidRows, place: Callable[[int], str]) -> Block:
    """The valid rows of a block, as float32 or float64.

    Args:
        block: what was read.
        invalid_rows: `stop` raises, `drop` leaves invalid rows out.
        place: gives the name of a row of the file.

    Raises:
        ValueError: for an invalid row, which is named.
    """
    rows = block.rows.float() if block.rows.dtype.itemsize == 2 else block.rows
    invalid = invalid_mask(rows)
    if invalid is None:
        return Block(rows, block.first, block.others)
    if invalid_rows == "stop":
        at = int(invalid.nonzero()[0, 0])
        raise ValueError(
            f"{place(block.first + at)}: {what_is_wrong(rows[at])}. {int(invalid.sum()):,} of the {len(rows):,} rows from "
            f"{block.first:,} on are such. Embed them anew, or set `invalid_rows` to 'drop'."
        )
    others = None if block.others is None else block.others.filter(pa.array((~invalid).numpy()))
    return Block(rows[torch.logical_not(invalid)], block.first, others)


__all__ = ["LARGEST", "SMALLEST", "InvalidRows", "check_choice", "invalid_mask", "keep_valid", "what_is_wrong"]
