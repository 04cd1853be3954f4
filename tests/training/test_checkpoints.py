import json
import shutil
from pathlib import Path

import pytest
import torch

from helpers.training import build, weights
from hf_vec2vec.training import base
from hf_vec2vec.training.base import STAGING
from hf_vec2vec.training.checkpoints import check_checkpoint, newest_checkpoint

RUN = {"max_steps": 6, "save_strategy": "steps", "save_steps": 2}


class Killed(BaseException):
    """Like SIGKILL, it runs no handler for errors."""


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    trainer = build(tmp_path_factory.mktemp("straight"), **RUN)
    trainer.train()
    return trainer


def folder(trainer):
    return trainer.args.output_dir


@pytest.mark.parametrize(
    "moment", ["super()._save_optimizer_and_scheduler", "seal_checkpoint", "os.replace", "rotate_checkpoints"]
)
def test_a_run_that_dies_while_it_saves_goes_on_exactly(tmp_path, monkeypatch, straight, moment):
    kept = {"save_total_limit": 1}
    trainer, calls = build(tmp_path, **RUN, **kept), []

    def dies(original):
        def second_time(*args, **kwargs):
            calls.append(args)
            if len(calls) == 2:
                raise Killed
            return original(*args, **kwargs)

        return second_time

    with monkeypatch.context() as patched:
        if moment.startswith("super()"):
            name = "transformers.Trainer._save_optimizer_and_scheduler"
            patched.setattr(name, dies(__import__("transformers").Trainer._save_optimizer_and_scheduler))
        elif moment == "os.replace":
            names = "hf_vec2vec.training.base.shutil.rmtree"  # of the name's place, just before it is taken
            patched.setattr(names, dies(shutil.rmtree))
        else:
            patched.setattr(f"hf_vec2vec.training.base.{moment}", dies(getattr(base, moment)))
        with pytest.raises(Killed):
            trainer.train()
    left = sorted(path.name for path in tmp_path.glob("checkpoint-*"))
    for name in left:
        check_checkpoint(tmp_path / name)
    resumed = build(tmp_path, **RUN, **kept)
    resumed.train(resume_from_checkpoint=bool(left))
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value), name
    assert not (tmp_path / STAGING).exists()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-6"]


def test_the_newest_whole_checkpoint_is_used(tmp_path, straight):
    shutil.copytree(folder(straight), tmp_path / "run")
    run = tmp_path / "run"
    assert newest_checkpoint(run).name == "checkpoint-6"
    (run / "checkpoint-6" / "rng_state.pth").unlink()  # as a deletion that broke off leaves it
    assert newest_checkpoint(run).name == "checkpoint-4"
    weights_file = run / "checkpoint-4" / "model.safetensors"
    weights_file.write_bytes(weights_file.read_bytes()[:-1])
    assert newest_checkpoint(run).name == "checkpoint-2"
    (run / "checkpoint-2" / "files.json").unlink()  # as earlier versions wrote them
    assert newest_checkpoint(run).name == "checkpoint-2"
    (run / "checkpoint-2" / "optimizer.pt").unlink()
    with pytest.raises(ValueError, match=r"checkpoint-2' is truncated: optimizer.pt is missing"):
        newest_checkpoint(run)
    assert newest_checkpoint(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError, match="there is no checkpoint"):
        check_checkpoint(run / "checkpoint-8")


@pytest.mark.parametrize("asked", [True, "checkpoint-2"])
def test_a_checkpoint_without_an_optimizer_is_not_called_damaged(tmp_path, asked):
    build(tmp_path, **RUN, save_only_model=True).train()
    with pytest.raises(ValueError, match="checkpoint-2' holds the model alone, as `save_only_model` asks for") as caught:
        build(tmp_path, **RUN).train(resume_from_checkpoint=asked if asked is True else str(tmp_path / asked))
    assert "elete" not in str(caught.value)


def test_a_full_disk_leaves_earlier_checkpoints(tmp_path, monkeypatch):
    trainer = build(tmp_path, **RUN)

    def full(*args, **kwargs):
        raise RuntimeError("[enforce fail at inline_container.cc] . PytorchStreamWriter failed writing file")

    save = torch.save
    monkeypatch.setattr("torch.save", lambda *args, **kwargs: full() if trainer.state.global_step == 4 else save(*args))
    with pytest.raises(OSError, match="'checkpoint-4' was not written.*earlier ones are as they were"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]
    assert not (tmp_path / STAGING).exists()


def test_the_best_checkpoint_is_known_by_its_place(tmp_path):
    from helpers.training import spaces
    from hf_vec2vec import UnpairedEmbeddings

    best = {"load_best_model_at_end": True, "metric_for_best_model": "alignment_score", "eval_strategy": "steps"}
    trainer = build(tmp_path, eval_dataset=UnpairedEmbeddings(spaces(40)), eval_steps=2, **best, **RUN)
    trainer.train()
    state = json.loads((tmp_path / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["best_model_checkpoint"] == trainer.state.best_model_checkpoint
    assert (tmp_path / f"checkpoint-{state['best_global_step']}").samefile(state["best_model_checkpoint"])


@pytest.mark.parametrize("content", ["null", "{", "3", "[]", "\xff"])
def test_a_checkpoint_whose_list_of_files_is_damaged_is_not_taken_for_whole(tmp_path, straight, content):
    checkpoint = shutil.copytree(Path(folder(straight)) / "checkpoint-6", tmp_path / "checkpoint-6")
    (checkpoint / "files.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match="checkpoint-6' is damaged: files.json cannot be read"):
        check_checkpoint(checkpoint)
