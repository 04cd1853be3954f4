import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import random_rotation
from hf_vec2vec.distillation.losses import (
    contrastive_loss,
    cosine_loss,
    effective_rank,
    gram_loss,
    language_modelling_loss,
    soft_label_loss,
    squared_error_loss,
    universal_logit_loss,
)


def rows(n=6, d=5, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_losses_of_equal_rows_are_zero():
    for loss in (cosine_loss, squared_error_loss, gram_loss):
        assert loss(rows(), rows()).item() == pytest.approx(0, abs=1e-6)
    assert contrastive_loss(rows(), rows()).item() < 0.1


def test_values_by_hand():
    a, b = torch.tensor([[1.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 3.0], [0.0, 1.0]])
    assert cosine_loss(a, b).item() == pytest.approx((1 + 0) / 2)
    assert squared_error_loss(a, b).item() == pytest.approx((1 + 9 + 0 + 1) / 4)
    assert gram_loss(a, b).item() == pytest.approx(1.0)  # one pair of rows: cosine 0 and cosine 1
    logits = torch.tensor([[0.0, 1.0], [0.0, 1.0]]) / 0.5
    own = torch.arange(2)
    expected = (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2
    assert contrastive_loss(a, b, 0.5).item() == pytest.approx(expected.item())


def test_the_gram_loss_sees_neither_rotation_nor_dimension():
    rotated = rows() @ random_rotation(5, 9)
    assert gram_loss(rows(), rotated).item() == pytest.approx(0, abs=1e-6)
    assert gram_loss(rows(), rows(seed=1) @ random_rotation(5, 9)).item() > 0.05
    alone = rows(1).requires_grad_()
    gram_loss(alone, rows(1, seed=1)).backward()  # a last batch of one text
    assert alone.grad.abs().sum() == 0


def test_language_modelling_loss_is_a_mean_over_texts_and_ignores_padding():
    ids, mask = torch.tensor([[1, 2, 3, 0], [2, 1, 2, 1]]), torch.tensor([[1, 1, 1, 0], [1, 1, 1, 1]])
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    each = [F.cross_entropy(logits[0, :2], ids[0, 1:3]), F.cross_entropy(logits[1, :3], ids[1, 1:])]
    assert language_modelling_loss(logits, ids, mask).item() == pytest.approx(sum(each).item() / 2)
    changed = ids.clone()
    changed[0, 3] = 4
    assert language_modelling_loss(logits, changed, mask) == language_modelling_loss(logits, ids, mask)


def test_effective_rank_counts_dimensions():
    flat = rows(200, 3) @ rows(3, 10, 1)
    assert effective_rank(flat) <= 3.01
    assert 9 < effective_rank(rows(2000, 10)) < 10.01
    assert effective_rank(torch.ones(5, 4)) == pytest.approx(1, abs=0.01)


def test_sorted_probabilities_by_hand():
    student = torch.tensor([[[0.5, 0.25, 0.25], [0.2, 0.2, 0.6]]]).log()
    teacher = torch.tensor([[[0.1, 0.6, 0.2, 0.1], [0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]]).log()
    ones = torch.ones(1, 3)
    first, second = (0.1 + 0.05 + 0.15 + 0.1), (0.35 + 0.05 + 0.05 + 0.25)
    assert universal_logit_loss(student, teacher, ones[:, :2], ones).item() == pytest.approx((first + second) / 2)
    cut = torch.tensor([[1.0, 0.0]])
    assert universal_logit_loss(student, teacher, cut, ones).item() == pytest.approx(first)
    shuffled = student[..., torch.tensor([2, 0, 1])]
    assert universal_logit_loss(student, shuffled, ones[:, :2], ones[:, :2]).item() == pytest.approx(0, abs=1e-6)


def test_soft_labels_by_hand():
    teacher = torch.tensor([[2.0, 0.0]])
    student = torch.tensor([[0.0, 0.0]])
    p = torch.tensor([1.0, 0.0]).softmax(0)  # at temperature 2
    expected = 4 * (p * (p / 0.5).log()).sum()
    torch.testing.assert_close(soft_label_loss(student, teacher), expected)
    torch.testing.assert_close(soft_label_loss(student, teacher.log_softmax(1)), expected)  # probabilities will do
    assert soft_label_loss(teacher + 3, teacher).abs() < 1e-6
