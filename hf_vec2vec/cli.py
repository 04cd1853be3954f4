"""Command line: `hf-vec2vec embed | train | evaluate | ablate | report | translate`."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path

import torch
import yaml
from datasets import Dataset, concatenate_datasets
from transformers import HfArgumentParser, TrainingArguments, set_seed

from .cli_arguments import (
    AblateArguments,
    DataArguments,
    EmbedArguments,
    EvaluateArguments,
    ReportArguments,
    TranslateArguments,
)
from .data import (
    EMBEDDING,
    PairedEmbeddings,
    UnpairedEmbeddings,
    check_output,
    load_embeddings,
    load_texts,
    save_embeddings,
    to_dataset,
    vector_column,
    vectors,
)
from .encoders import TextEncoder, embed
from .evaluation import evaluate_translation, markdown_table
from .model_card import write_model_card
from .modeling_vec2vec import Vec2VecModel
from .training import TranslatorArguments, check_output_dir, load_translator, train_translator
from .training_args import PRESETS, Vec2VecTrainingArguments

USAGE = """\
usage: hf-vec2vec COMMAND [--flag VALUE ...] [--config FILE.yaml]

Translate between the embedding spaces of two encoders, learned without a single pair.

commands:
  embed      texts to vectors, with any sentence encoder or language model
  train      learn a translator from unpaired vectors (or texts) of two spaces
  evaluate   figures and pictures of a translator, on held-out pairs
  ablate     trainings that differ in a few flags, over seeds, as one table
  report     one page with all that can be said of a translator, attacks on its vectors included
  translate  vectors of one space to vectors of the other

`hf-vec2vec COMMAND --help` explains a command. Flags can stand in a YAML file (flag: value); flags on the line win.

A first run, on vectors that exist already:
  hf-vec2vec train --source old=old.npy --target new=new.parquet --output_dir translator
  hf-vec2vec translate translator --source old --target new --input store.npy --output translated.npy
"""


def run_embed(argv: list[str]) -> None:
    """Texts to vectors on disk."""
    (args,) = _parse("embed", argv, [EmbedArguments])
    check_output(args.output, overwrite=args.overwrite)
    encoder = TextEncoder(
        args.model,
        pooling=args.pooling,
        layer=args.layer,
        prompt=args.prompt,
        max_length=args.max_length,
        device=args.device,
    )
    data = embed(args.texts, encoder, batch_size=args.batch_size, cache_dir=args.cache_dir)
    save_embeddings(data, args.output, overwrite=args.overwrite)
    print(f"{len(data):,} texts → {args.output}, dimension {len(data[0][EMBEDDING])}")


def run_train(argv: list[str]) -> None:
    """Unpaired vectors to a translator on disk."""
    defaults = TRAIN_DEFAULTS
    if (name := _peek(argv, "--preset")[0]) in PRESETS:
        defaults = defaults | PRESETS[name] | {"init": "random", "architecture": "paper"}
    data_args, translator_args, training_args = _parse(
        "train", _flags(defaults) + argv, [DataArguments, TranslatorArguments, Vec2VecTrainingArguments]
    )
    sides = [_named_path("source", data_args.source), _named_path("target", data_args.target)]
    if sides[0][0] == sides[1][0]:
        raise ValueError(f"`source` and `target` are both named {sides[0][0]!r}; give the two spaces two names.")
    check_output_dir(translator_args, training_args)  # before texts are embedded
    loaded, encoders = {}, {}
    for (name, path), encoder in zip(sides, (data_args.source_encoder, data_args.target_encoder), strict=True):
        loaded[name] = embed(path, TextEncoder(encoder)) if encoder else load_embeddings(path)
        encoders[name] = _encoder_settings(loaded[name])
    spaces = UnpairedEmbeddings(loaded, strict_unpaired=data_args.strict_unpaired)
    set_seed(training_args.seed)
    train_translator(spaces, translator_args, training_args, encoders)


def run_evaluate(argv: list[str]) -> None:
    """A table, pictures and a renewed card."""
    args, folder = _parse("evaluate", argv, [EvaluateArguments], positional="DIR")
    model = load_translator(folder)
    source, target, loaded, other = _pairs(model, args)
    pairs, oracle_pairs = PairedEmbeddings(loaded), PairedEmbeddings(other) if other else None
    rows_of = _stages(folder) or {"translator": model}
    rows = evaluate_translation(rows_of, pairs, source=source, target=target, oracle_pairs=oracle_pairs, seed=args.seed)
    print(f"\n{len(pairs):,} held-out pairs; ranks of the true target among {len(pairs):,}, by raw cosine\n")
    print(markdown_table(rows))
    local = Path(folder).is_dir()
    output = Path(args.output_dir or (Path(folder) / "evaluation" if local else "evaluation"))
    for file in filter(None, [output / "results.json", args.json and Path(args.json)]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"pool_size": len(pairs), "rows": rows}, indent=2, ensure_ascii=False))
    if local and (Path(folder) / "training.json").exists():  # a card that was not written here is left alone
        write_model_card(Path(folder), results=rows)
    _draw(model, pairs, source, target, output)


def _pairs(
    model: Vec2VecModel, args: EvaluateArguments | ReportArguments
) -> tuple[str, str, dict[str, Dataset], dict[str, Dataset] | None]:
    """Both spaces' names, held-out pairs and, if given, other pairs for the oracles."""
    (source, source_path), (target, target_path) = _named_path("source", args.source), _named_path("target", args.target)
    if source == target:
        raise ValueError(f"`source` and `target` both name {source!r}; they must be two spaces of the model.")
    for argument, name in (("source", source), ("target", target)):
        if name not in model.config.spaces:
            raise ValueError(f"`{argument}` names {name!r}, which this model does not know. It has {model.config.spaces}.")
    loaded, other = {source: load_embeddings(source_path), target: load_embeddings(target_path)}, None
    if (args.oracle_source is None) != (args.oracle_target is None):
        raise ValueError("`oracle_source` and `oracle_target` go together: give both or neither.")
    if args.oracle_source:
        paths = dict([_named_path("oracle_source", args.oracle_source), _named_path("oracle_target", args.oracle_target)])
        if set(paths) != {source, target}:
            raise ValueError(f"`oracle_source` and `oracle_target` must name {source!r} and {target!r}, got {list(paths)}.")
        other = {name: load_embeddings(path) for name, path in paths.items()}
    return source, target, loaded, other


def run_ablate(argv: list[str]) -> None:
    """Trainings that differ in a few flags, over seeds; one table with intervals."""
    from .ablation import ablation_table, load_variants, run_ablation

    (args,) = _parse("ablate", argv, [AblateArguments])
    held_out = dict(
        [_named_path("held_out_source", args.held_out_source), _named_path("held_out_target", args.held_out_target)]
    )
    sides = [_named_path("source", args.source)[0], _named_path("target", args.target)[0]]
    if set(held_out) != set(sides):
        raise ValueError(f"`held_out_source` and `held_out_target` must name {sides}, got {list(held_out)}.")
    pairs = PairedEmbeddings({name: load_embeddings(held_out[name]) for name in sides})
    data = ["--source", args.source, "--target", args.target, "--disable_tqdm", "true"]
    variants = {name: data + _flags(flags) for name, flags in load_variants(args.variants).items()}
    rows = run_ablation(run_train, variants, pairs, args.seeds, Path(args.output_dir), keep_models=args.keep_models)
    print(f"\n{ablation_table(rows)}\n\n{args.output_dir}/ablation.md, ablation.json")


def run_report(argv: list[str]) -> None:
    """One page about one translator: translation, attributes, inversion, pictures."""
    args, folder = _parse("report", argv, [ReportArguments], positional="DIR")
    try:
        from .evaluation.report import Subject, load_corpus, recorded_encoders, texts_of, training_record, write_report
    except ModuleNotFoundError as error:
        raise ImportError(f'A report needs {error.name}, which is missing: pip install "hf-vec2vec[report]"') from error

    model = load_translator(folder)
    source, target, loaded, other = _pairs(model, args)
    if other is None:
        half = len(loaded[source]) // 2
        other = {name: data.select(range(half, len(data))) for name, data in loaded.items()}
        loaded = {name: data.select(range(half)) for name, data in loaded.items()}
    subject = Subject(
        name=Path(folder).resolve().name,
        model=model,
        source=source,
        target=target,
        pairs=PairedEmbeddings(loaded),
        others=PairedEmbeddings(other),
        texts=texts_of(loaded[source]),
        other_texts=texts_of(other[source]),
        encode=recorded_encoders(Path(folder)),
        **training_record(Path(folder)),
        seed=args.seed,
    )
    corpora = {name: partial(load_corpus, name, args.max_texts, args.seed) for name in args.labelled}
    output = Path(args.output_dir)
    sections = write_report(
        subject,
        corpora,
        output,
        foreign_texts=load_texts(args.out_of_domain) if args.out_of_domain else None,
        inverter=(args.inverter_model, args.inverter_steps) if args.inverter_model else None,
        with_privacy=args.privacy,
        show_texts=args.show_texts,
    )
    for section in sections:
        print(f"{section.title}: {'not made: ' + section.error if section.error else 'done'}")
    print(f"\n{output}/report.html, report.json")


def _stages(folder: str) -> dict[str, Vec2VecModel]:
    """Both stages of a translator that was trained here, the one that became the translator marked."""
    facts = Path(folder) / "training.json"
    if not facts.exists():
        return {}
    kept = json.loads(facts.read_text())["selection"]["kept"]
    names = {"alignment": "alignment alone", "trained": "after adversarial training"}
    found = {stage: Path(folder) / stage for stage in names if (Path(folder) / stage).is_dir()}
    return {names[stage] + (" (kept)" if stage == kept else ""): load_translator(str(path)) for stage, path in found.items()}


def _draw(model: Vec2VecModel, pairs: PairedEmbeddings, source: str, target: str, output: Path) -> None:
    try:
        from .evaluation.figures import heatmap, projection
    except ImportError:
        print('\nNo pictures: matplotlib is missing. Install it with `pip install "hf-vec2vec[figures]"`.')
        return
    heatmap(model, pairs, source, target, output / "heatmap.png")
    projection(model, pairs, source, target, output / "projection.png")
    print(f"\nPictures and figures: {output}/heatmap.png, projection.png, results.json")


def run_translate(argv: list[str]) -> None:
    """Vectors of one space to vectors of the other, on disk."""
    args, folder = _parse("translate", argv, [TranslateArguments], positional="DIR")
    check_output(args.output, overwrite=args.overwrite)
    model = load_translator(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    data = load_embeddings(args.input)
    rows = vectors(data, "input", model.config.embedding_dims.get(args.source))
    translated = model.translate(rows, source=args.source, target=args.target, batch_size=args.batch_size)
    others = data.remove_columns(vector_column(data, "input"))  # ids, texts and whatever else belongs to the rows
    result = (
        concatenate_datasets([others, to_dataset(translated)], axis=1) if others.column_names else to_dataset(translated)
    )
    save_embeddings(result, args.output, overwrite=args.overwrite)
    print(f"{len(translated):,} vectors, {args.source} → {args.target}: {args.output}")


COMMANDS = {
    "embed": run_embed,
    "train": run_train,
    "evaluate": run_evaluate,
    "ablate": run_ablate,
    "report": run_report,
    "translate": run_translate,
}

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

# What a newcomer may want of the hundred flags of TrainingArguments; the others work, and `--help_all` shows them.
SHOWN = {
    "output_dir": "Folder for the translator, its card, both stages and checkpoints.",
    "num_train_epochs": "Passes over the larger space's rows in adversarial training; 0 keeps the alignment.",
    "max_steps": "Updates of adversarial training, instead of epochs.",
    "learning_rate": None,
    "per_device_train_batch_size": None,
    "seed": "Of everything random.",
    "bf16": "Train in bfloat16.",
    "logging_steps": "Updates between two lines of the log.",
    "resume_from_checkpoint": "`true` goes on from the last checkpoint in `output_dir`; a path from that one.",
    "report_to": "Where to log, too: tensorboard, wandb, ...; none by default.",
    "disable_tqdm": "No progress bar.",
}

SYNOPSIS = {
    "embed": "--texts FILE --model MODEL --output PATH [flags]",
    "train": "--source NAME=PATH --target NAME=PATH --output_dir DIR [flags]",
    "evaluate": "DIR --source NAME=PATH --target NAME=PATH [flags]",
    "ablate": "--source NAME=PATH --target NAME=PATH --held_out_source ... --variants FILE.yaml --output_dir OUT [flags]",
    "report": "DIR --source NAME=PATH --target NAME=PATH --output_dir OUT [flags]",
    "translate": "DIR --source NAME --target NAME --input PATH --output PATH [flags]",
}


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """One spelling and one line a flag; the default behind the help."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=110)

    def _get_help_string(self, action: argparse.Action) -> str:
        return action.help if action.default in (None, False) else super()._get_help_string(action)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        if action.choices:
            return f"{action.option_strings[0]} {'|'.join(map(str, action.choices))}"
        return action.option_strings[0] + (f" {action.metavar}" if action.metavar else "")


def _parse(command: str, argv: list[str], kinds: list[type], positional: str | None = None) -> Sequence:
    parser = HfArgumentParser(
        kinds,
        usage=f"hf-vec2vec {command} {SYNOPSIS[command]}",
        description=COMMANDS[command].__doc__,
        formatter_class=_HelpFormatter,
        allow_abbrev=False,
    )
    if positional:
        parser.add_argument("model_folder", metavar=positional, help="Folder or Hub id of a translator.")
    parser.add_argument("--config", metavar="FILE.yaml", help="Flags from a file; flags on the line win.")
    hidden = set()
    if Vec2VecTrainingArguments in kinds:
        parser.add_argument("--help_all", action="store_true", help="Show the flags of transformers.TrainingArguments, too.")
        own = set(Vec2VecTrainingArguments.__annotations__) - {"remove_unused_columns"}
        hidden = {f.name for f in fields(TrainingArguments)} - own - set(SHOWN)
    if "--help_all" in argv:
        argv = ["--help"]
    else:
        for action in parser._actions:
            if action.dest in hidden or action.option_strings[:1] == ["--no_strict_unpaired"]:
                action.help = argparse.SUPPRESS
            action.help = SHOWN.get(action.dest) or action.help
    parsed = parser.parse_args_into_dataclasses(argv)
    namespace = parsed[len(kinds)]
    return [*parsed[: len(kinds)], *([namespace.model_folder] if positional else [])]


def _expand_config(argv: list[str]) -> list[str]:
    """Put the flags of a `--config` file before those on the line, so that the line wins."""
    path, rest = _peek(argv, "--config")
    if path is None:
        return rest
    try:
        content = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"`config` {path!r} is no YAML: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"`config` {path!r} must hold lines `flag: value`.")
    # A positional argument stands first and has to stay there.
    positional = [] if not rest or rest[0].startswith("-") else [rest.pop(0)]
    return positional + _flags(content) + rest


def _peek(argv: list[str], flag: str) -> tuple[str | None, list[str]]:
    """Value of one flag, written `--flag value` or `--flag=value`, and the other words."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value")
    known, rest = parser.parse_known_args(argv)
    return known.value, rest


def _flags(values: dict) -> list[str]:
    flags = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [f"--{name}", *map(str, items)]
    return flags


def _named_path(argument: str, value: str) -> tuple[str, str]:
    name, separator, path = value.partition("=")
    if not (name and separator and path):
        raise ValueError(f"`{argument}` must be NAME=PATH, for instance minilm=minilm.npy, got {value!r}.")
    return name, path


def _encoder_settings(data: Dataset) -> dict | None:
    """How `embed` made the vectors, if it did."""
    try:
        settings = json.loads(data.info.description)
    except (TypeError, ValueError):
        return None
    return settings if isinstance(settings, dict) and {"model", "pooling"} <= settings.keys() else None


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point. Returns the exit status; bad input prints one line and gives 2."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0
    command, *rest = argv
    if command not in COMMANDS:
        print(f"hf-vec2vec: `COMMAND` must be one of {', '.join(COMMANDS)}, got {command!r}.", file=sys.stderr)
        return 2
    try:
        COMMANDS[command](_expand_config(rest))
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"hf-vec2vec {command}: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
