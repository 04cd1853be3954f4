"""Numbers that no run can use fail when the arguments are made, by name."""

import math

import pytest

from hf_vec2vec.distillation import DistillationTrainingArguments
from hf_vec2vec.training import TranslatorArguments, Vec2VecTrainingArguments

BOTH = [Vec2VecTrainingArguments, DistillationTrainingArguments]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("num_train_epochs", value) for value in (-1.0, -0.5, math.nan, math.inf)],
        *[("max_steps", value) for value in (-5, -2, 0)],
        *[("learning_rate", value) for value in (-1e-3, math.nan, math.inf)],
        *[("weight_decay", value) for value in (-0.1, math.nan)],
        *[("max_grad_norm", value) for value in (-1.0, math.nan)],
        *[
            (name, 0)
            for name in ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps")
        ],
        *[("logging_steps", value) for value in (0, -3)],
        ("warmup_steps", -1),
        *[("adam_beta1", value) for value in (math.nan, -0.1, 1.0, 2.0)],
        *[("adam_beta2", value) for value in (-1.0, 1.0)],
        *[("adam_epsilon", value) for value in (0.0, -1e-8)],
        *[("save_total_limit", value) for value in (0, -2)],
        *[
            (name, -1)
            for name in ("dataloader_num_workers", "data_seed", "eval_accumulation_steps", "eval_delay", "eval_steps")
        ],
        ("neftune_noise_alpha", -1.0),
        ("ddp_timeout", 0),
        ("label_smoothing_factor", 0.1),
        ("dataloader_prefetch_factor", 2),
        ("load_best_model_at_end", True),
        ("fp16", True),
        ("remove_unused_columns", True),
        ("fp16_full_eval", True),
        ("bf16_full_eval", True),
        ("include_for_metrics", ["loss", "inputs"]),
    ],
)
def test_both_trainers_refuse(tmp_path, kind, name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        kind(output_dir=str(tmp_path), **{name: value})


@pytest.mark.parametrize(
    "given",
    [{"eval_strategy": "steps", "eval_steps": 2}, {"eval_strategy": "no"},
     {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 2, "save_steps": 3},
     {"eval_strategy": "steps", "save_strategy": "steps", "eval_steps": 0.3, "save_steps": 2}],
    ids=str,
)  # fmt: skip
def test_a_best_checkpoint_needs_an_evaluation_at_every_save(tmp_path, given):
    chosen = {"load_best_model_at_end": True, "save_strategy": "epoch"}
    with pytest.raises(ValueError, match="`load_best_model_at_end` requires"):
        Vec2VecTrainingArguments(str(tmp_path), **chosen | given)


@pytest.mark.parametrize(
    "given",
    [{"gradient_checkpointing": True}, {"activation_checkpointing": True}, {"use_liger_kernel": True},
     {"neftune_noise_alpha": 5.0}],
    ids=str,
)  # fmt: skip
def test_a_translator_has_no_layers_of_language_models(tmp_path, given):
    with pytest.raises(ValueError, match=f"`{min(given)}` is .* a translator has none"):
        Vec2VecTrainingArguments(str(tmp_path), **given)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("given", "named"),
    [({"eval_strategy": "sometimes"}, "sometimes"), ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "lr_scheduler_type"),
     ({"accelerator_config": {"no_such_thing": 1}}, "no_such_thing")],
    ids=str,
)  # fmt: skip
def test_what_transformers_refuses_is_bad_input(tmp_path, kind, given, named):
    with pytest.raises(ValueError, match=f"`.*({named})"):
        kind(output_dir=str(tmp_path), **given)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("folder", [None, ""])
def test_a_folder_must_be_named(kind, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="`output_dir` must be given"):
        kind(output_dir=folder)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", BOTH)
def test_what_is_unusual_but_sound_passes(kind, tmp_path):
    kind(str(tmp_path), num_train_epochs=0, learning_rate=0.0, max_grad_norm=0.0, logging_steps=0.1, max_steps=-1)


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (Vec2VecTrainingArguments, "cycle_weight"),
        (Vec2VecTrainingArguments, "r1_penalty_weight"),
        (Vec2VecTrainingArguments, "discriminator_learning_rate"),
        (DistillationTrainingArguments, "cosine_weight"),
        (DistillationTrainingArguments, "gram_weight"),
        (DistillationTrainingArguments, "contrastive_temperature"),
        (DistillationTrainingArguments, "collapse_threshold"),
    ],
)
def test_weights_are_finite_and_not_negative(tmp_path, kind, name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        kind(output_dir=str(tmp_path), **{name: value})


@pytest.mark.parametrize(("name", "value"), [("max_length", 0), ("max_length", -1), ("span_words", -2)])
def test_lengths_are_counts(tmp_path, name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        DistillationTrainingArguments(str(tmp_path), **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("standardize", value) for value in ("yes", "True", True, "")],
        ("init", "procrustes"),
        ("architecture", "large"),
        ("align_starts", 0),
        ("align_steps", -1),
        ("validation_rows", -1),
        ("align_rows", 0),
        ("hidden_dim", -3),
        ("adapter_layers", -1),
        *[("dropout", value) for value in (math.nan, -0.1, 1.5)],
    ],
)
def test_a_translators_shape_and_start(name, value):
    with pytest.raises(ValueError, match=f"`{name}`"):
        TranslatorArguments(**{name: value})
