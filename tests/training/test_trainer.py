import math

import pytest
import torch
from transformers import EarlyStoppingCallback, TrainerCallback

from helpers.clouds import make_cloud
from helpers.training import arguments, build, spaces, weights
from hf_vec2vec import (
    PairedEmbeddings,
    UnpairedEmbeddings,
    Vec2VecConfig,
    Vec2VecForAdversarialTraining,
    Vec2VecModel,
    Vec2VecTrainer,
    Vec2VecTrainingArguments,
)
from hf_vec2vec.training.arguments import LOSS_WEIGHTS, PRESETS
from hf_vec2vec.training.before_work import check_before_work
from hf_vec2vec.training.distances import DISTANCES


@pytest.mark.parametrize(("discriminator_steps", "moves"), [(1, "DTDT"), (2, "DDTD")])
def test_only_the_side_whose_turn_it_is_moves(tmp_path, discriminator_steps, moves):
    trainer = build(tmp_path, discriminator_steps=discriminator_steps, lr_scheduler_type="constant")
    seen = []

    class Watch(TrainerCallback):
        before = weights(trainer)

        def on_step_end(self, *args, **kwargs):
            after = weights(trainer)
            moved = {name.startswith("vec2vec.") for name in after if not torch.equal(after[name], self.before[name])}
            assert len(moved) == 1  # never both sides in one step
            seen.append("T" if moved.pop() else "D")
            self.before = after

    trainer.add_callback(Watch())
    trainer.train()
    assert "".join(seen) == moves


def test_every_component_is_logged_by_name(tmp_path):
    trainer = build(tmp_path, r1_penalty_weight=0.1, r2_penalty_weight=0.1)
    trainer.train()
    logged = trainer.state.log_history[0]
    parts = "generator latent_generator discriminator reconstruction cycle vsp reconstruction_vsp cycle_vsp"
    for name in ["loss", "discriminator_accuracy", "r1_penalty", "r2_penalty", *(f"{part}_loss" for part in parts.split())]:
        assert torch.isfinite(torch.tensor(logged[name])), name


def test_objective_is_the_weighted_sum_of_the_logged_parts(tmp_path):
    weights_by_term = {
        "adversarial_weight": 0.3,
        "latent_adversarial_weight": 0.7,
        "reconstruction_weight": 2.0,
        "cycle_weight": 5.0,
        "vsp_weight": 0.5,
        "reconstruction_vsp_weight": 0.75,
        "cycle_vsp_weight": 0.25,
    }
    trainer = build(tmp_path, **weights_by_term)
    output = trainer.model(spaces(), phase="translator")
    losses = trainer._translator_losses(output)
    names = ["generator", "latent_generator", "reconstruction", "cycle", "vsp", "reconstruction_vsp", "cycle_vsp"]
    total = sum(w * losses[f"{name}_loss"] for w, name in zip(weights_by_term.values(), names, strict=True))
    torch.testing.assert_close(losses["objective"], total)


def test_a_term_of_weight_zero_is_logged_without_a_graph_and_left_out_of_evaluation(tmp_path):
    trainer = build(tmp_path, cycle_weight=0.0)
    output = trainer.model.train()(spaces(), phase="translator")
    losses = trainer._translator_losses(output)
    assert {name: losses[name].requires_grad for name in ("cycle_loss", "cycle_vsp_loss", "vsp_loss")} == {
        "cycle_loss": False,
        "cycle_vsp_loss": False,
        "vsp_loss": True,
    }
    trainer.model.eval()
    evaluated = trainer._translator_losses(output)
    assert losses.keys() - evaluated.keys() == {"cycle_loss", "cycle_vsp_loss", "reconstruction_vsp_loss"}
    torch.testing.assert_close(evaluated["objective"], losses["objective"])


def test_each_side_has_its_learning_rate(tmp_path):
    trainer = build(tmp_path, learning_rate=1e-3, discriminator_learning_rate=2e-3)
    groups = {group["name"]: group for group in trainer.create_optimizer().param_groups}
    assert groups["translator"]["lr"] == 1e-3
    assert groups["discriminator"]["lr"] == 2e-3
    assert sum(len(g["params"]) for g in groups.values()) == len(list(trainer.model.parameters()))


def test_accumulation_equals_a_larger_batch(tmp_path):
    """Without the terms that compare rows of a batch with each other, two halves are worth one whole."""
    kwargs = {"vsp_weight": 0.0, "max_steps": 4, "lr_scheduler_type": "constant", "max_grad_norm": 0.0}
    whole = build(tmp_path, per_device_train_batch_size=32, **kwargs)
    halves = build(tmp_path, per_device_train_batch_size=16, gradient_accumulation_steps=2, **kwargs)
    whole.train()
    halves.train()
    for name, value in weights(whole).items():
        torch.testing.assert_close(weights(halves)[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("objective", DISTANCES)
def test_without_a_game_no_discriminator_is_asked_or_trained(tmp_path, objective):
    trainer = build(tmp_path, eval_dataset=UnpairedEmbeddings(spaces()), objective=objective, learning_rate=1e-2)
    before = weights(trainer)
    trainer.train()
    changed = {name.split(".")[0] for name, value in weights(trainer).items() if not torch.equal(value, before[name])}
    assert changed == {"vec2vec"}
    assert "discriminator_loss" not in trainer.state.log_history[0]
    described = trainer.facts()["arguments"]
    assert described["objective"] == objective
    assert "gan_loss" not in described
    assert math.isfinite(trainer.state.log_history[0]["generator_loss"])
    assert trainer.evaluate()["eval_loss"] > 0


def test_trust_keeps_translations_near_those_of_the_start(tmp_path):
    """The same updates leave the start less far behind, and its copy is not trained."""
    run = {"objective": "energy", "learning_rate": 3e-2, "max_steps": 30, "lr_scheduler_type": "constant"}
    ends = {}
    for weight in (0.0, 10.0):
        trainer = build(tmp_path / str(weight), trust_weight=weight, **run)
        rows = spaces()["a"]
        before = trainer.translator.eval().translate(rows, source="a", target="b")
        trainer.train()
        after = trainer.translator.eval().translate(rows, source="a", target="b")
        ends[weight] = torch.nn.functional.cosine_similarity(before, after).mean()
        assert ("trust_loss" in trainer.state.log_history[0]) == bool(weight)
    assert ends[10.0] > ends[0.0] + 0.3, ends


OTHERS = {"objective": "sliced_wasserstein", "trust_weight": 1.0}
R3GAN = PRESETS["r3gan"] | {"per_device_train_batch_size": 16, "discriminator_dim": 3}


@pytest.mark.parametrize("preset", [{}, R3GAN, R3GAN | {"bf16": True}, OTHERS])
@pytest.mark.parametrize("stop", [3, 9])  # within the first epoch of 6 batches and within the second
def test_resume_is_bit_exact(tmp_path, stop, preset):
    run = {"max_steps": 12, "save_strategy": "steps", "save_steps": stop} | preset
    straight = build(tmp_path / "straight", **run)
    straight.train()
    resumed = build(tmp_path / "resumed", **run)
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{stop}"))
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_evaluate_with_pairs_reports_translation_and_an_unpaired_score(tmp_path):
    held_out = make_cloud(60, 6, seed=9)
    pairs = PairedEmbeddings({"a": held_out, "b": held_out[:, :4]})
    metrics = build(tmp_path, eval_dataset=pairs).evaluate()
    for name in ("cosine", "centred_cosine", "top1", "top5", "mean_rank", "median_rank"):
        assert f"eval_a_to_b_{name}" in metrics
        assert f"eval_b_to_a_{name}" in metrics
    assert metrics["eval_a_to_b_pool_size"] == 60
    assert -1 <= metrics["eval_alignment_score"] <= 1
    assert metrics["eval_loss"] > 0


def test_score_of_paired_data_does_not_use_the_pairs(tmp_path):
    """Pairs give no advantage: the score of identical spaces stays below the 1 that a peek at pairs would give."""
    rows = make_cloud(80, 6, seed=9)
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 6}, hidden_dim=16)
    spaces = UnpairedEmbeddings({"a": rows, "b": rows + 1}, strict_unpaired=False)
    trainer = Vec2VecTrainer(Vec2VecModel(config), arguments(tmp_path), spaces, None)
    with torch.no_grad():
        for space in "ab":
            trainer.translator.input_adapters[space].linear.weight.copy_(torch.eye(12, 6))
            trainer.translator.output_adapters[space].linear.weight.copy_(torch.eye(6, 12))
    metrics = trainer.evaluate(PairedEmbeddings({"a": rows, "b": rows}))
    assert metrics["eval_a_to_b_top1"] == 1.0
    assert metrics["eval_alignment_score"] < 0.99


def test_evaluate_without_pairs_reports_the_score_alone(tmp_path):
    metrics = build(tmp_path, eval_dataset=UnpairedEmbeddings(spaces(40))).evaluate()
    assert "eval_alignment_score" in metrics
    assert not any("_to_" in name for name in metrics)


def test_best_checkpoint_by_the_unpaired_score(tmp_path):
    trainer = build(
        tmp_path,
        eval_dataset=UnpairedEmbeddings(spaces(40)),
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="alignment_score",
        greater_is_better=True,
    )
    trainer.train()
    scores = [log["eval_alignment_score"] for log in trainer.state.log_history if "eval_alignment_score" in log]
    assert trainer.state.best_metric == max(scores)
    assert trainer.evaluate()["eval_alignment_score"] == pytest.approx(max(scores), abs=1e-6)  # its weights are loaded


def test_training_stops_when_the_unpaired_score_no_longer_rises(tmp_path):
    trainer = build(
        tmp_path,
        eval_dataset=UnpairedEmbeddings(spaces(40)),
        learning_rate=0.0,  # nothing moves, so the second score is no better than the first
        max_steps=20,
        eval_strategy="steps",
        eval_steps=2,
        save_strategy="steps",
        save_steps=2,
        load_best_model_at_end=True,
        metric_for_best_model="alignment_score",
    )
    trainer.add_callback(EarlyStoppingCallback(early_stopping_patience=1))
    trainer.train()
    assert trainer.state.global_step == 4


def test_after_training_nothing_is_frozen(tmp_path):
    trainer = build(tmp_path, max_steps=3)
    trainer.train()
    assert all(p.requires_grad for p in trainer.model.parameters())


def test_a_last_batch_of_one_row_does_not_stop_batch_norm(tmp_path):
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, norm="batch")
    build(tmp_path, config=config, per_device_train_batch_size=19, max_steps=8).train()  # 96 rows: 5 batches and 1


@pytest.mark.parametrize("objective", DISTANCES)
def test_a_last_batch_of_one_row_does_not_stop_a_distance(tmp_path, objective):
    epoch = {"max_steps": -1, "num_train_epochs": 1, "objective": objective}
    trainer = build(tmp_path, per_device_train_batch_size=19, **epoch)
    trainer.train()
    assert trainer.state.global_step == 5  # of 19 rows each, of 96
    other = build(tmp_path, per_device_train_batch_size=20, **epoch)
    other.train()
    assert other.state.global_step == 5  # the last one of 16 rows


def test_batch_norm_trains_on_fewer_rows_than_the_default_batch(tmp_path):
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, norm="batch")
    of_default = Vec2VecTrainingArguments.per_device_train_batch_size
    trainer = build(tmp_path, config, per_device_train_batch_size=of_default, max_steps=-1, num_train_epochs=2)
    trainer.train()
    assert trainer.state.global_step == 2
    full = build(tmp_path, per_device_train_batch_size=of_default, dataloader_drop_last=True, max_steps=-1)
    with pytest.raises(ValueError, match="`per_device_train_batch_size` is 256, but the larger space has 96 rows"):
        full.train()


def test_rows_meet_in_another_order_each_epoch(tmp_path):
    trainer, met = build(tmp_path), []
    loader = trainer.get_train_dataloader()
    for epoch in range(2):
        loader.set_epoch(epoch)
        met.append(next(iter(loader)))
    assert not torch.equal(met[0]["a"], met[1]["a"])
    assert not torch.equal(met[0]["b"], met[1]["b"])


def test_data_seed_decides_which_rows_meet(tmp_path):
    def trained(**seeds):
        trainer = build(tmp_path, **seeds)
        trainer.train()
        return weights(trainer)

    plain, same, other = trained(seed=3), trained(seed=3, data_seed=3), trained(seed=3, data_seed=4)
    assert all(torch.equal(same[name], value) for name, value in plain.items())
    assert not all(torch.equal(other[name], value) for name, value in plain.items())


def test_half_precision_by_way_of_accelerate_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("accelerate.Accelerator.mixed_precision", "fp16")
    with pytest.raises(ValueError, match="`mixed_precision` is 'fp16'"):
        build(tmp_path)


def test_three_spaces_train(tmp_path):
    trainer = build(tmp_path, names=("a", "b", "c"), eval_dataset=UnpairedEmbeddings(spaces(40, ("a", "b", "c"))))
    before = weights(trainer)
    trainer.train()
    assert any(not torch.equal(before[n], p) for n, p in weights(trainer).items() if "adapters.c" in n)
    assert "eval_alignment_score" in trainer.evaluate()


def test_published_is_the_translator_alone(tmp_path):
    trainer = build(tmp_path)
    trainer.save_model(str(tmp_path / "published"))
    loaded, report = Vec2VecModel.from_pretrained(tmp_path / "published", output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    x = torch.randn(3, 6)
    assert torch.equal(loaded.translate(x, source="a", target="b"), trainer.translator.translate(x, source="a", target="b"))


def test_a_hub_that_cannot_be_reached_is_one_message(tmp_path):
    with pytest.raises(OSError, match="`repo_id` 'org/name': no commit was made, nothing is published"):
        build(tmp_path, push_to_hub=True, hub_model_id="org/name")
    trainer = build(tmp_path / "run")
    with pytest.raises(OSError, match="`repo_id` 'run': no commit was made, nothing is published"):
        trainer.push_to_hub()
    assert (tmp_path / "run" / "model.safetensors").exists()  # what it would have published


@pytest.mark.parametrize("preset", [{}, R3GAN])
def test_bfloat16_training_runs(tmp_path, preset):
    trainer = build(tmp_path, **preset | {"bf16": True})
    trainer.train()
    assert all(p.dtype == torch.float32 and p.isfinite().all() for p in trainer.model.parameters())


def test_penalties_in_bfloat16_are_those_of_float32(tmp_path):
    penalties = {"r1_penalty_weight": 1.0, "r2_penalty_weight": 1.0, "discriminator_norm": "none"}
    logged, moved = {}, {}
    for bf16 in (False, True):
        trainer = build(tmp_path, **penalties, bf16=bf16, max_steps=1, logging_steps=1, max_grad_norm=0, optim="sgd")
        before = weights(trainer)
        trainer.train()
        logged[bf16] = trainer.state.log_history[0]
        moved[bf16] = torch.cat([(after - before[name]).flatten() for name, after in weights(trainer).items()])
    for name in ("r1_penalty", "r2_penalty"):
        assert logged[True][name] == pytest.approx(logged[False][name], rel=0.05)
        assert logged[False][name] > 0
    assert torch.nn.functional.cosine_similarity(moved[True], moved[False], dim=0) > 0.99


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")  # of torch's own, when it compiles
@pytest.mark.parametrize(("backend", "tolerance"), [("eager", 0.0), ("inductor", 1e-3)])
def test_a_compiled_model_trains_alike_and_resumes_exactly(tmp_path, backend, tolerance):
    run = {"max_steps": 6, "save_strategy": "steps", "save_steps": 3, "learning_rate": 1e-3}
    compiled = {"torch_compile": True, "torch_compile_backend": backend}
    plain, straight = build(tmp_path / "plain", **run), build(tmp_path / "straight", **run, **compiled)
    plain.train()
    straight.train()
    resumed = build(tmp_path / "resumed", **run, **compiled)
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / "checkpoint-3"))
    for name, value in weights(plain).items():
        torch.testing.assert_close(weights(straight)[name], value, rtol=tolerance, atol=tolerance)
        assert torch.equal(weights(resumed)[name], weights(straight)[name]), name


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_valid_arguments(tmp_path, preset):
    args = Vec2VecTrainingArguments(output_dir=str(tmp_path), **PRESETS[preset])
    found = (args.learning_rate, args.discriminator_learning_rate, args.cycle_weight)
    assert found == ((2e-4, 2e-4, 0.1) if preset == "r3gan" else (2e-5, 1e-5, 10.0))


@pytest.mark.parametrize("optim", ["sgd", "adafactor"])
def test_an_optimizer_without_beta2_is_refused_before_work(tmp_path, optim):
    trainer = build(tmp_path, optim=optim, adam_beta2_end=0.99)
    message = f"`adam_beta2_end` is 0.99, but the optimizer has no beta2 .*`optim` is '{optim}'"
    with pytest.raises(ValueError, match=message):
        trainer.train()
    with pytest.raises(ValueError, match=message):
        check_before_work(trainer.args)


def test_penalties_rate_and_beta2_are_annealed(tmp_path):
    trainer = build(tmp_path, **PRESETS["r3gan"] | {"per_device_train_batch_size": 16, "max_steps": 8})
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            group = trainer.optimizer.param_groups[0]
            seen.append((group["betas"], group["lr"]))

    trainer.add_callback(Watch())
    trainer.train()
    middle = 4  # of 8, when the fifth update is made
    assert seen[0][0] == (0.0, pytest.approx(0.9))
    assert seen[middle][0] == (0.0, pytest.approx((0.9 + 0.99) / 2))
    assert seen[-1][1] == pytest.approx(0.25 * 2e-4)
    trainer.state.global_step = middle
    assert trainer._annealed(1.0, 0.1) == pytest.approx(0.55)


def test_the_average_of_the_weights_is_what_is_evaluated_saved_and_left(tmp_path):
    data = UnpairedEmbeddings(spaces(40))
    trainer = build(tmp_path, data_seed=1, eval_dataset=data, ema_decay=0.5, max_steps=6, lr_scheduler_type="constant")
    name = "vec2vec.input_adapters.a.linear.weight"
    seen = [weights(trainer)[name]]

    class Watch(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            last = weights(trainer)[name]
            if trainer.state.global_step % 2 == 0:  # the translator's turn
                seen.append(last)
            trainer.save_model(str(tmp_path / "published"))
            self.saved = Vec2VecModel.from_pretrained(tmp_path / "published").input_adapters["a"].linear.weight
            assert torch.equal(weights(trainer)[name], last)  # training goes on from the last weights

    watch = Watch()
    trainer.add_callback(watch)
    trainer.train()
    expected = seen[0] / 8 + seen[1] / 8 + seen[2] / 4 + seen[3] / 2
    torch.testing.assert_close(weights(trainer)[name], expected)
    torch.testing.assert_close(watch.saved, expected)


def test_the_best_checkpoint_brings_its_average(tmp_path):
    kept = {"save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2, "max_steps": 6}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "alignment_score"}
    data = UnpairedEmbeddings(spaces(40))
    trainer = build(tmp_path, eval_dataset=data, ema_decay=0.5, learning_rate=1e-2, **kept, **best)
    trainer.train()
    scores = [log["eval_alignment_score"] for log in trainer.state.log_history if "eval_alignment_score" in log]
    assert trainer.evaluate()["eval_alignment_score"] == pytest.approx(max(scores), abs=1e-6)


def test_a_checkpoint_without_an_average_is_refused(tmp_path):
    trainer = build(tmp_path, ema_decay=0.5, max_steps=4, save_strategy="steps", save_steps=2)
    trainer.train()
    (tmp_path / "checkpoint-2" / "average.safetensors").unlink()
    (tmp_path / "checkpoint-2" / "files.json").unlink()
    with pytest.raises(ValueError, match="no average of this model's weights, which `ema_decay` 0.5"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_batch_larger_than_the_rows_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`per_device_train_batch_size` is 97, but the larger space has 96 rows"):
        build(tmp_path, per_device_train_batch_size=97).train()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"fp16": True}, "`fp16`"),
        ({"remove_unused_columns": True}, "`remove_unused_columns`"),
        ({"discriminator_steps": 0}, "`discriminator_steps`"),
        (dict.fromkeys(LOSS_WEIGHTS, 0.0), "all weights of losses are 0"),
        ({"cycle_weight": -1.0}, "`cycle_weight`"),
        ({"r2_penalty_weight": -1.0}, "`r2_penalty_weight`"),
        ({"r1_penalty_weight": float("nan")}, "`r1_penalty_weight`"),
        ({"penalty_decay": -0.1}, "`penalty_decay`"),
        ({"ema_decay": 1.0}, "`ema_decay`"),
        ({"adam_beta2_end": 1.0}, "`adam_beta2_end`"),
        ({"discriminator_norm": "batch"}, "`discriminator_norm`"),
        ({"discriminator_dim": 0}, "`discriminator_dim`"),
        ({"gan_loss": "wasserstein"}, "`gan_loss`"),
        ({"objective": "chamfer"}, "`objective` must be one of"),
        ({"objective": "energy", "discriminator_steps": 2}, "`discriminator_steps` is of discriminators"),
        ({"trust_weight": -1.0}, "`trust_weight`"),
        ({"train_sampling_strategy": "sequential"}, "`train_sampling_strategy` is 'sequential'"),
        ({"distance": "manhattan"}, "`distance`"),
    ],
)
def test_bad_arguments(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        Vec2VecTrainingArguments(output_dir=str(tmp_path), **kwargs)


def test_bad_data_and_selection(tmp_path, tiny_model):
    args = arguments(tmp_path)
    with pytest.raises(TypeError, match="must not be paired"):
        Vec2VecTrainer(tiny_model, args, PairedEmbeddings({"a": torch.randn(3, 6), "b": torch.randn(3, 4)}))
    with pytest.raises(TypeError, match="`eval_dataset` must be"):
        Vec2VecTrainer(tiny_model, args, None, {"a": torch.randn(3, 6), "b": torch.randn(3, 4)})
    with pytest.raises(ValueError, match="`train_dataset` has the spaces"):
        Vec2VecTrainer(tiny_model, args, {"a": torch.randn(3, 6), "c": torch.randn(3, 4)})
    with pytest.raises(ValueError, match="`eval_dataset` has the spaces"):
        Vec2VecTrainer(tiny_model, args, None, UnpairedEmbeddings({"a": torch.randn(3, 7), "b": torch.randn(3, 4)}))
    args = arguments(tmp_path, metric_for_best_model="eval_a_to_b_top1")
    with pytest.raises(ValueError, match="`metric_for_best_model`.*pairs"):
        Vec2VecTrainer(tiny_model, args, spaces())


def test_discriminators_may_come_with_the_model(tmp_path, tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    assert Vec2VecTrainer(model, arguments(tmp_path), spaces()).model is model


@pytest.mark.parametrize(("name", "value"), [("discriminator_norm", "none"), ("discriminator_dim", 2)])
def test_discriminators_that_came_with_the_model_are_those_that_were_asked_for(tmp_path, tiny_config, name, value):
    with pytest.raises(ValueError, match=f"`{name}` is {value!r}, but the model came with discriminators of "):
        Vec2VecTrainer(Vec2VecForAdversarialTraining(tiny_config), arguments(tmp_path, **{name: value}), spaces())
    setattr(tiny_config, name, value)
    model = Vec2VecForAdversarialTraining(tiny_config)
    for given in ({name: value}, {}):  # what is not asked for, the model decides
        assert Vec2VecTrainer(model, arguments(tmp_path, **given), spaces()).model is model
