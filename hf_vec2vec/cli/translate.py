"""`translate`: a store of vectors, of any size, into the other space."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .checks import check_column, check_device, check_folder, check_input, check_verdict
from .dry_run import DryRunFlags, Plan, seconds_of
from .flags import DeviceFlags, DirectionFlags, flag

if TYPE_CHECKING:
    from datasets import IterableDataset

    from ..bulk import Summary
    from ..bulk.processes import Processes
    from ..model.configuration_vec2vec import Vec2VecConfig
    from ..model.modeling_vec2vec import Vec2VecModel

SAMPLE = 4096  # rows that a dry run translates
SYNOPSIS = "DIR --source NAME --target NAME (--input PATH | --texts PATH | --dataset NAME) --output PATH [flags]"


@dataclass(kw_only=True)
class TranslateFlags(DirectionFlags, DeviceFlags, DryRunFlags):
    """Which vectors to translate, and how."""

    title: ClassVar[str] = "flags"

    output: str = flag(
        "Folder of shards (no suffix; resumable), or one file .npy, .fbin, .parquet, .safetensors. Arrow and Parquet keep "
        "other columns."
    )
    input: str | None = flag(
        "Vectors: .parquet, .npy, .fbin, .safetensors, .arrow, a folder of these, a saved data set.", None
    )
    texts: str | None = flag("Texts instead of vectors; the encoder that the translator records embeds them.", None)
    dataset: str | None = flag("A data set that is streamed instead: Hub name, or parquet, json, ... (data_files).", None)
    dataset_config: str | None = flag("Its configuration.", None)
    data_files: list[str] | None = flag("Its files.", None)
    split: str = flag("Its split.", "train")
    column: str | None = flag("Column with the vectors; default: `embedding`, or the only one that holds lists.", None)
    output_format: Literal["arrow", "parquet", "npy", "fbin", "safetensors"] | None = flag(
        "Of the shards in a folder; default: arrow, a saved data set.", None
    )
    dtype: Literal["float32", "float16", "bfloat16", "int8"] = flag(
        "Of translations. int8: a vector is its values times its `scale`. bfloat16: safetensors only.", "float32"
    )
    shard_rows: int = flag("Rows of a shard, about.", 1 << 18, minimum=1)
    invalid_rows: Literal["stop", "drop", "mark"] = flag(
        "Rows that are missing, zero, NaN or infinite: stop, drop them, or mark them (NaN, column `valid`).", "stop"
    )
    correct_hubs: str | None = flag(
        "Vectors of the target space, queries like those to come (1,000 or more): translations get norm 1 and one more "
        "coordinate, for an index by inner product that hubs do not lead astray; ask it with `hf_vec2vec.hub_queries`.",
        None,
    )
    length: float | None = flag(
        "Length of all translations, for an index by inner product that holds native rows, of length 1, too; "
        "`hf_vec2vec.metrics.mixed_index.fair_length` tells it. Default: as they come.",
        None,
        above=0,
    )
    allow_not_aligned: bool = flag("Use a translator whose alignment's verdict is 'not aligned'.", False)
    cache_dir: str | None = flag("Where embeddings of `texts` are cached.", None)
    batch_size: int = flag("Rows at a time; a GPU likes more.", 2048, minimum=1)
    verify: bool = flag("Compare checksums of shards that are there; mend damaged ones.", False)
    overwrite: bool = flag("Replace `output` if it exists, once the new one is complete.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(value is not None for value in (self.input, self.texts, self.dataset)) != 1:
            raise ValueError(
                "`input` or `texts` must be given, or `dataset`, and one of them: vectors, texts for the recorded encoder, "
                "or a data set that is streamed."
            )
        if self.dataset is None and (given := self.given & {"dataset_config", "data_files", "split"}):
            raise ValueError(f"`{min(given)}` is of a `dataset`, which was not given. Leave it out.")
        if self.texts is None and self.cache_dir is not None:
            raise ValueError("`cache_dir` is of `texts`, which are not given. Leave it out.")
        if Path(self.output).suffix and (given := self.given & {"shard_rows", "verify"}):
            raise ValueError(
                f"`{min(given)}` is of shards, but `output` {self.output!r} is one file. Leave it out, or give a folder (no "
                "suffix)."
            )
        if self.correct_hubs is not None and self.length is not None:
            raise ValueError("`correct_hubs` and `length` both say how long translations are. Leave out one of them.")

    def after_interrupt(self) -> str:
        """Whole shards are kept; a single file is there when it is complete."""
        if Path(self.output).suffix:
            return f"{self.output} was not written. For runs that go on where they were, give a folder (no suffix)."
        return f"The shards that are complete are kept in {self.output}; the same command goes on after them."


def run(flags: TranslateFlags) -> None:
    """Vectors of one space to vectors of the other, on disk. Run it again to go on after an interruption."""
    flags.check_folder()
    for argument, path in (("input", flags.input), ("texts", flags.texts), ("correct_hubs", flags.correct_hubs)):
        if path is not None:
            check_input(argument, path)
    check_column("column", flags.column, flags.input or "")
    output = Path(flags.output)
    check_folder("output", str(output.parent))
    from ..bulk import translate_store
    from ..bulk.outputs import check_file
    from ..bulk.processes import Processes
    from ..data.columns import vectors
    from ..data.files import load_embeddings
    from ..data.staging import check_apart
    from ..encoders.recorded import check_description
    from ..training.start import load_translator

    if output.suffix:
        check_file(output, flags.dtype, overwrite=flags.overwrite)
    files = [file for pattern in flags.data_files or [] for file in glob.glob(pattern, recursive=True)]
    check_apart(output, [*files, *(path for path in (flags.texts, flags.correct_hubs) if path is not None)])
    check_device(flags.device)
    processes = Processes()
    if flags.texts and processes.count > 1:
        raise ValueError("`texts` are embedded by one process. Run `embed` first, and give several processes its output.")
    if processes.count > 1 and flags.device not in (None, "cpu"):
        raise ValueError(f"`device` is {flags.device!r}, but several processes have one each. Leave it out, or say cpu.")
    model = load_translator(flags.folder)
    check_verdict(flags.folder, allowed=flags.allow_not_aligned)
    if flags.dry_run:
        print(_plan(flags, model))
        return
    if flags.input:
        _check_encoder(flags, model.config)
    data, facts = _data(flags, model.config)
    sample = None
    if flags.correct_hubs:
        stored = load_embeddings(flags.correct_hubs, argument="correct_hubs")
        check_description(model.config, flags.target, stored.info.description or "")
        sample = vectors(stored, "correct_hubs", (model.config.embedding_dims or {})[flags.target])
    done = translate_store(
        model,
        data,
        output,
        source=flags.source,
        target=flags.target,
        map=model.chosen_map(flags.map, flags.source, flags.target, queries=flags.queries),
        output_format=flags.output_format,
        dtype=flags.dtype,
        shard_rows=flags.shard_rows,
        batch_size=flags.batch_size,
        column=flags.column,
        invalid_rows=flags.invalid_rows,
        overwrite=flags.overwrite,
        verify=flags.verify,
        facts=facts,
        hub_sample=sample,
        length=flags.length,
        device=flags.device,
        progress=flags.progress,
    )
    print(_report(done, flags, processes))


def _plan(flags: TranslateFlags, model: "Vec2VecModel") -> Plan:
    """What would be done, by the pace of a block of rows on one thread."""
    import torch

    from ..data.vector_files import open_files
    from ..deployment.merging import merge

    if flags.input is None:
        raise ValueError("`dry_run` knows the rows of an `input`; texts and streams it would have to read first.")
    store = open_files(flags.input, flags.column, argument="input")
    chosen = model.chosen_map(flags.map, flags.source, flags.target, queries=flags.queries)
    network = merge(model, flags.source, flags.target, chosen)
    dims = model.config.embedding_dims or {}
    if store.dim != dims[flags.source]:
        raise ValueError(f"`input` has vectors of dimension {store.dim}, but {flags.source!r} has {dims[flags.source]}.")
    rows = torch.randn(SAMPLE, store.dim)
    with torch.inference_mode():
        seconds = seconds_of(lambda: network(rows)) * store.rows / SAMPLE
    width = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}[flags.dtype]
    read = f"{flags.input}: {store.rows:,} vectors of dimension {store.dim} in {len(store.files):,} file(s)"
    return Plan([read], {flags.output: 1.0 * store.rows * dims[flags.target] * width}, (seconds, seconds))


def _check_encoder(flags: TranslateFlags, config: "Vec2VecConfig") -> None:
    """Refuse a store that says of itself that another encoder made it than the source's."""
    from ..data.vector_files import open_files
    from ..encoders.recorded import check_description

    description = open_files(str(flags.input), flags.column, argument="input").description
    check_description(config, flags.source, description)


def _data(flags: TranslateFlags, config: "Vec2VecConfig") -> "tuple[str | IterableDataset, dict[str, Any] | None]":
    """What is translated, and for a stream what tells it from others."""
    from ..bulk.streams import open_dataset
    from ..encoders.recorded import recorded_encoder
    from ..encoders.text import embed

    if flags.input:
        return flags.input, None
    if flags.dataset:
        return open_dataset(flags.dataset, flags.dataset_config, flags.split, flags.data_files)
    assert flags.texts is not None
    encoder = recorded_encoder(config, flags.source, device=flags.device, trust_remote_code=flags.trust_remote_code)
    embedded = embed(flags.texts, encoder, cache_dir=flags.cache_dir, progress=flags.progress)
    return embedded.to_iterable_dataset(), {"dataset": Path(flags.texts).name, "fingerprint": embedded._fingerprint}


def _report(done: "Summary", flags: TranslateFlags, processes: "Processes") -> str:
    lines = []
    if done.earlier_shards:
        lines.append(f"{done.earlier_shards:,} shards were there already.")
    if done.invalid_rows:
        lines.append(f"{done.invalid_rows:,} invalid rows: {'dropped' if flags.invalid_rows == 'drop' else 'marked'}.")
    if done.dropped_columns:
        lines.append(f"Not kept, for the format holds vectors alone: {', '.join(done.dropped_columns)}.")
    shards = f", {done.shards:,} shards" if done.shards else ""
    mine = f" by process {processes.index + 1} of {processes.count}" if processes.count > 1 else ""
    rate = f", {done.rows / done.seconds:,.0f} a second" if done.rows else ""
    lines.append(f"{done.rows:,} vectors, {flags.source} → {flags.target}: {flags.output}{shards}{mine}{rate}")
    return "\n".join(lines)
