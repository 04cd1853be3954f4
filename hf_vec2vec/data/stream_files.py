"""Local stores and Hub data sets as streams, for [`StreamedEmbeddings`]."""

import glob
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import DatasetInfo, IterableDataset, load_dataset, load_from_disk
from datasets.iterable_dataset import ArrowExamplesIterable
from safetensors import SafetensorError, safe_open

from .columns import to_table
from .files import MADE_BY

SHARD = 65_536  # rows of a file that are one shard: what is ordered anew each pass, and dealt out to processes
BLOCK = 8_192  # rows that are read at a time
SUFFIXES = (".parquet", ".npy", ".safetensors")
STORES = "Arrow folder, .parquet, .npy, .safetensors, a folder or pattern ('store/*.parquet') of such files"
HUB = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?::([\w.-]+))?")


def open_stream(path: str | Path) -> IterableDataset:
    """Read vectors (and their texts, where the store has them) block by block, not all at once.

    Args:
        path: an Arrow folder (`Dataset.save_to_disk`), `.parquet`, `.npy` or `.safetensors`; a folder or a pattern
            (`store/*.parquet`) of such files; or `ORG/NAME` or `ORG/NAME:SPLIT` of a data set on the Hub (split `train`).

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        OSError: if it is on the Hub and cannot be had.
        ValueError: for a format that is none of these, or a file that cannot be read.
    """
    name = str(path)
    files = [Path(file) for file in sorted(glob.glob(name))] or [Path(path)]
    if not files[0].exists():
        if on_hub := HUB.fullmatch(name):
            return load_dataset(on_hub[1], split=on_hub[2] or "train", streaming=True)
        raise FileNotFoundError(f"`path` is {name!r}, where there is nothing. Give {STORES}, or ORG/NAME on the Hub.")
    if len(files) == 1 and files[0].is_dir() and not _is_arrow(files[0]):
        files = sorted(file for file in files[0].iterdir() if file.suffix in SUFFIXES)
    shards = [shard for file in files for shard in _shards(file)]
    if not shards:
        raise ValueError(f"`path` {name!r} holds no vectors. Give {STORES}.")
    info = DatasetInfo(description=_made_by(files[0]))
    return IterableDataset(ArrowExamplesIterable(_tables, {"shards": shards}), info=info)


def _made_by(file: Path) -> str:
    """What `embed` left in a file about the making of its vectors."""
    if file.suffix == ".parquet":
        return (pq.read_schema(file).metadata or {}).get(MADE_BY, b"").decode()
    return load_from_disk(str(file)).info.description if _is_arrow(file) else ""


def _is_arrow(path: Path) -> bool:
    return (path / "dataset_info.json").exists()


def _shards(file: Path) -> list[tuple[str, int, int, dict | None]]:
    """Parts of a file: of Parquet its row groups, of others ranges of rows; of `.npy` also how it is mapped."""
    layout = None
    try:
        if file.suffix == ".parquet":
            return [(str(file), group, group + 1, None) for group in range(pq.ParquetFile(file).num_row_groups)]
        if _is_arrow(file):
            rows = len(load_from_disk(str(file)))
        elif file.suffix == ".npy":
            # Read here and now: NumPy parses the header with `ast`, which Python 3.11 cannot do in two threads at once.
            mapped = np.load(file, mmap_mode="r", allow_pickle=False)
            order = "C" if mapped.flags.c_contiguous else "F"
            layout = {"dtype": mapped.dtype.str, "offset": mapped.offset, "shape": mapped.shape, "order": order}
            rows = _rows(mapped.shape)
        elif file.suffix == ".safetensors":
            with safe_open(file, framework="np") as tensors:
                if len(tensors.keys()) != 1:
                    raise ValueError(f"it holds the tensors {sorted(tensors.keys())}; it must hold one.")
                rows = _rows(tensors.get_slice(next(iter(tensors.keys()))).get_shape())
        else:
            raise ValueError("this is no known format.")
    except (ValueError, TypeError, EOFError, OSError, SafetensorError) as error:
        raise ValueError(f"`path` {str(file)!r} cannot be read: {error} Give {STORES}.") from error
    return [(str(file), start, min(start + SHARD, rows), layout) for start in range(0, rows, SHARD)]


def _rows(shape) -> int:
    if len(shape) != 2:
        raise ValueError(f"its shape is {tuple(shape)}; it must be (rows, dimension).")
    return shape[0]


def _tables(shards: list[tuple[str, int, int, dict | None]]) -> Iterator[tuple[int, pa.Table]]:
    """Blocks of the shards. Each is mapped into memory only while it is read, so that what has been read is let go."""
    for path, start, stop, layout in shards:
        try:
            for table in _blocks(Path(path), start, stop, layout):
                yield start, table
        except (OSError, ValueError, SafetensorError) as error:
            raise ValueError(f"`path` {path!r} cannot be read from {start:,} on: {error}") from error


def _blocks(file: Path, start: int, stop: int, layout: dict | None) -> Iterator[pa.Table]:
    if file.suffix == ".parquet":
        # Buffered, or a row group, which may be the whole file, would be held at once.
        with pq.ParquetFile(file, pre_buffer=False, buffer_size=1 << 20) as parquet:
            for batch in parquet.iter_batches(BLOCK, row_groups=[start]):
                yield pa.Table.from_batches([batch])
        return
    bounds = [(i, min(i + BLOCK, stop)) for i in range(start, stop, BLOCK)]
    if file.suffix == ".npy":
        rows = np.memmap(file, mode="r", **layout)
        yield from (to_table(rows[i:j]) for i, j in bounds)
    elif file.suffix == ".safetensors":
        with safe_open(file, framework="np") as tensors:
            rows = tensors.get_slice(next(iter(tensors.keys())))
            yield from (to_table(rows[i:j]) for i, j in bounds)
    else:
        data = load_from_disk(str(file)).with_format("arrow")
        yield from (data[i:j] for i, j in bounds)


__all__ = ["open_stream"]
