"""Translate a store of any size: constant memory, shards, resumable."""

import errno
import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from datasets import IterableDataset

from ..deployment.merging import merge
from ..model.checkpoint_vec2vec import weights_sha256
from ..model.modeling_vec2vec import Vec2VecModel
from .manifest import fingerprint
from .processes import Processes
from .readers import VectorFile, open_files
from .run import InvalidRows, Run, Summary
from .streams import VectorStream, open_streams
from .writers import SUFFIXES, TABULAR, Layout, suffix_of

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
SINGLE = {".npy": "npy", ".fbin": "fbin", ".f16bin": "fbin", ".i8bin": "fbin", ".safetensors": "safetensors"}
SINGLE |= {".parquet": "parquet"}
OUTPUTS = f"a folder, or one file {', '.join(SINGLE)}"


@dataclass
class Store:
    """What is translated.

    Args:
        pieces: files, or the shards of a streamed data set.
        facts: what tells it from another store; JSON.
    """

    pieces: list[VectorFile] | list[VectorStream]
    facts: dict

    @classmethod
    def open(cls, data: str | Path | IterableDataset, column: str | None, facts: dict | None = None) -> "Store":
        """A path (see `open_files`) or a streamed data set."""
        if isinstance(data, IterableDataset):
            facts = facts or {"dataset": str(data.info.builder_name)}
            streams = open_streams(data, facts["dataset"], column)
            return cls(streams, facts | {"shards": len(streams), "column": streams[0].column})
        files = open_files(data, column)
        known = [{"name": f.path.name, "rows": f.rows, "checksum_of_ends": fingerprint(f.path)} for f in files]
        return cls(files, {"files": known, "column": files[0].column})


def translate_store(
    model: Vec2VecModel,
    data: str | Path | IterableDataset,
    output: str | Path,
    *,
    source: str,
    target: str,
    output_format: str | None = None,
    dtype: str = "float32",
    shard_rows: int = 1 << 18,
    batch_size: int = 2048,
    column: str | None = None,
    invalid_rows: InvalidRows = "stop",
    overwrite: bool = False,
    verify: bool = False,
    facts: dict | None = None,
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
        data: a file, a folder of files, a saved data set (see `readers.FORMATS`), or a streamed data set.
        output: where translations go.
        source: name of the space that the vectors come from.
        target: name of the space to translate into.
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
        progress: show a bar.

    Raises:
        FileNotFoundError, FileExistsError, OSError: for a missing input, an output that is in the way, being written by
            another process or of another job, or a full disk.
        ValueError, TypeError: for input that cannot be read, a row that cannot be translated (file and row are named), or a
            format that cannot hold what is asked for. What was complete stays.
    """
    started, processes, output = time.perf_counter(), Processes(), Path(output)
    for argument, name in (("source", source), ("target", target)):
        model._check_space(argument, name)
    kind = _output_kind(output, output_format, dtype)
    single = output.suffix != ""
    if single and processes.count > 1:
        raise ValueError(f"`output` {str(output)!r} is one file, which one process writes. Give a folder for several.")
    if batch_size < 1 or shard_rows < 1:
        raise ValueError(f"`batch_size` and `shard_rows` must be at least 1, got {batch_size} and {shard_rows}.")
    store = Store.open(data, column, facts)
    piece = store.pieces[0]
    if piece.dim != (dim := model.config.embedding_dims[source]):
        where = str(piece.path) if isinstance(piece, VectorFile) else piece.name
        raise ValueError(
            f"`input` {where!r} has vectors of dimension {piece.dim}, but the space {source!r} has dimension {dim}."
        )
    columns = _kept_columns(piece) if kind in TABULAR else None
    layout = Layout(kind, dtype, model.config.embedding_dims[target], columns, invalid_rows == "mark" and kind in TABULAR)
    if kind in TABULAR:
        layout.schema()
    job = {
        "translator": {"weights_sha256": weights_sha256(model.state_dict()), "source": source, "target": target},
        "input": store.facts,
        "output": {"format": kind, "dtype": dtype, "dimension": layout.dim, "marked": invalid_rows == "mark"}
        | {"shard_rows": shard_rows, "batch_size": batch_size},
    }
    run = Run(
        network=merge(model, source, target),
        warn=lambda rows: model._warn_of_foreign(rows, source),
        pieces=store.pieces,
        layout=layout,
        batch_size=batch_size,
        shard_rows=shard_rows,
        invalid_rows=invalid_rows,
        processes=processes,
        progress=progress,
    )
    try:
        summary = run.into_file(output, overwrite) if single else run.into_folder(output, job, overwrite, verify)
    except OSError as error:
        if error.errno not in FULL:
            raise
        kept = "Nothing was changed" if single else "Shards that are complete stay, and the same command goes on from there"
        raise OSError(f"`output` {str(output)!r}: {error.strerror}. {kept}: make room and start again.") from error
    summary.seconds = time.perf_counter() - started
    if kind not in TABULAR and piece.schema is not None:
        summary.dropped_columns = tuple(name for name in piece.schema.names if name != piece.column)
    return summary


def _output_kind(output: Path, output_format: str | None, dtype: str) -> str:
    """A key of `SUFFIXES`, from the suffix of a single file or from what is asked for."""
    if output.suffix == "":
        kind = output_format or "arrow"
        if kind not in SUFFIXES:
            raise ValueError(f"`output_format` is {kind!r}; it must be one of {', '.join(SUFFIXES)}.")
        suffix_of(kind, dtype)
        return kind
    if output.suffix not in SINGLE:
        raise ValueError(f"`output` is {str(output)!r}, which is no known format. Give {OUTPUTS}.")
    kind = SINGLE[output.suffix]
    if output_format not in (None, kind):
        raise ValueError(
            f"`output_format` is {output_format!r}, but `output` {str(output)!r} is one file of another format."
        )
    if (suffix := suffix_of(kind, dtype)) != output.suffix:
        raise ValueError(
            f"`output` {str(output)!r} does not hold {dtype}: with `dtype` {dtype} its suffix must be {suffix}."
        )
    return kind


def _kept_columns(piece: VectorFile | VectorStream) -> pa.Schema | None:
    return None if piece.schema is None else piece.schema.remove(piece.schema.get_field_index(piece.column))
