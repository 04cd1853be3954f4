"""Columns of texts and vectors: a table of them, a checked tensor of the rows."""

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset
from torch import Tensor

from ..model.modeling_vec2vec import check_embeddings

TEXT, EMBEDDING = "text", "embedding"


def to_table(embeddings: Tensor | np.ndarray, texts: list[str] | None = None) -> pa.Table:
    """A table with the column `embedding` (fixed-size lists) and, where texts are known, `text`.

    Args:
        embeddings: `(n, d)`.
        texts: the n texts that they are made of.
    """
    values = np.ascontiguousarray(embeddings)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    columns = {EMBEDDING: column} if texts is None else {TEXT: pa.array(texts, pa.string()), EMBEDDING: column}
    return pa.table(columns)


def to_dataset(embeddings: Tensor | np.ndarray, texts: list[str] | None = None) -> Dataset:
    """`to_table` as a `datasets.Dataset`."""
    return Dataset(to_table(embeddings, texts))


def vectors(data: Dataset | pa.Table | Tensor | np.ndarray, name: str, dim: int | None = None) -> Tensor:
    """Checked float32 rows `(n, d)` of a data set or an array.

    Args:
        data: a data set or table with a column of vectors, or the vectors.
        name: of the space, for errors.
        dim: expected dimension.

    Raises:
        TypeError, ValueError: see `check_embeddings`; also for rows of unequal length and missing rows.
    """
    if not isinstance(data, Dataset | pa.Table):
        return check_embeddings(data, name, dim).float().cpu()
    table = data if isinstance(data, pa.Table) else data.with_format("arrow")[:]
    column = table[vector_column(data, name)].combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ValueError(f"`{name}` has vectors of the type {column.type}; it must be a list of numbers a row.")
    if not (pa.types.is_floating(column.type.value_type) or pa.types.is_integer(column.type.value_type)):
        raise ValueError(f"`{name}` has vectors with elements of the type {column.type.value_type}, not numbers.")
    if column.null_count:
        raise ValueError(f"`{name}` has {column.null_count} row(s) without a vector. Drop or re-embed them.")
    lengths = column.value_lengths().unique()
    if len(lengths) > 1:
        raise ValueError(f"`{name}` has rows of unequal lengths {sorted(lengths.to_pylist())[:5]}; all must be alike.")
    values = column.flatten().to_numpy(zero_copy_only=False)
    # A copy, for Arrow's memory is read-only and torch cannot promise to keep it so.
    rows = torch.from_numpy(values.reshape(len(column), lengths[0].as_py() if len(lengths) else 0).copy())
    return check_embeddings(rows, name, dim).float()


def vector_column(data: Dataset | pa.Table, name: str) -> str:
    """Name of the column with the vectors: `embedding`, or the only one that holds lists."""
    if EMBEDDING in data.column_names:
        return EMBEDDING
    schema = data.schema if isinstance(data, pa.Table) else data.features.arrow_schema
    nested = [c for c in data.column_names if pa.types.is_nested(schema.field(c).type)]
    if len(nested) == 1:
        return nested[0]
    raise ValueError(f"`{name}` has the columns {data.column_names}; name the one with the vectors '{EMBEDDING}'.")
