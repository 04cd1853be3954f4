"""Every bar of the package obeys who hides it: the caller, and `TQDM_DISABLE`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import hf_vec2vec

PACKAGE = Path(hf_vec2vec.__file__).parent
# The module alone, for the package takes seconds to import.
SHOW = """
import runpy
progress_bar = runpy.run_path({file!r})["progress_bar"]
for _ in progress_bar(range(3), shown={shown}, mininterval=0):
    pass
"""


def calls(name: str):
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
                yield file.relative_to(PACKAGE).as_posix(), node


def test_no_bar_is_told_to_show_itself_against_the_environment():
    told = [file for file, call in calls("tqdm") for keyword in call.keywords if keyword.arg == "disable"]
    assert not told
    assert len(list(calls("progress_bar"))) >= 4


def said(shown: bool, hidden_by_user: bool) -> str:
    environment = os.environ | {"TQDM_DISABLE": "1" if hidden_by_user else ""}
    command = [sys.executable, "-c", SHOW.format(file=str(PACKAGE / "data" / "progress.py"), shown=shown)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr


def test_callers_and_users_may_hide_it():
    assert "3/3" in said(True, False)
    assert said(True, True) == said(False, False) == ""
