"""Where translations go: one file, or a folder of shards that can be gone on with."""

import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..data.staging import PARTIAL, beside, replace_folder, restore
from .block_translation import Translated
from .manifest import CHECKSUMS, MANIFEST, RECORDS, Manifest, dataset_files, same_job
from .writers import Layout, ShardWriter, scales_of, suffix_of

# What an earlier translation, or `Dataset.save_to_disk`, made; anything else in a folder that is overwritten is kept.
OURS = ("data-*", MANIFEST, RECORDS, CHECKSUMS, f"{PARTIAL}*", "state.json", "dataset_info.json")


@dataclass
class Part:
    """Rows that become one shard.

    Args:
        key: tells it from the others, and sorts in the order of the rows.
        name: of the file or stream that it is read from.
        place: gives the name of a row of it, for errors.
        rows: how many, if that is known.
        state: of the stream after its last row, once that has been read.
        next_row: number of the row after that.
    """

    key: str
    name: str
    place: Callable[[int], str]
    rows: int | None = None
    state: dict | None = None
    next_row: int = 0


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

    def add(self, block: Translated) -> None:
        """Count a block that was written."""
        self.rows += len(block.values.rows)
        self.invalid_rows += sum(stop - start for start, stop in block.invalid)


class SingleFile:
    """Puts all parts into one file, which appears at the end.

    Args:
        layout: of the file.
        output: its path.
        rows: how many it will hold, if that is known.
        scales: of an earlier translation that it replaces.
        summary: counts what is written.
    """

    def __init__(self, layout: Layout, output: Path, rows: int | None, scales: Path | None, summary: Summary):
        self.scales, self.summary = scales, summary
        self.writer: ShardWriter | None = layout.open(output, rows)

    def take(self, item: tuple[Part, Future[Translated] | None]) -> None:
        """Append a block."""
        _, block = item
        if block is not None and self.writer is not None:
            translated = block.result()
            self.writer.write(translated.values, translated.others, translated.valid)
            self.summary.add(translated)

    def end(self) -> None:
        """Put the file into place."""
        check_left(self.summary.rows, self.summary.invalid_rows)
        if self.writer is not None:
            self.writer.commit(self.scales)
        self.writer = None

    def abandon(self) -> None:
        """Leave nothing of a file that was not finished."""
        if self.writer is not None:
            self.writer.abandon()


class ShardsInFolder:
    """Puts each part into a file of its own, with a record once it is there.

    Args:
        layout: of the shards.
        manifest: of the folder.
        summary: counts what is written.
    """

    def __init__(self, layout: Layout, manifest: Manifest, summary: Summary):
        self.layout, self.manifest, self.summary = layout, manifest, summary
        self.writer: ShardWriter | None = None
        self.invalid: list[tuple[int, int]] = []

    def take(self, item: tuple[Part, Future[Translated] | None]) -> None:
        """Append a block to its shard, or complete the shard."""
        part, block = item
        if self.writer is None:
            suffix = suffix_of(self.layout.kind, self.layout.dtype)
            self.writer = self.layout.open(self.manifest.folder / f"data-{part.key}{suffix}", part.rows)
            self.invalid = []
        if block is not None:
            translated = block.result()
            self.writer.write(translated.values, translated.others, translated.valid)
            self.summary.add(translated)
            self.invalid += translated.invalid
            return
        record = {"key": part.key, **self.writer.commit(), "input": part.name, "invalid": self.invalid}
        self.writer = None
        if part.state is not None:
            record |= {"state": part.state, "next_row": part.next_row}
        self.manifest.add(part.key, record)
        self.summary.shards += 1

    def end(self) -> None:
        """Every shard has been completed already."""

    def abandon(self) -> None:
        """Leave nothing of a shard that was not finished."""
        if self.writer is not None:
            self.writer.abandon()


def check_file(output: Path, dtype: str, *, overwrite: bool) -> Path | None:
    """Raise if one file of translations, or that of their scales, would replace what it must not.

    Args:
        output: the file that was asked for.
        dtype: of the translations.
        overwrite: replace `output`, and the scales that belong to it.

    Returns:
        The scales that belong to what is there, if there are some.

    Raises:
        FileExistsError: if `output` is there and not to be overwritten, or its scales would replace something else.
    """
    if output.exists() and (output.is_dir() or not overwrite):
        raise FileExistsError(f"`output` {str(output)!r} exists already. Choose another, or ask to overwrite it.")
    output = Path(os.path.realpath(output))
    if (known := scales_of(output, "int8")) is not None and _are_scales(known, output):
        return known
    if (scales := scales_of(output, dtype)) is not None and scales.exists():
        raise FileExistsError(
            f"`output` {str(output)!r} in int8 would have its scales in {str(scales)!r}, where another file is. It is "
            "kept. Choose another name, or rename that file."
        )
    return None


def _are_scales(scales: Path, values: Path) -> bool:
    """Whether a file holds the scales of the rows that another one holds in int8."""
    try:
        if values.suffix.lower() == ".npy":
            rows = np.load(values, mmap_mode="r")
            number = len(rows) if rows.dtype == np.int8 and rows.ndim == 2 else None
        else:
            number, dim = np.fromfile(values, "<u4", 2).tolist()
            number = number if values.stat().st_size == 8 + number * dim else None
        found = np.load(scales, mmap_mode="r")
    except (OSError, ValueError, EOFError):  # not there, or something else
        return False
    return found.dtype == np.float32 and found.shape == (number,)


def begin_folder(output: Path, job: dict, *, overwrite: bool, verify: bool) -> tuple[Path, dict[str, dict], bool]:
    """The folder to write to, the records of the shards that it has, and whether all are there.

    What is overwritten stays in its place until the new folder, beside it, is complete.

    Args:
        output: the folder that was asked for.
        job: see `Manifest.begin`.
        overwrite: replace what is at `output`.
        verify: compare checksums of shards.

    Raises:
        FileExistsError: if `output` is in the way, or of another job, or no data set.
        ValueError: if its manifest cannot be read.
    """
    restore(output, ours=OURS)
    folder = _working_folder(output, job) if overwrite and output.exists() else output
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"`output` {str(output)!r} is a file. Choose another.")
    folder.mkdir(exist_ok=True)
    manifest = Manifest(folder)
    found = manifest.begin(job)
    for left in folder.glob(f"{PARTIAL}*"):
        left.unlink()
    records = manifest.records(verify=verify)
    if found is not None and found["complete"] and len(records) == len(found["shards"]):
        shutil.rmtree(folder / RECORDS, ignore_errors=True)  # of a run that was killed in its last moment
        return folder, records, True
    manifest.reopen(records)
    return folder, records, False


def _working_folder(output: Path, job: dict) -> Path:
    """`output` itself for what an interrupted run of the same job has made, else a folder beside it."""
    found = Manifest(output).read() if output.is_dir() else None
    if found is None and not (output / "dataset_info.json").exists():
        raise FileExistsError(f"`output` {str(output)!r} is in the way and no data set; it is kept. Choose another.")
    if found and not found["complete"] and same_job(found, job):
        return output
    staged = beside(output, PARTIAL)
    if staged.exists() and not _is_of(staged, job):
        shutil.rmtree(staged)
    return staged


def _is_of(folder: Path, job: dict) -> bool:
    try:
        found = Manifest(folder).read()
    except ValueError:
        return False
    return found is not None and same_job(found, job)


def end_folder(folder: Path, output: Path, layout: Layout) -> None:
    """Complete the manifest, and put the folder into its place, where that is not done."""
    manifest = Manifest(folder)
    if (manifest.folder / RECORDS).exists():
        shards = manifest.shards()
        invalid = sum(stop - start for shard in shards for start, stop in shard["invalid"])
        check_left(sum(shard["rows"] for shard in shards), invalid)
        manifest.end(shards, dataset_files(layout.schema(), shards) if layout.kind == "arrow" else {})
    if folder != output:
        replace_folder(folder, output, ours=OURS)


def check_left(rows: int, invalid: int) -> None:
    """Raise ValueError if no row is left to write, for all of them were dropped."""
    if invalid and not rows:
        raise ValueError(
            f"`invalid_rows` drop leaves nothing to write: all {invalid:,} rows are missing, zero, NaN or infinite."
        )


__all__ = ["Part", "ShardsInFolder", "SingleFile", "Summary", "begin_folder", "check_file", "end_folder"]
