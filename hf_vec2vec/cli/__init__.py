"""Command line: `hf-vec2vec embed | train | evaluate | ablate | report | translate | export | distill | push`."""

import sys
from collections.abc import Sequence

from ..bulk.processes import leave_group
from .distill import run_distill
from .embedding import run_embed
from .evaluation import run_evaluate, run_report
from .export import run_export
from .parsing import expand_config
from .sharing import run_push
from .training import run_ablate, run_train
from .translation import run_translate

USAGE = """\
usage: hf-vec2vec COMMAND [--flag VALUE ...] [--config FILE.yaml]

Translate between the embedding spaces of two encoders, learned without a single pair.

commands:
  embed      texts to vectors, with any sentence encoder or language model; images, with CLIP-like models
  train      learn a translator from unpaired vectors (or texts) of two spaces
  evaluate   figures and pictures of a translator, on held-out pairs; --task: of a model, on a benchmark
  ablate     trainings that differ in a few flags, over seeds, as one table
  report     one page with all that can be said of a translator, attacks on its vectors included
  translate  vectors of one space to vectors of the other
  export     one direction as ONNX, int8, torch.export or one matrix, to run without this package
  distill    a student that follows a translated teacher, and the experiment that tells whether it pays
  push       a translator and its card to the Hub

`hf-vec2vec COMMAND --help` explains a command. Flags can stand in a YAML file (flag: value); flags on the line win.

A first run, on vectors that exist already:
  hf-vec2vec train --source old=old.npy --target new=new.parquet --output_dir translator
  hf-vec2vec translate translator --source old --target new --input store.npy --output translated.npy
"""

COMMANDS = {
    "embed": run_embed,
    "train": run_train,
    "evaluate": run_evaluate,
    "ablate": run_ablate,
    "report": run_report,
    "translate": run_translate,
    "export": run_export,
    "distill": run_distill,
    "push": run_push,
}


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
        COMMANDS[command](expand_config(rest))
    except (OSError, ValueError, TypeError, ImportError) as error:
        print(f"hf-vec2vec {command}: {error}", file=sys.stderr)
        return 2
    leave_group()
    return 0
