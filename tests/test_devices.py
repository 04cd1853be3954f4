"""Nothing makes a tensor on the CPU that meets one on a GPU: seen without a GPU, on a device that refuses the mixture."""

import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from helpers.encoders import TEXTS
from helpers.other_device import OTHER, Elsewhere, other_device
from hf_vec2vec import TextEncoder, Vec2VecConfig, Vec2VecForAdversarialTraining, Vec2VecModel, align
from hf_vec2vec.training.losses import discriminator_loss, generator_loss, gradient_penalty

QUICK = {"num_starts": 2, "num_anchors": 4, "steps": 1, "hidden_dim": 16, "progress": False}


@pytest.fixture
def device():
    with other_device() as device:
        yield device


def test_the_device_refuses_what_a_gpu_refuses(device):
    there = torch.ones(3).to(device)
    assert isinstance(there, Elsewhere)
    assert there.device == device
    assert there.cpu().tolist() == [1, 1, 1]
    with pytest.raises(RuntimeError, match="same device"):
        there + torch.ones(3)
    with pytest.raises(RuntimeError, match="generator"):
        torch.randn(3, device=device, generator=torch.Generator())
    with pytest.raises(RuntimeError, match="not repeatable"):
        there.index_add_(0, torch.zeros(3, dtype=torch.long).to(device), there)
    with pytest.raises(RuntimeError):
        there.numpy()


@pytest.mark.short_search
def test_alignment_runs_where_it_is_told_and_gives_the_same(device):
    a, b = make_cloud(400, 8, seed=1), make_cloud(400, 8, seed=2) @ random_rotation(8, 10)
    known = make_cloud(20, 8, seed=3)
    anchors = known, known @ random_rotation(8, 10)
    expected = align(a, b, anchors=anchors, **QUICK, device="cpu")
    found = align(a, b, anchors=anchors, **QUICK, device=device)
    assert not isinstance(found.rotation, Elsewhere)
    torch.testing.assert_close(found.rotation, expected.rotation)
    model = Vec2VecModel.from_alignment(found, allow_not_aligned=True).to(device)
    translated = model.translate(a, source="source", target="target")
    assert translated.device.type == "cpu"
    on_cpu = Vec2VecModel.from_alignment(expected, allow_not_aligned=True).translate(a, source="source", target="target")
    torch.testing.assert_close(translated, on_cpu, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("phase", ["translator", "discriminator"])
def test_a_training_step_stays_on_the_device(device, phase):
    torch.manual_seed(0)
    translator = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16)).to(device)
    model = Vec2VecForAdversarialTraining.from_translator(translator)
    rows = {"a": torch.randn(8, 6).to(device), "b": torch.randn(8, 4).to(device)}
    output = model(rows, phase=phase, input_gradients=phase == "discriminator")
    if phase == "translator":
        loss = sum(generator_loss(fake) for fake in output.fake_logits.values())
    else:
        loss = discriminator_loss(output.real_logits["b"], output.fake_logits["a", "b"])
        loss = loss + gradient_penalty(output.real_logits["a"], output.rows["a"])
    loss.backward()
    assert loss.device == device
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    assert gradients
    assert all(isinstance(gradient, Elsewhere) for gradient in gradients)


@pytest.mark.parametrize("kind", ["bert", "llama"])  # sentence-transformers moves its own
def test_encoders_run_on_the_device(kind, request, monkeypatch):
    monkeypatch.setattr(torch, "inference_mode", torch.no_grad)  # which the stand-in cannot follow
    encoder = TextEncoder(request.getfixturevalue(kind), device="cpu")
    expected = encoder.encode(TEXTS, progress=False)
    with other_device():
        encoder.model.to(OTHER)
        encoder.device = OTHER
        found = encoder.encode(TEXTS, progress=False)
    torch.testing.assert_close(found, expected)


def test_an_inverter_learns_and_writes_on_the_device(inverter):  # noqa: F811
    rows = torch.randn(4, 12)
    with other_device():
        inverter.to(OTHER)
        assert len(inverter.fit(rows, TEXTS[:4], steps=1, batch_size=2)) == 1
        assert len(inverter.invert(rows)) == 4
