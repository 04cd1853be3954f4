"""Reports and pushes that are stopped at random moments, and disks without room: whole or absent, and the way on is open."""

import json
import os
import random
import shutil
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from helpers.accidents import can_mount, fill, small_disk, stopped
from helpers.commands import run, train
from helpers.hub_cards import card_errors
from helpers.stores import contents

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
FULL = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")
STOPS = int(os.environ.get("STOPS", "20"))  # that came before the end of the work: others are not counted
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGINT)  # in turn
INTERRUPTED = 130
PAGE = 4096  # bytes, of which a small disk gives whole ones


@pytest.fixture
def quick(monkeypatch):
    """One transport plan, no bars, and one thread.

    A process that was forked computes with other threads than its parent, and sums then differ in the last bit.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr("hf_vec2vec.evaluation.translation.TRANSPORT", {"Hungarian": "hungarian"})
    monkeypatch.setenv("TQDM_DISABLE", "1")
    yield
    torch.set_num_threads(threads)


def report(trained: Path, output: Path) -> int:
    sides = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    return run("report", trained / "model", *sides, "--output_dir", output)


def in_words(command, *values) -> None:
    """End the process with the status of a command."""
    sys.exit(command(*values))


def test_a_report_that_is_stopped_is_the_old_one_or_says_where_it_ended(trained, tmp_path, quick):
    for name in ("straight", "old"):
        assert report(trained, tmp_path / name) == 0
    whole = contents(tmp_path / "straight")
    (tmp_path / "old" / "report.json").write_text('{"Translation": "of last week"}')
    (tmp_path / "old" / "notes.txt").write_text("mine")
    old, draw, hit = contents(tmp_path / "old"), random.Random(0), 0
    started = time.perf_counter()
    assert stopped(partial(in_words, report, trained, tmp_path / "timed"), None, signal.SIGKILL)[0] == 0
    length = time.perf_counter() - started
    number = 0
    while hit < STOPS:
        assert (number := number + 1) < 4 * STOPS
        by, output = SIGNALS[hit % len(SIGNALS)], tmp_path / str(number)
        shutil.copytree(tmp_path / "old", output)
        work = partial(in_words, report, trained, output)
        status, said = stopped(work, draw.uniform(0.02, length), by)
        hit += status != 0
        found = {name: content for name, content in contents(output).items() if not name.startswith(".")}
        if status == INTERRUPTED:
            assert "report: interrupted. " in said.strip().splitlines()[-1]
            assert "Traceback" not in said
            assert found == old or b"interrupted; this section and those after it were not made" in found["report.html"]
        elif not (output / ".whole-files").exists():  # complete, and on its way to its place
            assert found in (old, whole | {"notes.txt": b"mine"})
        assert stopped(work, None, by)[0] == 0
        assert contents(output) == whole | {"notes.txt": b"mine"}
        assert not [entry.name for entry in output.iterdir() if entry.name.startswith(".")]


PUSH = """
import json, sys, time

from huggingface_hub import constants  # reads the environment before anything turns the network off

sys.path.insert(0, {tests!r})
from helpers.accidents import stopped
from hf_vec2vec.cli import main
from hf_vec2vec.cli import push
from hf_vec2vec.sharing import hub
from hf_vec2vec.training import start

began = time.perf_counter()
status, said = stopped(lambda: sys.exit(main(["push", {folder!r}, "--repo_id", {repo!r}])), {seconds!r}, {by!r})
print(json.dumps([status, said, time.perf_counter() - began]))
"""


def test_a_push_that_is_stopped_published_all_or_nothing(trained, tmp_path, hub, publisher):
    def push(repo: str, seconds: float | None, by: int = signal.SIGKILL) -> tuple[int, str, float]:
        tests, folder = str(Path(__file__).parents[1]), str(trained / "model")
        done = publisher.run(PUSH.format(tests=tests, folder=folder, repo=repo, seconds=seconds, by=int(by)))
        assert done.returncode == 0, done.stderr
        return tuple(json.loads(done.stdout.strip().splitlines()[-1]))

    def published() -> dict[str, bytes]:
        return {name: hub.read("org/model", name) for name in hub.files("org/model")} if hub.repositories else {}

    assert push("org/model", None)[0] == 0  # imports
    hub.forget()
    status, _, length = push("org/model", None)
    assert status == 0
    draw, hit, whole = random.Random(0), 0, published()
    assert not card_errors(whole["README.md"].decode())
    number = 0
    while hit < STOPS:
        assert (number := number + 1) < 4 * STOPS
        by = SIGNALS[hit % len(SIGNALS)]
        hub.forget()
        shutil.rmtree(hub.contents)  # else nothing would be uploaded any more
        hub.contents.mkdir()
        status, said, _ = push("org/model", draw.uniform(0.02, length), by)
        hit += status != 0
        assert published() in ({}, whole)
        if by == signal.SIGINT and status:
            assert status == INTERRUPTED
            assert "push: interrupted. One commit carries all" in said.strip().splitlines()[-1]
            assert "Traceback" not in said
        assert push("org/model", None)[0] == 0
        assert published() == whole


@FULL
def test_a_report_that_does_not_fit_leaves_the_old_one(trained, tmp_path, quick, capsys):
    assert report(trained, tmp_path / "straight") == 0
    refused = 0
    for left in (0, 8, 40, 120):
        with small_disk(tmp_path / f"disk{left}", 2_000) as disk:
            shutil.copytree(tmp_path / "straight", disk / "out")
            (disk / "out" / "report.json").write_text('{"Translation": "of last week"}')
            old = contents(disk / "out")
            fill(disk, left)
            capsys.readouterr()
            status = report(trained, disk / "out")
            said = capsys.readouterr().err.strip().splitlines()[-1]
            refused += status == 1
            assert "No space left" in said
            assert contents(disk / "out") == old
            (disk / "filler").unlink()
            assert report(trained, disk / "out") == 0
            assert contents(disk / "out") == contents(tmp_path / "straight")
    assert refused == 4


@FULL
def test_a_push_without_room_for_its_copy_publishes_nothing(trained, tmp_path, hub, publisher):
    code = """
import sys, tempfile
from huggingface_hub import constants
from hf_vec2vec.cli import main
tempfile.tempdir = {disk!r}
sys.exit(main(["push", {folder!r}, "--repo_id", "org/model"]))
"""
    for left in (0, 8, 24, 48):
        with small_disk(tmp_path / f"disk{left}", 2_000) as disk:
            fill(disk, left)
            done = publisher.run(code.format(disk=str(disk), folder=str(trained / "model")))
            assert done.returncode == 1
            assert "No space left" in done.stderr.strip().splitlines()[-1]
            assert not hub.repositories
            assert [entry.name for entry in disk.iterdir()] == ["filler"]


@FULL
def test_training_without_room_leaves_the_old_model_down_to_the_last_write(trained, tmp_path, capsys):
    at_the_end = ["--save_strategy", "no", "--eval_strategy", "no"]  # else room is needed most when a checkpoint is saved
    assert train(trained, *at_the_end, output=tmp_path / "model") == 0
    needed = sum(-(-file.stat().st_size // PAGE) * PAGE for file in (tmp_path / "model").rglob("*") if file.is_file())
    whole_but_for_the_card = False
    for left in (0, needed // 2, needed - 2 * PAGE, needed + 16 * PAGE):
        with small_disk(tmp_path / f"disk{left}", 8_000) as disk:
            shutil.copytree(tmp_path / "model", disk / "model")
            (disk / "model" / "notes.txt").write_text("mine")
            for side in "ab":
                (disk / f"{side}.npy").symlink_to(trained / f"{side}.npy")
            old = contents(disk / "model")
            fill(disk, left // 1024)
            capsys.readouterr()
            status = train(disk, *at_the_end, "--overwrite", "--seed", "1")
            said, found = capsys.readouterr().err, contents(disk / "model")
            assert "Traceback" not in said
            assert found.pop("notes.txt") == old.pop("notes.txt")
            if left < needed:
                whole_but_for_the_card |= (disk / "model" / ".unfinished-run" / "trainer_state.json").exists()
                assert status == 1
                assert "No space left" in said.strip().splitlines()[-1]
                assert found == old
            else:
                assert status == 0
                assert found["model.safetensors"] != old["model.safetensors"]
    assert whole_but_for_the_card
