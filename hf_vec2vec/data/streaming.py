"""Vectors that are read as they are needed: stores that do not fit into memory, data sets of unknown length."""

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from copy import copy
from itertools import count
from threading import Thread
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset
from torch import Tensor

from .columns import TEXT, vector_column, vectors
from .overlap import COMPARED, NOT_CHECKED, ON_A_SAMPLE, TEXTS_COMPARED, VECTORS_COMPARED
from .spaces import UnpairedEmbeddings

SAMPLED_SHARDS = 64  # that a sample is drawn from at a time
HASHED = 64  # leading values of a vector that decide whether it is held out


class StreamedEmbeddings:
    """Vectors of several spaces, read from streams whose rows have nothing to do with each other.

    For [`Vec2VecTrainer`], which draws from them without end: when a stream runs out, it starts over with its shards in
    another order. Memory holds two buffers a space, however long the streams are. Do not shuffle the streams yourself:
    what lies in the buffer of `datasets.IterableDataset.shuffle` is lost when a run is resumed.

    Args:
        spaces: `{name: stream}`; a stream has a column `embedding` or one of lists. `open_stream` makes them of files.
        buffer_rows: rows of a space that are shuffled together. Shards and buffers are all the mixing there is: a store
            that is sorted by topic and lies in one shard should be shuffled on disk.
        strict_unpaired: refuse streams that share texts, where texts are known. Only samples are compared (see `sample`).
        held_out: share of the rows that training leaves out, told by a hash of their values; see `split`.

    Raises:
        TypeError, ValueError: for fewer than two spaces, anything but a stream, or a first row without a vector.
    """

    def __init__(
        self,
        spaces: Mapping[str, IterableDataset],
        *,
        buffer_rows: int = 16_384,
        strict_unpaired: bool = True,
        held_out: float = 0.0,
    ):
        if len(spaces) < 2:
            raise ValueError(f"`spaces` must hold at least two spaces, got {list(spaces)}.")
        if buffer_rows < 1:
            raise ValueError(f"`buffer_rows` must be at least 1, got {buffer_rows}.")
        for name, data in spaces.items():
            if not isinstance(data, IterableDataset):
                raise TypeError(
                    f"`spaces` {name!r} is a {type(data).__name__}; streams are `datasets.IterableDataset`. Use "
                    "UnpairedEmbeddings for data in memory."
                )
        self.spaces = dict(spaces)
        self.buffer_rows, self.strict_unpaired, self.held_out = buffer_rows, strict_unpaired, held_out
        self.dims = {name: vectors(_head(data, name), name).shape[1] for name, data in spaces.items()}
        self.checked = NOT_CHECKED  # until a sample is drawn

    def sample(self, rows: int, *, seed: int) -> UnpairedEmbeddings:
        """About `rows` rows of each space, from the beginnings of up to 64 shards that are drawn at random.

        The cost depends on `rows`, not on the length of the streams.

        Raises:
            TypeError, ValueError: see [`UnpairedEmbeddings`]; the samples are compared, and where texts are not known,
                vectors that are drawn in one way from all streams, which are the same if the streams are.
        """
        drawn = {
            name: Dataset(_sample(data, name, rows, np.random.default_rng([seed, i])))
            for i, (name, data) in enumerate(self.spaces.items())
        }
        data = UnpairedEmbeddings(drawn, strict_unpaired=self.strict_unpaired)
        if data.checked == VECTORS_COMPARED:
            for name, stream in self.spaces.items():
                drawn[name] = Dataset(_sample(stream, name, min(rows, COMPARED), np.random.default_rng(seed)))
            UnpairedEmbeddings(drawn)
        data.checked += ON_A_SAMPLE if data.checked in (TEXTS_COMPARED, VECTORS_COMPARED) else ""
        return data

    def split(
        self, rows: int, *, sample_rows: int, seed: int
    ) -> tuple["StreamedEmbeddings", UnpairedEmbeddings, UnpairedEmbeddings]:
        """Hold out rows: (streams that leave them out, a sample of what is left, about `rows` held-out rows of each space).

        Rows are held out by a hash of their values, so that no copy of them is trained on, wherever in the stream it lies.
        The sample says which share of the stream `rows` of it are, a fifth at most.

        Raises:
            ValueError: if fewer than two rows of a space are held out.
        """
        sample = self.sample(sample_rows, seed=seed)
        share = min(0.2, rows / min(map(len, sample.spaces.values())))
        masks = {name: is_held_out(values, share) for name, values in sample.spaces.items()}
        if (fewest := min(int(mask.sum()) for mask in masks.values())) < 2:
            raise ValueError(f"`validation_rows` leaves {fewest} rows to choose a checkpoint on; it needs at least 2.")
        left = copy(self)
        left.held_out = share
        parts = (
            {name: values[~masks[name]] for name, values in sample.spaces.items()},
            {name: values[masks[name]] for name, values in sample.spaces.items()},
        )
        kept, taken = (UnpairedEmbeddings(part, strict_unpaired=False) for part in parts)
        left.checked = kept.checked = taken.checked = sample.checked
        return left, kept, taken


class EndlessRows(torch.utils.data.IterableDataset):
    """The rows of a stream, pass after pass; a stream that shuffles does so anew in each.

    Args:
        stream: of rows.
    """

    def __init__(self, stream: IterableDataset):
        self.stream = stream

    def __iter__(self) -> Iterator[dict]:
        for number in count():
            self.stream.set_epoch(number)
            row = None
            for row in self.stream:
                yield row
            if row is None:
                raise ValueError("`train_dataset` is empty: the stream has no rows.")


class StreamedBatches(torch.utils.data.IterableDataset):
    """The batches of a training run for one process, and the place where they are.

    Args:
        data: the streams.
        batch_size: rows of each space.
        batches: how many there are.
        seed: of all orders.
        rank: of this process. Each reads shards of its own, or, where there are fewer shards than processes, its rows of
            every buffer.
        world_size: number of processes.
    """

    def __init__(
        self, data: StreamedEmbeddings, batch_size: int, batches: int, *, seed: int, rank: int = 0, world_size: int = 1
    ):
        self.batch_size, self.batches, self.skipped = batch_size, batches, 0
        self.streams = {
            name: _SpaceStream(stream, name, data, [seed, i], rank, world_size)
            for i, (name, stream) in enumerate(data.spaces.items())
        }

    def __iter__(self) -> Iterator[dict[str, Tensor] | None]:
        for _ in range(self.skipped):  # which the trainer counts and throws away when it resumes
            yield None
        for _ in range(self.skipped, self.batches):
            yield {name: stream.take(self.batch_size) for name, stream in self.streams.items()}

    def __len__(self) -> int:
        return self.batches

    def state_dict(self) -> dict:
        """The place behind the last batch, for JSON."""
        return {name: stream.place for name, stream in self.streams.items()}

    def load_state_dict(self, state: dict, batches: int) -> None:
        """Go on from a place, `batches` batches after the beginning."""
        for name, stream in self.streams.items():
            stream.place = state[name]
        self.skipped = batches


class _SpaceStream:
    """Rows of one space, pass after pass. A place is the buffer that is being used, and the rows taken from it."""

    def __init__(
        self,
        stream: IterableDataset,
        name: str,
        data: StreamedEmbeddings,
        seed: list[int],
        rank: int,
        world_size: int,
    ):
        if stream.num_shards >= world_size:
            stream, rank, world_size = stream.shard(world_size, rank, contiguous=False), 0, 1
        self.stream, self.name, self.dim = stream.with_format("arrow"), name, data.dims[name]
        self.buffer_rows, self.held_out, self.seed = data.buffer_rows, data.held_out, seed
        self.part = slice(rank, None, world_size)
        self.place: dict[str, Any] = {"pass": 0, "buffer": 0, "stream": None, "taken": 0}
        self.buffers: Iterator[tuple[dict, Tensor]] | None = None
        self.buffer = torch.empty(0)

    def take(self, rows: int) -> Tensor:
        """The next rows, `(rows, d)`."""
        if self.buffers is None:
            self.buffers = self._buffers(self.place)
            self.coming = self._read(self.buffers)
            self._next_buffer()
        parts: list[Tensor] = []
        while (missing := rows - sum(len(part) for part in parts)) > len(self.buffer) - self.place["taken"]:
            parts.append(self.buffer[self.place["taken"] :])
            self.place = self._next_buffer() | {"taken": 0}
        start = self.place["taken"]
        self.place = self.place | {"taken": start + missing}
        return torch.cat([*parts, self.buffer[start : start + missing]])

    def _next_buffer(self) -> dict[str, Any]:
        assert self.buffers is not None
        place, self.buffer = self.coming.result()
        self.coming = self._read(self.buffers)
        return place

    def _read(self, buffers: Iterator[tuple[dict, Tensor]]) -> "Future[tuple[dict, Tensor]]":
        """Read a buffer in a thread, while the one before it is used."""
        coming: Future[tuple[dict, Tensor]] = Future()

        def read() -> None:
            try:
                coming.set_result(next(buffers))
            except BaseException as error:  # for the thread that waits for the rows
                coming.set_exception(error)

        # A thread for each buffer: a pool of them would have to be shut down, and garbage collection deadlocks on that.
        Thread(target=read, name=f"read-{self.name}").start()
        return coming

    def _buffers(self, place: dict[str, Any]) -> Iterator[tuple[dict, Tensor]]:
        """Buffers of all passes from a place on, each with its place."""
        state, first = place["stream"], place["buffer"]
        for number in count(place["pass"]):
            found = first > 0  # in what was read of this pass before
            for buffer, rows in self._pass(number, first, state):
                found = True
                yield {"pass": number} | buffer, rows
            if not found:
                raise ValueError(f"`{self.name}`: a whole pass over the stream gave this process no row to train on.")
            state, first = None, 0

    def _pass(self, number: int, first: int, state: dict | None) -> Iterator[tuple[dict, Tensor]]:
        """Buffers of one pass, from the `first` on, that have rows for this process."""
        # `datasets` orders shards by the number of the epoch.
        order = np.random.SeedSequence([*self.seed, number]).generate_state(1)[0] % 2**31
        self.stream.set_epoch(int(order) or 1)
        self.stream.load_state_dict(state)
        for index, table in enumerate(self.stream.iter(self.buffer_rows), start=first):
            name = f"{self.name}, rows from {index * self.buffer_rows:,} of a pass"
            rows = self._mixed(vectors(table, name, self.dim), number, index)
            if len(rows):
                yield {"buffer": index, "stream": state}, rows
            state = self.stream.state_dict()

    def _mixed(self, rows: Tensor, number: int, index: int) -> Tensor:
        """This process's part of a buffer, less what is held out, in a random order."""
        kept = (~is_held_out(rows, self.held_out)).nonzero().flatten()
        order = np.random.default_rng([*self.seed, number, index]).permutation(len(kept))[self.part]
        return rows[kept[torch.from_numpy(order)]]


def is_held_out(rows: Tensor, share: float) -> Tensor:
    """Which rows `(n, d)` a hash of their values puts into the given share of all rows, `(n,)` booleans."""
    words = rows[:, :HASHED].contiguous().numpy().view(np.uint32).astype(np.uint64)
    factors = np.random.default_rng(0).integers(1 << 63, size=words.shape[1], dtype=np.uint64) * 2 + 1
    return torch.from_numpy((words @ factors >> np.uint64(32)) < share * 2**32)


def _head(stream: IterableDataset, name: str) -> pa.Table:
    table = next(stream.with_format("arrow").iter(1), None)
    if table is None:
        raise ValueError(f"`{name}` is empty: the stream has no rows.")
    return table


def _sample(stream: IterableDataset, name: str, rows: int, generator: np.random.Generator) -> pa.Table:
    """`rows` rows, or all there are, in a random order: from the beginnings of up to 64 shards, or of more that are short.

    Only the columns with vectors and texts are kept, and one shard at a time is open.
    """
    shards, taken, tables, found = generator.permutation(stream.num_shards).tolist(), 0, [], 0
    while shards and found < rows:
        block, longer = -(-(rows - found) // min(len(shards), SAMPLED_SHARDS)), []
        for shard in shards:
            if found >= rows:
                break
            head = next(stream.shard(stream.num_shards, shard).with_format("arrow").iter(taken + block), None)
            if head is None or len(head) <= taken:
                continue
            table = _vectors_and_texts(head, name)
            # A copy: a slice would keep all that was read with it.
            tables.append(table.take(np.arange(taken, len(table))))
            found += len(table) - taken
            if len(table) == taken + block:
                longer.append(shard)
        shards, taken = longer, taken + block
    table = pa.concat_tables(tables)
    return table.take(generator.permutation(len(table))[:rows])


def _vectors_and_texts(table: pa.Table, name: str) -> pa.Table:
    wanted = {TEXT, vector_column(table, name)}
    return table.select([column for column in table.column_names if column in wanted])


__all__ = ["EndlessRows", "StreamedBatches", "StreamedEmbeddings", "is_held_out"]
