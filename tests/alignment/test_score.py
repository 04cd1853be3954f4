import pytest
import torch

from hf_vec2vec import alignment_score


def test_alignment_score_is_one_for_the_same_rows_in_any_order():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert alignment_score(rows, rows.flip(0)) == pytest.approx(1.0)
    assert alignment_score(rows, torch.randn(50, 8, generator=torch.Generator().manual_seed(1))) < 0.9
    assert alignment_score(rows.numpy(), rows.double()) == pytest.approx(1.0)


def test_rows_of_any_length_that_are_still_trained_have_the_score_of_others():
    rows, others = torch.randn(2, 50, 8, generator=torch.Generator().manual_seed(0))
    expected = alignment_score(rows, others)
    for size in (1e-30, 1e30, 1e300):
        assert alignment_score(size * rows.double(), size * others.double()) == pytest.approx(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert alignment_score(rows.clone().requires_grad_(), others) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("translated", "target", "message"),
    [
        (torch.ones(0, 8), torch.ones(5, 8), "`translated` is empty"),
        (torch.ones(5, 8), torch.ones(5, 7), "`target` has vectors of dimension 7, but this space has dimension 8"),
        (torch.full((5, 8), float("nan")), torch.ones(5, 8), r"`translated` has 5 row\(s\) with NaN"),
    ],
)
def test_rows_that_have_no_score_are_refused(translated, target, message):
    with pytest.raises(ValueError, match=message):
        alignment_score(translated, target)
