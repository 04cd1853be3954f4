"""Translate a store of any size: constant memory, shards, resumable."""

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from datasets import IterableDataset
from torch import Tensor, nn

from ..data.blocks import VectorFile
from ..data.devices import chosen_device
from ..data.staging import check_apart
from ..data.validity import check_choice
from ..data.vector_files import Store, open_files
from ..deployment.merging import merge
from ..model.checkpoint_vec2vec import weights_sha256
from ..model.modeling_vec2vec import Map, Vec2VecModel
from .block_translation import BlockTranslator, InvalidRows
from .index_rows import HubCorrected, OfLength
from .manifest import fingerprint
from .outputs import Summary
from .processes import Processes
from .run import Run
from .streams import VectorStream, files_read, open_streams
from .writers import SUFFIXES, TABULAR, Layout, scales_of, suffix_of

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SINGLE = {".npy": "npy", ".fbin": "fbin", ".f16bin": "fbin", ".i8bin": "fbin", ".safetensors": "safetensors"}
SINGLE |= {".parquet": "parquet"}
OUTPUTS = f"a folder, or one file {', '.join(SINGLE)}"


def translate_store(
    model: Vec2VecModel,
    data: str | Path | IterableDataset,
    output: str | Path,
    *,
    source: str,
    target: str,
    map: Map = "auto",
    output_format: str | None = None,
    dtype: str = "float32",
    shard_rows: int = 1 << 18,
    batch_size: int = 2048,
    column: str | None = None,
    invalid_rows: InvalidRows = "stop",
    overwrite: bool = False,
    verify: bool = False,
    facts: dict | None = None,
    hub_sample: Tensor | None = None,
    length: float | None = None,
    device: torch.device | str | None = None,
    progress: bool = True,
) -> Summary:
    """Translate vectors on disk, or of a streamed data set, in constant memory.

    `output` without a suffix is a folder of shards. A run that was killed goes on where it was when it is started again,
    and under `accelerate launch` each process takes its share of the shards. With a suffix it is one file, which appears
    when it is complete, and not before. Rows keep their order; Parquet and Arrow keep the other columns.

    On a CPU each of torch's threads (`torch.get_num_threads()`) translates blocks of its own; their number is 1 meanwhile,
    for whatever else this process does with torch.

    Args:
        model: the translator.
        data: a file, a folder or pattern of files, a saved data set (see [`open_files`]), or a streamed data set.
        output: where translations go.
        source: name of the space that the vectors come from.
        target: name of the space to translate into.
        map: see `Vec2VecModel.translate`.
        output_format: of shards: `arrow` (default; the folder is then a saved data set), `parquet`, `npy`, `fbin` or
            `safetensors`. The suffix says that of a single file.
        dtype: `float32`, `float16`, `bfloat16` (safetensors only) or `int8` (with a scale a row, see `dtypes.convert`).
        shard_rows: rows of a shard, about: Parquet and Arrow are cut between row groups or record batches.
        batch_size: rows at a time.
        column: with the vectors; default: `embedding`, or the only one that holds lists.
        invalid_rows: what to do with rows that are missing, zero, NaN or infinite: `stop`, `drop` them, or `mark` them: they
            become NaN, and False in a column `valid` where the format has columns. The manifest lists them.
        overwrite: replace `output` if it exists, once the new one is complete.
        verify: compare the checksums of shards that an earlier run has left, and make those anew that differ.
        facts: what tells a streamed data set from another; JSON.
        hub_sample: `(m, d)`, real vectors of the target space, queries like those to come. Translations then get norm 1 and
            one more coordinate, for an index that compares by inner product, asked with `hub_queries` (see
            `hf_vec2vec.hub_corrected`).
        length: of all translations; default: as they come. For an index by inner product that also holds native rows, of
            length 1: `hf_vec2vec.metrics.mixed_index.fair_length` tells it.
        device: of the translations; default: a GPU if there is one, and of several processes one for each.
        progress: show a bar.

    Raises:
        FileNotFoundError, FileExistsError, OSError: for a missing input, an output that is in the way, being written by
            another process or of another job, or a full disk.
        ValueError, TypeError: for input that cannot be read, a row that cannot be translated (file and row are named), or a
            format that cannot hold what is asked for. What was complete stays.
    """
    started, processes, output = time.perf_counter(), Processes(), Path(output)
    if device is not None:
        processes.device = chosen_device(device)
    chosen = model.chosen_map(map, source, target)
    kind = _output_kind(output, output_format, dtype)
    single = output.suffix != ""
    if single and processes.count > 1:
        raise ValueError(f"`output` {str(output)!r} is one file, which one process writes. Give a folder for several.")
    if batch_size < 1 or shard_rows < 1:
        raise ValueError(f"`batch_size` and `shard_rows` must be at least 1, got {batch_size} and {shard_rows}.")
    check_choice(invalid_rows, ("stop", "drop", "mark"))
    opened = _Source.open(data, column, facts)
    check_apart(output, opened.reads)
    if single and (scales := scales_of(Path(os.path.realpath(output)), dtype)) is not None:
        check_apart(scales, opened.reads)
    dims = dict(model.config.embedding_dims or {})  # which a model has filled in
    if opened.dim != (dim := dims[source]):
        raise ValueError(
            f"{opened.name} has vectors of dimension {opened.dim}, but the space {source!r} has dimension {dim}."
        )
    kept = opened.kept_columns() if kind in TABULAR else None
    network, dim, made = _rows_of(merge(model, source, target, chosen), dims[target], hub_sample, length)
    layout = Layout(kind, dtype, dim, kept, invalid_rows == "mark" and kind in TABULAR)
    if kind in TABULAR:
        layout.schema()
    job: dict[str, Any] = {
        "translator": {"weights_sha256": weights_sha256(model.state_dict()), "source": source, "target": target},
        "input": opened.facts,
        "output": {"format": kind, "dtype": dtype, "dimension": layout.dim, "marked": invalid_rows == "mark"}
        | {"shard_rows": shard_rows, "batch_size": batch_size},
    }
    if chosen == "linear":
        job["map"] = chosen  # jobs of earlier versions have none
    job |= made
    translator = BlockTranslator(
        network=network,
        warn=lambda rows: model.warn_of_foreign(rows, source),
        dtype=dtype,
        device=processes.device,
        batch_size=batch_size,
        invalid_rows=invalid_rows,
    )
    run = Run(translator, opened.pieces, layout, shard_rows, processes, progress)
    try:
        if single:
            summary = run.into_file(output, overwrite=overwrite)
        else:
            summary = run.into_folder(output, job, overwrite=overwrite, verify=verify)
    except OSError as error:
        if error.errno not in FULL:
            raise
        left = "Nothing was changed" if single else "Shards that are complete stay, and the same command goes on from there"
        raise OSError(f"`output` {str(output)!r}: {error.strerror}. {left}: make room and start again.") from error
    summary.seconds = time.perf_counter() - started
    if kind not in TABULAR and (schema := opened.first.schema) is not None:
        summary.dropped_columns = tuple(name for name in schema.names if name != opened.first.column)
    return summary


def _rows_of(
    network: nn.Module, dim: int, hub_sample: Tensor | None, length: float | None
) -> tuple[nn.Module, int, dict[str, Any]]:
    """The network whose outputs are written, their dimension, and what of it the manifest says."""
    if hub_sample is not None and length is not None:
        raise ValueError("`hub_sample` and `length` both say how long translations are. Leave out one of them.")
    if hub_sample is not None:
        return HubCorrected(network, hub_sample), dim + 1, {"hub_sample": weights_sha256({"sample": hub_sample})}
    if length is not None:
        return OfLength(network, length), dim, {"length": length}
    return network, dim, {}


@dataclass
class _Source:
    """What is translated.

    Args:
        pieces: files, or the shards of a streamed data set.
        facts: what tells it from another one; JSON.
        reads: files and folders on this machine that it comes from.
    """

    pieces: Store | list[VectorStream]
    facts: dict
    reads: Sequence[str | Path]

    @classmethod
    def open(cls, data: str | Path | IterableDataset, column: str | None, facts: dict | None) -> "_Source":
        """A path (see `open_files`) or a streamed data set."""
        if isinstance(data, IterableDataset):
            facts = facts or {"dataset": str(data.info.builder_name)}
            streams = open_streams(data, facts["dataset"], column)
            return cls(streams, facts | {"shards": len(streams), "column": streams[0].column}, files_read(data))
        store = open_files(data, column, argument="input")
        known = [{"name": f.path.name, "rows": f.rows, "checksum_of_pieces": fingerprint(f.path)} for f in store.files]
        reads: list[str | Path] = [store.path, *(file.path for file in store.files)]
        return cls(store, {"files": known, "column": store.files[0].column}, reads)

    @property
    def first(self) -> VectorFile | VectorStream:
        """One of the pieces, which are all alike."""
        return self.pieces.files[0] if isinstance(self.pieces, Store) else self.pieces[0]

    @property
    def dim(self) -> int:
        """Of the vectors."""
        return self.first.dim

    @property
    def name(self) -> str:
        """For errors."""
        first = self.first
        return f"`input` {str(first.path)!r}" if isinstance(first, VectorFile) else f"`dataset` {first.name!r}"

    def kept_columns(self) -> pa.Schema | None:
        """Schema of the columns beside the vectors, where the format has columns; see `Store.schema`."""
        schema = self.pieces.schema() if isinstance(self.pieces, Store) else self.first.schema
        return None if schema is None else schema.remove(schema.get_field_index(self.first.column))


def _output_kind(output: Path, output_format: str | None, dtype: str) -> str:
    """A key of `SUFFIXES`, from the suffix of a single file or from what is asked for."""
    if output.suffix == "":
        kind = output_format or "arrow"
        if kind not in SUFFIXES:
            raise ValueError(f"`output_format` is {kind!r}; it must be one of {', '.join(SUFFIXES)}.")
        suffix_of(kind, dtype)
        return kind
    if output.suffix.lower() not in SINGLE:
        raise ValueError(f"`output` is {str(output)!r}, which is no known format. Give {OUTPUTS}.")
    kind = SINGLE[output.suffix.lower()]
    if output_format not in (None, kind):
        raise ValueError(
            f"`output_format` is {output_format!r}, but `output` {str(output)!r} is one file of another format."
        )
    if (suffix := suffix_of(kind, dtype)) != output.suffix.lower():
        raise ValueError(
            f"`output` {str(output)!r} does not hold {dtype}: with `dtype` {dtype} its suffix must be {suffix}."
        )
    return kind


__all__ = ["translate_store"]
