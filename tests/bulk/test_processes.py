"""Several processes that share a store, and real kills. Slow: every process imports torch."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk

from helpers.stores import contents, table, vectors_of
from hf_vec2vec import Vec2VecConfig, Vec2VecModel

pytestmark = pytest.mark.slow
# Accelerate starts several processes on CPUs under this name, too; they find no GPU and take gloo.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--num_machines", "1", "--mixed_precision", "no"]
LAUNCH += ["--dynamo_backend", "no", "--num_processes", "2", "--main_process_port", "29631", "-m", "hf_vec2vec.cli"]


def command(folder, output: str, *more, launch=("-m", "hf_vec2vec.cli")) -> list[str]:
    words = [*launch, "translate", folder / "model", "--source", "a", "--target", "b", "--output", folder / output]
    return [sys.executable, *map(str, [*words, "--shard_rows", 64, "--batch_size", 16, *more])]


def run(words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(words, capture_output=True, text=True, timeout=300, env=os.environ | {"OMP_NUM_THREADS": "1"})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("processes")
    torch.manual_seed(0)
    Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).save_pretrained(folder / "model")
    Dataset(table(vectors_of(1000))).save_to_disk(folder / "store", num_shards=3)
    return folder


@pytest.mark.parametrize("streamed", [False, True], ids=["files", "a streamed data set"])
def test_two_processes_make_what_one_makes(folder, streamed):
    given = ["--input", folder / "store"]
    if streamed:
        given = ["--dataset", "arrow", "--data_files", *sorted((folder / "store").glob("*.arrow"))]
    one, two = f"one{streamed}", f"two{streamed}"
    assert run(command(folder, one, *given)).returncode == 0
    done = run(command(folder, two, *given, launch=LAUNCH))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "by process 1 of 2" in done.stdout
    assert "by process 2 of 2" in done.stdout
    assert contents(folder / one) == contents(folder / two)
    assert load_from_disk(folder / two)["id"][:] == list(range(1000))
    assert "shards were there already" in run(command(folder, two, *given)).stdout


SCRIPT = """
import atexit, os, sys, torch
atexit.register(lambda: os.write(1, f"in a group at the end: {torch.distributed.is_initialized()}\\n".encode()))  # at once
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.bulk import translate_store
model = Vec2VecModel.from_pretrained(sys.argv[1])
translate_store(model, sys.argv[2], sys.argv[3], source="a", target="b", shard_rows=64, progress=False)
assert torch.distributed.is_initialized()
"""


def test_a_script_of_several_processes_leaves_their_group(folder):
    """One in dozens was aborted at its end."""
    (folder / "script.py").write_text(SCRIPT)
    words = [*LAUNCH[:-2], folder / "script.py", folder / "model", folder / "store", folder / "scripted"]
    done = run([sys.executable, *map(str, words)])
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("in a group at the end: False") == 2


def test_an_error_of_one_process_ends_all(folder):
    bad = np.ones((1000, 6), np.float32)
    bad[700] = np.nan
    np.save(folder / "bad.npy", bad)
    done = run(command(folder, "bad", "--input", folder / "bad.npy", launch=LAUNCH))
    assert done.returncode != 0
    assert "bad.npy', row 700: no vector, or NaN or infinite values" in done.stderr
    one_file = run(command(folder, "bad.fbin", "--input", folder / "bad.npy", launch=LAUNCH))
    assert "is one file, which one process writes" in one_file.stderr


def test_a_killed_process_leaves_no_lock_and_its_shards(folder):
    np.save(folder / "large.npy", vectors_of(40_000))
    words = command(folder, "killed", "--input", folder / "large.npy", "--output_format", "npy")
    process = subprocess.Popen(words, stderr=subprocess.DEVNULL)
    while not list((folder / "killed").glob("data-*")) and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGSTOP)  # it holds the lock for as long as the second one needs to start
    assert "another process is writing there" in run(words).stderr
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert json.loads((folder / "killed" / "_manifest.json").read_text())["complete"] is False
    assert run(words).returncode == 0
    assert run([word.replace("killed", "whole") for word in words]).returncode == 0
    assert contents(folder / "killed") == contents(folder / "whole")
