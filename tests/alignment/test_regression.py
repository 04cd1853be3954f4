import torch

from hf_vec2vec.alignment import ridge


def test_ridge_without_penalty_is_least_squares():
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(50, 4, generator=generator), torch.randn(4, 3, generator=generator)
    torch.testing.assert_close(ridge(x, x @ weight, 0.0), weight, rtol=1e-4, atol=1e-4)
