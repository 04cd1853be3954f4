"""The folder of a model: what was there stays until the new model is whole, and what no run made stays for good."""

import errno
import json
import shutil
import time
from pathlib import Path

import pytest
import torch
from transformers import TrainerCallback
from transformers.integrations import integration_utils

from helpers.training import arguments, build, spaces
from hf_vec2vec import UnpairedEmbeddings, Vec2VecModel, Vec2VecTrainer
from hf_vec2vec.data.staging import locked
from hf_vec2vec.training import TranslatorArguments, train_translator
from hf_vec2vec.training.recipe import _split, check_output_dir
from hf_vec2vec.training.run_folder import WORK

QUICK = {"align_starts": 1, "align_steps": 1, "allow_not_aligned": True, "hidden_dim": 8}
SAVES = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4}


def train(folder, *, rows=None, overwrite=False, shape=None, **changes):
    rows = UnpairedEmbeddings(rows or spaces(200))
    shape = TranslatorArguments(**QUICK | (shape or {}), overwrite=overwrite)
    return train_translator(rows, shape, arguments(folder, **SAVES | changes), {"a": None, "b": None})


def tree(folder) -> dict[str, bytes]:
    """All files of a folder but for those of a run that has not ended."""
    found = [path for path in Path(folder).rglob("*") if path.is_file() and WORK not in path.parts]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """A folder with a translator, and what training it gave."""
    folder = tmp_path_factory.mktemp("trained") / "model"
    return folder, train(folder)


class Reporter(TrainerCallback):
    """A place to log to that begins a run with the first figure, as Trackio does, and ends it with training."""

    runs: list[list[str]]

    def __init__(self):
        self.open = False

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not self.open:
            self.runs.append([])
        self.open = True
        self.runs[-1] += logs

    def on_train_end(self, *args, **kwargs):
        self.open = False


def test_all_figures_are_of_one_run_where_they_are_logged(tmp_path, monkeypatch):
    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Reporter)
    monkeypatch.setattr(Reporter, "runs", [], raising=False)
    trained = train(tmp_path / "model", report_to="trackio")
    (figures,) = Reporter.runs
    assert figures.count("eval_alignment_score") == 2
    assert "train_runtime" in figures
    last = json.loads((tmp_path / "model" / "trainer_state.json").read_text())["log_history"][-1]
    assert last["eval_alignment_score"] == trained.selection.after


@pytest.fixture
def model(trained_once, tmp_path):
    """A folder with a translator and things of its owner."""
    folder = tmp_path / "model"
    shutil.copytree(trained_once[0], folder)
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "table.md").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    return folder


@pytest.fixture(scope="module", params=[3, 1], ids=["after a checkpoint", "before the first"])
def stopped(request, tmp_path_factory):
    """What a run leaves that was stopped after so many updates."""
    folder = tmp_path_factory.mktemp("stopped") / "model"
    training_step = Vec2VecTrainer.training_step

    def stop(trainer, *args, **kwargs):
        if trainer.state.global_step == request.param:
            raise KeyboardInterrupt
        return training_step(trainer, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Vec2VecTrainer, "training_step", stop)
        with pytest.raises(KeyboardInterrupt):
            train(folder)
    return folder


def test_what_is_returned_is_what_is_saved(trained_once):
    folder, trained = trained_once
    saved = Vec2VecModel.from_pretrained(folder)
    for name, value in trained.model.state_dict().items():
        assert torch.equal(saved.state_dict()[name], value), name
    facts = json.loads((folder / "training.json").read_text())
    assert facts["selection"] == trained.selection.to_dict()
    assert facts["report"]["verdict"] == trained.report.verdict
    assert "Kept: the" in str(trained.selection)
    assert f"{facts['validation_rows']} unpaired rows a side, held out from alignment and training" in str(trained.selection)
    assert "model_name: model\n" in (folder / "README.md").read_text()
    assert not (folder / WORK).exists()


def test_overwriting_replaces_the_model_and_nothing_else(model):
    before = tree(model)
    train(model, overwrite=True, seed=3)
    after = tree(model)
    assert after["model.safetensors"] != before["model.safetensors"]
    assert after["README.md"] != before["README.md"]
    assert after["notes.txt"] == after["evaluation/table.md"] == b"mine"


@pytest.mark.parametrize("text", ["# My notes on this model\n", "---\nlicense: mit\n---\nhand-made", ""])
def test_a_card_of_another_hand_stays_and_ours_lies_beside(model, text):
    (model / "README.md").write_text(text)
    train(model, overwrite=True)
    assert (model / "README.md").read_text() == text
    assert "hf_vec2vec" in (model / "MODEL_CARD.md").read_text()


def test_a_card_that_was_edited_is_of_another_hand(model):
    (model / "README.md").write_text((model / "README.md").read_text() + "\nLicensed to Example Ltd.\n")
    train(model, overwrite=True)
    assert "Example Ltd" in (model / "README.md").read_text()


@pytest.mark.parametrize("stage", ["start.align", "recipe.Vec2VecTrainer.train", "run_folder.replace_entries"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_fails_leaves_the_folder_as_it_was(model, monkeypatch, stage, error):
    before = tree(model)

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patched:
        patched.setattr(f"hf_vec2vec.training.{stage}", fail)
        with pytest.raises(type(error)):
            train(model, overwrite=True, seed=3)
    assert tree(model) == before


@pytest.mark.parametrize("changes", [{"rows": spaces(40)}, {"shape": {"validation_rows": 1}}], ids=["rows", "held out"])
def test_bad_input_leaves_no_trace(tmp_path, changes):
    with pytest.raises(ValueError, match="rows"):
        train(tmp_path / "model", **changes)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    "file", ["config.json", "model.safetensors", "adapter_config.json", "tokenizer.json", "adapter_model.safetensors"]
)
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_model_of_another_kind_is_never_touched(tmp_path, file, overwrite):
    (tmp_path / file).write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(FileExistsError, match=rf"no run of this kind made \({file}\)"):
        train(tmp_path, overwrite=overwrite)
    assert [path.name for path in tmp_path.iterdir()] == [file]


def test_a_model_in_the_way_is_named_before_any_work(model, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.training.start.align", lambda *args, **kwargs: pytest.fail("worked"))
    with pytest.raises(FileExistsError, match=r"holds a model already.*\(config.json\).*`overwrite`"):
        train(model)


def test_two_runs_in_one_folder_are_refused(tmp_path):
    with locked(tmp_path / "model"), pytest.raises(FileExistsError, match="another process is writing there"):
        train(tmp_path / "model")
    with locked(tmp_path / "run"), pytest.raises(FileExistsError, match="another process is writing there"):
        build(tmp_path / "run", **SAVES).train()
    train(tmp_path / "model")


@pytest.mark.parametrize("asked", ["true", True])
def test_resuming_a_run_that_has_ended_gives_the_same_model(model, asked):
    before = tree(model)
    train(model, resume_from_checkpoint=asked)
    after = tree(model)
    for name in ("model.safetensors", "trained/model.safetensors", "alignment/model.safetensors", "notes.txt"):
        assert after[name] == before[name], name
    assert (model / "checkpoint-4").is_dir()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"rows": spaces(200) | {"a": spaces(200)["a"].flip(0)}}, "the rows of 'a'"),
        ({"seed": 7}, "`seed`"),
        ({"shape": {"align_steps": 2}}, "`align_steps`"),
        ({"shape": {"validation_rows": 20}}, "the rows of"),
    ],
    ids=["rows", "seed", "steps", "held out"],
)
def test_what_was_made_of_something_else_is_not_resumed(stopped, changes, named):
    with pytest.raises(ValueError, match=f"differs from this one: .*{named}"):
        train(stopped, resume_from_checkpoint="true", **changes)


def test_a_run_that_was_stopped_goes_on_exactly(stopped, trained_once, tmp_path):
    shutil.copytree(stopped, tmp_path / "model")
    train(tmp_path / "model", resume_from_checkpoint="true")
    resumed = Vec2VecModel.from_pretrained(tmp_path / "model")
    for name, value in trained_once[1].model.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value), name


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"report_to": "wandb"}, ImportError, "`report_to` is 'wandb'"),
        ({"report_to": ["mlflow"]}, ImportError, "`report_to` is 'mlflow'"),
        ({"report_to": "comet_ml"}, ImportError, "`report_to` is 'comet_ml'"),
        ({"report_to": "tensorbord"}, ValueError, "`report_to` is 'tensorbord'"),
        ({"optim": "lomo"}, ImportError, "`optim`"),
        ({"push_to_hub": True, "hub_model_id": "org/name"}, OSError, "`repo_id` 'org/name': no commit was made"),
        ({"metric_for_best_model": "eval_a_to_b_top1"}, ValueError, "`metric_for_best_model`"),
        ({"metric_for_best_model": "accuracy"}, ValueError, "`metric_for_best_model` must be one of alignment_score, loss"),
        ({"optim_args": "eps"}, ValueError, "`optim_args` must be NAME=VALUE.*got 'eps'"),
        ({"optim": "ademamix", "optim_args": "alpha=x"}, ValueError, "`optim"),
        ({"lr_scheduler_kwargs": "[1"}, ValueError, "`lr_scheduler_kwargs`"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"cycles": 2}}, ValueError, "`lr_scheduler_kwargs`"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"num_cycles": "x"}}, ValueError, "`lr_scheduler_kwargs`"),
        ({"lr_scheduler_type": "polynomial", "lr_scheduler_kwargs": {"lr_end": 1.0}}, ValueError, "`lr_scheduler_kwargs`"),
        ({"lr_scheduler_type": "warmup_stable_decay"}, ValueError, "`lr_scheduler_kwargs`.*num_decay_steps"),
        ({"lr_scheduler_type": "cosine_with_min_lr"}, ValueError, "`lr_scheduler_kwargs`.*min_lr"),
        ({"fsdp": "full_shard"}, ValueError, "`fsdp`"),
        ({"torch_compile_backend": "nothing"}, ValueError, "`torch_compile_backend` must be one of"),
        ({"resume_from_checkpoint": "true"}, FileNotFoundError, "holds no checkpoint"),
        ({"resume_from_checkpoint": "gone/checkpoint-4"}, FileNotFoundError, "there is no checkpoint"),
    ],
)
def test_what_can_fail_without_work_fails_first(tmp_path, changes, error, message):
    start = time.process_time()
    with pytest.raises(error, match=message):
        check_output_dir(TranslatorArguments(), arguments(tmp_path / "model", **changes))
    assert time.process_time() - start < 5
    assert not (tmp_path / "model").exists()


def test_a_file_in_the_place_of_the_folder_or_of_one_above_it(tmp_path):
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "model"):
        with pytest.raises(NotADirectoryError, match="`output_dir`"):
            check_output_dir(TranslatorArguments(), arguments(folder))


def test_a_folder_where_nothing_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)  # whoever runs the tests may write anywhere
    with pytest.raises(PermissionError, match="`output_dir`.*nothing can be written"):
        check_output_dir(TranslatorArguments(), arguments(tmp_path / "model"))


def test_copies_of_held_out_rows_do_not_take_all_from_the_alignment():
    """A fifth of all rows was held out, each with its copies: 400 of 500 different ones."""
    often = UnpairedEmbeddings({name: rows.repeat(4, 1) for name, rows in spaces(500).items()})
    training, aligned_on, validation = _split(often, TranslatorArguments(), seed=0)
    for name in often.spaces:
        assert len(validation.spaces[name]) == 100
        assert len(training.spaces[name]) == len(aligned_on.spaces[name]) == 4 * 400
