"""LanceDB: tables of a folder."""

import os
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from .base import FORMS, Address, Found, Id, RenamingEngine, Rows, VectorStore, needs
from .layout import Layout, find_layout, layout_like, matrix

FORM = FORMS["lancedb"]


class LanceEngine(RenamingEngine):
    """A folder of tables.

    Args:
        address: of a store in it.
        id_column: with the ids; default: `id`.
    """

    def __init__(self, address: Address, id_column: str | None):
        with needs("lancedb"):
            import lancedb
        self.id_column = id_column
        if not os.path.isdir(address.place):
            raise FileNotFoundError(f"{str(address)!r}: there is no folder {address.place!r}. An address is {FORM}.")
        self.database = lancedb.connect(address.place)

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        return os.path.isdir(_folder(address))

    def open(self, address: Address) -> "LanceTable":
        """See [`Engine`]."""
        if not self.exists(address):
            raise FileNotFoundError(f"{str(address)!r}: there is no such table. An address is {FORM}.")
        table = self.database.open_table(address.name)
        column = _vector_column(table.schema, address)
        dim = table.schema.field(column).type.list_size
        layout = find_layout(table.schema, str(address), column, dim, self.id_column)
        if layout.id is None:
            raise ValueError(f"{str(address)!r} has no column `id`. Name the one with the ids: `id_column`.")
        return LanceTable(address, table, layout)

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> "LanceTable":
        """See [`Engine`]."""
        layout = layout_like(source, dim, "vector")
        if layout.id is None:
            raise ValueError(f"`from` has no ids, and {str(address)!r} needs some. Name their column: `id_column`.")
        if not self.exists(address):
            self.database.create_table(address.name, schema=layout.schema)
        return LanceTable(address, self.database.open_table(address.name), layout)

    def rename(self, old: Address, new: Address) -> None:
        """By the folder: LanceDB itself renames none."""
        os.rename(_folder(old), _folder(new))


def _folder(address: Address) -> str:
    return os.path.join(address.place, f"{address.name}.lance")


def _vector_column(schema: pa.Schema, address: Address) -> str:
    vectors = [field.name for field in schema if pa.types.is_fixed_size_list(field.type)]
    if address.vector:
        if address.vector not in vectors:
            raise ValueError(
                f"{str(address)!r}: no column of vectors has this name; there are {', '.join(vectors) or 'none'}."
            )
        return address.vector
    if len(vectors) != 1:
        raise ValueError(f"{str(address)!r} has {len(vectors)} columns of vectors. Name one: {FORM}.")
    return vectors[0]


class LanceTable(VectorStore):
    """One table.

    Args:
        address: of it.
        table: of LanceDB.
        layout: its columns.
    """

    block_rows = 16_384

    def __init__(self, address: Address, table: Any, layout: Layout):
        self.shown, self.table, self.layout, self.dim = str(address), table, layout, layout.dim
        self.schema, self.id = layout.payload_schema(), layout.id or ""

    def count(self) -> int:
        """See [`VectorStore`]."""
        return self.table.count_rows()

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order of the table. The cursor is a number of rows."""
        names = self.layout.schema.names if payload else [self.id, self.layout.vector]
        first = cursor or 0
        while True:
            found = self.table.search().select(names).offset(first).limit(rows).to_arrow()
            if not len(found):
                return
            beside = self.layout.payload(found) if payload else None
            vectors = matrix(found[self.layout.vector], self.dim)
            yield Rows(self.layout.ids(found, first), vectors, beside, first, first + len(found))
            first += len(found)

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """See [`VectorStore`]. Looks first where the source has them, which is where they are unless rows have moved."""
        found = self.layout.found(self.table.search().offset(first).limit(len(ids)).to_arrow())
        found = {id: found[id] for id in ids if id in found}
        if missing := [id for id in ids if id not in found]:
            rows = self.table.search().where(self._among(missing)).limit(len(missing)).to_arrow()
            found |= self.layout.found(rows)
        return found

    def _among(self, ids: Sequence[Id]) -> str:
        listed = ", ".join(str(id) if isinstance(id, int) else "'" + id.replace("'", "''") + "'" for id in ids)
        return f"`{self.id}` IN ({listed})"

    def add(self, rows: Rows) -> None:
        """See [`VectorStore`]."""
        self.table.add(self.layout.table(rows, self.shown))

    def replace(self, rows: Rows) -> None:
        """See [`VectorStore`]. The rows move to the end."""
        self.delete(rows.ids)
        self.add(rows)

    def delete(self, ids: Sequence[Id]) -> None:
        """See [`VectorStore`]."""
        self.table.delete(self._among(ids))


__all__ = ["LanceEngine", "LanceTable"]
