"""A dry run tells rows, bytes and minutes, and leaves the disk as it was."""

import numpy as np
import pytest

from helpers.commands import QUICK, WAY, run
from hf_vec2vec.cli.dry_run import Plan, size


@pytest.fixture
def before(tmp_path, trained, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    (tmp_path / "texts.txt").write_text("".join(f"the dog {i}\n" for i in range(37)))
    return trained


def test_translate(before, tmp_path, capsys):
    ask = ["translate", before / "model", *WAY, "--input", before / "a.npy"]
    assert run(*ask, "--output", "out.npy", "--dtype", "float16", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "600 vectors of dimension 8 in 1 file" in shown
    assert f"writes  out.npy: about {size(600 * 10 * 2)}" in shown
    assert not (tmp_path / "out.npy").exists()


def test_train(before, tmp_path, capsys):
    sides = ["--source", f"a={before}/a.npy", "--target", f"b={before}/b.npy", "--output_dir", "out"]
    assert run("train", *sides, *QUICK, "--max_steps", "9", "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "600 vectors of dimension 8" in shown
    assert "500 vectors of dimension 10" in shown
    assert "9 updates" in shown
    assert "takes " in shown
    assert not (tmp_path / "out").exists()


def test_embed(before, bert, tmp_path, capsys):
    assert run("embed", "--texts", "texts.txt", "--model", bert, "--output", "out.npy", "--dry_run") == 0
    assert f"texts.txt: 37 texts\nwrites  out.npy: about {size(37 * 8 * 4)}" in capsys.readouterr().out
    assert not (tmp_path / "out.npy").exists()
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("flag", ["--output", "--input"])
def test_what_would_fail_fails(before, flag, capsys):
    np.save("there.npy", np.load(before / "b.npy"))
    ask = ["translate", before / "model", *WAY, "--input", before / "a.npy"]
    assert run(*ask, "--output", "out.npy", flag, "there.npy", "--dry_run") == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("hf-vec2vec translate: `")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [((1, 2), "less than a minute"), ((120, 121), "about 2 minutes"), ((60, 6000), "about 1 to 100 minutes")],
)
def test_minutes_in_words(seconds, words):
    assert words in str(Plan(["x"], {}, seconds))


def test_a_disk_that_is_too_small_is_told(tmp_path):
    assert "are free" in str(Plan([], {str(tmp_path / "a" / "b"): 1e18}, (0, 0)))
    assert "are free" not in str(Plan([], {str(tmp_path / "a" / "b"): 1}, (0, 0)))


@pytest.mark.parametrize(("count", "words"), [(0, "0 bytes"), (999, "999 bytes"), (12_000, "12 kB"), (3.4e13, "34 TB")])
def test_bytes_for_people(count, words):
    assert size(count) == words
