"""Parquet files: the new store is written part by part, and becomes one file at the end if its name asks for that."""

import os
import shutil
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..bulk.manifest import fingerprint
from ..data.staging import PARTIAL, replace_file, staged_file
from ..data.vector_files import Store, open_files
from .base import BEFORE, FORMS, Address, Found, Id, RenamingEngine, Rows, VectorStore
from .layout import Layout, find_layout, layout_like

FORM = FORMS["parquet"]
FILE = ".parquet"
PARTS = ".parts-"  # folder beside a file that is being made


class ParquetEngine(RenamingEngine):
    """Files on a disk.

    Args:
        id_column: with the ids; default: `id` if there is one, else the numbers of the rows.
    """

    def __init__(self, id_column: str | None):
        self.id_column = id_column

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        return os.path.exists(address.place)

    def open(self, address: Address) -> "ParquetFiles":
        """See [`Engine`]."""
        if not self.exists(address):
            raise FileNotFoundError(f"{str(address)!r}: there is nothing at {address.place!r}. An address is {FORM}.")
        store = open_files(address.place, address.name or None, argument="from")
        if (schema := store.schema()) is None:
            raise ValueError(f"{str(address)!r} has no columns. An address is {FORM}. `translate` reads other files.")
        column = store.files[0].column or ""
        return ParquetFiles(address, store, find_layout(schema, str(address), column, store.dim, self.id_column))

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> VectorStore:
        """See [`Engine`]."""
        if Path(address.place).suffix.lower() not in ("", FILE):
            raise ValueError(f"`to` is {str(address)!r}: a file must end in {FILE}, and the name of a folder has no dot.")
        if self.exists(address) and not os.path.isdir(address.place):
            return self.open(address)
        return ParquetParts(address, layout_like(source, dim))

    def rename(self, old: Address, new: Address) -> None:
        """See [`RenamingEngine`]."""
        os.rename(old.place, new.place)

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        super().check_switch(old, new, resolved)
        if self.exists(old) and not _is_parquet(Path(old.place)):
            raise ValueError(
                f"`from` {str(old)!r} is not Parquet, and the new vectors are, so that they cannot have its name. Both are "
                f"complete: let your application read {str(new)!r}."
            )
        if os.path.isdir(old.place) and os.path.isfile(new.place):
            raise ValueError(
                "`from` and `to` are a folder and a file, which is no Parquet file under a folder's name. Both are "
                f"complete: let your application read {str(new)!r}."
            )

    def before(self, old: Address) -> Address:
        """`docs.parquet` becomes `docs_before.parquet`."""
        path = Path(old.place)
        return Address(old.kind, str(path.with_name(f"{path.stem}{BEFORE}{path.suffix}")), old.name, old.vector)


class ParquetFiles(VectorStore):
    """Files that are there. They may not change while they are read.

    Args:
        address: of them.
        store: the files.
        layout: their columns.
    """

    live = False
    block_rows = 16_384

    def __init__(self, address: Address, store: Store, layout: Layout):
        self.shown, self.store, self.layout, self.dim = str(address), store, layout, layout.dim
        self.schema, self.numbered = layout.payload_schema(), layout.id is None

    def count(self) -> int:
        """See [`VectorStore`]."""
        return self.store.rows

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order of the files. The cursor is a number of rows."""
        begin, passed = cursor or 0, 0
        for file in self.store.files:
            first, passed = passed, passed + file.rows
            if passed <= begin:
                continue
            start = max((cut for cut in file.cuts or [0] if cut <= begin - first), default=0)
            for block in self.store.read(file, start, file.rows, rows, file.other_columns()):
                at, skip = first + block.first, max(0, begin - first - block.first)
                if skip >= len(block.rows):
                    continue
                vectors = block.rows[skip:].float().numpy()
                others = None if block.others is None else block.others.slice(skip)
                first_row, stop = at + skip, at + skip + len(vectors)
                ids: list[Id] = list(range(first_row, stop))
                if others is not None and self.layout.id is not None:
                    ids = self.layout.ids(others, first_row)
                beside = None if not payload else [{} for _ in ids] if others is None else self.layout.payload(others)
                yield Rows(ids, vectors, beside, first_row, stop)

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """Those that stand where the source has them."""
        wanted, found = set(ids), {}
        for rows in self.read(first, len(ids), payload=True):
            for id, vector, beside in zip(rows.ids, rows.vectors, rows.payload or []):
                if id in wanted:
                    found[id] = Found(vector, beside)
            if rows.cursor >= first + len(ids):
                break
        return found

    def fingerprint(self) -> str:
        """Sizes and both ends of all files."""
        return " ".join(f"{file.path.name}:{file.rows}:{fingerprint(file.path)}" for file in self.store.files)

    def add(self, rows: Rows) -> None:
        """Never: a file that is complete stays as it is."""
        raise complete(self.shown, rows.ids[0])

    replace = add

    def delete(self, ids: Sequence[Id]) -> None:
        """Never; see `add`."""
        self.add(Rows(list(ids), np.zeros((0, self.dim)), None))


class ParquetParts(VectorStore):
    """A store that is being made: a file for each block of rows, named by its first row.

    In a folder the parts are what was asked for. Those of one file are only read once more, so they are Arrow files, which
    are written and mapped into memory in a tenth of the time.

    Args:
        address: of the folder; of a file, beside which the parts lie until all are there.
        layout: of the columns.
    """

    live = False
    block_rows = 16_384

    def __init__(self, address: Address, layout: Layout):
        self.shown, self.layout, self.dim, self.path = str(address), layout, layout.dim, Path(address.place)
        self.single = self.path.suffix != ""
        self.folder = self.path.with_name(PARTS + self.path.name) if self.single else self.path
        self.suffix = ".arrow" if self.single else ".parquet"
        if not self.single or not self.path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
        self.schema, self.numbered = layout.payload_schema(), layout.id is None
        self.whole: ParquetFiles | None = None

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob(f"part-*{self.suffix}"))

    def _open(self, part: Path) -> pa.Table:
        return pa.ipc.open_file(pa.memory_map(str(part))).read_all() if self.single else pq.read_table(part)

    def _rows(self, part: Path) -> int:
        return len(self._open(part)) if self.single else pq.ParquetFile(part).metadata.num_rows

    def count(self) -> int:
        """See [`VectorStore`]."""
        if self.single and self.path.exists():
            return pq.ParquetFile(self.path).metadata.num_rows
        return sum(self._rows(part) for part in self._parts())

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """See [`VectorStore`]."""
        if self.count() == 0:
            return
        path = str(self.path if self.single and self.path.exists() else self.folder / f"*{self.suffix}")
        store = open_files(path, self.layout.vector)
        yield from ParquetFiles(Address("parquet", path), store, self.layout).read(cursor, rows, payload=payload)

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """Those that stand where the source has them; while parts are written, those of the part of this first row."""
        if self.single and self.path.exists():
            if self.whole is None:  # opened once: a comparison asks for each block
                store = open_files(self.path, self.layout.vector)
                self.whole = ParquetFiles(Address("parquet", str(self.path)), store, self.layout)
            return self.whole.find(ids, first)
        found: dict[Id, Found] = {}
        parts = self._parts()
        begins = [int(part.stem.removeprefix("part-")) for part in parts]
        for k in range(max(0, bisect_right(begins, first) - 1), bisect_left(begins, first + len(ids))):
            table = self._open(parts[k])
            if self.layout.id is None:
                table = table.append_column("id", pa.array(range(begins[k], begins[k] + len(table))))
            found |= self.layout.found(table)
        return {id: found[id] for id in ids if id in found}

    def add(self, rows: Rows) -> None:
        """See [`VectorStore`]."""
        part = self.folder / f"part-{rows.first:012d}{self.suffix}"
        if part.exists() or (self.single and self.path.exists()):
            raise complete(self.shown, rows.ids[0])
        table = self.layout.table(rows, self.shown)
        with staged_file(part) as partial:
            if self.single:
                with pa.OSFile(str(partial), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
                    writer.write_table(table)
            else:
                pq.write_table(table, partial, use_dictionary=self.layout.beside)

    def replace(self, rows: Rows) -> None:
        """Never; see [`ParquetFiles.add`]."""
        raise ValueError(f"`from` has changed since row {rows.ids[0]!r} of it was translated. Start again.")

    def delete(self, ids: Sequence[Id]) -> None:
        """Never; see [`ParquetFiles.add`]."""
        raise ValueError(f"`from` has changed: row {ids[0]!r} is gone. Start again.")

    def tables(self) -> Iterator[pa.Table]:
        """The parts, in order."""
        for part in self._parts():
            yield self._open(part)

    def finish(self) -> None:
        """Put the parts together, if one file is asked for."""
        if not self.single or self.path.exists():
            shutil.rmtree(self.folder) if self.single and self.folder.exists() else None
            return
        whole = self.path.with_name(PARTIAL + self.path.name)
        with pq.ParquetWriter(whole, self.layout.schema, use_dictionary=self.layout.beside) as writer:
            for table in self.tables():
                writer.write_table(table)
        replace_file(whole, self.path)
        shutil.rmtree(self.folder)


def _is_parquet(path: Path) -> bool:
    """Whether a file, or what a folder holds, is Parquet, by the names; a folder's files of vectors are of one kind."""
    if path.is_dir():  # a saved data set has files of its own beside its vectors, and is opened by them
        return not (path / "state.json").exists() and any(file.suffix.lower() == FILE for file in path.iterdir())
    return path.suffix.lower() == FILE


def complete(shown: str, id: Id) -> ValueError:
    """The error of a store of files that is whole, and of which a row is missing or has become another one."""
    return ValueError(
        f"`to` {shown!r} is complete, and lacks row {id!r} as it is now in `from`. Files cannot be mended: remove the new "
        "one and its record, and start again."
    )


__all__ = ["PARTS", "ParquetEngine", "ParquetFiles", "ParquetParts", "complete"]
