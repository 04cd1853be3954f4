"""Killed at a random moment, a run that is resumed ends bit by bit as one that was left alone."""

import re
import subprocess
import sys
from pathlib import Path

import pytest


def killed(kind: str, folder: Path, kills: int, seed: int) -> int:
    tests = Path(__file__).parents[1]
    command = [sys.executable, "-m", "helpers.kills", kind, str(folder), str(kills), str(seed)]
    done = subprocess.run(command, cwd=tests, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(re.search(r"(\d+) killed, all equal", done.stdout)[1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="forks")
@pytest.mark.parametrize("kind", ["translator", "student"])
def test_killed_twenty_times(tmp_path, kind):
    assert killed(kind, tmp_path, 20, seed=0) == 20
