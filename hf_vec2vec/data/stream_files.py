"""Local stores and Hub data sets as streams, for [`StreamedEmbeddings`]."""

import re
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
from datasets import DatasetInfo, IterableDataset, load_dataset
from datasets.iterable_dataset import ArrowExamplesIterable

from .blocks import VectorFile
from .columns import EMBEDDING, ID, TEXT, check_ids, to_table
from .validity import InvalidRows, check_choice, keep_valid
from .vector_files import Store, open_files

SHARD = 65_536  # rows of a file that are one shard: what is ordered anew each pass, and dealt out to processes
BLOCK = 8_192  # rows that are read at a time
HUB = re.compile(r"([\w-][\w.-]*/[\w-][\w.-]*)(?::([\w.-]+))?")


def open_stream(
    path: str | Path, *, column: str | None = None, id_column: str | None = None, invalid_rows: InvalidRows = "stop"
) -> IterableDataset:
    """Read vectors (and their texts and ids, where the store has them) block by block, not all at once.

    Args:
        path: see [`open_files`]; or `ORG/NAME` or `ORG/NAME:SPLIT` of a data set on the Hub (split `train`).
        column: with the vectors; see `open_files`.
        id_column: with the ids.
        invalid_rows: what to do with rows that hold no vector, only zeros, NaN or infinity: `stop` or `drop` them. Of the
            Hub's data sets the first one stops.

    Returns:
        A stream with the columns `embedding`, `text` where there is one, and `id` if `id_column` names one. Of the Hub's all
        columns.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        OSError: if it is on the Hub and cannot be had.
        ValueError, TypeError: see `open_files`; or if there is no such column.
    """
    check_choice(invalid_rows)
    try:
        store = open_files(path, column)
    except FileNotFoundError:
        if not (on_hub := HUB.fullmatch(str(path))) or Path(on_hub[1]).suffix.lower() in (".npy", ".parquet"):
            raise
        return _of_hub(on_hub[1], on_hub[2] or "train", column, id_column)
    first = store.files[0]
    check_ids(id_column, first.schema, first.other_columns(), f"`path` {str(path)!r}")
    shards = [(store, file, part, id_column, invalid_rows) for file in store.files for part in _shards(file)]
    info = DatasetInfo(description=store.description)
    return IterableDataset(ArrowExamplesIterable(_tables, {"shards": shards}), info=info)


def _of_hub(name: str, split: str, column: str | None, id_column: str | None) -> IterableDataset:
    try:
        stream = load_dataset(name, split=split, streaming=True)
    except Exception as error:  # of the Hub, of the network, of a builder
        reason = " ".join(str(error).split())
        raise OSError(f"`path` {name!r} is nothing on this machine, and cannot be had from the Hub: {reason}") from error
    names = {column: EMBEDDING, id_column: ID}
    return stream.rename_columns({old: new for old, new in names.items() if old not in (None, new)})


def _shards(file: VectorFile) -> list[tuple[int, int]]:
    """Parts of a file; of tables each row group or record batch that is not small."""
    return file.parts(SHARD if file.cuts is None else BLOCK)


def _tables(
    shards: list[tuple[Store, VectorFile, tuple[int, int], str | None, InvalidRows]],
) -> Iterator[tuple[int, pa.Table]]:
    """Blocks of the shards. Each file is open only while it is read."""
    for store, file, (start, stop), id_column, invalid_rows in shards:
        others = [name for name in file.other_columns() if name in (TEXT, id_column)]
        for block in store.read(file, start, stop, BLOCK, others):
            kept = keep_valid(block, invalid_rows, store.place(file))
            columns = {} if kept.others is None else dict(zip(others, kept.others.columns, strict=True))
            if id_column is not None:
                columns[ID] = columns.pop(id_column)
            if len(kept.rows):
                # A copy, for the block's memory is used again; of one type, whatever those of the files are.
                yield start, pa.table({**columns, EMBEDDING: to_table(kept.rows.clone().float())[EMBEDDING]})


__all__ = ["open_stream"]
