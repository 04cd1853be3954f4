"""The blocks of a Markdown page, run from top to bottom as a reader would run them."""

import os
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import SkipTest
from unittest.mock import patch

from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from hf_vec2vec.cli import main

ROOT = Path(__file__).parents[2]


def run_blocks(page: Path, **names) -> int:
    """Run every Python and shell block of a page in the current folder; Python blocks share one namespace.

    A line `<!--- skip: next if(offline, reason="...") -->` before a block leaves it out if the name `offline` is true.

    Args:
        page: Markdown.
        names: known to all blocks.

    Returns:
        How many blocks ran.
    """
    shell = (CodeBlockParser(language, evaluate_shell) for language in ("bash", "console", "sh"))
    document = Document.parse(str(page), PythonCodeBlockParser(), *shell, SkipParser())
    document.namespace.update(names)
    ran = 0
    for example in document.examples():
        try:
            example.evaluate()
        except SkipTest:
            continue
        ran += bool(example.parsed) and example.region.evaluator.__class__.__name__ != "Skipper"
    return ran


def evaluate_shell(example: Example) -> None:
    """Run what stands in a shell block, command by command."""
    for line in commands(example.parsed):
        run_command(line)


def commands(block: str) -> list[list[str]]:
    """Words of each command: comments left out, continued lines joined."""
    lines = block.replace("\\\n", " ").splitlines()
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def run_command(words: list[str]) -> None:
    """Do what a command of the documents does, in this process where that saves the seconds that imports take."""
    match words:
        case ["hf-vec2vec", *arguments]:
            status = main(arguments)
            assert status == 0, f"`{shlex.join(words)}` ended with {status}"
        case ["python", script, *arguments]:
            with (
                patch.object(sys, "argv", [script, *arguments]),
                patch.object(sys, "path", [str(Path(script).parent), *sys.path]),
            ):
                runpy.run_path(script, run_name="__main__")
        case ["accelerate", "launch", *arguments]:
            command = [sys.executable, "-m", "accelerate.commands.launch", *arguments]
            subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})
        case ["pip", "install", *packages]:  # whoever runs this has installed them: only look that the extras exist
            check_extras(packages)
        case ["make", *targets]:
            subprocess.run(["make", "--dry-run", *targets], cwd=ROOT, check=True, capture_output=True)
        case [("git" | "cd"), *_]:
            pass
        case _:
            raise AssertionError(f"`{shlex.join(words)}`: no test knows how to run this")


def check_extras(packages: list[str]) -> None:
    """Raise if an extra that is to be installed is none of ours."""
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for asked in re.findall(r"(?:hf-vec2vec|\.)\[([\w,-]+)\]", " ".join(packages)):
        missing = set(asked.split(",")) - set(known)
        assert not missing, f"pip install: no extra {sorted(missing)}"


def lay_out(folder: Path) -> None:
    """What stands in a clone, where documents look for it."""
    for name in ("examples", "model_cards", "benchmarks"):
        os.symlink(ROOT / name, folder / name)
