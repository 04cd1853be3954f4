"""The notebooks of examples/notebooks: small and clean as they are shipped; run from top to bottom in slow tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "examples" / "notebooks").glob("*.ipynb"))
LARGEST = 200_000  # bytes
MINUTES = 5  # that each may take on two cores which do nothing else; the test gives more, for others run beside it
MACHINE = re.compile(r"/(?:root|home|work|Users)/")


def named(notebook: Path) -> str:
    return notebook.stem


def test_there_are_three():
    assert len(NOTEBOOKS) == 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_outputs_are_small_complete_and_tell_nothing_of_the_machine(notebook):
    text = notebook.read_text(encoding="utf-8")
    assert len(text) < LARGEST
    assert not MACHINE.search(text)
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("text" in output for output in outputs)
    assert not [output for output in outputs if output["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.timeout(60 * 30)
@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=named)
def test_it_runs_from_top_to_bottom(notebook):
    command = [sys.executable, "-m", "pytest", "--nbmake", f"--nbmake-timeout={6 * 60 * MINUTES}", "-p", "no:cacheprovider"]
    done = subprocess.run([*command, "-c", "/dev/null", str(notebook)], capture_output=True, text=True)
    assert "1 passed" in done.stdout, done.stdout
