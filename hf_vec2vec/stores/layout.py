"""Which columns of an Arrow table hold ids, vectors and payload: for files and LanceDB."""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from ..data.columns import EMBEDDING
from .base import Found, Id, Rows, VectorStore, plain_json

ID, PAYLOAD = "id", "payload"
OF_DOCUMENTS = {b"hf_vec2vec": b"payload is JSON"}  # told by the table itself, so that what reads it gives documents again


@dataclass
class Layout:
    """Columns of a table of vectors.

    Args:
        schema: of all columns.
        id: column with the ids; `None` where rows have none but their numbers.
        vector: column with the vectors.
        dim: of the vectors.
    """

    schema: pa.Schema
    id: str | None
    vector: str
    dim: int

    @property
    def documents(self) -> bool:
        """Whether the payload is one column of JSON."""
        return (self.schema.metadata or {}).get(b"hf_vec2vec") == OF_DOCUMENTS[b"hf_vec2vec"]

    @property
    def beside(self) -> list[str]:
        """Columns of the payload."""
        return [name for name in self.schema.names if name not in (self.id, self.vector)]

    def payload_schema(self) -> pa.Schema | None:
        """Types of the payload's columns; `None` for documents."""
        return None if self.documents else pa.schema([self.schema.field(name) for name in self.beside])

    def table(self, rows: Rows, shown: str) -> pa.Table:
        """Rows as a table.

        Raises:
            ValueError: for an id or a value that a column cannot hold.
        """
        columns: dict[str, Any] = {self.vector: vector_column(rows.vectors, self.schema.field(self.vector).type)}
        payload = rows.payload or [{} for _ in rows.ids]
        for name in self.schema.names:
            kind = self.schema.field(name).type
            if name == self.vector:
                continue
            if name == self.id:
                values: list = list(rows.ids)
            elif self.documents:
                values = [plain_json(row, shown, id) for id, row in zip(rows.ids, payload)]
            else:
                values = [row.get(name) for row in payload]
            try:
                columns[name] = pa.array(values, kind)
            except (pa.ArrowException, TypeError, ValueError) as error:
                raise ValueError(
                    f"`to` {shown!r}: column {name!r} of type {kind} cannot hold the values from row {rows.ids[0]!r} on: "
                    f"{error}"
                ) from error
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema)

    def payload(self, table: pa.Table) -> list[dict[str, Any]]:
        """Payload of each row."""
        if not self.beside:
            return [{} for _ in range(len(table))]
        if self.documents:
            return [json.loads(text) for text in table[PAYLOAD].to_pylist()]
        return table.select(self.beside).to_pylist()

    def found(self, table: pa.Table) -> dict[Id, Found]:
        """The rows of a table by their ids."""
        vectors, payload = matrix(table[self.vector], self.dim), self.payload(table)
        return {id: Found(*row) for id, *row in zip(table[self.id or ID].to_pylist(), vectors, payload)}

    def ids(self, table: pa.Table, first: int) -> list[Id]:
        """Ids of the rows of a table that begins with the row of number `first`.

        Raises:
            ValueError: for a row without one.
        """
        found = table[self.id or ID].to_pylist()
        if None in found:
            raise ValueError(f"`from`: row {first + found.index(None):,} has no id in column {self.id!r}.")
        return found


def layout_like(source: VectorStore, dim: int, vector: str = EMBEDDING) -> Layout:
    """Columns for what a source holds: its own, if it has columns, else ids, vectors and documents."""
    kind = pa.list_(pa.float32(), dim)
    like = getattr(source, "layout", None)
    if isinstance(like, Layout):
        at = like.schema.get_field_index(like.vector)
        return Layout(like.schema.set(at, pa.field(like.vector, kind)), like.id, like.vector, dim)
    first = next(source.read(None, 1, payload=False), None)
    numbers = first is not None and isinstance(first.ids[0], int)
    fields = [(ID, pa.int64() if numbers else pa.string()), (vector, kind), (PAYLOAD, pa.string())]
    return Layout(pa.schema(fields, metadata=OF_DOCUMENTS), ID, vector, dim)


def find_layout(schema: pa.Schema, shown: str, vector: str, dim: int, id_column: str | None) -> Layout:
    """Columns of a table that is there.

    Raises:
        ValueError: for ids that are neither whole numbers nor texts, or a column that is not there.
    """
    if id_column is not None and id_column not in schema.names:
        raise ValueError(f"`id_column` is {id_column!r}, but {shown!r} has the columns {', '.join(schema.names)}.")
    id = id_column or (ID if ID in schema.names else None)
    if id is not None and not (pa.types.is_integer(kind := schema.field(id).type) or _is_text(kind)):
        raise ValueError(f"{shown!r}: ids must be whole numbers or texts, and column {id!r} is of type {kind}.")
    return Layout(schema, id, vector, dim)


def vector_column(rows: np.ndarray, kind: pa.DataType) -> pa.Array:
    """Vectors `(n, d)` as a column; rows that are NaN are missing."""
    flat = pa.array(np.ascontiguousarray(rows, "f4").reshape(-1))
    missing = np.isnan(rows).all(1) if np.isnan(rows).any() else None
    mask = None if missing is None or not missing.any() else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(flat, rows.shape[1], mask=mask).cast(kind)


def matrix(column: pa.ChunkedArray, dim: int) -> np.ndarray:
    """A column of vectors as `(n, d)`, float32; missing ones are NaN.

    Raises:
        ValueError: for a vector of another length.
    """
    array = column.combine_chunks()
    result = np.full((len(array), dim), np.nan, "f4")
    there = np.asarray(array.is_valid())
    flat = np.asarray(array.drop_null().flatten(), "f4")
    if len(flat) != there.sum() * dim:
        raise ValueError(f"`from`: not all vectors have the dimension {dim}.")
    result[there] = flat.reshape(-1, dim)
    return result


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


__all__ = ["ID", "Layout", "find_layout", "layout_like", "matrix", "vector_column"]
