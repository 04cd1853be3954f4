"""Students, teachers and encoders with code of their own, through every command that opens them: trusted or refused."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from helpers.distillation import linear_translator
from helpers.encoders import SHAPE, TEXTS, WORDS, save_model, with_own_code
from helpers.tasks import glue, write_rows
from hf_vec2vec import TextEncoder
from hf_vec2vec.cli import main
from hf_vec2vec.data import save_embeddings
from hf_vec2vec.encoders import embed

pytestmark = pytest.mark.usefixtures("own_cache")
LINES = [f"{a} {b} {c}" for a in WORDS[3:] for b in WORDS[3:] for c in WORDS[3:7]]
STEPS = ["--max_steps", "1", "--disable_tqdm"]


@pytest.fixture
def project(tmp_path, monkeypatch, trusting):
    """Two models with code of their own, a translator between them, texts, vectors and a task."""
    torch.manual_seed(0)
    models = {}
    for name, width in (("teacher", 6), ("student", 8)):
        config = BertConfig(**SHAPE | {"hidden_size": width})
        models[name] = with_own_code(Path(save_model(BertModel(config), tmp_path / name)))
    encoders = {name: TextEncoder(model, trust_remote_code=True) for name, model in models.items()}
    translator = linear_translator(
        *(encoder.encode(TEXTS * 4, progress=False) for encoder in encoders.values()), names=("teacher", "student")
    )
    translator.config.encoders = {name: encoder.settings.__dict__ for name, encoder in encoders.items()}
    translator.save_pretrained(tmp_path / "translator")
    (tmp_path / "texts.txt").write_text("\n".join(LINES))
    for name, encoder in encoders.items():
        save_embeddings(embed(LINES, encoder, cache_dir=tmp_path / "cache", progress=False), tmp_path / f"{name}.parquet")
    rows = [(text, int("dog" in text)) for text in LINES]
    for split in ("train", "validation"):
        write_rows(glue(("sentence",), rows), tmp_path / "sst2" / f"{split}.jsonl")
    monkeypatch.chdir(tmp_path)
    return tmp_path


TASK = ["--task", "sst2", "--task_source", "sst2"]
PAIR = ["--translator", "translator", "--student", "student"]
SIDES = ["--source", "teacher=teacher.parquet", "--target", "student=student.parquet"]
COMMANDS = {
    "embed": ["embed", "--texts", "texts.txt", "--model", "teacher", "--output", "out.npy", "--cache_dir", "c"],
    "translate texts": ["translate", "translator", "--source", "teacher", "--target", "student", "--texts", "texts.txt"]
    + ["--output", "out.npy", "--cache_dir", "c"],
    "distill": ["distill", *PAIR, "--texts", "texts.txt", "--output_dir", "out", *STEPS],
    "distill on a task": ["distill", *PAIR, *TASK, "--output_dir", "out", *STEPS],
    "distill from a store": ["distill", *PAIR, "--vectors", "teacher.parquet", "--output_dir", "out", *STEPS],
    "distill-check": ["distill-check", *PAIR, *TASK, "--output_dir", "out", "--disable_tqdm"],
    "finetune": ["finetune", "--model", "teacher", *TASK, "--output_dir", "out", *STEPS],
    "report": ["report", "translator", *SIDES, "--out_of_domain", "texts.txt", "--output_dir", "out"],
    "train": ["train", "--source", "a=texts.txt", "--source_encoder", "teacher", "--target", "b=student.parquet"]
    + ["--output_dir", "out", "--num_train_epochs", "0", "--init", "random", "--strict_unpaired", "false", "--disable_tqdm"],
}


@pytest.mark.parametrize(
    "command", [pytest.param(name, marks=pytest.mark.slow) if name == "report" else name for name in COMMANDS]
)
def test_code_runs_with_the_flag(command, project, capsys):
    assert main([*COMMANDS[command], "--trust_remote_code"]) == 0, capsys.readouterr().err
    assert (project / "out").exists() or (project / "out.npy").exists()
    if command == "report":
        assert "not made" not in [line for line in capsys.readouterr().out.splitlines() if "domain" in line.lower()][0]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_the_flag_one_line_says_so_and_nothing_ran(command, project, capsys):
    for ran in project.rglob("ran"):
        ran.unlink()
    status = main(COMMANDS[command])
    said = capsys.readouterr()
    if command == "report":  # whose other sections need no encoder
        assert status == 0
        assert "trust_remote_code" in [line for line in said.out.splitlines() if "domain" in line.lower()][0]
    else:
        assert status in (1, 2)
        assert "trust_remote_code" in said.err.strip().splitlines()[-1]
        assert "Traceback" not in said.err
        assert not (project / "out.npy").exists()
        assert not list((project / "out").glob("*.safetensors"))
    assert not list(project.rglob("ran"))


@pytest.mark.slow
@pytest.mark.parametrize("side", ["teacher", "student"])
def test_a_task_is_learned_and_passed_on(side, project, folders, capsys):
    """Fine-tuned, evaluated, and distilled from or into a model with code of its own."""
    assert main(["finetune", "--model", "teacher", *TASK, "--output_dir", "tuned", *STEPS, "--trust_remote_code"]) == 0
    assert main(["evaluate", "tuned", *TASK, "--json", "figures.json", "--disable_tqdm", "--trust_remote_code"]) == 0, (
        capsys.readouterr().err
    )
    teacher, student = ("tuned", folders["llama"]) if side == "teacher" else ("tuned", "student")
    words = ["distill-task", "--teacher", teacher, "--student", student, *TASK, "--output_dir", "out", *STEPS]
    assert main(words) in (1, 2)
    assert "trust_remote_code" in capsys.readouterr().err.strip().splitlines()[-1]
    assert main([*words, "--trust_remote_code"]) == 0, capsys.readouterr().err
    assert main(["evaluate", "out", *TASK, "--disable_tqdm", "--trust_remote_code"]) == 0, capsys.readouterr().err
