"""Parquet and Arrow: tables of which one column holds vectors, cut where their row groups or record batches are."""

import mmap
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from .blocks import Block, BufferPool, VectorFile
from .columns import HEAD, first_dimension, list_array, vector_column, vector_dimension, vector_rows

MADE_BY = b"hf_vec2vec"  # Parquet metadata that keep a data set's description: how its vectors were made
RESIDENT = 1 << 26  # bytes of a mapped Arrow file that stay in memory
BUFFER = 1 << 20  # bytes that Parquet reads at a time, so that a row group is never held whole


class TableFile(VectorFile):
    """See `VectorFile`; what Parquet and Arrow have in common."""

    def __init__(self, path: Path, schema: pa.Schema, sizes: list[int], column: str | None, description: str = ""):
        self.path = path
        cuts = np.cumsum([0, *sizes]).tolist()
        head = next(self._batches(0, None, min(HEAD, max(cuts[-1], 1)), None), None) if cuts[-1] else None
        head = schema.empty_table() if head is None else pa.Table.from_batches([head])
        column = vector_column(head, "it", column)
        dim = vector_dimension(schema.field(column).type)
        if cuts[-1] and not dim:  # lists of any length: the first row that has one tells
            dims = (first_dimension(b.column(column), str) for b in self._batches(0, None, 1024, [column]))
            dim = next((found for found in dims if found), 0)
        self.ends = cuts
        super().__init__(path, cuts[-1], dim, cuts=cuts[:-1], schema=schema, column=column, description=description)

    def _batches(self, first: int, stop: int | None, batch_size: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        """Record batches of at most about `batch_size` rows, from the `first` piece of the file on."""
        raise NotImplementedError

    def read(
        self, start: int, stop: int, batch_size: int, others: Sequence[str] = (), buffers: BufferPool | None = None
    ) -> Iterator[Block]:
        """See `VectorFile`."""
        pieces = bisect_right(self.ends, start) - 1, bisect_right(self.ends, stop - 1)
        batches = self._batches(*pieces, batch_size, [*others, str(self.column)])
        for table in _tables(batches, batch_size):
            first = start
            rows = column_rows(table, str(self.column), self.dim, lambda row, first=first: f"row {first + row:,}")
            yield Block(rows, first, table.select(list(others)) if others else None)
            start += len(table)


class ParquetVectorFile(TableFile):
    """Parquet, cut between row groups."""

    def __init__(self, path: Path, column: str | None):
        self.path = path
        with self._opened() as file:
            schema, metadata = file.schema_arrow, file.metadata
            sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        made_by = (schema.metadata or {}).get(MADE_BY, b"").decode(errors="replace")
        super().__init__(path, schema, sizes, column, made_by)

    def _opened(self) -> pq.ParquetFile:
        return pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False)

    def _batches(self, first: int, stop: int | None, batch_size: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        with self._opened() as file:
            groups = list(range(first, file.num_row_groups if stop is None else stop))
            yield from file.iter_batches(batch_size=batch_size, row_groups=groups, columns=columns)


class ArrowVectorFile(TableFile):
    """A stream, as `datasets` writes it, or a file of record batches. Pages that were read are given back to the system."""

    def __init__(self, path: Path, column: str | None):
        self.path = path
        with open(path, "rb") as file:
            self.is_file = file.read(6) == b"ARROW1"
        with pa.OSFile(str(path)) as source:
            schema = (pa.ipc.open_file if self.is_file else pa.ipc.open_stream)(source).schema
        super().__init__(path, schema, [len(batch) for batch in self._mapped(0)], column)

    def _mapped(self, first: int) -> Iterator[pa.RecordBatch]:
        with open(self.path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last batch that lies in it
        source, used = pa.BufferReader(pa.py_buffer(mapped)), 0
        found: Iterator[pa.RecordBatch]
        if self.is_file:
            reader = pa.ipc.open_file(source)
            found = (reader.get_batch(i) for i in range(first, reader.num_record_batches))
        else:
            found = islice(pa.ipc.open_stream(source), first, None)  # passing over reads lengths, not rows
        for batch in found:
            used += batch.nbytes
            yield batch
            if used > RESIDENT and hasattr(mmap, "MADV_DONTNEED"):  # Windows has no such call
                mapped.madvise(mmap.MADV_DONTNEED)
                used = 0

    def _batches(self, first: int, stop: int | None, batch_size: int, columns: list[str] | None) -> Iterator[pa.RecordBatch]:
        count = None if stop is None else stop - first
        for batch in islice(self._mapped(first), count):
            yield batch if columns is None else batch.select(columns)


def column_rows(table: pa.Table, column: str, dim: int, place) -> torch.Tensor:
    """The vectors `(n, dim)` of a table's column; NaN for rows without one.

    Args:
        table: some rows.
        column: of the vectors.
        dim: of the vectors.
        place: gives the name of a row, by its number in the table, for errors.

    Raises:
        ValueError: for a row of another dimension, or a string that is no vector.
    """
    return torch.from_numpy(vector_rows(list_array(table[column], place), dim, place))


def _tables(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.Table]:
    """Tables of exactly `rows` rows, the last one shorter, out of record batches of any size."""
    waiting: list[pa.RecordBatch] = []
    count = 0
    for batch in batches:
        waiting.append(batch)
        count += len(batch)
        while count >= rows:
            table = pa.Table.from_batches(waiting)
            yield table.slice(0, rows)
            waiting = table.slice(rows).to_batches()
            count -= rows
    if count:
        yield pa.Table.from_batches(waiting)


OPENERS = {".parquet": ParquetVectorFile, ".arrow": ArrowVectorFile, ".feather": ArrowVectorFile}

__all__ = ["MADE_BY", "OPENERS", "column_rows"]
