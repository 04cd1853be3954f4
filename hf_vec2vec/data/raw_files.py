"""`.npy`, `.fbin`, `.f16bin` and safetensors: a header, then the values, which can be read from any row on."""

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO

import numpy as np
import torch
from safetensors import safe_open
from torch import Tensor

from .blocks import Block, BufferPool, VectorFile

FLOATS = {"f2": torch.float16, "f4": torch.float32, "f8": torch.float64}  # NumPy's names
SAFETENSORS_FLOATS = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
HEADER_LIMIT = 100_000_000  # bytes, as in safetensors itself


@dataclass
class Layout:
    """Where the values of a file stand.

    Args:
        dtype: of a value.
        offset: bytes before the first one.
        by_columns: all rows' first values stand together, then the second ones.
        swapped: the bytes of a value stand in the other order than this machine's.
    """

    dtype: torch.dtype
    offset: int
    by_columns: bool = False
    swapped: bool = False


class RawFile(VectorFile):
    """See `VectorFile`.

    Args:
        path: of the file.
        shape: `(rows, dimension)`, as the header says.
        layout: of the values.
    """

    def __init__(self, path: Path, shape: Sequence[int], layout: Layout):
        if len(shape) != 2:
            raise ValueError(f"its shape is {tuple(shape)}; it must be (rows, dimension).")
        rows, dim = shape
        if rows < 0 or dim < 0 or (rows and not dim):
            raise ValueError(f"its header claims {rows:,} rows of {dim:,} values.")
        width = dim * layout.dtype.itemsize
        found = path.stat().st_size - layout.offset
        if found < rows * width:
            raise ValueError(f"it should hold {rows:,} rows of {dim:,} values, but holds {max(found, 0) / width:,.1f}.")
        super().__init__(path, rows, dim)
        self.layout = layout

    def read(
        self, start: int, stop: int, batch_size: int, others: Sequence[str] = (), buffers: BufferPool | None = None
    ) -> Iterator[Block]:
        """See `VectorFile`."""
        buffers = buffers or BufferPool(1)
        with open(self.path, "rb", buffering=0) as file:
            for first in range(start, stop, batch_size):
                rows = buffers.take(min(batch_size, stop - first), self.dim, self.layout.dtype)
                if self.layout.by_columns:
                    self._fill_by_columns(file, rows, first)
                else:
                    self._fill(file, rows, first * self.dim, first)
                if self.layout.swapped:
                    rows.numpy().byteswap(inplace=True)
                yield Block(rows, first)

    def _fill_by_columns(self, file: BinaryIO, rows: Tensor, first: int) -> None:
        columns = torch.empty(self.dim, len(rows), dtype=rows.dtype)
        for column, values in enumerate(columns):
            self._fill(file, values, column * self.rows + first, first)
        rows.copy_(columns.T)

    def _fill(self, file: BinaryIO, values: Tensor, number: int, first: int) -> None:
        """Read values from the `number`-th on."""
        file.seek(self.layout.offset + number * values.dtype.itemsize)
        view = values.view(torch.uint8).numpy().reshape(-1).data
        while len(view):
            if not (got := file.readinto(view)):  # type: ignore[attr-defined]  # an unbuffered file has it
                raise ValueError(f"it ends after row {first:,}; it has become shorter.")
            view = view[got:]


def open_npy(path: Path, column: str | None) -> RawFile:
    """NumPy's format.

    The header is read here and now: NumPy parses it with `ast`, which Python 3.11 cannot do in two threads at once.
    """
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0}
        readers |= dict.fromkeys([(2, 0), (3, 0)], np.lib.format.read_array_header_2_0)
        if version not in readers:
            raise ValueError(f"its format has the version {version}, which is not known.")
        try:
            shape, by_columns, dtype = readers[version](file)
        except (SyntaxError, TokenError, RecursionError) as error:  # NumPy lets these of Python's parser through
            raise ValueError(f"its header is damaged: {error}") from error
        offset = file.tell()
    if dtype.subdtype or dtype.names or dtype.kind != "f" or dtype.str[1:] not in FLOATS:
        raise TypeError(
            f"it holds {dtype} values; embeddings are floating-point of 16, 32 or 64 bits. Scale quantised ones back to "
            "floats first."
        )
    return RawFile(path, shape, Layout(FLOATS[dtype.str[1:]], offset, by_columns, swapped=not dtype.isnative))


def open_fbin(path: Path, column: str | None) -> RawFile:
    """Two u32 (rows, dimension), then the values: the format of the big-ann benchmarks and DiskANN."""
    with open(path, "rb") as file:
        header = file.read(8)
    if len(header) < 8:
        raise ValueError("it is shorter than its header.")
    rows, dim = np.frombuffer(header, "<u4").tolist()
    layout = Layout(torch.float32 if path.suffix.lower() == ".fbin" else torch.float16, 8)
    found = path.stat().st_size - 8
    if found != rows * dim * layout.dtype.itemsize:
        raise ValueError(
            f"it should hold {rows:,} rows of {dim:,} values, but holds {found / max(dim * layout.dtype.itemsize, 1):,.1f}."
        )
    return RawFile(path, (rows, dim), layout)


def open_safetensors(path: Path, column: str | None) -> RawFile:
    """One tensor of a file: the only one, or the one that `column` names."""
    try:
        with safe_open(path, framework="pt") as tensors:  # checks that the file is whole
            names = sorted(tensors.keys())
    except Exception as error:  # SafetensorError is no ValueError
        raise ValueError(str(error)) from error
    if column is None and len(names) != 1:
        raise ValueError(f"it holds the tensors {names}; it must hold one, or `column` name one.")
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(min(length, HEADER_LIMIT)))
    if (found := header.get(column or names[0])) is None:
        raise ValueError(f"it holds the tensors {names}, not {column!r}.")
    if found["dtype"] not in SAFETENSORS_FLOATS:
        raise TypeError(f"it holds {found['dtype']} values; embeddings are floating-point.")
    return RawFile(path, found["shape"], Layout(SAFETENSORS_FLOATS[found["dtype"]], 8 + length + found["data_offsets"][0]))


def check_no_weights(argument: str, path: Path, tensors: Collection[str]) -> None:
    """Raise if a safetensors file that is about to be replaced holds none of these tensors: most hold a model's weights.

    Raises:
        FileExistsError: then.
    """
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        return
    try:
        with safe_open(path, framework="pt") as file:
            found = sorted(file.keys())
    except Exception:  # SafetensorError is no ValueError; what cannot be read is of no use to anybody
        return
    if found and not set(found) & set(tensors):
        raise FileExistsError(
            f"`{argument}` {str(path)!r} holds other tensors than are to be written ({found[0]!r}), as of a model; "
            "it is not overwritten. Choose another."
        )


OPENERS = {".npy": open_npy, ".fbin": open_fbin, ".f16bin": open_fbin, ".safetensors": open_safetensors}

__all__ = ["OPENERS", "Layout", "RawFile", "check_no_weights"]
