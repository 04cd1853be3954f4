"""`translate`: a store of vectors, of any size, into the other space."""

from pathlib import Path

from datasets import IterableDataset

from ..bulk import Summary, translate_store
from ..bulk.processes import Processes
from ..bulk.streams import open_dataset
from ..encoders.recorded import recorded_encoder
from ..encoders.text import embed
from ..model.configuration_vec2vec import Vec2VecConfig
from ..training.recipe import load_translator
from .arguments import TranslateArguments
from .parsing import parse


def run_translate(argv: list[str]) -> None:
    """Vectors of one space to vectors of the other, on disk. Run it again to go on after an interruption."""
    args, folder = parse(
        run_translate,
        "DIR --source NAME --target NAME (--input PATH | --texts PATH | --dataset NAME) --output PATH [flags]",
        argv,
        [TranslateArguments],
        positional="DIR",
    )
    if sum(value is not None for value in (args.input, args.texts, args.dataset)) != 1:
        raise ValueError(
            "`input` or `texts` must be given, or `dataset`, and one of them: vectors, texts for the recorded encoder, "
            "or a data set that is streamed."
        )
    processes = Processes()
    if args.texts and processes.count > 1:
        raise ValueError("`texts` are embedded by one process. Run `embed` first, and give several processes its output.")
    if Path(args.output).suffix and Path(args.output).exists() and not args.overwrite:  # before the model is loaded
        raise FileExistsError(f"`output` {args.output!r} exists already. Choose another, or ask to overwrite it.")
    model = load_translator(folder)
    data, facts = _data(args, model.config)
    done = translate_store(
        model,
        data,
        args.output,
        source=args.source,
        target=args.target,
        output_format=args.output_format,
        dtype=args.dtype,
        shard_rows=args.shard_rows,
        batch_size=args.batch_size,
        column=args.column,
        invalid_rows=args.invalid_rows,
        overwrite=args.overwrite,
        verify=args.verify,
        facts=facts,
    )
    print(_report(done, args, processes))


def _data(args: TranslateArguments, config: Vec2VecConfig) -> tuple[str | IterableDataset, dict | None]:
    """What is translated, and for a stream what tells it from others."""
    if args.input:
        return args.input, None
    if args.dataset:
        return open_dataset(args.dataset, args.dataset_config, args.split, args.data_files)
    embedded = embed(args.texts, recorded_encoder(config, args.source), cache_dir=args.cache_dir)
    return embedded.to_iterable_dataset(), {"dataset": Path(args.texts).name, "fingerprint": embedded._fingerprint}


def _report(done: Summary, args: TranslateArguments, processes: Processes) -> str:
    lines = []
    if done.earlier_shards:
        lines.append(f"{done.earlier_shards:,} shards were there already.")
    if done.invalid_rows:
        lines.append(f"{done.invalid_rows:,} invalid rows: {'dropped' if args.invalid_rows == 'drop' else 'marked'}.")
    if done.dropped_columns:
        lines.append(f"Not kept, for the format holds vectors alone: {', '.join(done.dropped_columns)}.")
    shards = f", {done.shards:,} shards" if done.shards else ""
    mine = f" by process {processes.index + 1} of {processes.count}" if processes.count > 1 else ""
    rate = f", {done.rows / done.seconds:,.0f} a second" if done.rows else ""
    lines.append(f"{done.rows:,} vectors, {args.source} → {args.target}: {args.output}{shards}{mine}{rate}")
    return "\n".join(lines)
