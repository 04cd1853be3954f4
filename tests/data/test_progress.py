"""Every bar of the package obeys who hides it: the caller, and `TQDM_DISABLE`."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import hf_vec2vec
from hf_vec2vec.data.progress import progress_bar

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


def test_every_bar_is_one_that_can_be_hidden():
    assert [file for file, _ in calls("tqdm")] == ["data/progress.py"]
    assert len(list(calls("progress_bar"))) >= 12


def said(shown: bool, hidden_by_user: bool) -> str:
    environment = os.environ | {"TQDM_DISABLE": "1" if hidden_by_user else ""}
    command = [sys.executable, "-c", SHOW.format(file=str(PACKAGE / "data" / "progress.py"), shown=shown)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stderr


def test_callers_and_users_may_hide_it():
    assert "3/3" in said(True, False)
    assert said(True, True) == said(False, False) == ""


@pytest.mark.parametrize(
    ("value", "hidden"), [("1", True), ("true", True), ("yes", True), ("0", False), ("False", False), ("", False)]
)
def test_the_variable_counts_also_where_it_was_set_late(monkeypatch, capsys, value, hidden):
    monkeypatch.setenv("TQDM_DISABLE", value)
    for _ in progress_bar(range(3), mininterval=0):
        pass
    assert (capsys.readouterr().err == "") == hidden
