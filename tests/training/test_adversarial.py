import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecForAdversarialTraining
from hf_vec2vec.training.losses import gradient_penalty, judged_real, judged_translated

BATCH = {"a": torch.randn(5, 6), "b": torch.randn(5, 4)}


def test_translator_phase_gives_what_the_losses_need(tiny_config):
    output = Vec2VecForAdversarialTraining(tiny_config)(BATCH, phase="translator")
    assert output.reconstructions["a"].shape == output.round_trips["a", "b"].shape == (5, 6)
    assert output.translations["a", "b"].shape == (5, 4)
    assert output.fake_logits["a", "b"].shape == (5,)
    assert output.latent_logits["a"].shape == (5, 2)
    assert output.translations["a", "b"].requires_grad


def test_discriminator_phase_keeps_gradients_from_the_translator(tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    output = model(BATCH, phase="discriminator", input_gradients=True)
    assert output.translations["a", "b"].is_leaf  # a gradient stops here
    assert output.rows["a"].requires_grad
    sum(logits.sum() for logits in (*output.real_logits.values(), *output.fake_logits.values())).backward()
    assert all(p.grad is None for p in model.vec2vec.parameters())
    assert all(p.grad is not None for p in model.discriminators.parameters())


def test_penalties_reach_translations_and_latents(tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    output = model(BATCH, phase="discriminator", input_gradients=True)
    real, fake = judged_real(output), judged_translated(output)
    assert len(real) == len(fake) == 4  # two spaces, two columns of latents
    for logits, rows in (*real, *fake):
        assert gradient_penalty(logits, rows) > 0
    assert all(p.grad is None for p in model.vec2vec.parameters())


def test_real_rows_are_judged_without_gradients_if_asked(tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    assert model(BATCH).real_logits is None
    logits = model(BATCH, judge_real=True).real_logits["b"]
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model.discriminators["b"](BATCH["b"]).squeeze(1).detach())


def test_discriminators_see_whitened_widest_directions():
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 3}, discriminator_dim=4, discriminator_norm="none")
    model = Vec2VecForAdversarialTraining(config)
    rows = torch.randn(500, 6) * torch.tensor([1.0, 9.0, 2.0, 8.0, 7.0, 6.0])
    model.discriminators["a"].look_at(rows)
    seen = model.discriminators["a"].projection(rows - rows.mean(0))
    torch.testing.assert_close(seen.T @ seen / 500, torch.eye(4), rtol=1e-3, atol=1e-3)
    assert model.discriminators["a"].projection.weight[:, [0, 2]].abs().max() < 0.05  # the two narrowest axes
    assert model.discriminators["b"].projection is None  # it has no more
    assert not any(isinstance(module, torch.nn.LayerNorm) for module in model.discriminators.modules())


def test_detached_cycle_does_not_train_the_first_hop(tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    model(BATCH, detach_cycle=True).round_trips["a", "b"].sum().backward()
    assert model.vec2vec.input_adapters["a"].linear.weight.grad is None
    model(BATCH, detach_cycle=False).round_trips["a", "b"].sum().backward()
    assert model.vec2vec.input_adapters["a"].linear.weight.grad is not None


def test_discriminators_go_around_the_translator_itself(tiny_model):
    model = Vec2VecForAdversarialTraining.from_translator(tiny_model)
    assert model.vec2vec is tiny_model


def test_save_and_load(tmp_path, tiny_config):
    model = Vec2VecForAdversarialTraining(tiny_config)
    model.save_pretrained(tmp_path)
    loaded = Vec2VecForAdversarialTraining.from_pretrained(tmp_path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), loaded.parameters(), strict=True))
