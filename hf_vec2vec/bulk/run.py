"""One translation of a store: parts in, shards out."""

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch
from tqdm import tqdm

from ..data.blocks import Block, BufferPool, VectorFile
from ..data.columns import EMBEDDING
from ..data.progress import progress_bar
from ..data.raw_files import check_no_weights
from ..data.staging import locked
from ..data.vector_files import Store
from .block_translation import BlockTranslator
from .dtypes import DTYPES
from .manifest import Manifest
from .outputs import Part, ShardsInFolder, SingleFile, Summary, begin_folder, check_file, end_folder
from .processes import Processes
from .streams import VectorStream
from .threads import compute, in_flight, read_ahead, write_behind
from .writers import Layout


@dataclass
class Run:
    """See `translate_store`, whose arguments these are, opened and checked."""

    translator: BlockTranslator
    source: Store | list[VectorStream]
    layout: Layout
    shard_rows: int
    processes: Processes
    progress: bool
    summary: Summary = field(default_factory=Summary)

    def into_folder(self, output: Path, job: dict, *, overwrite: bool, verify: bool) -> Summary:
        """A folder of shards."""
        output = Path(os.path.realpath(output))  # a link stays, and what it leads to is replaced
        with ExitStack() as stack:

            def begin() -> tuple[Path, dict[str, dict], bool]:
                stack.enter_context(locked(output))
                return begin_folder(output, job, overwrite=overwrite, verify=verify)

            folder, records, complete = self.processes.first_only(begin)
            self.summary.earlier_shards = len(records)
            if complete and folder == output:
                return self.summary
            if not complete:
                self._go(self._parts(records), ShardsInFolder(self.layout, Manifest(folder), self.summary), output)
                self.processes.wait()
            self.processes.first_only(lambda: end_folder(folder, output, self.layout))
        return self.summary

    def into_file(self, output: Path, *, overwrite: bool) -> Summary:
        """One file."""
        scales = check_file(output, self.layout.dtype, overwrite=overwrite)
        output = Path(os.path.realpath(output))
        check_no_weights("output", output, [EMBEDDING])
        with locked(output):
            rows = self.source.rows if isinstance(self.source, Store) else None
            self._go(self._parts({}), SingleFile(self.layout, output, rows, scales, self.summary), output)
        return self.summary

    def _go(self, parts: list[tuple], writing: SingleFile | ShardsInFolder, output: Path) -> None:
        """Read, translate and write all parts."""
        on_cpu = self.processes.device.type == "cpu"  # vectors are then translated where they are read
        workers = torch.get_num_threads() if on_cpu else 1
        width, dtype = self.layout.dim, DTYPES[self.layout.dtype]
        read, written = BufferPool(in_flight(workers)), BufferPool(in_flight(workers))
        self.translator.network.to(self.processes.device)
        try:
            with (
                self._bar(self._check_space(parts, output)) as bar,
                read_ahead(self._blocks(parts, read)) as blocks,
                compute(workers, on_cpu=on_cpu) as pool,
                write_behind(writing.take, workers) as put,
            ):
                for part, block in blocks:
                    if block is None:
                        put((part, None))
                        continue
                    buffer = written.take(len(block.rows), width, dtype)
                    put((part, pool.submit(self.translator.translate, block, buffer, part.place)))
                    bar.update(len(block.rows))
            writing.end()
        finally:
            writing.abandon()

    def _check_space(self, parts: list[tuple], output: Path) -> int | None:
        """Rows of all parts, if they are known. Raise OSError if they do not fit on the disk."""
        rows = [part.rows for part, *_ in parts]
        if None in rows:
            return None
        needed, free = sum(rows) * self.layout.row_bytes, shutil.disk_usage(output.parent).free
        if needed > free * self.processes.count:
            raise OSError(
                f"`output` {str(output)!r} needs {needed / 1e9:,.1f} GB more, and {free / 1e9:,.1f} GB are free. "
                "Make room, or choose another `dtype` or place."
            )
        return sum(rows)

    def _bar(self, total: int | None) -> tqdm:
        several = f", process 1 of {self.processes.count}" if self.processes.count > 1 else ""
        shown = self.progress and self.processes.index == 0
        return progress_bar(total=total, unit=" vectors", unit_scale=True, desc=f"translate{several}", shown=shown)

    def _parts(self, records: dict[str, dict]) -> list[tuple]:
        """What this process is to do: parts of files, or streams."""
        count, index = self.processes.count, self.processes.index
        if not isinstance(self.source, Store):
            mine = list(enumerate(self.source))[index::count]
            return [(Part(f"{k:05d}", stream.name, stream.place), stream, k, records) for k, stream in mine]
        parts = [
            (Part(f"{k:05d}-{j:05d}", str(file.path), self.source.place(file), stop - start), file, start, stop)
            for k, file in enumerate(self.source.files)
            for j, (start, stop) in enumerate(file.parts(self.shard_rows))
        ]
        return [part for part in parts if part[0].key not in records][index::count]

    def _blocks(self, parts: list[tuple], buffers: BufferPool) -> Iterator[tuple[Part, Block | None]]:
        """Blocks of all parts; behind each part, `None`."""
        for part, piece, *where in parts:
            if isinstance(piece, VectorStream):
                yield from self._blocks_of_stream(piece, *where)
                continue
            for block in self._blocks_of_file(piece, buffers, *where):
                yield part, block
            yield part, None

    def _blocks_of_file(self, file: VectorFile, buffers: BufferPool, start: int, stop: int) -> Iterator[Block]:
        others = file.other_columns() if self.layout.columns is not None else []
        assert isinstance(self.source, Store)
        return self.source.read(file, start, stop, self.translator.batch_size, others, buffers)

    def _blocks_of_stream(self, stream: VectorStream, k: int, records: dict) -> Iterator[tuple[Part, Block | None]]:
        others, reader, state, first, j = self.layout.columns is not None, None, None, 0, -1
        while True:
            key = f"{k:05d}-{(j := j + 1):05d}"
            if key in records:
                state, first, reader = records[key]["state"], records[key]["next_row"], None
                continue
            reader = reader or stream.parts(self.shard_rows, self.translator.batch_size, others, state, first)
            part, empty = Part(key, stream.name, stream.place), True
            for block in reader.next_part():
                empty = False
                yield part, block
            if empty:
                return
            part.state, part.next_row = reader.state, reader.row
            yield part, None


__all__ = ["Run"]
