"""Data sets that are streamed: the rows come one after the other, and how many there are is not known."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, DatasetBuilder, Features, IterableDataset, Value, load_dataset_builder
from datasets.packaged_modules.csv.csv import Csv
from datasets.packaged_modules.json.json import Json
from datasets.table import CastError

from ..data.blocks import Block, VectorFile
from ..data.columns import HEAD, first_dimension, vector_column, vector_dimension
from ..data.table_files import column_rows
from ..data.vector_files import naming

MIXED = "Give the files as `input`, which finds types that hold what all files have, or rewrite some of them."


@dataclass
class VectorStream:
    """One of the shards that a streamed data set consists of.

    Args:
        name: for errors and records.
        data: the shard.
        dim: of its vectors.
        schema: of all columns.
        column: with the vectors.
    """

    name: str
    data: IterableDataset
    dim: int
    schema: pa.Schema
    column: str

    def place(self, row: int) -> str:
        """What a row is called in errors."""
        return f"`dataset` {self.name!r}, row {row:,}"

    def parts(self, shard_rows: int, batch_size: int, others: bool, state: dict | None, first: int) -> "Parts":
        """Blocks from a state on, in parts of about `shard_rows` rows."""
        return Parts(self, max(1, shard_rows // batch_size), batch_size, others, state, first)


class Parts:
    """Where a stream has got to. `state` is that after the last block that was taken.

    Args:
        stream: what is read.
        batches: blocks of a part.
        batch_size: rows of a block.
        others: keep the columns beside the vectors.
        state: to go on from.
        first: number of the first row.
    """

    def __init__(self, stream: VectorStream, batches: int, batch_size: int, others: bool, state: dict | None, first: int):
        self.stream, self.batches, self.others, self.row, self.state = stream, batches, others, first, state
        data = stream.data.with_format("arrow")
        if state is not None:
            data.load_state_dict(state)
        self.data, self.tables = data, iter(data.iter(batch_size))

    def next_part(self) -> Iterator[Block]:
        """Blocks of one part; none at the end of the stream."""
        for _ in range(self.batches):
            with naming("dataset", f"{self.stream.name}, at or after row {self.row:,}"), told_of_types():
                table = next(self.tables, None)
            if table is None:
                return
            self.state = self.data.state_dict()
            first, self.row = self.row, self.row + len(table)
            yield self._block(table, first)

    def _block(self, table: pa.Table, first: int) -> Block:
        stream = self.stream
        rows = column_rows(table, stream.column, stream.dim, lambda row: stream.place(first + row))
        return Block(rows, first, table.drop_columns(stream.column) if self.others else None)


def open_dataset(
    name: str, config: str | None, split: str, data_files: str | list[str] | None
) -> tuple[IterableDataset, dict]:
    """A streamed data set, and what tells it from others.

    Args:
        name: on the Hub, or `parquet`, `json`, ... with `data_files`.
        config: of the data set.
        split: of the data set.
        data_files: local files or patterns.

    Raises:
        ValueError: if it cannot be loaded, or holds texts that would become numbers.
    """
    try:
        builder = load_dataset_builder(name, config, data_files=data_files)
        if isinstance(builder, Json):
            _keep_texts(builder)
        data = builder.as_streaming_dataset(split=split)
    except Exception as error:  # of the Hub, of a builder, of a file
        raise ValueError(f"`dataset` {name!r} cannot be loaded: {' '.join(str(error).split())}") from error
    if isinstance(builder, Csv) and (files := files_read(data)):
        raise ValueError(
            f"`dataset` {name!r} would make numbers of texts such as 007, and gaps of words such as NA, in {files[0]!r}. "
            "Give the files, unpacked, as `input`, which reads values as they stand."
        )
    _check_texts(data, name)
    facts = {"dataset": name, "config": builder.config_id, "split": split, "hash": builder.hash}
    return data, facts


@contextmanager
def told_of_types() -> Iterator[None]:
    """Say what `datasets` means where it cannot read a file by the columns of the first."""
    try:
        yield
    except (TypeError, ValueError) as error:  # also Arrow's own
        if isinstance(error, CastError) or "cast array of type" in str(error):
            raise ValueError(f"its files have columns of other names or types than the first: {error}. {MIXED}") from error
        raise


def _check_texts(data: IterableDataset, name: str) -> None:
    """Raise ValueError where `datasets` would make numbers of the texts of a local Parquet file, as of `007`."""
    for file in (file for file in files_read(data) if file.endswith(".parquet")):
        for column, kind in _lost_texts(pq.read_schema(file), data.features):
            raise ValueError(
                f"`dataset` {name!r} has {kind} in the column {column!r} of its first file, but texts in that of {file!r}, "
                f"which would not stay as they are. {MIXED}"
            )


def _keep_texts(builder: DatasetBuilder) -> None:
    """Have a builder of JSON raise where it would make numbers of texts: it knows the types of the first rows alone."""
    cast: Any = builder._cast_table  # type: ignore[attr-defined]  # no public place is before the cast

    def checked(table: pa.Table, *args: Any, **kwargs: Any) -> pa.Table:
        for column, kind in _lost_texts(table.schema, builder.info.features):
            raise ValueError(
                f"it has {kind} in the column {column!r} of its first rows, but texts in later ones, which would not stay "
                f"as they are. {MIXED}"
            )
        return cast(table, *args, **kwargs)

    builder._cast_table = checked  # type: ignore[attr-defined]


def _lost_texts(schema: pa.Schema, features: Features | None) -> Iterator[tuple[str, str]]:
    """Columns of texts that are to become something else, and what."""
    kinds = {column: kind.dtype for column, kind in (features or {}).items() if isinstance(kind, Value)}
    other = {column: kind for column, kind in kinds.items() if "string" not in kind and "binary" not in kind}
    for field in schema:
        if field.name in other and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type)):
            yield field.name, other[field.name]


def open_streams(data: IterableDataset, name: str, column: str | None = None) -> list[VectorStream]:
    """The shards of a streamed data set, each a stream of its own.

    Args:
        data: the data set.
        name: for errors.
        column: with the vectors; default: `embedding`, or the only one that holds lists.

    Raises:
        ValueError: if the data set has no row, or no column of vectors.
    """
    with naming("dataset", name), told_of_types():
        head = next(iter(data.with_format("arrow").iter(HEAD)), None)
        if head is None:
            raise ValueError("it has no rows.")
        schema = data.features.arrow_schema if data.features else head.schema
        column = vector_column(head, "it", column)
        dim = vector_dimension(schema.field(column).type) or first_dimension(head[column], lambda row: f"row {row:,}")
        if not dim:
            raise ValueError(
                f"its first {len(head):,} rows have no vector in {column!r}, so that the dimension is not known."
            )
    shards = (data.shard(num_shards=data.num_shards, index=k) for k in range(data.num_shards))
    return [VectorStream(f"{name}, shard {k}", shard, dim, schema, column) for k, shard in enumerate(shards)]


def files_read(data: IterableDataset) -> list[str]:
    """Files on this machine that a stream comes from, whatever was done to it since: those that its parts name."""
    found: list[str] = []
    parts: list[Any] = [data._ex_iterable]  # no public attribute leads to them
    for part in parts:
        held = vars(part)
        parts += [*held.get("ex_iterables", []), *([held["ex_iterable"]] if "ex_iterable" in held else [])]
        found += _files_named(held.get("kwargs", {}).values())
    return found


def _files_named(values: Iterable) -> Iterator[str]:
    """Paths of files among the arguments of a stream's generator."""
    for value in values:
        if isinstance(value, str) and os.path.isfile(value):
            yield value
        elif isinstance(value, VectorFile):
            yield str(value.path)
        elif isinstance(value, Dataset):
            yield from (file["filename"] for file in value.cache_files)
        elif isinstance(value, list | tuple):
            yield from _files_named(value)
