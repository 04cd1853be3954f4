import pytest
import torch

from hf_vec2vec.alignment import ridge
from hf_vec2vec.alignment.regression import solve_ridge


def test_ridge_without_penalty_is_least_squares():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(50, 4, generator=generator), torch.randn(4, 3, generator=generator)
    torch.testing.assert_close(ridge(x, x @ weight, 0.0), weight, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("rows", "dims"), [(20, (90, 7)), (3, (50, 60)), (89, (90, 90))])
@pytest.mark.parametrize("strength", [0.003, 0.3])
def test_fewer_rows_than_dimensions_give_the_same_map(rows, dims, strength):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(rows, dim, generator=generator, dtype=torch.float64) for dim in dims)
    expected = solve_ridge(x.T @ x, x.T @ y, strength)
    torch.testing.assert_close(ridge(x, y, strength), expected, rtol=1e-8, atol=1e-8)
