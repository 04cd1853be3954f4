import pytest
import torch
from torch.nn import functional as F

from hf_vec2vec.metrics.mixed_index import fair_length


def test_inexact_rows_get_a_fair_share():
    torch.manual_seed(0)
    subjects = torch.randn(50, 32)
    texts = F.normalize(subjects.repeat(40, 1) + 0.4 * torch.randn(2000, 32), dim=1)
    rows = texts.clone()
    rows[1000:] = F.normalize(rows[1000:] + 0.1 * torch.randn(1000, 32), dim=1)  # translated
    queries = F.normalize(subjects + 0.4 * torch.randn(50, 32), dim=1)

    def share(index: torch.Tensor) -> float:
        return (((queries @ index.T).topk(10).indices >= 1000).float().mean()).item()

    length = fair_length(rows[:1000], 3 * rows[1000:], queries)  # whatever their length is now
    assert length > 1.05
    before, after = share(rows), share(torch.cat([rows[:1000], length * rows[1000:]]))
    assert abs(after - 0.5) < abs(before - 0.5) / 2
    assert fair_length(texts[:1000], texts[1000:], queries) == pytest.approx(1, abs=0.01)


def test_arrays_of_any_length_have_the_length_of_tensors():
    rows, others, queries = torch.rand(3, 20, 4, generator=torch.Generator().manual_seed(0)).unbind()
    expected = fair_length(rows, others, queries)
    assert fair_length(rows.numpy(), others.numpy(), queries.tolist()) == expected
    assert fair_length(1e-20 * rows, 1e20 * others, queries) == pytest.approx(expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert fair_length(rows, others, queries) == expected


def test_what_is_refused():
    rows = F.normalize(torch.rand(20, 4), dim=1)
    with pytest.raises(ValueError, match="`k` must be between 1 and the 5 rows of `translated`, got 10"):
        fair_length(rows, rows[:5], rows)
    with pytest.raises(ValueError, match="of another space"):
        fair_length(rows, -rows, rows)
    with pytest.raises(ValueError, match="`translated`"):
        fair_length(rows, rows[:, :3], rows)
