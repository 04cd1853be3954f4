"""Flags of the commands: help that fits a screen, flags from a YAML file."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path

import yaml
from transformers import HfArgumentParser, TrainingArguments

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
    "push_to_hub": "Publish the translator at every save and at the end.",
    "hub_model_id": "ORG/NAME to publish it as; default: the name of `output_dir`.",
    "hub_strategy": "end, every_save, or also the training checkpoints, in the branch `checkpoints`.",
}


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
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


def parse(run: Callable, synopsis: str, argv: list[str], kinds: list[type], positional: str | None = None) -> Sequence:
    """Read the flags of a command.

    Args:
        run: the command, `run_NAME` or `run_NAME_KIND`, whose docstring says what it does.
        synopsis: what follows the name in a call.
        argv: words of the line.
        kinds: dataclasses whose fields are the flags.
        positional: placeholder of a translator's folder that stands first, if there is one.

    Returns:
        An instance of each kind, then the folder.
    """
    parser = HfArgumentParser(
        kinds,
        usage=f"hf-vec2vec {run.__name__.split('_')[1]} {synopsis}",
        description=run.__doc__,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    if positional:
        parser.add_argument("model_folder", metavar=positional, help="Folder or Hub id of a translator.")
    parser.add_argument("--config", metavar="FILE.yaml", help="Flags from a file; flags on the line win.")
    hidden = set()
    if trainer := next((kind for kind in kinds if issubclass(kind, TrainingArguments)), None):
        parser.add_argument("--help_all", action="store_true", help="Show the flags of transformers.TrainingArguments, too.")
        own = set(trainer.__annotations__) - {"remove_unused_columns"}
        hidden = {f.name for f in fields(TrainingArguments)} - own - set(SHOWN)
    if "--help_all" in argv:
        argv = ["--help"]
    else:
        for action in parser._actions:
            if action.dest in hidden or action.option_strings[:1] == ["--no_strict_unpaired"]:
                action.help = argparse.SUPPRESS
            action.help = SHOWN.get(action.dest) or action.help
    parsed = parser.parse_args_into_dataclasses(argv, look_for_args_file=False)  # beside `sys.argv[0]`
    namespace = parsed[len(kinds)]
    return [*parsed[: len(kinds)], *([namespace.model_folder] if positional else [])]


def expand_config(argv: list[str]) -> list[str]:
    """Put the flags of a `--config` file before those on the line, so that the line wins."""
    path, rest = peek(argv, "--config")
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
    return positional + as_flags(content) + rest


def peek(argv: list[str], flag: str, *, switch: bool = False) -> tuple[str | None, list[str]]:
    """Value of one flag, written `--flag value` or `--flag=value`, and the other words. A switch may stand alone."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(flag, dest="value", **({"nargs": "?", "const": "true"} if switch else {}))
    known, rest = parser.parse_known_args(argv)
    return known.value, rest


def as_flags(values: dict) -> list[str]:
    """`{name: value}` as words of a command line."""
    flags = []
    for name, value in values.items():
        items = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        flags += [f"--{name}", *map(str, items)]
    return flags


def named_path(argument: str, value: str) -> tuple[str, str]:
    """Both parts of `NAME=PATH`."""
    name, separator, path = value.partition("=")
    if not (name and separator and path):
        raise ValueError(f"`{argument}` must be NAME=PATH, for instance minilm=minilm.npy, got {value!r}.")
    return name, path
