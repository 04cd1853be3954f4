"""`train` and `ablate`: translators from unpaired vectors."""

import json
from pathlib import Path

from datasets import Dataset, IterableDataset
from transformers import set_seed

from ..data.files import load_embeddings
from ..data.spaces import PairedEmbeddings, UnpairedEmbeddings
from ..data.stream_files import open_stream
from ..data.streaming import StreamedEmbeddings
from ..encoders.text import TextEncoder, embed
from ..training.arguments import PRESETS, Vec2VecTrainingArguments
from ..training.recipe import TranslatorArguments, check_output_dir, train_translator
from .arguments import AblateArguments, DataArguments
from .parsing import as_flags, named_path, parse, peek

# `train` evaluates, saves and selects by the unpaired score, unless flags say otherwise.
TRAIN_DEFAULTS = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "alignment_score",
    "greater_is_better": True,
    "logging_steps": 50,
}
# Streams have no epochs.
STREAM_DEFAULTS = {"eval_strategy": "steps", "eval_steps": 500, "save_strategy": "steps", "save_steps": 500}


def run_train(argv: list[str]) -> None:
    """Unpaired vectors to a translator on disk."""
    defaults = TRAIN_DEFAULTS
    if str(peek(argv, "--streaming", switch=True)[0]).lower() == "true":
        defaults = defaults | STREAM_DEFAULTS
    if (name := peek(argv, "--preset")[0]) in PRESETS:
        defaults = defaults | PRESETS[name] | {"init": "random", "architecture": "paper"}
    data_args, translator_args, training_args = parse(
        run_train,
        "--source NAME=PATH --target NAME=PATH --output_dir DIR [flags]",
        as_flags(defaults) + argv,
        [DataArguments, TranslatorArguments, Vec2VecTrainingArguments],
    )
    if data_args.streaming and (data_args.source_encoder or data_args.target_encoder):
        raise ValueError("`streaming` reads vectors, but an encoder was given for texts: embed them first.")
    sides = [named_path("source", data_args.source), named_path("target", data_args.target)]
    if sides[0][0] == sides[1][0]:
        raise ValueError(f"`source` and `target` are both named {sides[0][0]!r}; give the two spaces two names.")
    check_output_dir(translator_args, training_args)  # before texts are embedded
    loaded, encoders = {}, {}
    for (name, path), encoder in zip(sides, (data_args.source_encoder, data_args.target_encoder), strict=True):
        if data_args.streaming:
            loaded[name] = open_stream(path)
        else:
            loaded[name] = embed(path, TextEncoder(encoder)) if encoder else load_embeddings(path)
        encoders[name] = _encoder_settings(loaded[name])
    if data_args.streaming:
        spaces = StreamedEmbeddings(loaded, buffer_rows=data_args.buffer_rows, strict_unpaired=data_args.strict_unpaired)
    else:
        spaces = UnpairedEmbeddings(loaded, strict_unpaired=data_args.strict_unpaired)
    set_seed(training_args.seed)
    files = {name: Path(path).name for name, path in sides}
    trained = train_translator(spaces, translator_args, training_args, encoders, files)
    if trained.report:
        print(f"Alignment: {trained.report}")
    print(trained.selection)


def run_ablate(argv: list[str]) -> None:
    """Trainings that differ in a few flags, over seeds; one table with intervals."""
    from ..training.ablation import ablation_table, load_variants, run_ablation

    (args,) = parse(
        run_ablate,
        "--source NAME=PATH --target NAME=PATH --held_out_source ... --variants FILE.yaml --output_dir OUT [flags]",
        argv,
        [AblateArguments],
    )
    held_out = dict(
        [named_path("held_out_source", args.held_out_source), named_path("held_out_target", args.held_out_target)]
    )
    sides = [named_path("source", args.source)[0], named_path("target", args.target)[0]]
    if set(held_out) != set(sides):
        raise ValueError(f"`held_out_source` and `held_out_target` must name {sides}, got {list(held_out)}.")
    pairs = PairedEmbeddings({name: load_embeddings(held_out[name]) for name in sides})
    spaces = {
        name: load_embeddings(path) for name, path in map(named_path, ("source", "target"), (args.source, args.target))
    }
    data = ["--source", args.source, "--target", args.target, "--disable_tqdm", "true"]
    variants = load_variants(args.variants)

    def train(name: str, seed: int, folder: Path) -> None:
        run_train([*data, *as_flags(variants[name]), "--seed", str(seed), "--output_dir", str(folder), "--overwrite"])

    rows = run_ablation(train, variants, spaces, pairs, args.seeds, Path(args.output_dir), keep_models=args.keep_models)
    print(f"\n{ablation_table(rows)}\n\n{args.output_dir}/ablation.md, ablation.json")


def _encoder_settings(data: Dataset | IterableDataset) -> dict | None:
    """How `embed` made the vectors, if it did."""
    try:
        settings = json.loads(data.info.description)
    except (TypeError, ValueError):
        return None
    return settings if isinstance(settings, dict) and {"model", "pooling"} <= settings.keys() else None
