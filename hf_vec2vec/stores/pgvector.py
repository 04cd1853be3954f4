"""PostgreSQL with the extension pgvector: a new column beside the old one, or a new table for rows from elsewhere."""

import json
import re
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace as changed
from decimal import Decimal
from functools import partial
from typing import Any, LiteralString, cast
from uuid import UUID

import numpy as np

from .base import BEFORE, FORMS, Address, Engine, Found, Id, Rows, VectorStore, needs, old_vectors_gone, plain_json

FORM = FORMS["pgvector"]
VECTOR, PAYLOAD = "embedding", "payload"
KINDS = {"vector": 1e-5, "halfvec": 2e-3}  # types of vectors, and how exact they are
NUMBERS = {"vector": ">f4", "halfvec": ">f2"}  # how they are sent: dimension and zero, two bytes each, and then these
WIDTHS = {"smallint": 2, "integer": 4, "bigint": 8}
KEYS = (*WIDTHS, "text", "character varying", "uuid")
DIGITS = 18  # with the point: as many as some programs write of a float, though fewer tell all of it
COPY_BEGIN, COPY_END = b"PGCOPY\n\xff\r\n\0" + bytes(8), b"\xff\xff"  # around the rows of a binary COPY
COLUMNS = """
SELECT a.attname, format_type(a.atttypid, NULL), a.atttypmod, a.attnotnull FROM pg_attribute a
WHERE a.attrelid = to_regclass(%s) AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"""
KEY = """
SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = to_regclass(%s) AND i.indisprimary"""
INDEXES = """
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i
JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey)
WHERE i.indrelid = to_regclass(%s) AND a.attname = %s"""


class PostgresEngine(Engine):
    """A database. A password may stand in the variable PGPASSWORD or in ~/.pgpass instead of the address.

    Args:
        address: of a store in it.
    """

    def __init__(self, address: Address):
        with needs("pgvector"):
            import pgvector.psycopg
            import psycopg
            from psycopg.types.json import set_json_loads
        self.place = address.place
        self.connection = self._connect(address)
        row = self.connection.execute("SELECT count(*) FROM pg_extension WHERE extname = 'vector'").fetchone()
        if not row or not row[0]:
            raise ValueError(
                f"{str(address)!r}: this database lacks the extension pgvector. Who owns it says: CREATE EXTENSION vector"
            )
        pgvector.psycopg.register_vector(self.connection)
        set_json_loads(partial(json.loads, parse_float=_as_float), self.connection)
        self.psycopg = psycopg

    def _connect(self, address: Address) -> Any:
        import psycopg

        try:
            return psycopg.connect(address.place, autocommit=True)
        except psycopg.OperationalError as error:
            said = " ".join(str(error).split())
            raise ConnectionError(f"{str(address)!r}: no connection: {said}. An address is {FORM}.") from error

    def columns(self, table: str) -> dict[str, tuple[str, int, bool]]:
        """Type, its modifier, and whether NULL is forbidden, of each column; none where there is no table."""
        return {name: rest for name, *rest in self.connection.execute(COLUMNS, [_quoted(table)])}

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        found = self.columns(address.name)
        return bool(found) and (not address.vector or address.vector in found)

    def open(self, address: Address) -> "PostgresColumn":
        """See [`Engine`]."""
        if not (found := self.columns(address.name)):
            raise FileNotFoundError(f"{str(address)!r}: there is no such table. An address is {FORM}.")
        vectors = [name for name, (kind, *_) in found.items() if kind in KINDS]
        if address.vector and address.vector not in vectors:
            raise ValueError(
                f"{str(address)!r}: no column of vectors has this name; there are {', '.join(vectors) or 'none'}."
            )
        if not address.vector and len(vectors) != 1:
            raise ValueError(f"{str(address)!r} has {len(vectors)} columns of vectors. Name one: {FORM}.")
        return PostgresColumn(self, address, address.vector or vectors[0])

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> "PostgresColumn":
        """See [`Engine`]."""
        table = _quoted(address.name)
        if isinstance(source, PostgresColumn) and source.engine.place == self.place:
            if address.name != old.name:
                raise ValueError(
                    f"`to` is the table {address.name!r}, and `from` the table {old.name!r} of the same database. Name a "
                    f"new column of the old table: #{old.name}/NEW_COLUMN. Its rows stay where they are."
                )
            if not address.vector or address.vector == source.column:
                raise ValueError(f"`to` {str(address)!r} must name a new column: {FORM}.")
            if address.vector not in self.columns(address.name):
                self.run(f"ALTER TABLE {table} ADD COLUMN {_quoted(address.vector)} {source.kind}({dim})")
            made = PostgresColumn(self, address, address.vector)
            made.inside = True
            return made
        vector = address.vector or VECTOR
        if not self.columns(address.name):
            first = next(source.read(None, 1, payload=False), None)
            key = "bigint" if first is not None and isinstance(first.ids[0], int) else "text"
            self.run(
                f"CREATE TABLE {table} (id {key} PRIMARY KEY, {_quoted(vector)} vector({dim}), {PAYLOAD} jsonb NOT NULL)"
            )
        return PostgresColumn(self, address, vector)

    def run(self, statement: str) -> None:
        """Do what a statement says. Names in it are quoted already."""
        self.connection.execute(cast(LiteralString, statement))

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        if old.name != new.name:
            raise ValueError(
                "`from` and `to` are two tables, whose columns differ. Let your application ask for the new one."
            )
        found, before = self.columns(old.name), resolved.vector + BEFORE
        if before in found and new.vector in found:
            raise FileExistsError(f"`from`: the old column would become {before!r}, which is there. Rename that first.")

    def switch(self, old: Address, new: Address, resolved: Address) -> tuple[Address, Address]:
        """The columns exchange their names in one transaction. The old one then may be NULL, for rows to come."""
        column, before, found = resolved.vector, resolved.vector + BEFORE, self.columns(old.name)
        if before not in found:
            table = _quoted(old.name)
            with self.connection.transaction():
                if found[column][2]:
                    self.run(f"ALTER TABLE {table} ALTER COLUMN {_quoted(column)} DROP NOT NULL")
                self.run(f"ALTER TABLE {table} RENAME COLUMN {_quoted(column)} TO {_quoted(before)}")
                self.run(f"ALTER TABLE {table} RENAME COLUMN {_quoted(new.vector)} TO {_quoted(column)}")
        return changed(old, vector=before), changed(old, vector=column)

    def rollback(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]. The old column stays one that may be NULL: rows written since have no old vector."""
        column, before, found = resolved.vector, resolved.vector + BEFORE, self.columns(old.name)
        if before in found:
            if new.vector in found:
                raise FileExistsError(
                    f"`to`: the new column would become {new.vector!r}, which is there. Rename that first."
                )
            table = _quoted(old.name)
            with self.connection.transaction():
                self.run(f"ALTER TABLE {table} RENAME COLUMN {_quoted(column)} TO {_quoted(new.vector)}")
                self.run(f"ALTER TABLE {table} RENAME COLUMN {_quoted(before)} TO {_quoted(column)}")
        elif not {column, new.vector} <= found.keys():
            raise old_vectors_gone(str(changed(old, vector=before)))

    def resolve(self, address: Address) -> Address:
        """With the name of the column."""
        return changed(address, vector=self.open(address).column)

    def close(self) -> None:
        """See [`Engine`]."""
        self.connection.close()


class PostgresColumn(VectorStore):
    """A column of vectors of a table with a primary key.

    Args:
        engine: of the database.
        address: of the column.
        column: its name.
    """

    unique = True

    def __init__(self, engine: PostgresEngine, address: Address, column: str):
        self.engine, self.shown, self.column, self.table = engine, str(changed(address, vector=column)), column, address.name
        columns = engine.columns(address.name)
        self.kind, modifier, _ = columns[column]
        self.tolerance = KINDS[self.kind]
        keys = [name for (name,) in engine.connection.execute(KEY, [_quoted(address.name)])]
        if len(keys) != 1 or columns[keys[0]][0] not in KEYS:
            raise ValueError(f"{self.shown!r}: the table must have a primary key of one column of a type {', '.join(KEYS)}.")
        (self.key,) = keys
        self.key_type = columns[self.key][0]
        self.beside = [name for name in columns if name not in (self.key, column)]
        self.documents = self.beside == [PAYLOAD] and columns[PAYLOAD][0] == "jsonb"
        self.dim = modifier if modifier > 0 else self._first_dim()

    @property
    def connection(self) -> Any:
        """To the database."""
        return self.engine.connection

    def _first_dim(self) -> int:
        there = f"SELECT vector_dims({_quoted(self.column)}) FROM {self._from()} LIMIT 1"
        row = self.connection.execute(there).fetchone()
        return row[0] if row else 0

    def _from(self) -> str:
        return f"{_quoted(self.table)} AS t WHERE t.{_quoted(self.column)} IS NOT NULL"

    def count(self) -> int:
        """Rows whose column is not NULL."""
        return self.connection.execute(f"SELECT count(*) FROM {self._from()}").fetchone()[0]

    def _selected(self, payload: bool) -> str:
        # As bytes: an object for each vector would cost more than all else that the copy does.
        chosen = f"t.{_quoted(self.key)}, {self.kind}_send(t.{_quoted(self.column)})"
        if not payload:
            return chosen
        if self.documents:
            return f"{chosen}, t.{PAYLOAD}"
        pairs = [f"{_literal(name)}, t.{_quoted(name)}" for name in self.beside]
        # A function takes at most a hundred arguments.
        parts = [f"jsonb_build_object({', '.join(pairs[k : k + 40])})" for k in range(0, max(1, len(pairs)), 40)]
        return f"{chosen}, {' || '.join(parts)}"

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order of the primary key. The cursor is that of the last row."""
        first, key = 0, _quoted(self.key)
        while True:
            behind = "" if cursor is None else f" AND t.{key} > %s::{self.key_type}"
            ask = f"SELECT {self._selected(payload)} FROM {self._from()}{behind} ORDER BY t.{key} LIMIT {rows}"
            found = self.connection.execute(ask, [] if cursor is None else [cursor], binary=True).fetchall()
            if not found:
                return
            ids = [self._id(row[0]) for row in found]
            cursor = ids[-1]
            yield Rows(
                ids,
                self._vectors([row[1] for row in found]),
                [row[2] for row in found] if payload else None,
                first,
                cursor,
            )
            first += len(found)

    def _id(self, key: Any) -> Id:
        return key if isinstance(key, int | str) else str(key)

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """See [`VectorStore`]."""
        among = f"t.{_quoted(self.key)} = ANY(%s::{self.key_type}[])"
        ask = f"SELECT {self._selected(not self.inside)} FROM {self._from()} AND {among}"
        found = self.connection.execute(ask, [list(ids)], binary=True).fetchall()
        vectors = self._vectors([row[1] for row in found])
        return {self._id(row[0]): Found(vector, {} if self.inside else row[2]) for row, vector in zip(found, vectors)}

    def _vectors(self, sent: list[bytes]) -> np.ndarray:
        if not sent:
            return np.zeros((0, self.dim), "f4")
        if len({len(vector) for vector in sent}) > 1:
            raise ValueError(f"`from` {self.shown!r}: vectors have several dimensions.")
        rows = np.frombuffer(b"".join(sent), "u1").reshape(len(sent), -1)[:, 4:]
        return np.ascontiguousarray(rows).view(NUMBERS[self.kind]).astype("f4")

    def add(self, rows: Rows) -> None:
        """See [`VectorStore`]."""
        table, key, column = _quoted(self.table), _quoted(self.key), _quoted(self.column)
        rows_sent = self._binary(rows)
        with self.connection.transaction(), self.connection.cursor() as cursor:
            payload = "" if self.inside else ", p jsonb"
            # The planner knows nothing of a new table. It would read all of ours for each block, to hash it.
            cursor.execute(
                "DROP TABLE IF EXISTS pg_temp.vec2vec_rows; "
                f"CREATE TEMP TABLE vec2vec_rows (k {self.key_type}, v {self.kind}{payload}) ON COMMIT DROP; "
                "SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
            )
            with cursor.copy("COPY vec2vec_rows FROM STDIN (FORMAT BINARY)") as copy:
                copy.write(rows_sent)
            if self.inside:
                cursor.execute(f"UPDATE {table} AS t SET {column} = r.v FROM vec2vec_rows AS r WHERE t.{key} = r.k")
            else:
                cursor.execute(
                    f"INSERT INTO {table} ({key}, {column}, {PAYLOAD}) SELECT k, v, p FROM vec2vec_rows "
                    f"ON CONFLICT ({key}) DO UPDATE SET {column} = EXCLUDED.{column}, {PAYLOAD} = EXCLUDED.{PAYLOAD}"
                )

    replace = add

    def _binary(self, rows: Rows) -> bytes:
        """Rows as COPY takes them: the number of fields, then the length of each and its bytes."""
        dim, numbers = rows.vectors.shape[1], rows.vectors.astype(NUMBERS[self.kind])
        head = struct.pack(">ihh", 4 + numbers.itemsize * dim, dim, 0)
        parts, fields = [COPY_BEGIN], struct.pack(">h", 2 if self.inside else 3)
        for k, (key, vector) in enumerate(zip(self._keys(rows.ids), numbers)):
            parts += (fields, struct.pack(">i", len(key)), key, head, vector.tobytes())
            if not self.inside:
                text = plain_json(rows.payload[k] if rows.payload else {}, self.shown, rows.ids[k])
                beside = b"\1" + text.encode(self.connection.info.encoding)  # the version of the form, then JSON
                parts += (struct.pack(">i", len(beside)), beside)
        return b"".join([*parts, COPY_END])

    def _keys(self, ids: Sequence[Id]) -> list[bytes]:
        if self.key_type == "uuid":
            return [UUID(str(id)).bytes for id in ids]
        wanted = int if self.key_type in WIDTHS else str
        if not all(isinstance(id, wanted) for id in ids):
            wrong = next(id for id in ids if not isinstance(id, wanted))
            raise ValueError(f"`to` {self.shown!r} has ids of the type {self.key_type}, got {wrong!r}.")
        if wanted is int:
            return [int(id).to_bytes(WIDTHS[self.key_type], "big", signed=True) for id in ids]
        return [str(id).encode(self.connection.info.encoding) for id in ids]

    def delete(self, ids: Sequence[Id]) -> None:
        """Rows of a new table. Those of a column beside another one stay, and lose their vector in this column alone."""
        table = _quoted(self.table)
        what = f"UPDATE {table} SET {_quoted(self.column)} = NULL" if self.inside else f"DELETE FROM {table}"
        self.connection.execute(f"{what} WHERE {_quoted(self.key)} = ANY(%s::{self.key_type}[])", [list(ids)])

    def notes(self, source: VectorStore) -> list[str]:
        """Indexes of the old column that the new one lacks."""
        if not self.inside or not isinstance(source, PostgresColumn) or self._indexes():
            return []
        return [f"The new column has no index yet. The old one's was made by: {made}" for made in source._indexes()]

    def _indexes(self) -> list[str]:
        return [made for (made,) in self.connection.execute(INDEXES, [_quoted(self.table), self.column])]


def _quoted(name: str) -> str:
    """A name for SQL, with that of its schema."""
    if not re.fullmatch(r"[^\x00]+", name):
        raise ValueError(f"{name!r} is no name of a table or column.")
    return ".".join('"' + part.replace('"', '""') + '"' for part in name.split("."))


def _as_float(text: str) -> float:
    """A fraction of JSON. Of a `numeric` it may have any number of digits, of which a float would lose some."""
    number = float(text)
    if len(text.strip("-0.")) > DIGITS and Decimal(repr(number)) != Decimal(text):
        raise ValueError(
            f"`from` or `to`: the number {text} of a column beside the vectors has more digits than a float holds. Round "
            "it, or make the column a text."
        )
    return number


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


__all__ = ["PostgresColumn", "PostgresEngine"]
