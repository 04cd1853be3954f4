"""What a trainer is given is used, or refused in words; nothing is passed over."""

import gc
import pickle
from multiprocessing import active_children

import pytest
import torch
from torch import nn
from transformers import TrainingArguments

from helpers.training import arguments, build, spaces, weights
from hf_vec2vec import (
    PairedEmbeddings,
    UnpairedEmbeddings,
    Vec2VecConfig,
    Vec2VecForAdversarialTraining,
    Vec2VecModel,
    Vec2VecTrainer,
)
from hf_vec2vec.training.distances import DISTANCES


def trainer_of(model, folder, eval_dataset=None, given=None, **kwargs):
    return Vec2VecTrainer(model, arguments(folder, **kwargs), spaces(), eval_dataset, **given or {})


@pytest.mark.parametrize("name", ["compute_loss_func", "data_collator", "model_init"])
def test_what_could_only_be_ignored_is_refused(tmp_path, tiny_model, name):
    with pytest.raises(ValueError, match=f"`{name}` has no use here, for .* Leave it out"):
        trainer_of(tiny_model, tmp_path, given={name: lambda *_: tiny_model})
    with pytest.raises(ValueError, match=f"`{name}` has no use here"):
        trainer_of(None, tmp_path, given={name: lambda *_: tiny_model})


def test_arguments_of_transformers_alone_are_refused(tmp_path, tiny_model):
    with pytest.raises(TypeError, match="`args` must be Vec2VecTrainingArguments, got TrainingArguments"):
        Vec2VecTrainer(tiny_model, TrainingArguments(str(tmp_path)), spaces())


def test_what_is_no_translator_is_refused(tmp_path, tiny_model):
    with pytest.raises(TypeError, match="`model` must be a Vec2VecModel .* got Linear"):
        trainer_of(nn.Linear(6, 4), tmp_path)
    with pytest.raises(TypeError, match="got OptimizedModule. To have it compiled, set `torch_compile`"):
        trainer_of(torch.compile(tiny_model, backend="eager"), tmp_path)
    with pytest.raises(ValueError, match="no weight that may be trained"):
        trainer_of(tiny_model.requires_grad_(False), tmp_path)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_translator_in_half_precision_is_told_how_to_be_trained(tmp_path, tiny_model, dtype):
    tiny_model.to(getattr(torch, dtype)).save_pretrained(tmp_path / "half")
    with pytest.raises(ValueError, match=f"`model` is in {dtype}, .* `dtype=torch.float32`"):
        trainer_of(Vec2VecModel.from_pretrained(tmp_path / "half"), tmp_path)
    trainer_of(Vec2VecModel.from_pretrained(tmp_path / "half", dtype=torch.float32), tmp_path).train()


def test_an_optimizer_that_lacks_the_discriminators_is_refused(tmp_path, tiny_model, tiny_config):
    optimizer = torch.optim.SGD(tiny_model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match="`optimizers` .* instance 'discriminators.a.layers.0.weight'"):
        trainer_of(tiny_model, tmp_path, given={"optimizers": (optimizer, None)})
    trainer_of(tiny_model, tmp_path, given={"optimizers": (optimizer, None)}, objective="energy").train()
    both = Vec2VecForAdversarialTraining(tiny_config)
    trainer = trainer_of(both, tmp_path, given={"optimizers": (torch.optim.SGD(both.parameters(), lr=0.1), None)})
    before = weights(trainer)
    trainer.train()
    assert all(not torch.equal(value, before[name]) for name, value in weights(trainer).items() if "output.bias" in name)


def test_an_optimizer_by_its_class_is_the_one_that_trains(tmp_path, tiny_model):
    chosen = {"optimizer_cls_and_kwargs": (torch.optim.SGD, {"lr": 0.5, "momentum": 0.25})}
    trainer = trainer_of(tiny_model, tmp_path, given=chosen, discriminator_learning_rate=0.125, lr_scheduler_type="constant")
    trainer.train()
    assert isinstance(trainer.optimizer.optimizer, torch.optim.SGD)
    groups = {group["name"]: (group["lr"], group["momentum"]) for group in trainer.optimizer.param_groups}
    assert groups == {"translator": (0.5, 0.25), "discriminator": (0.125, 0.25)}


def test_what_was_frozen_stays_as_it_is(tmp_path, tiny_model):
    tiny_model.backbone.requires_grad_(False)
    trainer = trainer_of(tiny_model, tmp_path, learning_rate=0.01)
    before = weights(trainer)
    trainer.train()
    same = {name for name, value in weights(trainer).items() if torch.equal(value, before[name])}
    assert same == {f"vec2vec.backbone.{name}" for name, _ in tiny_model.backbone.named_parameters()}
    assert not any(parameter.requires_grad for parameter in tiny_model.backbone.parameters())
    assert all(p.requires_grad for name, p in trainer.model.named_parameters() if name not in same)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_an_evaluation_leaves_out_no_row(tmp_path, norm):
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, discriminator_hidden_dim=16, norm=norm)
    held_out = UnpairedEmbeddings(spaces(40))
    drops = {"dataloader_drop_last": True} if norm == "layer" else {}  # else the trainer sets it by itself
    whole, parts = (
        build(tmp_path, config, held_out, per_device_eval_batch_size=size, **drops).evaluate()["eval_loss"]
        for size in (1024, 20)
    )
    assert whole == pytest.approx(parts, rel=0.1)


@pytest.mark.parametrize("objective", DISTANCES)
def test_a_last_row_by_itself_is_evaluated(tmp_path, objective):
    trainer = build(
        tmp_path, eval_dataset=UnpairedEmbeddings(spaces(40)), per_device_eval_batch_size=13, objective=objective
    )
    assert 0 < trainer.evaluate()["eval_loss"] < float("inf")


@pytest.mark.parametrize("call", ["evaluate", "predict"])
def test_rows_to_evaluate_on_are_those_of_the_model(tmp_path, call):
    trainer = build(tmp_path, names=("a", "b", "c"), eval_dataset=UnpairedEmbeddings(spaces(40, ("a", "b", "c"))))
    asked, name = getattr(trainer, call), {"evaluate": "eval_dataset", "predict": "test_dataset"}[call]
    with pytest.raises(ValueError, match=f"`{name}` has the spaces and dimensions .* but the model has"):
        asked(UnpairedEmbeddings({"b": torch.randn(9, 4), "c": torch.randn(9, 5)}))
    with pytest.raises(ValueError, match=f"`{name}` has the spaces and dimensions"):
        asked(UnpairedEmbeddings(spaces(9) | {"c": torch.randn(9, 6)}))
    with pytest.raises(TypeError, match=f"`{name}` must be UnpairedEmbeddings or PairedEmbeddings, got Tensor"):
        asked(torch.randn(9, 6))
    assert asked(PairedEmbeddings(spaces(20, ("a", "b", "c"))))


def test_with_persistent_workers_too_the_rows_that_were_given_are_evaluated(tmp_path):
    held_out, others = (UnpairedEmbeddings(spaces(rows)) for rows in (40, 30))
    workers = {"dataloader_num_workers": 1, "dataloader_persistent_workers": True}
    found = [build(tmp_path, eval_dataset=held_out).evaluate(others), None]
    trainer = build(tmp_path, eval_dataset=held_out, **workers)
    trainer.evaluate()
    found[1] = trainer.evaluate(others)
    del trainer
    gc.collect()
    assert not active_children()  # workers that live on hold pipes that other tests wait for
    assert found[0]["eval_loss"] == found[1]["eval_loss"]
    assert found[0]["eval_alignment_score"] == found[1]["eval_alignment_score"]


def test_batches_can_be_read_by_processes_that_are_started_anew(tmp_path, tiny_model):
    trainer = trainer_of(tiny_model, tmp_path)
    loader = trainer.get_train_dataloader()
    assert pickle.loads(pickle.dumps(loader.collate_fn))({"a": 1}) == {"a": 1}
    assert pickle.loads(pickle.dumps(loader.dataset)).dims == {"a": 6, "b": 4}
