"""Nothing that is not a finite number is trained on, saved or passed on."""

import math

import pytest
import torch
from safetensors.torch import load_file

from helpers.training import arguments, build, spaces
from hf_vec2vec import UnpairedEmbeddings, Vec2VecConfig, Vec2VecModel, Vec2VecTrainer
from hf_vec2vec.training import TrainingDivergedError, TranslatorArguments, train_translator
from hf_vec2vec.training.checkpoints import newest_checkpoint

SAVED = {"max_steps": 40, "save_strategy": "steps", "save_steps": 2, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}


@pytest.mark.parametrize("rates", [{"learning_rate": 1e10}, {"discriminator_learning_rate": 1e25}, {"learning_rate": 3e38}])
def test_training_stops_at_the_first_loss_that_is_not_finite(tmp_path, rates):
    trainer = build(tmp_path, **SAVED, **rates)
    with pytest.raises(TrainingDivergedError, match=r"stopped at update \d+: .*Lower `learning_rate`"):
        trainer.train()
    assert trainer.state.global_step < 40
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    assert all(map(math.isfinite, losses))
    for checkpoint in tmp_path.glob("checkpoint-*"):
        assert all(value.isfinite().all() for value in load_file(checkpoint / "model.safetensors").values())


def test_the_last_good_checkpoint_is_kept_and_named(tmp_path, monkeypatch):
    trainer = build(tmp_path, **SAVED)
    compute = trainer.compute_loss

    def diverges(*args, **kwargs):
        loss = compute(*args, **kwargs)
        return loss * (math.nan if trainer.state.global_step == 5 else 1)

    monkeypatch.setattr(trainer, "compute_loss", diverges)
    with pytest.raises(TrainingDivergedError, match=r"update 6: the loss is nan\..*Kept as it was: checkpoint-4"):
        trainer.train()
    assert newest_checkpoint(tmp_path).name == "checkpoint-4"


@pytest.mark.parametrize(("value", "max_grad_norm"), [(math.nan, 0.0), (math.inf, 0.0), (math.nan, 1.0), (-math.inf, 1.0)])
def test_a_gradient_that_is_not_finite_ends_the_run_though_the_loss_was(tmp_path, value, max_grad_norm):
    trainer = build(tmp_path, **SAVED | {"max_grad_norm": max_grad_norm})

    def breaks(gradient):
        return torch.full_like(gradient, value) if trainer.state.global_step == 5 else gradient  # the translator's turn

    for parameter in trainer.translator.parameters():
        if parameter.requires_grad:
            parameter.register_hook(breaks)
    with pytest.raises(TrainingDivergedError, match="Kept as it was: checkpoint-4"):
        trainer.train()
    assert newest_checkpoint(tmp_path).name == "checkpoint-4"
    saved = load_file(tmp_path / "checkpoint-4" / "model.safetensors")
    assert all(value.isfinite().all() for value in saved.values())


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_that_the_last_update_broke_are_not_saved(tmp_path, value):
    trainer = build(tmp_path, max_steps=2, save_strategy="steps", save_steps=2)
    step = trainer.create_optimizer().step

    def breaks(*args, **kwargs):
        step(*args, **kwargs)
        if trainer.state.global_step == 0:
            return
        with torch.no_grad():
            next(iter(trainer.translator.parameters())).view(-1)[3] = value

    trainer.optimizer.step = breaks
    with pytest.raises(TrainingDivergedError, match="is no longer finite"):
        trainer.train()
    assert not list(tmp_path.glob("checkpoint-*"))
    with pytest.raises(ValueError, match="finite"):
        trainer.save_model(str(tmp_path / "published"))
    assert not (tmp_path / "published" / "model.safetensors").exists()


@pytest.mark.parametrize(("value", "update"), [(math.nan, 1), (math.inf, 2), (-math.inf, 4)])
def test_weights_that_an_update_broke_are_not_evaluated(tmp_path, value, update):
    """Figures of such a model are errors about rows, which are sound."""
    held_out = UnpairedEmbeddings(spaces(40))
    trainer = build(tmp_path, eval_dataset=held_out, max_steps=4, eval_strategy="steps", eval_steps=update)
    step = trainer.create_optimizer().step

    def breaks(*args, **kwargs):
        step(*args, **kwargs)
        if trainer.state.global_step == update - 1:
            with torch.no_grad():
                next(iter(trainer.translator.parameters())).view(-1)[3] = value

    trainer.optimizer.step = breaks
    with pytest.raises(TrainingDivergedError, match="is no longer finite.*Lower `learning_rate`"):
        trainer.train()


@pytest.mark.parametrize("damage", [1e300, 3e38, -2e38, 1e25, math.nan, math.inf], ids=str)
@pytest.mark.parametrize("init", ["alignment", "random"])
def test_rows_that_overflow_are_refused_by_name(tmp_path, damage, init):
    rows = {name: values.double() for name, values in spaces(300).items()}
    rows["b"][17, 2] = damage
    with pytest.raises(ValueError, match="`b`"):
        train_translator(
            UnpairedEmbeddings(rows),
            TranslatorArguments(init=init, align_starts=1, align_steps=1, allow_not_aligned=True),
            arguments(tmp_path / "model"),
            {"a": None, "b": None},
        )
    assert not list(tmp_path.glob("**/*.safetensors"))


@pytest.mark.parametrize("damage", [3e38, -1e30])
def test_a_trainer_refuses_rows_that_overflow(tmp_path, damage):
    rows = spaces(60)
    rows["a"][5] = damage
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16))
    with pytest.raises(ValueError, match="`a`"):
        Vec2VecTrainer(model, arguments(tmp_path), rows)
