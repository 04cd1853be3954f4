import torch

from helpers.clouds import make_cloud
from hf_vec2vec.alignment.start import partial_whitening


def test_partial_whitening_with_exponent_one_gives_unit_covariance():
    rows = make_cloud(2000)
    rows = rows - rows.mean(0)
    whitened = rows @ partial_whitening(rows, 1.0)
    torch.testing.assert_close(whitened.T @ whitened / len(rows), torch.eye(24), rtol=0, atol=1e-3)
    plain = rows @ partial_whitening(rows, 0.0)
    torch.testing.assert_close(plain @ plain.T, rows @ rows.T, rtol=1e-3, atol=1e-2)
