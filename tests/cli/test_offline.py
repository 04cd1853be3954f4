"""With HF_HUB_OFFLINE=1, which all tests have, no command asks the network for anything, and each says what is missing."""

import shutil
import socket

import numpy as np
import pytest

from helpers.commands import WAY, run

PAIRS = ["--source", "a=held_a.npy", "--target", "b=held_b.npy"]
# A Hub id where a model or a translator is asked for.
CALLS = {
    "embed": ["--texts", "texts.txt", "--model", "org/name", "--output", "out.npy"],
    "evaluate": ["org/name", *PAIRS],
    "report": ["org/name", *PAIRS, "--output_dir", "out"],
    "translate": ["org/name", "--source", "a", "--target", "b", "--input", "held_a.npy", "--output", "out.npy"],
    "migrate": ["org/name", "--from", "parquet:a.parquet", "--to", "parquet:b.parquet", "--source", "a"],
    "export": ["org/name", "--source", "a", "--target", "b", "--format", "merged", "--map", "linear", "--output", "out.npz"],
    "export-encoder": ["org/name", "--texts", "texts.txt", "--output", "out.onnx"],
    "finetune": ["--model", "org/name", "--task", "task.jsonl", "--output_dir", "out"],
    "distill": ["--translator", "org/name", "--student", "bert", "--student_space", "a", "--texts", "texts.txt"]
    + ["--output_dir", "out"],
    "distill-check": ["--translator", "org/name", "--student", "bert", "--student_space", "a"]
    + ["--labelled", "task.jsonl", "--output_dir", "out"],
    "push": ["model", "--repo_id", "org/name"],
}


@pytest.fixture
def no_network(monkeypatch):
    """Addresses that somebody tried to reach."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("there is no network in this test")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize("command", CALLS)
def test_what_lies_on_the_hub_is_missing(command, trained, bert, tmp_path, monkeypatch, no_network, own_cache, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    for name, text in (("texts.txt", "the dog\nthe cat\n"), ("task.jsonl", '{"text": "a", "label": "b"}\n' * 9)):
        (tmp_path / name).write_text(text)
    here = {"texts.txt", "task.jsonl", "out", "out.npy", "out.npz", "out.onnx"}
    words = [str(tmp_path / word) if word in here else bert if word == "bert" else word for word in CALLS[command]]
    assert run(command, *words) in (1, 2)
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith(f"hf-vec2vec {command}: ")
    assert "fault of the program" not in said
    assert no_network == []


def test_what_lies_here_is_found(trained, tmp_path, no_network):
    output = tmp_path / "out.npy"
    assert run("translate", trained / "model", *WAY, "--input", trained / "held_a.npy", "--output", output) == 0
    pairs = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    assert run("evaluate", trained / "model", *pairs) == 0
    assert no_network == []


def test_a_verdict_that_cannot_be_fetched_is_not_taken_for_a_good_one(trained, tmp_path, monkeypatch, no_network, capsys):
    cache = tmp_path / "models--org--name"
    kept = shutil.copytree(trained / "model", cache / "snapshots" / "abc", ignore=shutil.ignore_patterns("*ing.json"))
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    np.save(tmp_path / "in.npy", np.eye(8))
    words = ["translate", "org/name", "--source", "a", "--target", "b", "--input", tmp_path / "in.npy"]
    assert run(*words, "--output", tmp_path / "refused.npy") == 1
    said = capsys.readouterr().err
    assert "training.json cannot be fetched from the Hub" in said
    assert "set `allow_not_aligned`" in said
    assert not (tmp_path / "refused.npy").exists()
    assert run(*words, "--output", tmp_path / "allowed.npy", "--allow_not_aligned") == 0
    # The Hub has said once that there is none.
    (cache / ".no_exist" / "abc").mkdir(parents=True)
    (cache / ".no_exist" / "abc" / "training.json").touch()
    assert run(*words, "--output", tmp_path / "none.npy") == 0
    shutil.copy(trained / "model" / "training.json", kept)
    assert run(*words, "--output", tmp_path / "kept.npy", "--allow_not_aligned") == 0
    assert no_network == []
