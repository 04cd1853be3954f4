"""Columns of tables: their names, which one holds the vectors, its rows as an array, and back."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from datasets import Dataset, Features
from torch import Tensor

from ..model.modeling_vec2vec import check_embeddings

logger = logging.getLogger(__name__)
ID, TEXT, EMBEDDING, LABEL = "id", "text", "embedding", "label"
HEAD = 64  # first rows of a table that tell which column holds vectors
BRACKETS = "[](){} \t\r\n,"  # around a vector that is written as a string: by pgvector, Postgres, pandas, NumPy
NO_VECTOR = ("", "null", "NULL", "None", "nan", "NaN", "\\N")  # what programs write in place of one
NO_NUMBER = ("null", "None", "NULL", "NA")  # in a string of numbers


class RowError(ValueError):
    """What is wrong with a row; the message begins with its name."""


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
    if not len(table):
        raise ValueError(f"`{name}` is empty: it has no rows.")
    column = list_array(table[vector_column(table, f"`{name}`")], lambda row: f"`{name}`, row {row:,}")
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy()
    if missing := int((lengths == 0).sum()):
        raise ValueError(f"`{name}` has {missing} row(s) without a vector. Drop or re-embed them.")
    if len(found := np.unique(lengths)) > 1:
        raise ValueError(f"`{name}` has rows of unequal lengths {found.tolist()[:5]}; all must be alike.")
    rows = vector_rows(column, int(found[0]), lambda row: f"`{name}`, row {row:,}")
    return check_embeddings(torch.from_numpy(rows), name, dim).float()


def vector_column(table: pa.Table, where: str, column: str | None = None) -> str:
    """Name of the column with the vectors: `column`, else `embedding`, else the only one that can hold any.

    Lists of floating-point numbers can, and where there are none strings such as `"[0.1, 0.2]"`.

    Args:
        table: some rows; `HEAD` are enough.
        where: what the table is of, for errors.
        column: what was asked for.

    Raises:
        ValueError: if there is no such column, if several can hold vectors, or the column holds something else.
        TypeError: if it holds lists of integers.
    """
    able = _candidates(table)
    if column is None:
        column = EMBEDDING if EMBEDDING in table.column_names else able[0] if len(able) == 1 else None
    if column is None:
        found = f"of which {able} could hold the vectors" if able else "of which none holds vectors"
        raise ValueError(
            f"{where} has the columns {table.column_names}, {found}; name the one with the vectors with `column`, or call "
            f"it {EMBEDDING!r}."
        )
    if column not in table.column_names:
        raise ValueError(f"{where} has the columns {table.column_names}, not {column!r}; name the one with the vectors.")
    if twice := sorted({name for name in table.column_names if table.column_names.count(name) > 1}):
        raise ValueError(
            f"{where} has several columns of the name {twice[0]!r}. Rename them: one name must mean one column."
        )
    kind = table.schema.field(column).type
    element = _element(kind)
    if element is None and column not in able:
        first = _first_string(table[column]) if _is_text(kind) else ""
        found = f"strings that are no vectors of numbers, such as {_shown(first)!r}" if first else f"values of type {kind}"
        raise ValueError(f"{where} has in the column {column!r} {found}; it must be a list of numbers a row.")
    if element is not None and pa.types.is_integer(element):
        raise TypeError(
            f"{where} has in the column {column!r} {element} values; embeddings are floating-point. If they are quantised, "
            "scale them back to floats first."
        )
    if element is not None and not _is_float(element):
        raise ValueError(f"{where} has in the column {column!r} vectors with elements of the type {element}, not numbers.")
    return column


def _candidates(table: pa.Table) -> list[str]:
    kinds = {field.name: _element(field.type) for field in table.schema}
    if lists := [name for name, element in kinds.items() if element is not None and _is_float(element)]:
        return lists
    if lists := [name for name, element in kinds.items() if element is not None]:
        return lists
    return [field.name for i, field in enumerate(table.schema) if _is_text(field.type) and _has_vectors(table.column(i))]


def foreign_columns(schema: pa.Schema) -> dict[str, str]:
    """Names and types of columns that a data set of `datasets` cannot hold, such as maps."""
    foreign = {}
    for field in schema:
        try:
            Features.from_arrow_schema(pa.schema([field]))
        except ValueError:
            foreign[field.name] = str(field.type)
    return foreign


def without_foreign(table: pa.Table, path: str | Path) -> pa.Table:
    """The table of a file without `foreign_columns`, of which a warning tells."""
    foreign = foreign_columns(table.schema)
    tell_foreign(foreign, path)
    return table.drop_columns(list(foreign))


def tell_foreign(foreign: dict[str, str], path: str | Path) -> None:
    """Warn of columns that are left out; see `foreign_columns`."""
    if foreign:
        logger.warning("%s: columns of types that data sets do not know are left out: %s.", path, foreign)


def check_ids(id_column: str | None, schema: pa.Schema | None, others: Sequence[str], where: str) -> None:
    """Raise ValueError if the column with the ids is not there, or of a type that no data set can hold.

    Args:
        id_column: its name, if there is one.
        schema: of all columns.
        others: names of the columns beside the vectors.
        where: what the columns are of, for errors.
    """
    if id_column is None:
        return
    if schema is None or id_column not in others:
        raise ValueError(f"{where} has the columns {list(others)} beside the vectors, not {id_column!r}.")
    if foreign := foreign_columns(pa.schema([schema.field(id_column)])):
        raise ValueError(
            f"{where} has in the column {id_column!r}, `id_column`, values of type {foreign[id_column]}, which no data set "
            "can hold. Rewrite them as texts."
        )


def _element(kind: pa.DataType) -> pa.DataType | None:
    """Type of the elements of a list type, `None` for other types."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    types = pa.types
    tests = (types.is_list, types.is_large_list, types.is_fixed_size_list, types.is_list_view, types.is_large_list_view)
    return kind.value_type if any(test(kind) for test in tests) else None


def _is_float(kind: pa.DataType) -> bool:
    return pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _has_vectors(column: pa.ChunkedArray) -> bool:
    """Whether the first string that says anything is a list of numbers in brackets."""
    first = _first_string(column)
    if first[:1] not in ("[", "{", "("):
        return False
    try:
        _parsed(pa.array([first]))
    except pa.ArrowInvalid:
        return False
    return True


def _first_string(column: pa.ChunkedArray) -> str:
    """The first that says anything, empty if none does."""
    strings = (value.as_py() for value in column)
    return next((text.strip() for text in strings if text is not None and text.strip() not in NO_VECTOR), "")


def _shown(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:40]} … {text[-20:]}"


def vector_dimension(kind: pa.DataType) -> int:
    """Length of the lists, 0 where the type leaves it open."""
    kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    return kind.list_size if pa.types.is_fixed_size_list(kind) else 0


def first_dimension(column: pa.ChunkedArray | pa.Array, place: Callable[[int], str]) -> int:
    """Length of the first vector of a column, 0 if it holds none."""
    lengths = pc.fill_null(pc.list_value_length(list_array(column, place)), 0).to_numpy(zero_copy_only=False)
    return int(lengths[lengths > 0][0]) if (lengths > 0).any() else 0


def list_array(column: pa.ChunkedArray | pa.Array, place: Callable[[int], str]) -> pa.Array:
    """A column of vectors as one array of lists, whatever its type.

    Args:
        column: as `vector_column` chose it.
        place: gives the name of a row, by its number in `column`, for errors.

    Raises:
        ValueError: for a string that is no vector.
    """
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    array = pa.concat_arrays(array.chunks) if isinstance(array, pa.ChunkedArray) else array
    array = array.storage if isinstance(array, pa.ExtensionArray) else array
    element = _element(array.type)
    if element is None:
        return _parsed_rows(array.cast(pa.large_string()), place)
    if pa.types.is_decimal(element):
        return array.cast(pa.large_list(pa.float64()))
    if pa.types.is_list_view(array.type) or pa.types.is_large_list_view(array.type):
        return _lists(array.flatten(), array)  # Arrow's own cast of a slice gives lists of negative length
    return array


def _lists(numbers: pa.Array, lists: pa.Array) -> pa.Array:
    """Lists as long as `lists` are, of other elements; empty where those are null."""
    lengths = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    return pa.LargeListArray.from_arrays(pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int64()), numbers)


def vector_rows(array: pa.Array, dim: int, place: Callable[[int], str]) -> np.ndarray:
    """Rows `(n, dim)` of an array of lists; NaN for rows without a vector.

    Args:
        array: see `list_array`.
        dim: of the vectors.
        place: gives the name of a row, for errors.

    Raises:
        ValueError: for a row of another dimension.
    """
    lengths = pc.fill_null(pc.list_value_length(array), 0).to_numpy(zero_copy_only=False)
    missing = (lengths == 0) if dim else np.zeros(len(lengths), bool)
    if (wrong := ~missing & (lengths != dim)).any():
        row = int(wrong.argmax())
        raise RowError(f"{place(row)}: a vector of dimension {lengths[row]}; the rows before it have {dim}.")
    values = array.flatten().to_numpy(zero_copy_only=False)  # nulls within a vector become NaN, null vectors are left out
    if not missing.any():
        return np.array(values.reshape(len(array), dim))  # a copy: Arrow's memory is read-only
    values = values if values.dtype.kind == "f" else values.astype(np.float64)
    rows = np.full((len(array), dim), np.nan, dtype=values.dtype)
    rows[~missing] = values.reshape(-1, dim)
    return rows


def _parsed_rows(strings: pa.Array, place: Callable[[int], str]) -> pa.Array:
    try:
        return _parsed(strings)
    except pa.ArrowInvalid:
        for row in range(len(strings)):
            try:
                _parsed(strings[row : row + 1])
            except pa.ArrowInvalid:
                raise RowError(
                    f"{place(row)}: a string that is no vector of numbers: {_shown(strings[row].as_py())!r}."
                ) from None
        raise


def _parsed(strings: pa.Array) -> pa.Array:
    """Vectors out of strings: numbers with commas or spaces between them, in brackets of any kind."""
    plain = pc.replace_substring_regex(strings.cast(pa.large_string()), r"np\.float\d+\(([^()]*)\)", r"\1")
    plain = pc.utf8_trim(plain, characters=BRACKETS)
    plain = pc.if_else(pc.is_in(plain, pa.array(NO_VECTOR, pa.large_string())), pa.scalar(None, pa.large_string()), plain)
    # Both between numbers: commas are decimal points there, and would double the dimension.
    if pc.any(pc.and_(pc.match_substring(plain, ","), pc.match_substring_regex(plain, r"[^\s,]\s+[^\s,]"))).as_py():
        raise pa.ArrowInvalid("commas and spaces between numbers")
    words = pc.split_pattern(pc.replace_substring_regex(plain, r"\s*,\s*|\s+", ","), ",")
    numbers = words.flatten()
    missing = pc.is_in(numbers, pa.array(NO_NUMBER, pa.large_string()))
    return _lists(pc.if_else(missing, pa.scalar("nan", pa.large_string()), numbers).cast(pa.float64()), words)


__all__ = [
    "EMBEDDING",
    "ID",
    "LABEL",
    "TEXT",
    "RowError",
    "check_ids",
    "first_dimension",
    "foreign_columns",
    "list_array",
    "tell_foreign",
    "to_dataset",
    "to_table",
    "vector_column",
    "vector_dimension",
    "vector_rows",
    "vectors",
    "without_foreign",
]
