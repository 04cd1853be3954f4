"""Hostile values for the flags of every command: an answer or one line, never a traceback, never a hang."""

import json
import typing
from dataclasses import fields
from importlib import import_module

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.commands import QUICK, WAY, run
from hf_vec2vec.cli.main import COMMANDS

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache")]

NUMBERS = ["nan", "-inf", "-1", "-0.5", "x", "", "1e400", "0x10", "1_0_0_", "٣", "NaN", "+-1", "1,5"]
TEXTS = ["", " ", "\0", "nan", "a=", "=", "a=b=c", "/dev/null", "/dev/null/x", "/proc/self/mem/x", "ä🎉", "%s{}", "x" * 5000]
TEXTS += ['{"a": [', "[]", "*", "texts.txt", "held_a.npy", "model", "true", "-", "org/name", "a/b/c", "../no/where", "~me"]
UNTRIED = {"debug", "folder"}
PAIRS = ["--source", "a=held_a.npy", "--target", "b=held_b.npy"]
SIDES = ["--source", "a=a.npy", "--target", "b=b.npy"]
STUDENT = ["--translator", "model", "--student", "bert", "--student_space", "a"]
LINES = {
    "embed": ["--texts", "texts.txt", "--model", "bert", "--output", "out.npy", "--overwrite"],
    "train": [*SIDES, "--output_dir", "out", "--overwrite", *QUICK],
    "evaluate": ["model", *PAIRS, "--output_dir", "figures"],
    "ablate": [*SIDES, "--held_out_source", "a=held_a.npy", "--held_out_target", "b=held_b.npy", "--seeds", "1"]
    + ["--variants", "variants.yaml", "--output_dir", "out"],
    "report": ["model", *PAIRS, "--output_dir", "out", "--labelled", "nowhere.jsonl"],
    "translate": ["model", *WAY, "--input", "held_a.npy", "--output", "o.npy", "--overwrite"],
    "export": ["model", "--source", "a", "--target", "b", "--output", "x.npz", "--format", "merged", "--overwrite"],
    "distill": [*STUDENT, "--texts", "texts.txt", "--output_dir", "out", "--overwrite", "--max_steps", "1"],
    "distill-check": [*STUDENT, "--task", "texts.txt", "--output_dir", "out"],
    "distill-compare": [*STUDENT, "--task", "texts.txt", "--output_dir", "out", "--seeds", "1", "--max_steps", "1"],
    "finetune": ["--model", "bert", "--task", "task.jsonl", "--output_dir", "out", "--overwrite", "--max_steps", "1"],
    "distill-task": [
        "--teacher",
        "bert",
        "--student",
        "bert",
        "--task",
        "task.jsonl",
        "--output_dir",
        "out",
        "--max_steps",
        "1",
    ],
    "query-encoder": ["--student", "bert", "--index", "held_b.npy", "--translator", "model", "--student_space", "a"]
    + ["--output_dir", "out", "--overwrite", "--train", "lora", "--queries", "texts.txt", "--steps", "1"],
    "export-encoder": ["bert", "--texts", "texts.txt", "--output", "x.onnx", "--overwrite"],
    "push": ["model", "--repo_id", "org/name"],
    "migrate": ["model", "--source", "a", "--from", "parquet:store.parquet", "--to", "parquet:new.parquet"],
    "completion": ["bash"],
}


def flags_of(command: str) -> dict[str, bool]:
    """Names of a command's flags, and whether they are numbers."""
    module = import_module(f"hf_vec2vec.cli.{command.replace('-', '_')}")
    kind = typing.get_type_hints(module.run)["flags"]
    hints = typing.get_type_hints(kind)
    known = [f.name for f in fields(kind) if "flag" in f.metadata and f.name not in UNTRIED]
    return {name: hints[name] in (int, float, int | None, float | None) for name in known}


@pytest.mark.parametrize("command", COMMANDS)
def test_hostile_flags(command, trained, tmp_path, bert, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for file in [*trained.glob("*.npy"), trained / "model"]:
        (tmp_path / file.name).symlink_to(file)
    rows = np.load(trained / "held_a.npy")
    pq.write_table(pa.table({"id": range(len(rows)), "embedding": list(rows)}), tmp_path / "store.parquet")
    (tmp_path / "texts.txt").write_text("the dog\nthe cat\n" * 9)
    (tmp_path / "variants.yaml").write_text(json.dumps({"x": {"align_starts": 2, "num_train_epochs": 0}}))
    names = flags_of(command)

    @settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def try_one(data):
        name = data.draw(st.sampled_from(sorted(names)))
        value = data.draw(st.sampled_from(NUMBERS if names[name] else TEXTS))
        status = run(command, *LINES[command], f"--{name.rstrip('_')}={value}")
        said = capsys.readouterr().err
        assert status in (0, 1, 2)
        assert "Traceback" not in said
        assert "fault of the program" not in said
        assert status == 0 or said.strip().splitlines()[-1].startswith(f"hf-vec2vec {command}: ")

    try_one()
