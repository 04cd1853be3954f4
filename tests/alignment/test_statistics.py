import torch

from hf_vec2vec.alignment import fit_statistics


def test_statistics_standardize_where_one_dimension_dominates():
    rows = torch.randn(500, 40, generator=torch.Generator().manual_seed(0))
    rows[:, 3] *= 100
    mean, scale = fit_statistics(rows)
    torch.testing.assert_close(((rows - mean) / scale).std(0, correction=0), torch.ones(40), rtol=1e-4, atol=1e-4)
    _, scale = fit_statistics(rows[:, 4:])
    assert len(scale.unique()) == 1
