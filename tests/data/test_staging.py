"""Whole or not at all, whatever happens while something is written."""

import errno
import os
import shutil
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from hf_vec2vec.data import staging
from hf_vec2vec.data.staging import locked, restore, staged_entries, staged_file, staged_folder


def tree(folder) -> dict[str, str]:
    """All files below a folder and what they hold."""
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*")) if path.is_file()}


def write_file(place) -> None:
    with staged_file(place / "x.json") as partial:
        assert partial == place.resolve() / ".partial-x.json"
        partial.write_text("new")


def write_folder(place) -> None:
    with staged_folder(place / "set", ours=["data-*", "state.json"]) as partial:
        (partial / "data-0").write_text("new")
        (partial / "more").mkdir()
        (partial / "more" / "deep").write_text("new")


def write_entries(place) -> None:
    with staged_entries(place, ours=["weights-*"]) as partial:
        (partial / "weights-0").write_text("new")
        (partial / "x.json").write_text("new")
        (partial / "set").mkdir()
        (partial / "set" / "data-0").write_text("new")


WRITERS = {"file": write_file, "folder": write_folder, "entries": write_entries}
OLD = {"x.json": "old", "notes.txt": "mine", "weights-1": "old", "set/data-0": "old", "set/data-1": "old"}
OLD |= {"set/state.json": "old", "set/letter.txt": "mine"}
NEW = {
    "file": OLD | {"x.json": "new"},
    "folder": {k: v for k, v in OLD.items() if k not in ("set/data-1", "set/state.json")}
    | {"set/data-0": "new", "set/more/deep": "new"},
    "entries": {"x.json": "new", "notes.txt": "mine", "weights-0": "new", "set/data-0": "new"},
}


@pytest.fixture
def place(tmp_path):
    place = tmp_path / "place"
    for name, content in OLD.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(content)
    return place


@pytest.mark.parametrize("kind", WRITERS)
def test_what_is_made_takes_its_place_and_nothing_else_is_touched(place, kind):
    WRITERS[kind](place)
    assert tree(place) == NEW[kind]
    WRITERS[kind](place)
    assert tree(place) == NEW[kind]


STEPS = [("file", staging, "_to_disk"), ("file", os, "replace"), ("folder", staging, "_to_disk"), ("folder", os, "rename")]
STEPS += [("entries", staging, "_to_disk"), ("entries", os, "rename")]


@pytest.mark.parametrize(("kind", "owner", "name"), STEPS)
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_an_error_at_any_step_leaves_the_old(place, kind, owner, name, error, monkeypatch):
    """While the disk is written, and while names change; the first call fails, and tidying up is let through."""
    original, failed = getattr(owner, name), []

    def fail(*args):
        if not failed:
            failed.append(args)
            raise error
        return original(*args)

    monkeypatch.setattr(owner, name, fail)
    with pytest.raises(type(error)):
        WRITERS[kind](place)
    assert tree(place) == OLD
    assert not list(place.rglob(".*"))


@pytest.mark.parametrize("context", [staged_file, staged_folder, staged_entries])
def test_an_error_of_the_block_leaves_the_old(place, context):
    target = {staged_file: place / "x.json", staged_folder: place / "set", staged_entries: place}[context]

    def interrupted() -> None:
        with context(target) as partial:
            (partial if context is staged_file else partial / "x.json").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert tree(place) == OLD


class Killed(BaseException):
    """What nothing catches, as SIGKILL."""


class Kill:
    """Ends everything at the first call behind so many of renaming or deleting; nothing is tidied up."""

    def __init__(self, calls: int, monkeypatch):
        self.left, self.happened = calls, False
        for owner, name in ((os, "rename"), (os, "replace"), (shutil, "rmtree")):
            monkeypatch.setattr(owner, name, self.counted(getattr(owner, name)))

    def counted(self, original):
        def call(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                self.happened = True
                raise Killed
            return original(*args, **kwargs)

        return call


@pytest.mark.parametrize("calls", range(8))
@pytest.mark.parametrize("kind", ["folder", "entries"])
def test_a_kill_between_two_renames_is_made_good(place, kind, calls, monkeypatch):
    with monkeypatch.context() as patched:
        kill = Kill(calls, patched)
        with suppress(Killed):
            WRITERS[kind](place)
    assert kill.happened == (calls < {"folder": 4, "entries": 5}[kind])
    restore(place)
    restore(place / "set", ours=["data-*", "state.json"])
    found = tree(place)
    assert {found["notes.txt"], found["set/letter.txt"] if kind == "folder" else "mine"} == {"mine"}
    if kind == "folder":  # one or the other, whole
        assert (found["set/data-0"] == "new") == ("set/more/deep" in found) == ("set/data-1" not in found)
    WRITERS[kind](place)
    assert tree(place) == NEW[kind]


def test_links_are_followed(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "x.json").write_text("old")
    (tmp_path / "link.json").symlink_to(tmp_path / "disk" / "x.json")
    with staged_file(tmp_path / "link.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "disk" / "x.json").read_text() == "new"


def test_places_are_made(tmp_path):
    with staged_file(tmp_path / "a" / "b" / "x.txt") as partial:
        partial.write_text("x")
    with staged_folder(tmp_path / "c" / "d") as partial:
        (partial / "x").write_text("x")
    with staged_entries(tmp_path / "e" / "f") as partial:
        (partial / "x").write_text("x")
    assert tree(tmp_path) == {"a/b/x.txt": "x", "c/d/x": "x", "e/f/x": "x"}


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="there is no such folder on this system")
def test_a_folder_that_takes_no_file_is_called_so():
    with pytest.raises(PermissionError, match="`output` is '/proc/x.npy', but nothing can be written there"):
        locked("/proc/x.npy").__enter__()


# The module alone, for the package takes seconds to import.
HOLDER = """
import importlib.util, sys, time
spec = importlib.util.spec_from_file_location("staging", sys.argv[2])
staging = importlib.util.module_from_spec(spec)
spec.loader.exec_module(staging)
with staging.locked(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_refused_until_the_first_is_gone(tmp_path):
    target = tmp_path / "new" / "out"
    with locked(target), pytest.raises(FileExistsError, match=r"`output_dir` '.*out': another process is writing there"):
        locked(tmp_path / "new" / ".." / "new" / "out", argument="output_dir").__enter__()
    assert not list((tmp_path / "new").iterdir())
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, target, staging.__file__], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(FileExistsError, match="another process"), locked(target):
        pytest.fail("two hold the lock")
    holder.kill()
    holder.wait()
    holder.stdout.close()
    deadline = time.monotonic() + 10
    while True:
        try:
            with locked(target):
                break
        except FileExistsError:
            assert time.monotonic() < deadline
