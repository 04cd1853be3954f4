"""One block of vectors through the network: what is invalid in it, its translation, the number format."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import torch
from torch import Tensor, nn

from ..data.blocks import Block
from ..data.validity import invalid_mask, what_is_wrong
from .dtypes import Values, convert

CPU_ROWS = 1024  # that a core multiplies at a time: what comes between is small, and takes memory that was used before
InvalidRows = Literal["stop", "drop", "mark"]


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
class BlockTranslator:
    """Translates blocks; threads share it.

    Args:
        network: of one direction.
        warn: told the first rows, for what is foreign to the space.
        dtype: of the output.
        device: that the network is on.
        batch_size: rows at a time, where that is no CPU.
        invalid_rows: what to do with invalid rows.
    """

    network: nn.Module
    warn: Callable[[Tensor], None]
    dtype: str
    device: torch.device
    batch_size: int
    invalid_rows: InvalidRows
    warned: bool = False

    @torch.inference_mode()
    def translate(self, block: Block, buffer: Tensor, place: Callable[[int], str]) -> Translated:
        """A block, into `buffer` `(n, d)`, or as much of it as is needed.

        Args:
            block: what was read.
            buffer: for the translations, in the dtype of the output.
            place: gives the name of a row of the file, for errors.

        Raises:
            ValueError: for an invalid row, or one whose translation the number format cannot hold.
        """
        rows, others = block.rows.to(self.device).float(), block.others
        invalid = invalid_mask(rows)
        if invalid is not None and self.invalid_rows == "stop":
            raise _stopped(block, rows, invalid, place)
        if invalid is not None and self.invalid_rows == "drop":
            rows = rows[~invalid]
            others = others if others is None else others.filter(pa.array((~invalid).cpu().numpy()))
        marked = invalid if self.invalid_rows == "mark" else None
        if not self.warned and len(rows) and marked is None:
            self.warned = True
            self.warn(rows)
        values = Values(buffer[: len(rows)], torch.empty(len(rows)) if self.dtype == "int8" else None)
        if (bad := self._fill(values, rows, marked)) is not None:
            kept = (
                range(len(block.rows)) if invalid is None or marked is not None else (~invalid).nonzero().flatten().tolist()
            )
            raise ValueError(f"{place(block.first + kept[bad])}: {self._no_value()}")
        valid = None if marked is None else ~marked.cpu()
        ranges = [] if invalid is None else _ranges(invalid, block.first)
        return Translated(values, others, valid, len(block.rows), ranges)

    def _fill(self, values: Values, rows: Tensor, marked: Tensor | None) -> int | None:
        """Translate all rows. Returns the number of one whose translation is not finite, if there is one."""
        on_cpu = self.device.type == "cpu"
        in_place = on_cpu and self.dtype == "float32"
        step = CPU_ROWS if on_cpu else self.batch_size
        for start in range(0, len(rows), step):
            part = slice(start, start + step)
            translated = self.network(rows[part], values.rows[part] if in_place else None)
            if marked is not None:
                translated[marked[part]] = 0
            converted = Values(translated) if in_place else convert(translated, self.dtype)
            finite = converted.scales if converted.scales is not None else converted.rows
            if not finite.sum(dtype=torch.float32).isfinite() and (bad := _not_finite(finite)) is not None:
                return start + bad
            if not in_place:
                values.rows[part] = converted.rows
            if values.scales is not None and converted.scales is not None:
                values.scales[part] = converted.scales
            if marked is not None:
                (values.rows if values.scales is None else values.scales)[part][marked[part].cpu()] = torch.nan
        return None

    def _no_value(self) -> str:
        if self.dtype == "float16":
            return (
                "its translation has values beyond 65,504, where float16 ends. Take `dtype` bfloat16 or float32, and if "
                "that does not help, check the translator's weights."
            )
        return (
            "its translation has NaN or infinite values: the translator's weights are damaged, or the row is foreign to it."
        )


def _stopped(block: Block, rows: Tensor, invalid: Tensor, place: Callable[[int], str]) -> ValueError:
    at = int(invalid.nonzero()[0, 0])
    return ValueError(
        f"{place(block.first + at)}: {what_is_wrong(rows[at])}. {int(invalid.sum()):,} of the {len(rows):,} rows from "
        f"{block.first:,} on are such. What is complete stays. `invalid_rows` drop leaves such rows out and goes on from "
        "here, mark makes them NaN."
    )


def _not_finite(values: Tensor) -> int | None:
    """Number of the first row that is not finite."""
    bad = ~values.isfinite() if values.ndim == 1 else ~values.isfinite().all(1)
    return int(bad.nonzero()[0, 0]) if bool(bad.any()) else None


def _ranges(mask: Tensor, first: int) -> list[tuple[int, int]]:
    """`(start, stop)` of the runs of a mask, counted from `first` on."""
    edges = torch.diff(mask.cpu().int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int))
    starts, stops = (edges == 1).nonzero().flatten() + first, (edges == -1).nonzero().flatten() + first
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


__all__ = ["CPU_ROWS", "BlockTranslator", "InvalidRows", "Translated"]
