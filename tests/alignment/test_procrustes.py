import torch

from helpers.clouds import random_rotation
from hf_vec2vec.alignment import polar_factor
from hf_vec2vec.alignment.procrustes import spectral_power


def test_polar_factor_is_the_best_rotation():
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    rotation = random_rotation(5, 7)
    torch.testing.assert_close(polar_factor(x.T @ (x @ rotation)), rotation, rtol=0, atol=1e-5)


def test_spectral_power_joins_polar_factor_and_covariance():
    matrix = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(spectral_power(matrix, 0.0), polar_factor(matrix), rtol=0, atol=1e-5)
    torch.testing.assert_close(spectral_power(matrix, 1.0), matrix / torch.linalg.matrix_norm(matrix, 2))
