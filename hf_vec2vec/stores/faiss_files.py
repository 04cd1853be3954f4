"""FAISS: an index in a file, and beside it, if there is one, a Parquet file of ids and payload in the order of the rows."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..bulk.manifest import fingerprint
from ..data.staging import staged_file
from .base import BEFORE, FORMS, Address, Found, Id, RenamingEngine, Rows, VectorStore, needs
from .layout import ID, Layout, layout_like
from .parquet import ParquetParts

FORM = FORMS["faiss"]
VECTOR, NUMBER = "vec2vec_vector", "vec2vec_id"  # columns of parts alone


class FaissEngine(RenamingEngine):
    """Index files on a disk.

    Args:
        id_column: of the table beside the index; default: `id` if there is one, else the numbers of the rows.
    """

    def __init__(self, id_column: str | None):
        self.id_column = id_column

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        return os.path.exists(address.place)

    def taken(self, address: Address) -> str:
        """See [`Engine`]. The table beside the index is part of it."""
        beside = table_beside(address.place)
        return super().taken(address) or (str(beside) if beside.exists() else "")

    def open(self, address: Address) -> "FaissIndex":
        """See [`Engine`]."""
        if not os.path.isfile(address.place):
            raise FileNotFoundError(f"{str(address)!r}: there is no such file. An address is {FORM}.")
        return FaissIndex(address, self.id_column)

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> "FaissParts":
        """See [`Engine`]. The new index is flat, with the metric of the old one."""
        if Path(address.place).suffix in ("", ".parquet"):
            raise ValueError(f"`to` is {str(address)!r}: the name of an index file must end as in docs.index. {FORM}.")
        if isinstance(source, FaissIndex):
            schema, id = source.beside_schema, source.id
            layout = Layout(schema.append(pa.field(VECTOR, pa.list_(pa.float32(), dim))), id, VECTOR, dim)
            return FaissParts(address, layout, source.metric, own_ids=source.own_ids is not None)
        return FaissParts(address, layout_like(source, dim), None, own_ids=False)

    def rename(self, old: Address, new: Address) -> None:
        """The table beside the index goes first: without its index nothing is taken for a store."""
        if table_beside(old.place).exists():
            os.rename(table_beside(old.place), table_beside(new.place))
        os.rename(old.place, new.place)

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        self._put_together(old, new)
        super().check_switch(old, new, resolved)

    def rollback(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        self._put_together(old, new)
        super().rollback(old, new, resolved)

    def _put_together(self, old: Address, new: Address) -> None:
        """Give an index back its table, if a kill has parted them. Where one of the two stores has one, the other has."""
        places = [address.place for address in (old, new, self.before(old))]
        tables = [place for place in places if table_beside(place).exists()]
        indexes = [place for place in places if os.path.exists(place)]
        bare, alone = set(indexes) - set(tables), set(tables) - set(indexes)
        if len(bare) == len(alone) == 1 and len(tables) == 2:
            os.rename(table_beside(alone.pop()), table_beside(bare.pop()))

    def before(self, old: Address) -> Address:
        """`docs.index` becomes `docs_before.index`."""
        path = Path(old.place)
        return Address(old.kind, str(path.with_name(f"{path.stem}{BEFORE}{path.suffix}")))


def table_beside(place: str) -> Path:
    """Where ids and payload of an index are."""
    return Path(place).with_suffix(".parquet")


class FaissIndex(VectorStore):
    """An index that is there. Its file is mapped into memory, not read, where FAISS can do that.

    Args:
        address: of the file.
        id_column: see [`FaissEngine`].
    """

    live = False
    block_rows = 16_384

    def __init__(self, address: Address, id_column: str | None):
        with needs("integrations"):
            import faiss
        self.shown, self.path = str(address), Path(address.place)
        try:
            self.index = faiss.read_index(address.place, faiss.IO_FLAG_MMAP_IFC)
        except RuntimeError as error:
            raise ValueError(f"{self.shown!r} is no index that FAISS can read: {str(error).splitlines()[0]}") from error
        self.own_ids, inner = None, faiss.downcast_index(self.index)
        if isinstance(inner, faiss.IndexIDMap):  # IndexIDMap2, too
            self.own_ids, inner = faiss.vector_to_array(inner.id_map), faiss.downcast_index(inner.index)
        kind = type(inner).__name__
        if isinstance(inner, faiss.IndexIVFFlat):
            try:
                inner.make_direct_map()
            except RuntimeError as error:
                raise ValueError(
                    f"{self.shown!r} is an {kind} with ids of its own, whose vectors FAISS finds by no number. Build an "
                    "IndexIDMap over an index without ids."
                ) from error
        elif not isinstance(inner, faiss.IndexFlat | faiss.IndexHNSWFlat):
            raise ValueError(
                f"{self.shown!r} is an {kind}, which does not hold its vectors as they were. Migrate what it was made of."
            )
        self.inner, self.flat, self.dim = inner, isinstance(inner, faiss.IndexFlat), inner.d
        self.inner_product = inner.metric_type == faiss.METRIC_INNER_PRODUCT
        self.metric = inner.metric_type, inner.metric_arg  # FAISS reads no index by a metric that a flat one cannot do
        beside = table_beside(address.place)
        self.table = pq.read_table(beside, memory_map=True) if beside.exists() else None
        self.beside_schema = self.table.schema if self.table is not None else pa.schema([])
        if self.table is not None and len(self.table) != inner.ntotal:
            raise ValueError(f"{str(beside)!r} has {len(self.table):,} rows, and the index beside it {inner.ntotal:,}.")
        if id_column is not None and id_column not in self.beside_schema.names:
            raise ValueError(f"`id_column` is {id_column!r}, which is no column of {str(beside)!r}.")
        if id_column is not None:
            self.own_ids = None
        self.id = id_column or (ID if ID in self.beside_schema.names and self.own_ids is None else None)
        self.columns = Layout(self.beside_schema, self.id, "", self.dim)
        self.schema = self.columns.payload_schema()
        self.numbered = self.id is None and self.own_ids is None

    def count(self) -> int:
        """See [`VectorStore`]."""
        return self.inner.ntotal

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order of the index. The cursor is a number of rows."""
        for first in range(cursor or 0, self.inner.ntotal, rows):
            number = min(rows, self.inner.ntotal - first)
            part = None if self.table is None else self.table.slice(first, number)
            if part is not None and self.id is not None:
                ids: list[Id] = part[self.id].to_pylist()
            elif self.own_ids is not None:
                ids = self.own_ids[first : first + number].tolist()
            else:
                ids = list(range(first, first + number))
            beside: list[dict[str, Any]] | None = None
            if payload:
                beside = [{} for _ in ids] if part is None else self.columns.payload(part)
            yield Rows(ids, self.inner.reconstruct_n(first, number), beside, first, first + number)

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """Those that stand where the source has them."""
        rows = next(self.read(first, len(ids), payload=True), None)
        if rows is None:
            return {}
        wanted, payload = set(ids), rows.payload or []
        return {id: Found(v, beside) for id, v, beside in zip(rows.ids, rows.vectors, payload) if id in wanted}

    def fingerprint(self) -> str:
        """Of the index and the table beside it."""
        files = [file for file in (self.path, table_beside(str(self.path))) if file.exists()]
        return " ".join(f"{file.name}:{file.stat().st_size}:{fingerprint(file)}" for file in files)

    def add(self, rows: Rows) -> None:
        """Never: a file that is complete stays as it is."""
        raise ValueError(f"`to` {self.shown!r} is complete, and lacks row {rows.ids[0]!r}. Remove it and its record.")

    replace = add

    def delete(self, ids: Sequence[Id]) -> None:
        """Never; see `add`."""
        raise ValueError(f"`to` {self.shown!r} is complete, and `from` lacks row {ids[0]!r} of it. Start again.")


class FaissParts(ParquetParts):
    """An index that is being made, of parts that lie beside it until all are there.

    Args:
        address: of the index.
        layout: of the parts.
        metric: its type and argument; default: the inner product.
        own_ids: whether the index itself holds the ids, which are whole numbers.
    """

    def __init__(self, address: Address, layout: Layout, metric: tuple[int, float] | None, *, own_ids: bool):
        with needs("integrations"):
            import faiss
        self.own_ids, self.bare = own_ids, layout
        self.metric = metric or (faiss.METRIC_INNER_PRODUCT, 0.0)
        self.inner_product = self.metric[0] == faiss.METRIC_INNER_PRODUCT
        if layout.id is None:  # ids that the index holds, or numbers of the rows
            layout = Layout(layout.schema.append(pa.field(NUMBER, pa.int64())), NUMBER, layout.vector, layout.dim)
        super().__init__(address, layout)
        self.made: FaissIndex | None = None
        self.numbered = self.bare.id is None and not own_ids

    def _done(self) -> FaissIndex | None:
        if self.made is None and self.path.exists():  # opened once: a comparison asks for each block
            self.made = FaissIndex(Address("faiss", str(self.path)), self.bare.id)
        return self.made

    def count(self) -> int:
        """See [`VectorStore`]."""
        done = self._done()
        return super().count() if done is None else done.count()

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """See [`VectorStore`]."""
        done = self._done()
        yield from (
            super().read(cursor, rows, payload=payload) if done is None else done.read(cursor, rows, payload=payload)
        )

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """See [`VectorStore`]."""
        done = self._done()
        return super().find(ids, first) if done is None else done.find(ids, first)

    def finish(self) -> None:
        """Build the index, and write the table beside it. The index comes last: it says that both are whole."""
        import faiss

        if not self.path.exists():
            flat = faiss.IndexFlat(self.dim, self.metric[0])
            flat.metric_arg = self.metric[1]
            index = faiss.IndexIDMap2(flat) if self.own_ids else flat
            beside = pa.schema([f for f in self.bare.schema if f.name != self.bare.vector], self.bare.schema.metadata)
            with ExitStack() as stack:
                writer = None
                if beside.names:
                    partial = stack.enter_context(staged_file(table_beside(str(self.path))))
                    writer = stack.enter_context(pq.ParquetWriter(partial, beside))
                for table in self.tables():
                    vectors = _rows_of(table[self.layout.vector], self.dim)
                    if self.own_ids:
                        index.add_with_ids(vectors, np.asarray(table[self.layout.id or ID], "i8"))
                    else:
                        index.add(vectors)
                    if writer is not None:
                        writer.write_table(table.select(beside.names))
            with staged_file(self.path) as partial:
                faiss.write_index(index, str(partial))
        shutil.rmtree(self.folder, ignore_errors=True)


def _rows_of(column: pa.ChunkedArray, dim: int) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(column.combine_chunks().flatten(), "f4").reshape(-1, dim))


__all__ = ["FaissEngine", "FaissIndex", "FaissParts"]
