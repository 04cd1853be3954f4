"""What CONTRIBUTING says of where to add things is true."""

import re

import pytest

from helpers.documents import ROOT

TABLE = re.findall(r"^\| (?:a|an) (.+?) \| `(\S+?)` \| (.+) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
FILES = {file for _, file, _ in TABLE} - {"hf_vec2vec/cli/NAME.py"}
NAMED = re.compile(r"`([A-Z]\w+|makers)`")


def test_the_table_is_read():
    assert len(TABLE) >= 8


@pytest.mark.parametrize("file", sorted(FILES))
def test_files_hold_what_is_to_be_changed(file):
    rows = [takes for _, named, takes in TABLE if named == file]
    source = (ROOT / file).read_text()
    for name in NAMED.findall(" ".join(rows)):
        assert re.search(rf"\b{name}\b", source), name


@pytest.mark.parametrize("room", ["training", "distillation"])
def test_no_other_file_names_the_losses_again(room):
    losses = ROOT / "hf_vec2vec" / room / "losses.py"
    terms = re.findall(r'^    "(\w+_loss)": Term', losses.read_text(), re.M)
    assert len(terms) > 3
    for path in losses.parent.glob("*.py"):
        assert path == losses or not [term for term in terms if f'"{term}":' in path.read_text()], path
