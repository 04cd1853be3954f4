"""What every reader of vectors gives: blocks of rows, out of a file that can be read from several places on."""

from codecs import BOM_UTF8
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import torch
from torch import Tensor

POINTER = b"version https://git-lfs"  # begins the few lines that Git has in place of a large file

PAGES = (b"<!doctype html", b"<html")  # begin a page, such as that of an error which was saved as the file

WEB_PAGE = "it is a web page (HTML), perhaps an error that was saved in place of the file. Download it again."
NOT_FETCHED = "it is a pointer of Git LFS, not the file itself. Get that with `git lfs pull`, or download it."


def is_pointer(path: Path) -> bool:
    """Whether a file was left on the server: Git keeps large ones there (LFS)."""
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        return file.read(len(POINTER)) == POINTER


def something_else(path: Path) -> str | None:
    """What stands in a file's place where a download went wrong, in words: a pointer of Git LFS, or a web page."""
    if is_pointer(path):
        return NOT_FETCHED
    if not path.is_file():
        return None
    with open(path, "rb") as file:
        if not file.read(1024).removeprefix(BOM_UTF8).lstrip().lower().startswith(PAGES):
            return None
    # Many pages, one a line, are a corpus of them.
    return None if path.read_bytes().lower().count(b"<html") > 1 else WEB_PAGE


@dataclass
class Block:
    """Rows that are read at a time.

    Args:
        rows: `(n, d)`, of any floating dtype. Rows without a vector are NaN.
        first: number of the first row in its file or stream, from 0.
        others: columns beside the vectors, where they are asked for.
    """

    rows: Tensor
    first: int
    others: pa.Table | None = None


class BufferPool:
    """Memory for `count` blocks, used in turn. Fresh memory costs as much as multiplying, and the holes it leaves add up."""

    def __init__(self, count: int):
        self.buffers = deque(torch.empty(0, dtype=torch.uint8) for _ in range(count))

    def take(self, rows: int, dim: int, dtype: torch.dtype) -> Tensor:
        """A block `(rows, dim)` of what stood there before, to be used until `count` more have been taken."""
        size, buffer = rows * dim * dtype.itemsize, self.buffers.popleft()
        buffer = buffer if len(buffer) >= size else torch.empty(size, dtype=torch.uint8)
        self.buffers.append(buffer)
        return buffer[:size].view(dtype).view(rows, dim)


class VectorFile:
    """A file whose rows can be read from any of the places `cuts` on.

    Args:
        path: where it is.
        rows: how many it holds.
        dim: of its vectors; 0 if no row has one.
        cuts: first row of every piece that can be read by itself; `None` where every row can.
        schema: of all columns; `None` where the format holds vectors alone.
        column: with the vectors.
        description: of how the vectors were made, where the file says it.
    """

    def __init__(
        self,
        path: Path,
        rows: int,
        dim: int,
        *,
        cuts: list[int] | None = None,
        schema: pa.Schema | None = None,
        column: str | None = None,
        description: str = "",
    ):
        self.path, self.rows, self.dim = path, rows, dim
        self.cuts, self.schema, self.column, self.description = cuts, schema, column, description

    def read(
        self, start: int, stop: int, batch_size: int, others: Sequence[str] = (), buffers: BufferPool | None = None
    ) -> Iterator[Block]:
        """The rows from `start` to `stop`, which are cuts, in blocks.

        Args:
            start: first row.
            stop: row behind the last one.
            batch_size: rows of a block; the last one may be shorter.
            others: names of the columns beside the vectors that are wanted.
            buffers: memory that the vectors may be put into; default: fresh memory for each block.

        Raises:
            ValueError: if the file turns out to be damaged, with its name and the row.
        """
        raise NotImplementedError

    def place(self, row: int) -> str:
        """What a row is called in errors."""
        return f"row {row:,}"

    def other_columns(self) -> list[str]:
        """Names of the columns beside the vectors."""
        return [] if self.schema is None else [name for name in self.schema.names if name != self.column]

    def parts(self, part_rows: int) -> list[tuple[int, int]]:
        """`(start, stop)` of pieces of about `part_rows` rows, cut where the file can be cut."""
        if self.cuts is None:
            return [(start, min(start + part_rows, self.rows)) for start in range(0, self.rows, part_rows)]
        starts: list[int] = []
        for cut in self.cuts:
            if cut < self.rows and (not starts or cut - starts[-1] >= part_rows):
                starts.append(cut)
        return list(zip(starts, [*starts[1:], self.rows], strict=True))


__all__ = ["Block", "BufferPool", "VectorFile"]
