"""Kills at random moments, and disks without room: whole or absent, and a second run makes what one run would have made."""

import os

import numpy as np
import pytest
import torch
from datasets import Dataset

from helpers.accidents import can_mount, fill, in_a_child, kill_at_random, small_disk
from helpers.stores import contents, table, vectors_of
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.data import load_embeddings, save_embeddings, to_dataset, vectors

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
KILLS = 20
ARGUMENTS = {"source": "a", "target": "b", "shard_rows": 512, "batch_size": 64, "progress": False}


@pytest.fixture(scope="module")
def model() -> Vec2VecModel:
    torch.manual_seed(0)
    return Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()


@pytest.mark.parametrize("output_format", ["npy", "arrow"])
def test_a_folder_of_translations_survives_kills(model, tmp_path, output_format):
    Dataset(table(vectors_of(8_000))).save_to_disk(tmp_path / "store", num_shards=4)

    def begin(number: int):
        output = tmp_path / f"out{number}"
        return lambda: translate_store(model, tmp_path / "store", output, output_format=output_format, **ARGUMENTS)

    def check(number: int, over: bool) -> None:
        output = tmp_path / f"out{number}"
        whole = output.exists() and contents(output) == contents(tmp_path / "out-1")
        if over:
            assert whole
            assert not list(output.glob(".*"))
            assert not list(tmp_path.glob(f".*out{number}"))
        elif output.exists() and not whole:
            with pytest.raises(ValueError, match="not complete|no file of vectors"):
                load_embeddings(output)

    kill_at_random(begin, check, KILLS)


@pytest.mark.parametrize("name", ["out", "out.npy", "out.parquet"])
def test_what_is_overwritten_is_old_or_new_after_a_kill(model, tmp_path, name):
    np.save(tmp_path / "old.npy", vectors_of(300, 1))
    np.save(tmp_path / "new.npy", vectors_of(24_000, 2))
    old, new = tmp_path / f"old-{name}", tmp_path / f"new-{name}"
    for store, output in (("old", old), ("new", new)):
        translate_store(model, tmp_path / f"{store}.npy", output, **ARGUMENTS)

    def begin(number: int):
        (tmp_path / str(number)).mkdir()
        output = tmp_path / str(number) / name
        translate_store(model, tmp_path / "old.npy", output, **ARGUMENTS)
        return lambda: translate_store(model, tmp_path / "new.npy", output, overwrite=True, **ARGUMENTS)

    def check(number: int, over: bool) -> None:
        output, read = tmp_path / str(number) / name, contents if name == "out" else lambda path: path.read_bytes()
        assert read(output) in ([read(new)] if over else [read(old), read(new)])
        assert not over or [path.name for path in output.parent.iterdir()] == [name]

    kill_at_random(begin, check, KILLS)


@pytest.mark.parametrize("name", ["out", "out.npy", "out.parquet", "out.safetensors"])
def test_saved_vectors_are_old_or_new_after_a_kill(tmp_path, name):
    old, new = torch.randn(50, 6), torch.randn(1_000_000, 6)

    def begin(number: int):
        (tmp_path / str(number)).mkdir()
        save_embeddings(to_dataset(old), tmp_path / str(number) / name)
        return lambda: save_embeddings(to_dataset(new), tmp_path / str(number) / name, overwrite=True)

    def check(number: int, over: bool) -> None:
        found = vectors(load_embeddings(tmp_path / str(number) / name), "x")
        assert any(torch.equal(found, rows) for rows in ([new] if over else [old, new]))
        assert not over or [path.name for path in (tmp_path / str(number)).iterdir()] == [name]

    kill_at_random(begin, check, KILLS)


FULL = pytest.mark.skipif(not can_mount(), reason="only root can mount a small disk")


@FULL
@pytest.mark.parametrize("name", ["out", "out.npy", "out.parquet", "out.safetensors", "out.fbin"])
def test_a_full_disk_leaves_what_was_there(model, tmp_path, name):
    """At each of many amounts of room, down to none for the manifest or the lock."""
    np.save(tmp_path / "old.npy", vectors_of(200, 1))
    np.save(tmp_path / "new.npy", vectors_of(20_000, 2))
    refused = 0
    for left in (0, 4, 8, 16, 24, 32, 64, 128, 256):
        with small_disk(tmp_path / f"disk{left}", 512) as disk:
            translate_store(model, tmp_path / "old.npy", disk / name, **ARGUMENTS)
            before = contents(disk / name) if name == "out" else (disk / name).read_bytes()
            fill(disk, left)
            with pytest.raises(OSError, match=r"No space left|make room|Make room"):
                translate_store(model, tmp_path / "new.npy", disk / name, overwrite=True, **ARGUMENTS)
            refused += 1
            assert (contents(disk / name) if name == "out" else (disk / name).read_bytes()) == before
            (disk / "filler").unlink()
            if name != "out":
                assert [path.name for path in disk.iterdir() if path.name[0] != "."] == [name]
    assert refused == 9


@FULL
@pytest.mark.parametrize("name", ["out", "out.npy", "out.parquet", "out.safetensors"])
def test_vectors_that_do_not_fit_leave_what_was_there(tmp_path, name):
    for left in (0, 4, 8, 64, 200):
        with small_disk(tmp_path / f"disk{left}", 400) as disk:
            old = torch.randn(50, 6)
            save_embeddings(to_dataset(old), disk / name)
            fill(disk, left)
            with pytest.raises(OSError, match=f"{name}' was not written, and is as it was before: .*0.[0-3] MB are free"):
                save_embeddings(to_dataset(torch.randn(20_000, 6)), disk / name, overwrite=True)
            assert torch.equal(vectors(load_embeddings(disk / name), "x"), old)
            (disk / "filler").unlink()
            assert [path.name for path in disk.iterdir()] == [name]


def test_work_in_a_child_that_fails_is_seen():
    assert in_a_child(lambda: None)
    assert not in_a_child(lambda: 1 / 0)
