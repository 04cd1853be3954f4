import torch

from helpers.clouds import random_rotation
from hf_vec2vec.alignment import polar_factor


def test_polar_factor_is_the_best_rotation():
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    rotation = random_rotation(5, 7)
    torch.testing.assert_close(polar_factor(x.T @ (x @ rotation)), rotation, rtol=0, atol=1e-5)
