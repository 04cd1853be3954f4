"""A student's folder: locked, whole or as it was, resumed exactly, and nobody else's files in it touched."""

import json
import math
import shutil

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from helpers.distillation import TEXTS
from hf_vec2vec import TextEncoder
from hf_vec2vec.data import to_dataset
from hf_vec2vec.data.staging import locked
from hf_vec2vec.distillation import (
    DistillationTrainer,
    DistillationTrainingArguments,
    load_student,
    save_as_sentence_transformer,
    train_student,
)
from hf_vec2vec.training import TrainingDivergedError
from hf_vec2vec.training.run_folder import WORK

SAVES = {"save_strategy": "steps", "save_steps": 2, "max_steps": 6}


@pytest.fixture(scope="module")
def stored(folders):
    rows = TextEncoder(folders["llama"]).encode(TEXTS, progress=False).flip(0)
    return to_dataset(rows, TEXTS).rename_column("embedding", "label")


@pytest.fixture(scope="module")
def train(folders, stored):
    """Train a student into a folder."""

    def run(folder, *, data=None, student=None, lora=None, overwrite=False, **changes):
        model, tokenizer, known = load_student(student or folders["llama"])
        fixed = {"per_device_train_batch_size": 8, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
        args = DistillationTrainingArguments(str(folder), **known | fixed | SAVES | changes)
        return train_student(
            model,
            args,
            processing_class=tokenizer,
            peft_config=lora or LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.2),
            train_dataset=stored if data is None else data,
            overwrite=overwrite,
        )

    return run


def tree(folder) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and WORK not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def stop_at(monkeypatch, step):
    original = DistillationTrainer.training_step

    def stops(trainer, *args, **kwargs):
        if trainer.state.global_step == step:
            raise KeyboardInterrupt
        return original(trainer, *args, **kwargs)

    monkeypatch.setattr(DistillationTrainer, "training_step", stops)


@pytest.fixture(scope="module")
def trained_once(train, tmp_path_factory):
    """A folder with a student."""
    train(folder := tmp_path_factory.mktemp("trained") / "out")
    return folder


@pytest.fixture(scope="module")
def stopped(train, tmp_path_factory):
    """What a run leaves that was stopped after three updates."""
    folder = tmp_path_factory.mktemp("stopped") / "out"
    with pytest.MonkeyPatch.context() as patched:
        stop_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    return folder


@pytest.mark.parametrize("asked", ["true", True])
def test_a_run_that_was_stopped_goes_on_exactly(train, trained_once, stopped, tmp_path, asked):
    shutil.copytree(stopped, tmp_path / "out")
    assert tree(tmp_path / "out") == {}
    with pytest.raises(FileExistsError, match="holds a model already, or the beginning of one"):
        train(tmp_path / "out")
    train(tmp_path / "out", resume_from_checkpoint=asked)
    name = "adapter_model.safetensors"
    straight, resumed = load_file(trained_once / name), load_file(tmp_path / "out" / name)
    assert all(torch.equal(resumed[key], value) for key, value in straight.items())
    assert not (tmp_path / "out" / WORK).exists()
    assert "library_name: peft" in (tmp_path / "out" / "README.md").read_text()
    assert json.loads((tmp_path / "out" / "distillation.json").read_text())["steps"] == 6


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_anew(train, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        stop_at(patched, 1)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out")
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        train(tmp_path / "out", resume_from_checkpoint="true")
    train(tmp_path / "out", max_steps=1)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"seed": 7}, r"`seed` \(42 there, 7 here\)"),
        ({"learning_rate": 2e-3}, "`learning_rate`"),
        ({"cosine_weight": 2.0}, "`cosine_weight`"),
        ({"pooling": "last"}, "`pooling`"),
        ({"prompt": "query: "}, "`prompt`"),
        ({"data": "other texts"}, "the training rows"),
        ({"data": "other vectors"}, "the training rows"),
        ({"data": "fewer"}, "the training rows"),
        ({"student": "other"}, "the student"),
        ({"lora": {"r": 3}}, "the adapter's settings"),
        ({"lora": {"lora_alpha": 3}}, "the adapter's settings"),
        ({"lora": {"lora_dropout": 0.5}}, "the adapter's settings"),
    ],
)
def test_what_was_made_of_something_else_is_not_resumed(train, folders, stored, stopped, tmp_path, changes, named):
    rows = torch.tensor(stored["label"])
    data = {
        "other texts": to_dataset(rows, TEXTS[::-1]).rename_column("embedding", "label"),
        "other vectors": to_dataset(rows + 1e-3, TEXTS).rename_column("embedding", "label"),
        "fewer": stored.select(range(31)),
    }
    if "student" in changes:
        model, tokenizer, _ = load_student(folders["llama"])
        with torch.no_grad():
            model.layers[0].self_attn.q_proj.weight[0, 0] += 1e-3
        model.save_pretrained(tmp_path / "student")
        tokenizer.save_pretrained(tmp_path / "student")
        changes = {"student": str(tmp_path / "student")}
    if "data" in changes:
        changes = {"data": data[changes["data"]]}
    if "lora" in changes:
        settings = {"r": 2, "target_modules": "all-linear", "lora_dropout": 0.2}
        changes = {"lora": LoraConfig(**settings | changes["lora"])}
    with pytest.raises(ValueError, match=f"differs from this one: .*{named}"):
        train(stopped, resume_from_checkpoint="true", **changes)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ({"config.json": '{"model_type": "bert"}', "README.md": "# theirs"}, "config.json"),
        ({"tokenizer.json": "{}"}, "tokenizer.json"),
        ({"adapter_config.json": "{}", "README.md": "# theirs"}, "adapter_config.json"),
        ({"config.json": '{"model_type": "vec2vec"}', "training.json": "{}"}, "config.json"),
        ({"model.safetensors": "weights"}, "model.safetensors"),
    ],
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_another_models_files_are_not_touched(train, tmp_path, files, named, overwrite):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(FileExistsError, match=rf"no run of this kind made \({named}\)"):
        train(tmp_path, overwrite=overwrite)
    assert {name: content.decode() for name, content in tree(tmp_path).items()} == files


def test_the_students_own_folder_is_no_output(folders, stored, tmp_path):
    model, tokenizer, known = load_student(folders["llama"])
    args = DistillationTrainingArguments(folders["llama"], report_to="none", **known)
    with pytest.raises(ValueError, match="is the student's own folder"):
        DistillationTrainer(model, args, train_dataset=stored, processing_class=tokenizer)


def test_notes_and_cards_of_another_hand_stay(train, tmp_path):
    (tmp_path / "README.md").write_text("# mine")
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine")
    train(tmp_path)
    assert (tmp_path / "README.md").read_text() == "# mine"
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine"
    assert "library_name: peft" in (tmp_path / "MODEL_CARD.md").read_text()


def test_overwriting_replaces_the_student_when_the_new_one_is_whole(train, trained_once, tmp_path, monkeypatch):
    shutil.copytree(trained_once, tmp_path / "out")
    before = tree(tmp_path / "out")
    with monkeypatch.context() as patched:
        stop_at(patched, 3)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "out", overwrite=True, seed=3)
    assert tree(tmp_path / "out") == before
    train(tmp_path / "out", overwrite=True, seed=3)
    after = tree(tmp_path / "out")
    assert after["adapter_model.safetensors"] != before["adapter_model.safetensors"]
    assert after["README.md"] != before["README.md"]


def test_two_runs_in_one_folder_are_refused(train, tmp_path):
    with locked(tmp_path / "out"), pytest.raises(FileExistsError, match="another process is writing there"):
        train(tmp_path / "out")


@pytest.mark.parametrize("rate", [1e30, 3e38])
def test_training_stops_at_the_first_loss_that_is_not_finite(train, tmp_path, rate):
    with pytest.raises(TrainingDivergedError, match="training stopped at update"):
        train(tmp_path / "out", learning_rate=rate, mse_weight=1.0, max_grad_norm=0.0, lr_scheduler_type="constant")
    assert tree(tmp_path / "out") == {}
    for file in (tmp_path / "out").rglob("adapter_model.safetensors"):
        assert all(value.isfinite().all() for value in load_file(file).values())


@pytest.mark.parametrize(("value", "update"), [(math.nan, 1), (math.inf, 3), (-math.inf, 6)])
def test_weights_that_an_update_broke_end_the_run(train, tmp_path, monkeypatch, value, update):
    """Before anything is told of the vectors that they make."""
    step = torch.optim.AdamW.step

    def breaks(optimizer, *args, **kwargs):
        step(optimizer, *args, **kwargs)
        weight = optimizer.param_groups[0]["params"][0]
        if optimizer.state[weight]["step"] == update:
            with torch.no_grad():
                weight.view(-1)[0] = value

    monkeypatch.setattr(torch.optim.AdamW, "step", breaks)
    with pytest.raises(TrainingDivergedError, match="is no longer finite|the loss is"):
        train(tmp_path / "out", logging_steps=1)
    assert tree(tmp_path / "out") == {}


@pytest.mark.parametrize("damage", [math.nan, math.inf, 3e38, -1e38, 1e25], ids=str)
@pytest.mark.parametrize("streamed", [False, True])
def test_damaged_teacher_vectors_are_refused(train, tmp_path, stored, damage, streamed):
    rows = torch.tensor(stored["label"])
    rows[20, 3] = damage
    data = Dataset.from_dict({"text": TEXTS, "label": rows.tolist()})
    with pytest.raises(ValueError, match="`train_dataset|stopped at update"):
        train(tmp_path / "out", data=data.to_iterable_dataset() if streamed else data, mse_weight=1.0)
    assert not list((tmp_path / "out").rglob("adapter_model.safetensors"))


def test_an_export_appears_whole_and_replaces_no_other_model(folders, tmp_path):
    model, tokenizer, known = load_student(folders["bert"])
    settings = DistillationTrainingArguments(str(tmp_path), **known).encoder_settings(folders["bert"])
    (tmp_path / "st").mkdir()
    (tmp_path / "st" / "notes.txt").write_text("mine")
    save_as_sentence_transformer(model, tokenizer, settings, tmp_path / "st")
    assert SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS).shape == (32, 6)
    before = tree(tmp_path / "st")
    with pytest.raises(FileExistsError, match="`export_dir`.*holds a model already"):
        save_as_sentence_transformer(model, tokenizer, settings, tmp_path / "st")
    with torch.no_grad():
        next(iter(model.parameters()))[0, 0] = math.nan
    with pytest.raises(ValueError, match="not finite"):
        save_as_sentence_transformer(model, tokenizer, settings, tmp_path / "st", overwrite=True)
    assert tree(tmp_path / "st") == before
