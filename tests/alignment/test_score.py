import pytest
import torch

from hf_vec2vec import alignment_score


def test_alignment_score_is_one_for_the_same_rows_in_any_order():
    rows = torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert alignment_score(rows, rows.flip(0)) == pytest.approx(1.0)
    assert alignment_score(rows, torch.randn(50, 8, generator=torch.Generator().manual_seed(1))) < 0.9
