import math

import pytest
import torch
from torch.nn import functional as F

from hf_vec2vec.training.losses import (
    cycle_loss,
    discriminator_accuracy,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    reconstruction_loss,
    same_space_preservation_loss,
    vector_space_preservation_loss,
)

REAL, FAKE = torch.tensor([2.0, 0.0]), torch.tensor([1.0, -1.0])


@pytest.mark.parametrize("loss", [reconstruction_loss, cycle_loss])
def test_distance_losses_by_hand(loss):
    rows, out = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[1.0, 1.0], [0.0, 4.0]])
    assert loss(rows, out, "mse").item() == pytest.approx((1 + 4) / 4)
    assert loss(rows, out, "cosine").item() == pytest.approx(1 - (1 / math.sqrt(2) + 1) / 2)


def test_vector_space_preservation_by_hand():
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0]])  # cosine 0 off the diagonal
    translations = torch.tensor([[3.0, 0.0, 0.0], [3.0, 3.0, 0.0]])  # cosine 1/√2
    expected = 2 / math.sqrt(2) / 4  # two of four entries differ
    assert vector_space_preservation_loss(rows, translations).item() == pytest.approx(expected)


def test_rows_that_came_back_are_compared_with_those_that_left():
    rows, rotation = torch.randn(9, 4), torch.linalg.qr(torch.randn(4, 4))[0]
    assert same_space_preservation_loss(rows, 3 * rows).item() == pytest.approx(0, abs=1e-6)
    turned = same_space_preservation_loss(rows, rows @ rotation)  # which the other loss does not see
    gap = F.normalize(rows, dim=1) @ (torch.eye(4) - rotation) @ F.normalize(rows, dim=1).T
    torch.testing.assert_close(turned, gap.abs().mean())


def test_rotation_and_scale_preserve_the_vector_space():
    rows = torch.randn(10, 4, generator=torch.Generator().manual_seed(0))
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=torch.Generator().manual_seed(1)))[0]
    assert vector_space_preservation_loss(rows, 3 * rows @ rotation).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(
    ("kind", "discriminator", "generator"),
    [
        ("least_squares", ((1 + 1) / 2 + (1 + 1) / 2) / 2, ((0 + 4) / 2) / 2),
        (
            "vanilla",
            ((math.log(1 + math.exp(-2)) + math.log(2)) / 2 + (math.log(1 + math.exp(1)) + math.log(1 + math.exp(-1))) / 2)
            / 2,
            (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(1))) / 2,
        ),
        ("hinge", ((0 + 1) / 2 + (2 + 0) / 2) / 2, 0.0),
    ],
)
def test_adversarial_losses_by_hand(kind, discriminator, generator):
    assert discriminator_loss(REAL, FAKE, kind).item() == pytest.approx(discriminator)
    assert generator_loss(FAKE, kind).item() == pytest.approx(generator, abs=1e-7)


def test_relativistic_losses_by_hand():
    def softplus(x):
        return math.log(1 + math.exp(x))

    expected = (softplus(1.0 - 2.0) + softplus(-1.0 - 0.0)) / 2  # each real row with one translation
    assert discriminator_loss(REAL, FAKE, "relativistic").item() == pytest.approx(expected)
    expected = (softplus(2.0 - 1.0) + softplus(0.0 + 1.0)) / 2
    assert generator_loss(FAKE, "relativistic", REAL).item() == pytest.approx(expected)
    assert discriminator_accuracy(REAL, FAKE, "relativistic").item() == 1.0
    with pytest.raises(ValueError, match="`real_logits`"):
        generator_loss(FAKE, "relativistic")


def test_discriminator_accuracy_by_hand():
    assert discriminator_accuracy(REAL, FAKE, "least_squares").item() == pytest.approx(0.5)  # 2 > .5, -1 <= .5
    assert discriminator_accuracy(REAL, FAKE, "hinge").item() == pytest.approx(0.5)
    assert discriminator_accuracy(torch.ones(3), -torch.ones(2), "vanilla").item() == 1.0


def test_gradient_penalty_of_a_linear_discriminator_is_its_squared_weight():
    weight = torch.tensor([3.0, 4.0], requires_grad=True)
    rows = torch.randn(5, 2, requires_grad=True)
    penalty = gradient_penalty(rows @ weight, rows)
    assert penalty.item() == pytest.approx(25.0)
    penalty.backward()
    torch.testing.assert_close(weight.grad, 2 * weight.detach())
