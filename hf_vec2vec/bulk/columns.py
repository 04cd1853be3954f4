"""Columns of vectors in Arrow tables: which one it is, its rows as a tensor, and back."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from ..data.columns import EMBEDDING


@dataclass
class Block:
    """Rows that are read and translated at a time.

    Args:
        rows: `(n, d)`, of any floating dtype. Rows without a vector are NaN.
        first: number of the first row in its file or stream.
        others: columns beside the vectors, where the format has any and they are wanted.
    """

    rows: Tensor
    first: int
    others: pa.Table | None = None


def vector_field(schema: pa.Schema, column: str | None) -> str:
    """Name of the column with the vectors: `column`, `embedding`, or the only one that holds lists.

    Raises:
        ValueError: if there is no such column.
    """
    nested = [field.name for field in schema if pa.types.is_nested(field.type)]
    if column is None and EMBEDDING in schema.names:
        column = EMBEDDING
    if column is None and len(nested) == 1:
        column = nested[0]
    if column not in schema.names:
        asked = "" if column is None else f", not {column!r}"
        raise ValueError(f"it has the columns {schema.names}{asked}; name the one with the vectors with `column`.")
    kind = schema.field(column).type
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)):
        raise ValueError(f"its column {column!r} is of the type {kind}; it must be a list of numbers a row.")
    if not pa.types.is_floating(kind.value_type):
        raise TypeError(
            f"its column {column!r} holds {kind.value_type} values; embeddings are floating-point. If they are quantised, "
            "scale them back to floats first."
        )
    return column


def vector_dimension(kind: pa.DataType) -> int:
    """Length of the lists, 0 where the type leaves it open."""
    return kind.list_size if pa.types.is_fixed_size_list(kind) else 0


def table_block(table: pa.Table, name: str, dim: int, first: int, where: str, *, others: bool) -> Block:
    """Take the vectors of a table out of their column.

    Args:
        table: some rows.
        name: of the column.
        dim: of the vectors.
        first: number of the first row, for errors and records.
        where: the file or stream, for errors.
        others: keep the other columns.

    Raises:
        ValueError: for a row of another dimension.
    """
    column = table[name].combine_chunks()
    column = pa.concat_arrays(column.chunks) if isinstance(column, pa.ChunkedArray) else column
    lengths = column.value_lengths()
    if not pc.all(pc.equal(lengths, dim)).as_py():  # null is skipped
        row = pc.index(pc.fill_null(pc.not_equal(lengths, dim), False), True).as_py()
        raise ValueError(
            f"`input` {where!r}, row {first + row:,}: a vector of dimension {lengths[row]}; the rows before it have {dim}."
        )
    values = column.flatten().to_numpy(zero_copy_only=False)  # nulls within a vector become NaN, null vectors are left out
    if column.null_count:
        rows = np.full((len(column), dim), np.nan, dtype=np.float32)
        rows[column.is_valid().to_numpy(zero_copy_only=False)] = values.reshape(-1, dim)
    else:
        rows = np.array(values.reshape(len(column), dim))  # Arrow's memory is read-only
    return Block(torch.from_numpy(rows), first, table.drop_columns(name) if others else None)
