"""What a command was told to overwrite is of its own making: no model, no texts, no other program's file is ever lost."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.commands import run
from helpers.stores import tree, write_store
from hf_vec2vec.data import save_embeddings, to_dataset

pytestmark = pytest.mark.usefixtures("own_cache")
PAIRS = ["--source", "a=held_a.npy", "--target", "b=held_b.npy"]
DIRECTION = ["--source", "a", "--target", "b", "--overwrite"]
TRANSLATE = ["translate", "model", *DIRECTION, "--allow_not_aligned", "--input", "held_a.npy", "--output"]
EMBED = ["embed", "--model", "bert", "--texts", "texts.txt", "--overwrite", "--output"]
EXPORT = ["export", "model", *DIRECTION, "--allow_not_aligned", "--map", "linear", "--format", "merged", "--output"]
STUDENT = ["--translator", "model", "--student", "bert", "--student_space", "a", "--texts", "texts.txt", "--max_steps", "1"]
EXPORTED = ["distill", *STUDENT, "--output_dir", "student", "--overwrite", "--export_dir"]
TUNED = ["--task", "task.jsonl", "--overwrite", "--max_steps", "1", "--output_dir"]
EVALUATE = ["evaluate", "model", *PAIRS]


@pytest.fixture
def place(trained, bert, tmp_path, monkeypatch) -> Path:
    """A working folder with a translator, an encoder, vectors and texts."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "model", "model")
    for name in ("held_a.npy", "held_b.npy"):
        shutil.copy(trained / name, name)
    Path("texts.txt").write_text("the dog\nthe cat\n")
    rows = [{"text": f"the {word} {i}", "label": word} for i in range(20) for word in ("dog", "cat")]
    Path("task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    write_store(Path("held_a.parquet"), np.load("held_a.npy"))
    Path("figures").mkdir()
    Path("figures/results.json").write_text('{"accuracy": 0.9}')
    Path("report").mkdir()
    Path("report/report.html").write_text("<h1>Sales of March</h1>")
    save_embeddings(to_dataset(np.load("held_a.npy"), [f"text {i}" for i in range(120)]), "texts.parquet")
    Path("soft").symlink_to("bert")
    Path("soft.safetensors").symlink_to("bert/model.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    "words",
    [
        [*TRANSLATE, "model/model.safetensors"],
        [*TRANSLATE, "bert/model.safetensors"],
        [*TRANSLATE, "soft.safetensors"],
        [*TRANSLATE, "model"],
        [*TRANSLATE, "held_a.npy"],
        [*TRANSLATE, "held_b.npy", "--correct_hubs", "held_b.npy"],
        ["translate", "model", *DIRECTION, "--allow_not_aligned", "--texts", "texts.parquet", "--output", "texts.parquet"],
        [
            "translate",
            "model",
            *DIRECTION,
            "--allow_not_aligned",
            "--dataset",
            "parquet",
            "--data_files",
            "held_*.parquet",
            "--output",
            "held_a.parquet",
        ],
        [*EMBED, "bert/model.safetensors"],
        [*EMBED, "soft.safetensors"],
        [*EMBED, "model/alignment"],
        [*EXPORT, "model/model.safetensors"],
        [*EXPORT, "bert/../model/trained/model.safetensors"],
        [*EVALUATE, "--json", "texts.txt"],
        [*EVALUATE, "--json", "held_a.npy"],
        [*EVALUATE, "--json", "model/config.json"],
        [*EVALUATE, "--output_dir", "figures"],
        ["report", "model", *PAIRS, "--output_dir", "report"],
        ["train", "--source", "a=held_a.npy", "--target", "b=held_b.npy", "--output_dir", "bert", "--overwrite"],
        [*EXPORTED, "bert"],
        [*EXPORTED, "model"],
        [*EXPORTED, "soft"],
        ["finetune", "--model", "bert", *TUNED, "bert"],
        ["finetune", "--model", "bert", *TUNED, "model"],
        ["distill-task", "--teacher", "bert", "--student", "bert", *TUNED, "bert"],
    ],
    ids=" ".join,
)
def test_a_file_of_another_kind_is_refused_and_stays(words, place, capsys):
    before = tree(place)
    assert run(*words) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1].startswith(f"hf-vec2vec {words[0]}: ")
    assert tree(place) == before


def test_what_the_command_made_itself_is_replaced(place):
    for words, file in (
        ([*TRANSLATE, "out.safetensors"], "out.safetensors"),
        ([*EMBED, "vectors.safetensors"], "vectors.safetensors"),
        ([*EXPORT, "map.safetensors"], "map.safetensors"),
        ([*EVALUATE, "--json", "table.json", "--output_dir", "more"], "table.json"),
    ):
        assert run(*words) == 0
        first = Path(file).stat().st_size
        assert run(*words) == 0
        assert Path(file).stat().st_size == first
    np.save("held_a.npy", np.load("held_a.npy")[::-1])
    assert run(*TRANSLATE, "out.safetensors") == 0
    assert run(*EVALUATE, "--json", "model/evaluation/table.json") == 0
    assert run(*EVALUATE, "--json", "model/evaluation/table.json") == 0
    assert json.loads(Path("model/evaluation/table.json").read_text())["pool_size"] == 120
