import torch

from hf_vec2vec import Vec2VecForAdversarialTraining

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
    assert not output.translations["a", "b"].requires_grad
    assert output.rows["a"].requires_grad
    sum(logits.sum() for logits in (*output.real_logits.values(), *output.fake_logits.values())).backward()
    assert all(p.grad is None for p in model.vec2vec.parameters())
    assert all(p.grad is not None for p in model.discriminators.parameters())


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
