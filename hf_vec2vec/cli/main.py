"""Which command is meant, and what becomes of its errors."""

import io
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from types import ModuleType
from typing import get_type_hints

from ..version import __version__
from .checks import did_you_mean
from .failures import reported
from .flags import NO_BARS, Flags
from .parsing import build_parser, parse
from .trainer_flags import TrainerFlags

# What each does. The module of a command has its name, with _ for -, and holds `SYNOPSIS` and `run(flags: ITS_FLAGS)`.
COMMANDS = {
    "embed": "texts to vectors, with any sentence encoder or language model; images, with CLIP-like models",
    "train": "learn a translator from unpaired vectors (or texts) of two spaces",
    "evaluate": "figures and pictures of a translator, on held-out pairs; --task: of a model, on a benchmark",
    "ablate": "trainings that differ in a few flags, over seeds, as one table",
    "report": "one page with all that can be said of a translator, attacks on its vectors included",
    "translate": "vectors of one space to vectors of the other",
    "migrate": "a vector database, index or file in use, translated beside the old vectors, with switch and rollback",
    "export": "one direction as ONNX, int8, torch.export or one matrix, to run without this package",
    "finetune": "train a model on a task by its labels: a teacher for distill-task",
    "distill": "train a student that follows a translated teacher",
    "distill-check": "tell first, without training, whether the teacher has something to give",
    "distill-compare": "train the arms of an experiment over seeds, and compare",
    "distill-task": "train a student on a task by its labels and a fine-tuned teacher",
    "query-encoder": "a small encoder that asks an index of a large one, with no, few or many pairs",
    "export-encoder": "a query encoder, or another encoder of texts, as ONNX or int8, to run without torch",
    "completion": "what bash or zsh needs to complete commands and flags",
    "push": "a translator and its card to the Hub",
}
USAGE = """\
usage: hf-vec2vec COMMAND [--flag VALUE ...] [--config FILE.yaml]

Translate between the embedding spaces of two encoders, learned without a single pair.

commands:
{commands}

`hf-vec2vec COMMAND --help` explains a command. Flags can stand in a YAML file (flag: value); flags on the line win.
`hf-vec2vec --version` tells the version.

A first run, on vectors that exist already:
  hf-vec2vec train --source old=old.npy --target new=new.parquet --output_dir translator
  hf-vec2vec translate translator --source old --target new --input store.npy --output translated.npy
"""
HELP = {"-h", "--help", "--help_all"}


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point.

    Returns:
        The exit status: 0 for success, 1 for a failure at work, 2 for bad input, 130 after Ctrl-C, 143 after SIGTERM.
        Each but the first has left one line on stderr.
    """
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of kernels that nobody asked for, as it is loaded
    if isinstance(sys.stdout, io.TextIOWrapper):  # a terminal may lack an arrow, and a file's name be no text
        sys.stdout.reconfigure(errors="backslashreplace")
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or words[0] in HELP:
        print(USAGE.format(commands="\n".join(f"  {name:<16} {does}" for name, does in COMMANDS.items())), end="")
        return 0
    command, *rest = words
    if command == "--version":
        print(f"hf-vec2vec {__version__}")
        return 0
    if command not in COMMANDS:
        known = f"`COMMAND` must be one of {', '.join(COMMANDS)}, got {command!r}"
        print(f"hf-vec2vec: {known}{did_you_mean(command, COMMANDS)}", file=sys.stderr)
        return 2
    module = import_module(f".{command.replace('-', '_')}", __package__)
    kind: type[Flags] = get_type_hints(module.run)["flags"]
    if asked := HELP.intersection(rest):
        print(explain(command, module, kind, everything="--help_all" in asked), end="")
        return 0
    work = Work(module, kind, rest)
    return reported(command, work.run, debug=work.debug, after_interrupt=work.after_interrupt)


class Work:
    """A command with the words of its line."""

    def __init__(self, module: ModuleType, kind: type[Flags], words: list[str]):
        self.module, self.kind, self.words = module, kind, words
        self.flags: Flags | None = None

    def run(self) -> None:
        """Read the flags; then work, with or without bars."""
        self.flags = parse(self.kind, self.words)
        with spoken(self.flags):
            self.module.run(self.flags)
        if "torch" in sys.modules:
            from ..bulk.processes import leave_group

            leave_group()

    def debug(self) -> bool:
        """Whether to show where an error arose; of flags that could not be read, too."""
        return self.flags.debug if self.flags else "--debug" in self.words

    def after_interrupt(self) -> str:
        """What of the work is kept."""
        return self.flags.after_interrupt() if self.flags else "Nothing was done."


@contextmanager
def spoken(flags: Flags) -> Iterator[None]:
    """Show what the library logs and warns of, a line each, on stderr; and bars, unless they are not wanted."""
    logger, handler = logging.getLogger("hf_vec2vec"), logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s"))
    level, format_warning, environment = logger.level, warnings.formatwarning, dict(os.environ)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    warnings.formatwarning = lambda message, *args, **kwargs: f"warning: {message}\n"
    if not flags.progress:
        os.environ.update(NO_BARS)
    try:
        with warnings.catch_warnings(), nullcontext() if flags.progress else hidden_bars():
            # peft asks transformers under an old name: nothing that a user of a command could change.
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        warnings.formatwarning = format_warning
        for name in NO_BARS:
            os.environ.pop(name, None)
            if name in environment:
                os.environ[name] = environment[name]


@contextmanager
def hidden_bars() -> Iterator[None]:
    """Hide the bars of packages that were loaded before this command, and no longer read the variables."""
    datasets, transformers = sys.modules.get("datasets"), sys.modules.get("transformers")
    of_datasets = datasets is not None and not datasets.are_progress_bars_disabled()
    of_transformers = transformers is not None and transformers.utils.logging.is_progress_bar_enabled()
    if datasets and of_datasets:
        datasets.disable_progress_bars()
    if transformers and of_transformers:
        transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if datasets and of_datasets:
            datasets.enable_progress_bars()
        if transformers and of_transformers:
            transformers.utils.logging.enable_progress_bar()


def explain(command: str, module: ModuleType, kind: type[Flags], *, everything: bool) -> str:
    """The help of a command; `everything`: with the flags that it passes on to transformers."""
    text = build_parser(kind, f"hf-vec2vec {command}", module.SYNOPSIS, module.run.__doc__ or "").format_help()
    if issubclass(kind, TrainerFlags):
        text += kind.explain_others() if everything else "\n--help_all: the flags of transformers.TrainingArguments, too.\n"
    return text
