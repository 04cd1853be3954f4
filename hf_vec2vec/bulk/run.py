"""One translation of a store: parts in, shards out."""

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor, nn
from tqdm import tqdm

from .columns import Block
from .dataset_files import dataset_files
from .dtypes import DTYPES, Values, convert
from .manifest import Manifest, locked, same_job
from .processes import Processes
from .readers import VectorFile
from .streams import VectorStream
from .threads import Room, compute, in_flight, read_ahead, write_behind
from .writers import Layout, ShardWriter, suffix_of

CPU_ROWS = 1024  # that a core multiplies at a time: what comes between is small, and takes memory that was used before
InvalidRows = Literal["stop", "drop", "mark"]


@dataclass
class Part:
    """Rows that become one shard.

    Args:
        key: tells it from the others, and sorts in the order of the rows.
        name: of the file or stream that it is read from.
        rows: how many, if that is known.
        state: of the stream after its last row, once that has been read.
        next_row: number of the row after that.
    """

    key: str
    name: str
    rows: int | None = None
    state: dict | None = None
    next_row: int = 0


@dataclass
class Translated:
    """A block on its way to the disk.

    Args:
        values: translations.
        others: the columns that belong to them.
        valid: which rows are valid, if not all are.
        read: rows of the block.
        invalid: numbers of the rows that are not valid, as ranges.
    """

    values: Values
    others: pa.Table | None
    valid: Tensor | None
    read: int
    invalid: list[tuple[int, int]]


@dataclass
class Summary:
    """What a run has done.

    Args:
        rows: that it wrote.
        invalid_rows: that it left out or marked.
        seconds: that it took.
        shards: that it wrote; 0 for a single file.
        earlier_shards: that an earlier run had left.
        dropped_columns: that the output's format cannot hold.
    """

    rows: int = 0
    invalid_rows: int = 0
    seconds: float = 0.0
    shards: int = 0
    earlier_shards: int = 0
    dropped_columns: tuple[str, ...] = ()


@dataclass
class Run:
    """See `translate_store`, whose arguments these are, opened and checked."""

    network: nn.Module
    warn: Callable[[Tensor], None]
    pieces: list[VectorFile] | list[VectorStream]
    layout: Layout
    batch_size: int
    shard_rows: int
    invalid_rows: InvalidRows
    processes: Processes
    progress: bool
    summary: Summary = field(default_factory=Summary)
    warned: bool = False

    @property
    def on_cpu(self) -> bool:
        """Whether vectors are translated where they are read."""
        return self.processes.device.type == "cpu"

    @property
    def workers(self) -> int:
        """Threads that translate."""
        return torch.get_num_threads() if self.on_cpu else 1

    def into_folder(self, output: Path, job: dict, overwrite: bool, verify: bool) -> Summary:
        """A folder of shards."""
        manifest, replaced = Manifest(output), output.with_name(f".replaced-{output.name}")
        output.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:

            def begin() -> dict[str, dict]:
                stack.enter_context(locked(_lock(output)))
                if overwrite:
                    _move_aside(output, replaced, job)
                elif output.exists() and not output.is_dir():
                    raise FileExistsError(f"`output` {str(output)!r} is a file. Choose another.")
                output.mkdir(exist_ok=True)
                found = manifest.begin(job)
                for left in output.glob(".partial-*"):
                    left.unlink()
                records = manifest.records(verify=verify)
                if found is None or not found["complete"] or len(records) < len(found["shards"]):
                    manifest.reopen(records)
                    return records
                return {"complete": records}

            records = self.processes.first_only(begin)
            if "complete" in records:
                self.summary.earlier_shards = len(records["complete"])
                return self.summary
            self.summary.earlier_shards = len(records)
            self._go(self._parts(records), ShardsInFolder(self, manifest), output)
            self.processes.wait()

            def end() -> None:
                files = dataset_files(self.layout.schema(), manifest.shards()) if self.layout.kind == "arrow" else {}
                manifest.end(files)
                shutil.rmtree(replaced, ignore_errors=True)

            self.processes.first_only(end)
        return self.summary

    def into_file(self, output: Path, overwrite: bool) -> Summary:
        """One file."""
        if output.exists() and (output.is_dir() or not overwrite):
            raise FileExistsError(f"`output` {str(output)!r} exists already. Choose another, or ask to overwrite it.")
        output.parent.mkdir(parents=True, exist_ok=True)
        with locked(_lock(output)):
            rows = [piece.rows for piece in self.pieces if isinstance(piece, VectorFile)]
            self._go(self._parts({}), SingleFile(self, output, sum(rows) if rows else None), output)
        return self.summary

    def _go(self, parts: list, writing: "SingleFile | ShardsInFolder", output: Path) -> None:
        """Read, translate and write all parts, with errors that say what is left."""
        rows = [part.rows for part, *_ in parts]
        total = None if None in rows else sum(rows)
        width = self.layout.dim * DTYPES[self.layout.dtype].itemsize
        free = shutil.disk_usage(output.parent).free
        if total is not None and total * width > free * self.processes.count:
            raise OSError(
                f"`output` {str(output)!r} needs {total * width / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free. "
                "Make room, or choose another `dtype` or place."
            )
        several = f", process 1 of {self.processes.count}" if self.processes.count > 1 else ""
        shown = self.progress and self.processes.index == 0
        bar = tqdm(total=total, unit=" vectors", unit_scale=True, desc=f"translate{several}", disable=not shown)
        self.network.to(self.processes.device)
        workers = self.workers
        read, written = Room(in_flight(workers)), Room(in_flight(workers))
        try:
            with (
                bar,
                read_ahead(self._blocks(parts, read)) as blocks,
                compute(workers, on_cpu=self.on_cpu) as pool,
                write_behind(writing.take, workers) as put,
            ):
                for part, block in blocks:
                    if block is None:
                        put((part, None))
                        continue
                    room = written.take(len(block.rows), self.layout.dim, DTYPES[self.layout.dtype])
                    put((part, pool.submit(self._translate, part.name, block, room)))
                    bar.update(len(block.rows))
            writing.end()
        finally:
            writing.abandon()

    def _parts(self, records: dict[str, dict]) -> list[tuple]:
        """What this process is to do: parts of files, or streams."""
        count, index = self.processes.count, self.processes.index
        if isinstance(self.pieces[0], VectorStream):
            mine = list(enumerate(self.pieces))[index::count]
            return [(Part(f"{k:05d}", stream.name), stream, k, records) for k, stream in mine]
        parts = [
            (Part(f"{k:05d}-{j:05d}", str(file.path), stop - start), file, start, stop)
            for k, file in enumerate(self.pieces)
            for j, (start, stop) in enumerate(file.parts(self.shard_rows))
        ]
        return [part for part in parts if part[0].key not in records][index::count]

    def _blocks(self, parts: list[tuple], room: Room) -> Iterator[tuple[Part, Block | None]]:
        """Blocks of all parts; behind each part, `None`."""
        others = self.layout.columns is not None
        for part, piece, *where in parts:
            if isinstance(piece, VectorStream):
                yield from self._blocks_of_stream(piece, *where)
                continue
            for block in piece.read(*where, self.batch_size, others, room):
                yield part, block
            yield part, None

    def _blocks_of_stream(self, stream: VectorStream, k: int, records: dict) -> Iterator[tuple[Part, Block | None]]:
        others, reader, state, first, j = self.layout.columns is not None, None, None, 0, -1
        while True:
            key = f"{k:05d}-{(j := j + 1):05d}"
            if key in records:
                state, first, reader = records[key]["state"], records[key]["next_row"], None
                continue
            reader = reader or stream.parts(self.shard_rows, self.batch_size, others, state, first)
            part, empty = Part(key, stream.name), True
            for block in reader.next_part():
                empty = False
                yield part, block
            if empty:
                return
            part.state, part.next_row = reader.state, reader.row
            yield part, None

    @torch.inference_mode()
    def _translate(self, name: str, block: Block, room: Tensor) -> Translated:
        """A block, into `room`, or as much of it as is needed."""
        rows = block.rows.to(self.processes.device).float()
        invalid, others, ranges = _invalid(rows), block.others, []
        if invalid is not None:
            ranges = _ranges(invalid, block.first)
            if self.invalid_rows == "stop":
                raise ValueError(
                    f"`input` {name!r}, row {ranges[0][0]:,}: {_what(rows[invalid.nonzero()[0, 0]])}. "
                    f"{int(invalid.sum()):,} of the {len(rows):,} rows from {block.first:,} on are such. What is complete "
                    "stays. `invalid_rows` drop leaves such rows out and goes on from here, mark makes them NaN."
                )
            if self.invalid_rows == "drop":
                rows = rows[~invalid]
                others = others if others is None else others.filter(pa.array((~invalid).cpu().numpy()))
        if not self.warned and len(rows):
            self.warned = True
            self.warn(rows)
        scales = torch.empty(len(rows)) if self.layout.dtype == "int8" else None
        values = Values(room[: len(rows)], scales)
        direct = self.on_cpu and self.layout.dtype == "float32"
        step = CPU_ROWS if self.on_cpu else self.batch_size
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            translated = self.network(rows[part], values.rows[part] if direct else None)
            if invalid is not None and self.invalid_rows == "mark":
                translated[invalid[part]] = torch.nan
            if direct:
                continue
            converted = convert(translated, self.layout.dtype)
            values.rows[part] = converted.rows
            if values.scales is not None:
                values.scales[part] = converted.scales
        if self.layout.dtype == "float16" and values.rows.isinf().any():
            at = int(values.rows.isinf().any(1).nonzero()[0, 0])
            at = at if len(rows) == len(block.rows) else int((~invalid).nonzero()[at, 0])
            raise ValueError(
                f"`input` {name!r}, row {block.first + at:,}: its translation has values beyond 65,504, where float16 "
                "ends. Take `dtype` bfloat16 or float32."
            )
        valid = ~invalid.cpu() if invalid is not None and self.invalid_rows == "mark" else None
        return Translated(values, others, valid, len(block.rows), ranges)


class SingleFile:
    """Puts all parts into one file, which appears at the end."""

    def __init__(self, run: Run, output: Path, rows: int | None):
        self.run, self.writer = run, run.layout.open(output, rows)

    def take(self, item: tuple[Part, Future[Translated] | None]) -> None:
        """Append a block."""
        _, block = item
        if block is not None:
            _write(self.writer, block.result(), self.run.summary)

    def end(self) -> None:
        """Put the file into place."""
        self.writer.commit()
        self.writer = None

    def abandon(self) -> None:
        """Leave nothing of a file that was not finished."""
        if self.writer is not None:
            self.writer.abandon()


class ShardsInFolder:
    """Puts each part into a file of its own, with a record once it is there."""

    def __init__(self, run: Run, manifest: Manifest):
        self.run, self.manifest, self.writer = run, manifest, None
        self.suffix = suffix_of(run.layout.kind, run.layout.dtype)

    def take(self, item: tuple[Part, Future[Translated] | None]) -> None:
        """Append a block to its shard, or complete the shard."""
        part, block = item
        if self.writer is None:
            self.writer: ShardWriter | None = self.run.layout.open(
                self.manifest.folder / f"data-{part.key}{self.suffix}", part.rows
            )
            self.first, self.invalid = None, []
        if block is not None:
            translated = block.result()
            _write(self.writer, translated, self.run.summary)
            self.invalid += translated.invalid
            return
        record = {"key": part.key, **self.writer.commit(), "input": part.name, "invalid": self.invalid}
        self.writer = None
        if part.state is not None:
            record |= {"state": part.state, "next_row": part.next_row}
        self.manifest.add(part.key, record)
        self.run.summary.shards += 1

    def end(self) -> None:
        """Every shard has been completed already."""

    def abandon(self) -> None:
        """Leave nothing of a shard that was not finished."""
        if self.writer is not None:
            self.writer.abandon()


def _write(writer: ShardWriter, block: Translated, summary: Summary) -> None:
    writer.write(block.values, block.others, block.valid)
    summary.rows += len(block.values.rows)
    summary.invalid_rows += sum(stop - start for start, stop in block.invalid)


def _invalid(rows: Tensor) -> Tensor | None:
    """Which rows hold NaN or infinity, or only zeros; `None` if none does, which is quickly seen."""
    # On a CPU by NumPy, in this thread alone: starting and awaiting others costs more than such a pass.
    seen = rows if rows.device.type != "cpu" else rows.numpy()
    if torch.isfinite(torch.as_tensor(seen.sum())) and not (seen[:, 0] == 0).any():
        return None
    invalid = ~rows.isfinite().all(1) | (rows == 0).all(1)
    return invalid if invalid.any() else None


def _what(row: Tensor) -> str:
    return "only zeros" if (row == 0).all() else "NaN or infinite values"


def _ranges(mask: Tensor, first: int) -> list[tuple[int, int]]:
    """`(start, stop)` of the runs of a mask, counted from `first` on."""
    edges = torch.diff(mask.cpu().int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    starts, stops = (edges == 1).nonzero().flatten() + first, (edges == -1).nonzero().flatten() + first
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def _lock(output: Path) -> Path:
    return output.with_name(f".lock-{output.name}")


def _move_aside(output: Path, replaced: Path, job: dict) -> None:
    """Make way for a new folder. The old one is deleted only when the new one is complete."""
    if not output.exists():
        return
    found = Manifest(output).read() if output.is_dir() else None
    if found is None and not (output / "dataset_info.json").exists():
        raise FileExistsError(f"`output` {str(output)!r} is in the way and no data set; it is kept. Choose another.")
    if found and not found["complete"] and same_job(found, job):
        return  # what an interrupted run has made
    if replaced.exists():  # an older one waits there already, for a run that did not end
        shutil.rmtree(output)
    else:
        os.rename(output, replaced)
