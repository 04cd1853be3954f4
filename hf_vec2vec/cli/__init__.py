"""The command line: one module a command, which holds its flags and what it shows.

What several commands share: `flags` (declarations), `parsing` (words to flags), `config_file` (YAML), `checks` (what can
fail without work), `failures` (errors as one line), `trainer_flags` (transformers' hundred flags), `main` (which command).

Commands load torch, transformers and datasets inside their functions, after the flags were read, so that help and bad input
are answered at once. A new command is a new module with `SYNOPSIS` and `run`, and a line in `main.COMMANDS`.
"""

from .main import main

__all__ = ["main"]
