"""Commands that make vectors and students, stopped at random moments or without room: the old or the new, and a way on."""

import os
import random
import re
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from helpers.accidents import can_mount, fill, small_disk, stopped
from helpers.commands import run
from helpers.distillation import linear_translator
from helpers.encoders import WORDS
from helpers.stores import tree
from hf_vec2vec import TextEncoder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.usefixtures("own_cache"),
]
FULL = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
STOPS = int(os.environ.get("STOPS", "20"))  # that came before the end of the work: others are not counted
SIGNALS = {signal.SIGKILL: None, signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}  # in turn
KEPT = {"embed": "Vectors of whole chunks are kept", "distill": "Checkpoints that are complete are kept"}
WEIGHTS = "adapter_model.safetensors"


@pytest.fixture
def project(folders, tmp_path, monkeypatch):
    """Texts, and a translator between two encoders that make the vectors of them; one thread, no bars."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a process that was forked computes with other threads, and sums then differ in the last bit
    monkeypatch.setenv("TQDM_DISABLE", "1")
    monkeypatch.setattr("hf_vec2vec.encoders.text.CHUNK", 64)
    texts = [" ".join(WORDS[3 + (i * k) % 8] for k in range(1, 4)) + f" {i}" for i in range(640)]
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    encoders = {name: TextEncoder(folders[name]) for name in ("bert", "llama")}
    model = linear_translator(*(encoder.encode(texts[:80], progress=False) for encoder in encoders.values()))
    model.config.encoders = {name: encoder.settings.__dict__ for name, encoder in encoders.items()}
    model.save_pretrained(tmp_path / "translator")
    yield tmp_path
    torch.set_num_threads(threads)


def embed(project: Path, model: str, output: Path, cache: Path) -> int:
    words = ["--texts", project / "texts.txt", "--model", model, "--output", output, "--cache_dir", cache]
    return run("embed", *words, "--batch_size", "16", "--overwrite")


def distill(project: Path, student: str, output: Path, *more: str) -> int:
    words = ["--translator", project / "translator", "--student", student, "--texts", project / "texts.txt"]
    saves = ["--max_steps", "8", "--save_strategy", "steps", "--save_steps", "2", "--save_total_limit", "2"]
    return run("distill", *words, *saves, "--per_device_train_batch_size", "8", "--output_dir", output, *more)


def ended(work, *values) -> None:
    """End the process with the status of a command."""
    sys.exit(work(*values))


def length_of(work) -> float:
    """Seconds of the second of two runs: the first one fills the caches of the system."""
    for _ in range(2):
        started = time.perf_counter()
        assert stopped(work, None, signal.SIGKILL)[0] == 0
    return time.perf_counter() - started


def assert_said(command: str, by: int, status: int, said: str) -> None:
    """One line, what was kept, and the exit status of the signal."""
    if SIGNALS[by] is None or status in (0, -by):  # the latter: before the command could say anything
        return
    assert status == 128 + by
    assert f"{command}: {SIGNALS[by]}. " in (line := said.strip().splitlines()[-1])
    assert KEPT[command] in line or "Nothing was done" in line
    assert "Traceback" not in said


def assert_no_room(said: str) -> None:
    """One line that says why, or how little room there was: torch does not say that the disk is full."""
    line = said.strip().splitlines()[-1]
    assert "No space left" in line or re.search(r"\(0\.0 MB (are|were) free there\)", line), line
    assert "Traceback" not in said


def test_vectors_that_were_stopped_are_old_or_new(project, folders):
    assert embed(project, folders["bert"], project / "straight.npy", project / "cache-straight") == 0
    whole = (project / "straight.npy").read_bytes()
    length = length_of(lambda: ended(embed, project, folders["bert"], project / "t.npy", project / f"timed{os.getpid()}"))
    draw, hit, number = random.Random(0), 0, 0
    while hit < STOPS:
        assert (number := number + 1) < 4 * STOPS
        by, place = list(SIGNALS)[hit % len(SIGNALS)], project / str(number)
        place.mkdir()
        np.save(place / "out.npy", np.ones((3, 6), np.float32))
        old = (place / "out.npy").read_bytes()
        work = partial(ended, embed, project, folders["bert"], place / "out.npy", place / "cache")
        status, said = stopped(work, draw.uniform(0.02, length), by)
        hit += status != 0
        assert_said("embed", by, status, said)
        assert (place / "out.npy").read_bytes() in ((whole,) if status == 0 else (old, whole))
        assert stopped(work, None, by)[0] == 0
        assert (place / "out.npy").read_bytes() == whole
        assert sorted(path.name for path in place.iterdir()) == ["cache", "out.npy"]
        assert not list((place / "cache").glob("*.partial"))


def test_a_student_that_was_stopped_goes_on_to_the_same(project, folders):
    assert distill(project, folders["bert"], project / "straight") == 0
    whole = load_file(project / "straight" / WEIGHTS)
    length = length_of(lambda: ended(distill, project, folders["bert"], project / f"timed{os.getpid()}"))
    draw, hit, number = random.Random(0), 0, 0
    while hit < STOPS:
        assert (number := number + 1) < 4 * STOPS
        by, output = list(SIGNALS)[hit % len(SIGNALS)], project / str(number)
        work = partial(distill, project, folders["bert"], output)
        status, said = stopped(partial(ended, work), draw.uniform(0.02, length), by)
        hit += status != 0
        assert_said("distill", by, status, said)
        if status:
            assert not (output / WEIGHTS).exists() or all(
                torch.equal(found, whole[name]) for name, found in load_file(output / WEIGHTS).items()
            )
        again = stopped(partial(ended, work, "--resume_from_checkpoint", "true"), None, by)
        if "holds no checkpoint. Leave it out to start anew" in again[1]:
            again = stopped(partial(ended, work), None, by)
        assert again[0] == 0, again[1]
        found = load_file(output / WEIGHTS)
        assert found.keys() == whole.keys()
        assert all(torch.equal(found[name], whole[name]) for name in whole)
        assert not [path.name for path in output.iterdir() if path.name.startswith(".")]
        shutil.rmtree(output)


@FULL
def test_vectors_without_room_leave_the_old(project, folders, capsys):
    assert embed(project, folders["bert"], project / "straight.npy", project / "cache") == 0
    for left in (0, 4, 8, 12, 20, 40, 60):
        with small_disk(project / f"disk{left}", 400) as disk:
            np.save(disk / "out.npy", np.ones((3, 6), np.float32))
            old = tree(disk)
            fill(disk, left)
            capsys.readouterr()
            assert embed(project, folders["bert"], disk / "out.npy", disk / "cache") == 1
            said = capsys.readouterr().err
            assert_no_room(said)
            assert (disk / "out.npy").read_bytes() == old["out.npy"]
            (disk / "filler").unlink()
            assert embed(project, folders["bert"], disk / "out.npy", disk / "cache") == 0
            assert (disk / "out.npy").read_bytes() == (project / "straight.npy").read_bytes()
            assert sorted(path.name for path in disk.iterdir()) == ["cache", "out.npy"]


@FULL
def test_a_student_without_room_leaves_the_old_one(project, folders, capsys):
    assert distill(project, folders["bert"], project / "old") == 0
    (project / "old" / "notes.txt").write_text("mine")
    needed = sum(path.stat().st_size for path in (project / "old").rglob("*") if path.is_file()) // 1024
    for left in (0, 8, 24, needed // 4, needed // 2):
        with small_disk(project / f"disk{left}", 8_000) as disk:
            shutil.copytree(project / "old", disk / "model")
            old = tree(disk / "model")
            fill(disk, left)
            capsys.readouterr()
            status = distill(project, folders["bert"], disk / "model", "--overwrite", "--seed", "1")
            said = capsys.readouterr().err
            assert status == 1
            assert_no_room(said)
            found = {
                name: content for name, content in tree(disk / "model").items() if not name.startswith(".unfinished-run")
            }
            assert found == old
            (disk / "filler").unlink()
            assert distill(project, folders["bert"], disk / "model", "--overwrite", "--seed", "1") == 0
            assert (disk / "model" / "notes.txt").read_text() == "mine"
            assert (disk / "model" / WEIGHTS).read_bytes() != old[WEIGHTS]
