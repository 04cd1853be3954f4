"""Shards of translations in each format: written under another name, put on disk, then moved into place."""

import json
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
import xxhash
from torch import Tensor

from ..data.columns import EMBEDDING, foreign_columns
from ..data.staging import PARTIAL, beside, replace_file
from .dtypes import DTYPES, Values

SCALE, VALID = "scale", "valid"  # columns beside the vectors
SUFFIXES = {
    "npy": {"float32": ".npy", "float16": ".npy", "int8": ".npy"},
    "fbin": {"float32": ".fbin", "float16": ".f16bin", "int8": ".i8bin"},
    "safetensors": dict.fromkeys(DTYPES, ".safetensors"),
    "parquet": {"float32": ".parquet", "float16": ".parquet", "int8": ".parquet"},
    "arrow": {"float32": ".arrow", "float16": ".arrow", "int8": ".arrow"},
}
TABULAR = ("parquet", "arrow")
# Bytes after which the system is asked to write, so that a shard's end need not wait for all of it, and to forget what it
# has written, whose memory it then uses anew: fresh memory costs several times as much.
FLUSHED = 1 << 24


def suffix_of(kind: str, dtype: str) -> str:
    """Suffix of the files of a format.

    Raises:
        ValueError: if the format cannot hold the dtype.
    """
    if dtype not in SUFFIXES[kind]:
        able = [other for other, dtypes in SUFFIXES.items() if dtype in dtypes]
        raise ValueError(f"`dtype` {dtype} cannot be held by the format {kind}; {', '.join(able)} can.")
    return SUFFIXES[kind][dtype]


def scales_of(path: Path, dtype: str) -> Path | None:
    """Where the scales of a file's rows are, if they have some and its format has no place for them."""
    has_none = dtype != "int8" or path.suffix.lower() not in (".npy", ".i8bin")
    return None if has_none else path.with_name(f"{path.stem}.scale.npy")


class HashedFile:
    """A new file that keeps the checksum of what is written to it, one byte after the other."""

    def __init__(self, path: Path):
        self.path, self.hash, self.bytes, self.flushed = path, xxhash.xxh3_128(), 0, 0
        self.file, self.closed = open(path, "wb", buffering=0), False  # noqa: SIM115 closed by whoever completes it

    def write(self, data) -> int:
        """Write all of `data`."""
        view = memoryview(data)
        if not view.nbytes:  # of a block of which every row is left out
            return 0
        view = view.cast("B")
        length = len(view)
        self.hash.update(view)
        self.bytes += length
        while len(view):
            view = view[self.file.write(view) :]
        if self.bytes - self.flushed > FLUSHED and hasattr(os, "posix_fadvise"):  # macOS and Windows have no such call
            os.posix_fadvise(self.file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            self.flushed = self.bytes
        return length

    def tell(self) -> int:
        """Bytes so far."""
        return self.bytes

    def flush(self) -> None:
        """Nothing is held back."""

    def rewrite_start(self, data: bytes) -> None:
        """Put other bytes at the start, and take the checksum anew."""
        self.file.seek(0)
        self.file.write(data)
        self.hash = xxhash.xxh3_128()
        with open(self.path, "rb") as file:
            while chunk := file.read(FLUSHED):
                self.hash.update(chunk)

    def close_into(self, path: Path) -> dict:
        """Put everything on disk, then into place. Returns name, bytes and checksum."""
        self.closed = True
        self.file.close()
        replace_file(self.path, path)
        return {"name": path.name, "bytes": self.bytes, "xxh128": self.hash.hexdigest()}

    def abandon(self) -> None:
        """Close and delete."""
        self.closed = True
        self.file.close()
        self.path.unlink(missing_ok=True)


@dataclass
class Layout:
    """What all shards of an output have in common.

    Args:
        kind: a key of `SUFFIXES`.
        dtype: a key of `DTYPES`.
        dim: of the vectors.
        columns: schema of the columns that are kept beside the vectors.
        marked: add the column `valid`.
    """

    kind: str
    dtype: str
    dim: int
    columns: pa.Schema | None = None
    marked: bool = False

    @property
    def row_bytes(self) -> int:
        """Of a vector on disk."""
        return self.dim * DTYPES[self.dtype].itemsize

    def schema(self) -> pa.Schema:
        """Of a table, with the features of the kept columns as `datasets` knows them.

        Raises:
            ValueError: if a kept column has a name that is needed, or a type that no data set can hold.
        """
        from datasets import Features, List, Value

        if self.columns is not None and (foreign := foreign_columns(self.columns)):
            raise ValueError(
                f"`input` has columns of types that data sets do not know: {foreign}. Leave them out, or rewrite them."
            )
        features = Features.from_arrow_schema(self.columns) if self.columns is not None else Features()
        added = {EMBEDDING: List(Value(self.dtype), length=self.dim)}
        added |= {SCALE: Value("float32")} if self.dtype == "int8" else {}
        added |= {VALID: Value("bool")} if self.marked else {}
        if taken := sorted(set(added) & set(features)):
            raise ValueError(f"`input` has the columns {taken}, names that are needed for the translation. Rename them.")
        return Features(**features, **added).arrow_schema

    def open(self, path: Path, rows: int | None) -> "ShardWriter":
        """A writer of a new file at `path`, of so many rows if that is known."""
        writer = (TableWriter if self.kind in TABULAR else RawWriter)(self, path, rows)
        try:
            writer.begin()
        except BaseException:
            writer.abandon()
            raise
        return writer


class ShardWriter:
    """Writes one file under a partial name. `commit` moves it into place; until then there is nothing at `path`."""

    def __init__(self, layout: Layout, path: Path):
        self.layout, self.path, self.rows = layout, path, 0
        self.file = HashedFile(beside(path, PARTIAL))

    def begin(self) -> None:
        """Write what stands at the start."""
        raise NotImplementedError

    def write(self, values: Values, others: pa.Table | None, valid: Tensor | None) -> None:
        """Append rows, the columns that belong to them, and which of them are valid, where that is marked."""
        raise NotImplementedError

    def finish(self) -> None:
        """Write what stands at the end, or can be known only there."""

    def commit(self, scales: Path | None = None) -> dict:
        """Put the shard on disk, then into place.

        Args:
            scales: of the file that is replaced, deleted with it.

        Returns:
            `rows` and, for each `files` that was made, name, bytes and checksum.
        """
        self.finish()
        others = self.beside()  # written before anything is replaced: there may be no room
        # A process that ends in between leaves values without scales, which nobody takes for whole, and not with old ones.
        for path in others if scales is None else {*others, scales}:
            path.unlink(missing_ok=True)
        made = [self.file.close_into(self.path), *(file.close_into(path) for path, file in others.items())]
        return {"rows": self.rows, "files": made}

    def beside(self) -> dict[Path, HashedFile]:
        """Other files that belong to the shard, by the places they go to."""
        return {}

    def abandon(self) -> None:
        """Leave nothing behind."""
        self.file.abandon()


class RawWriter(ShardWriter):
    """`.npy`, `.fbin` and safetensors: a header of fixed length, then the values."""

    def __init__(self, layout: Layout, path: Path, rows: int | None):
        super().__init__(layout, path)
        self.header: Callable[[int, str, int], bytes] = HEADERS[layout.kind]
        self.expected = rows or 0
        int8 = layout.dtype == "int8"
        self.scales: BinaryIO | None = tempfile.TemporaryFile(dir=path.parent) if int8 else None  # noqa: SIM115

    def begin(self) -> None:
        """Write the header."""
        self.file.write(self.header(self.expected, self.layout.dtype, self.layout.dim))

    def write(self, values: Values, others: pa.Table | None, valid: Tensor | None) -> None:
        """See `ShardWriter`."""
        self.file.write(values.rows.contiguous().view(torch.uint8).numpy())
        if self.scales is not None and values.scales is not None:
            self.scales.write(values.scales.contiguous().numpy().data)
        self.rows += len(values.rows)

    def finish(self) -> None:
        """Correct the number of rows; put the scales of int8 behind the rows, where the format has a place for them."""
        if self.layout.kind == "safetensors" and self.scales is not None:
            _copy(self.scales, self.file)
        if self.rows != self.expected:  # rows were left out, or their number was not known
            self.file.rewrite_start(self.header(self.rows, self.layout.dtype, self.layout.dim))

    def beside(self) -> dict[Path, HashedFile]:
        """The scales of int8, where the format has no place for them."""
        path = scales_of(self.path, self.layout.dtype)
        if path is None or self.scales is None:
            return {}
        file = HashedFile(beside(path, PARTIAL))
        try:
            file.write(_npy_header(self.rows, "float32", None))
            _copy(self.scales, file)
        except BaseException:
            file.abandon()
            raise
        return {path: file}

    def abandon(self) -> None:
        """See `ShardWriter`."""
        super().abandon()
        if self.scales is not None:
            self.scales.close()


def _copy(scales: BinaryIO, file: HashedFile) -> None:
    scales.seek(0)
    while chunk := scales.read(FLUSHED):
        file.write(chunk)
    scales.close()


class TableWriter(ShardWriter):
    """Parquet and Arrow streams: a row group, or record batch, a block."""

    def __init__(self, layout: Layout, path: Path, rows: int | None):
        super().__init__(layout, path)
        self.schema = layout.schema()

    def begin(self) -> None:
        """Write what stands before the rows."""
        if self.layout.kind == "arrow":
            self.writer = pa.ipc.new_stream(pa.PythonFile(self.file, "w"), self.schema)
        else:  # random digits do not compress, and are not in a dictionary
            kept = [path for path in _leaves(self.schema) if path.split(".")[0] not in (EMBEDDING, SCALE)]
            self.writer = pq.ParquetWriter(
                pa.PythonFile(self.file, "w"),
                self.schema,
                compression=dict.fromkeys(kept, "snappy"),
                use_dictionary=kept,
                write_statistics=kept,
            )

    def write(self, values: Values, others: pa.Table | None, valid: Tensor | None) -> None:
        """See `ShardWriter`."""
        if not len(values.rows):
            return
        flat = pa.array(values.rows.contiguous().view(-1).numpy())
        vectors = pa.FixedSizeListArray.from_arrays(flat, self.layout.dim)
        columns = {} if others is None else dict(zip(others.column_names, others.columns, strict=True))
        columns[EMBEDDING] = vectors
        if values.scales is not None:
            columns[SCALE] = pa.array(values.scales.numpy())
        if self.layout.marked:
            columns[VALID] = pa.array(np.ones(len(values.rows), bool) if valid is None else valid.numpy())
        self.writer.write_table(pa.table(columns).select(self.schema.names).cast(self.schema))
        self.rows += len(values.rows)

    def finish(self) -> None:
        """Write the footer."""
        self.writer.close()

    def abandon(self) -> None:
        """See `ShardWriter`. The writer ends first: else it would write its footer when it is forgotten, and fail."""
        with suppress(OSError, ValueError, AttributeError):  # the disk may be full, or the writer not be there yet
            self.writer.close()
        if self.layout.kind == "parquet" and hasattr(self, "writer"):
            self.writer.is_open = False
        super().abandon()


def _leaves(schema: pa.Schema) -> list[str]:
    """Paths of all columns as Parquet stores them."""
    sink = pa.BufferOutputStream()
    pq.write_table(schema.empty_table(), sink)
    stored = pq.ParquetFile(pa.BufferReader(sink.getvalue())).schema
    return [stored.column(i).path for i in range(len(stored))]


def _npy_header(rows: int, dtype: str, dim: int | None) -> bytes:
    shape = f"({rows},)" if dim is None else f"({rows}, {dim})"
    kind = {"float32": "<f4", "float16": "<f2", "int8": "|i1"}[dtype]
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.ljust(117).encode() + b"\n"


def _fbin_header(rows: int, dtype: str, dim: int) -> bytes:
    if rows >= 1 << 32:
        raise ValueError(f"`output`: the format fbin holds up to {(1 << 32) - 1:,} rows a file. Write shards into a folder.")
    return np.array([rows, dim], "<u4").tobytes()


def _safetensors_header(rows: int, dtype: str, dim: int) -> bytes:
    names = {"float32": "F32", "float16": "F16", "bfloat16": "BF16", "int8": "I8"}
    size = rows * dim * DTYPES[dtype].itemsize
    tensors = {EMBEDDING: {"dtype": names[dtype], "shape": [rows, dim], "data_offsets": [0, size]}}
    if dtype == "int8":
        tensors[SCALE] = {"dtype": "F32", "shape": [rows], "data_offsets": [size, size + rows * 4]}
    return (504).to_bytes(8, "little") + json.dumps(tensors).ljust(504).encode()


HEADERS = {"npy": _npy_header, "fbin": _fbin_header, "safetensors": _safetensors_header}
