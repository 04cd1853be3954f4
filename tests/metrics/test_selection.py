import pytest
import torch

from hf_vec2vec.metrics.selection import largest, top


@pytest.mark.parametrize(("entries", "k"), [(5, 5), (60, 3), (61, 3), (1003, 30), (1000, 1)])
def test_top_finds_exactly_the_largest(entries, k):
    values = torch.randn(40, entries)
    expected = values.topk(k, dim=1)
    found, where = top(values, k)
    torch.testing.assert_close(found, expected.values)
    torch.testing.assert_close(where, expected.indices)


@pytest.mark.parametrize("dim", [0, 1])
def test_largest_are_exact_among_few_and_nearly_so_among_many(dim):
    few, many = torch.randn(90, 80), torch.randn(4000, 60)
    many = many if dim == 0 else many.T
    assert torch.equal(largest(few, 10, dim).sort(dim).values, few.topk(10, dim=dim).values.sort(dim).values)
    found, exact = largest(many, 10, dim), many.topk(10, dim=dim).values
    assert torch.equal(found.amax(dim), exact.amax(dim))
    assert (exact.mean(dim) - found.mean(dim)).mean() < 0.1 * exact.std(dim).mean()
    assert largest(few, 200, dim).shape == few.shape
