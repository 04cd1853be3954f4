"""Files of vectors, read a block at a time: `.npy`, `.fbin`, safetensors, Parquet, Arrow."""

import json
import mmap
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from .columns import Block, table_block, vector_dimension, vector_field
from .threads import Room

FLOATS = {"<f4": torch.float32, "<f8": torch.float64, "<f2": torch.float16}  # numpy's names
SAFETENSORS_FLOATS = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "BF16": torch.bfloat16}
RESIDENT = 1 << 26  # bytes of a mapped Arrow file that stay in memory
BUFFER = 1 << 20  # bytes that Parquet reads at a time, so that a row group is never held whole
FORMATS = (
    "an Arrow folder (`Dataset.save_to_disk`), .arrow, .parquet, .npy, .fbin, .f16bin, .safetensors, or a folder of these"
)


@dataclass
class VectorFile:
    """A file whose rows can be read from any of the places `cuts` on.

    Args:
        path: where it is.
        rows: how many it holds.
        dim: of its vectors; 0 if it has no rows.
        read: `(start, stop, batch_size, others, room)` to blocks of `batch_size` rows, the last one shorter; `others` asks
            for the columns beside the vectors, and `room` is where vectors may be put.
        cuts: first row of every piece that can be read by itself; `None` where every row can.
        schema: of all columns; `None` where the format holds vectors alone.
        column: with the vectors.
    """

    path: Path
    rows: int
    dim: int
    read: Callable[[int, int, int, bool, Room], Iterator[Block]]
    cuts: list[int] | None = None
    schema: pa.Schema | None = None
    column: str | None = None

    def parts(self, shard_rows: int) -> list[tuple[int, int]]:
        """`(start, stop)` of pieces of about `shard_rows` rows, cut where the file can be cut."""
        if self.cuts is None:
            return [(start, min(start + shard_rows, self.rows)) for start in range(0, self.rows, shard_rows)]
        starts = []
        for cut in self.cuts:
            if cut < self.rows and (not starts or cut - starts[-1] >= shard_rows):
                starts.append(cut)
        return list(zip(starts, [*starts[1:], self.rows], strict=True))


def open_files(path: str | Path, column: str | None = None) -> list[VectorFile]:
    """The files at `path`: one, those of a folder in the order of their names, or those of a saved Arrow data set.

    Args:
        path: see `FORMATS`.
        column: with the vectors, in Arrow and Parquet; default: `embedding`, or the only one that holds lists.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if a file is truncated or cannot be read, formats are mixed, or there is no row.
        TypeError: if a file holds integers.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`input` is {str(path)!r}, where there is nothing. Give {FORMATS}.")
    paths = _files_of(path) if path.is_dir() else [path]
    files = []
    for file in paths:
        if file.suffix not in READERS:
            raise ValueError(f"`input` is {str(path)!r}, which is no known format. Give {FORMATS}.")
        with naming(file):
            files.append(READERS[file.suffix](file, column))
    filled = [file for file in files if file.rows]
    if not filled:
        raise ValueError(f"`input` {str(path)!r} is empty: it has no rows.")
    for file in filled:
        if file.dim != filled[0].dim:
            raise ValueError(
                f"`input` has vectors of dimension {file.dim} in {str(file.path)!r}, but of {filled[0].dim} in "
                f"{str(filled[0].path)!r}. All must be alike."
            )
        if file.schema is not None and _names(file) != _names(filled[0]):
            raise ValueError(
                f"`input` has the columns {_names(file)} in {str(file.path)!r}, but {_names(filled[0])} in "
                f"{str(filled[0].path)!r}. All must be alike."
            )
    return filled


@contextmanager
def naming(file: Path | str, row: int | None = None):
    """Put the file's name before what went wrong with it; readers have errors of their own."""
    place = f"{str(file)!r}" + (f", at or after row {row:,}," if row is not None else "")
    try:
        yield
    except TypeError as error:
        raise TypeError(f"`input` {place} cannot be used: {error}") from error
    except (OSError, ValueError, EOFError, pa.ArrowException) as error:
        raise ValueError(f"`input` {place} cannot be read: {' '.join(str(error).split())}") from error


def _files_of(folder: Path) -> list[Path]:
    if (folder / "dataset_dict.json").exists():
        splits = json.loads((folder / "dataset_dict.json").read_text())["splits"]
        raise ValueError(
            f"`input` {str(folder)!r} holds the splits {splits}; give the folder of one, such as {splits[0]!r}."
        )
    if (folder / "state.json").exists():
        state = json.loads((folder / "state.json").read_text())
        if state.get("_indices_data_files"):
            raise ValueError(f"`input` {str(folder)!r} is a selection of rows. Save it again with `flatten_indices()`.")
        return [folder / file["filename"] for file in state["_data_files"]]
    if (manifest := folder / "manifest.json").exists() and json.loads(manifest.read_text()).get("complete") is False:
        raise ValueError(f"`input` {str(folder)!r} is a translation that is not complete. Let it finish first.")
    found = [file for file in folder.iterdir() if file.suffix in READERS and file.name[0] != "."]
    if len(kinds := {file.suffix for file in found}) > 1:
        raise ValueError(f"`input` {str(folder)!r} holds files of several kinds {sorted(kinds)}. Give a folder of one kind.")
    if not found:
        raise ValueError(f"`input` {str(folder)!r} holds no file of vectors. Give {FORMATS}.")
    return sorted(found, key=lambda file: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", file.name)])


def _names(file: VectorFile) -> list[str]:
    return sorted(file.schema.names)


def _raw(path: Path, shape: list[int], dtype: torch.dtype, offset: int, size: int | None = None) -> VectorFile:
    """Rows of fixed size, one after the other from `offset` on."""
    if len(shape) != 2:
        raise ValueError(f"it has the shape {tuple(shape)}; it must be (rows, dimension).")
    rows, dim = shape
    width = dim * dtype.itemsize
    found = path.stat().st_size - offset
    if found < rows * width or (size is not None and found != rows * width):
        raise ValueError(f"it should hold {rows:,} rows of {dim} values, but holds {found / max(width, 1):,.1f}.")

    def read(start: int, stop: int, batch_size: int, others: bool, room: Room) -> Iterator[Block]:
        with open(path, "rb", buffering=0) as file:
            file.seek(offset + start * width)
            for first in range(start, stop, batch_size):
                block = room.take(min(batch_size, stop - first), dim, dtype)
                view = memoryview(block.view(torch.uint8).numpy()).cast("B")
                while len(view):
                    if not (got := file.readinto(view)):
                        raise ValueError(f"`input` {str(path)!r} ends after row {first:,}; it has become shorter.")
                    view = view[got:]
                yield Block(block, first)

    return VectorFile(path, rows, dim, read)


def _open_npy(path: Path, column: str | None) -> VectorFile:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, by_columns, dtype = header(file)
        offset = file.tell()
    if dtype.str not in FLOATS:
        raise TypeError(
            f"it holds {dtype} values; embeddings are floating-point. Scale quantised ones back to floats first."
        )
    if by_columns:
        raise ValueError("it is stored by columns. Save `numpy.ascontiguousarray` of it.")
    return _raw(path, shape, FLOATS[dtype.str], offset)


def _open_fbin(path: Path, column: str | None) -> VectorFile:
    """Two u32 (rows, dimension), then the values: the format of the big-ann benchmarks and DiskANN."""
    with open(path, "rb") as file:
        header = file.read(8)
    if len(header) < 8:
        raise ValueError("it is shorter than its header.")
    dtype = torch.float32 if path.suffix == ".fbin" else torch.float16
    return _raw(path, np.frombuffer(header, "<u4").tolist(), dtype, 8, path.stat().st_size - 8)


def _open_safetensors(path: Path, column: str | None) -> VectorFile:
    try:
        with safe_open(path, framework="pt") as tensors:  # checks that the file is whole
            names = list(tensors.keys())
    except Exception as error:  # SafetensorError is no ValueError
        raise ValueError(str(error)) from error
    if column is None and len(names) != 1:
        raise ValueError(f"it holds the tensors {sorted(names)}; it must hold one, or `column` name one.")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    if (found := header.get(column or names[0])) is None:
        raise ValueError(f"it holds the tensors {sorted(names)}, not {column!r}.")
    if found["dtype"] not in SAFETENSORS_FLOATS:
        raise TypeError(f"it holds {found['dtype']} values; embeddings are floating-point.")
    return _raw(path, found["shape"], SAFETENSORS_FLOATS[found["dtype"]], 8 + length + found["data_offsets"][0])


def _open_parquet(path: Path, column: str | None) -> VectorFile:
    def opened() -> pq.ParquetFile:
        return pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False)

    with opened() as file:
        schema, metadata = file.schema_arrow, file.metadata
        sizes = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        name = vector_field(schema, column)
        dim = vector_dimension(schema.field(name).type)
        if metadata.num_rows and not dim:  # lists of any length: the first row tells
            dim = _first_dimension(file.iter_batches(batch_size=1, columns=[name]), name)
    cuts = np.cumsum([0, *sizes]).tolist()

    def read(start: int, stop: int, batch_size: int, others: bool, room: Room) -> Iterator[Block]:
        groups = range(bisect_right(cuts, start) - 1, bisect_right(cuts, stop - 1))
        columns = None if others else [name]
        with opened() as file:
            batches = file.iter_batches(batch_size=batch_size, row_groups=list(groups), columns=columns)
            yield from _tabular(path, batches, name, dim, start, batch_size, others)

    return VectorFile(path, metadata.num_rows, dim, read, cuts[:-1], schema, name)


def _open_arrow(path: Path, column: str | None) -> VectorFile:
    """A stream, as `datasets` writes it, or a file of record batches. Pages that were read are given back to the system."""
    with open(path, "rb") as file:
        is_file = file.read(6) == b"ARROW1"

    def batches(first: int = 0) -> Iterator[pa.RecordBatch]:
        with open(path, "rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)  # closed with the last batch that lies in it
        source, used = pa.BufferReader(pa.py_buffer(mapped)), 0
        if is_file:
            reader = pa.ipc.open_file(source)
            found = (reader.get_batch(i) for i in range(first, reader.num_record_batches))
        else:
            found = islice(pa.ipc.open_stream(source), first, None)  # passing over reads lengths, not rows
        for batch in found:
            used += batch.nbytes
            yield batch
            if used > RESIDENT:
                mapped.madvise(mmap.MADV_DONTNEED)
                used = 0

    with pa.OSFile(str(path)) as file:
        schema = (pa.ipc.open_file if is_file else pa.ipc.open_stream)(file).schema
    name = vector_field(schema, column)
    cuts = np.cumsum([0, *(len(batch) for batch in batches())]).tolist()
    dim = vector_dimension(schema.field(name).type)
    if cuts[-1] and not dim:
        dim = _first_dimension(batches(), name)

    def read(start: int, stop: int, batch_size: int, others: bool, room: Room) -> Iterator[Block]:
        first, last = bisect_right(cuts, start) - 1, bisect_right(cuts, stop - 1)
        yield from _tabular(path, islice(batches(first), last - first), name, dim, start, batch_size, others)

    return VectorFile(path, cuts[-1], dim, read, cuts[:-1], schema, name)


def _first_dimension(batches: Iterator[pa.RecordBatch], name: str) -> int:
    lengths = (length for batch in batches for length in batch.column(name).value_lengths().drop_null().to_pylist())
    return next(lengths, 0)


def _tabular(path: Path, batches, name: str, dim: int, first: int, batch_size: int, others: bool) -> Iterator[Block]:
    """Blocks of exactly `batch_size` rows out of record batches of any size."""
    waiting, count = [], 0
    iterator = iter(batches)
    while True:
        with naming(path, first):
            batch = next(iterator, None)
        if batch is not None:
            waiting.append(batch)
            count += len(batch)
        while count >= batch_size or (batch is None and count):
            table = pa.Table.from_batches(waiting)
            yield table_block(table.slice(0, batch_size), name, dim, first, str(path), others=others)
            rest = table.slice(batch_size)
            first, count, waiting = first + min(batch_size, count), len(rest), rest.to_batches()
        if batch is None:
            return


READERS = {
    ".npy": _open_npy,
    ".fbin": _open_fbin,
    ".f16bin": _open_fbin,
    ".safetensors": _open_safetensors,
    ".parquet": _open_parquet,
    ".arrow": _open_arrow,
}
