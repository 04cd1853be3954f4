"""Two processes in one place: whatever the second one was to do there, it is refused before any work and touches nothing."""

import json
import shutil
from pathlib import Path

import pytest

from helpers.commands import QUICK, WAY, run
from helpers.stores import tree
from hf_vec2vec.data.staging import locked

pytestmark = pytest.mark.usefixtures("own_cache")
PAIRS = ["--source", "a=held_a.npy", "--target", "b=held_b.npy"]
STUDENT = ["--translator", "model", "--student", "bert", "--student_space", "a"]
TUNED = ["--task", "task.jsonl", "--max_steps", "1", "--output_dir", "out"]
SECOND = {
    "embed": ["--model", "bert", "--texts", "texts.txt", "--output", "out.npy"],
    "embed into a folder": ["--model", "bert", "--texts", "texts.txt", "--output", "out"],
    "train": ["--source", "a=held_a.npy", "--target", "b=held_b.npy", "--output_dir", "out", *QUICK],
    "evaluate": ["model", *PAIRS, "--output_dir", "out"],
    "evaluate to JSON": ["model", *PAIRS, "--output_dir", "figures", "--json", "out.npy"],
    "ablate": [*PAIRS, "--held_out_source", "a=held_a.npy", "--held_out_target", "b=held_b.npy"]
    + ["--variants", "variants.yaml", "--output_dir", "out"],
    "report": ["model", *PAIRS, "--output_dir", "out", "--labelled", "nowhere.jsonl"],
    "translate": ["model", *WAY, "--input", "held_a.npy", "--output", "out.npy"],
    "translate into a folder": ["model", *WAY, "--input", "held_a.npy", "--output", "out"],
    "export": ["model", *WAY, "--map", "linear", "--format", "merged", "--output", "out.npz"],
    "migrate": ["model", "--from", "parquet:held.parquet", "--to", "parquet:new.parquet", "--source", "a", "--record", "out"]
    + ["--allow_not_aligned"],
    "finetune": ["--model", "bert", *TUNED],
    "distill": [*STUDENT, "--texts", "texts.txt", "--output_dir", "out"],
    "distill-task": ["--teacher", "bert", "--student", "bert", *TUNED],
    "push": ["out", "--repo_id", "org/name"],
}


@pytest.mark.parametrize("name", SECOND)
def test_the_second_is_refused(name, trained, bert, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "token")
    shutil.copytree(trained / "model", "model")
    if name == "push":
        shutil.copytree(trained / "model", "out")
    elif name == "distill":
        Path("out").mkdir()
    for file in ("held_a.npy", "held_b.npy"):
        shutil.copy(trained / file, file)
    Path("texts.txt").write_text("the dog\nthe cat\n")
    rows = [{"text": f"the {word} {i}", "label": word} for i in range(20) for word in ("dog", "cat")]
    Path("task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("variants.yaml").write_text("short: {num_train_epochs: 0}")
    command, *_ = name.split()
    place = next(word for word in SECOND[name] if word.startswith("out"))
    with locked(place):
        before = tree(tmp_path)
        assert run(command, *SECOND[name]) == 2
        assert "another process is writing there" in capsys.readouterr().err.strip().splitlines()[-1]
        after = tree(tmp_path)
        assert {file: after[file] for file in before} == before
        assert not [file for file in after.keys() - before.keys() if file.startswith(("out", ".partial"))]
