import torch

from hf_vec2vec.alignment import ridge
from hf_vec2vec.alignment.residual import fit_residual


def test_residual_learns_what_a_linear_map_cannot():
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    truth = x + 2 * x.roll(1, dims=1).abs()
    truth = truth - truth.mean(0)
    weight = ridge(x, truth, 0.0)
    more = {"hidden_dim": 200, "sharpness": 6.0}
    network = fit_residual(x, truth, weight, torch.eye(8), generator=torch.Generator().manual_seed(0), **more)
    fresh = torch.randn(500, 8, generator=torch.Generator().manual_seed(1))
    expected = fresh + 2 * fresh.roll(1, dims=1).abs() - 2 * (2 / torch.pi) ** 0.5
    cosine = torch.nn.functional.cosine_similarity
    assert cosine(network(fresh), expected).mean() > cosine(fresh @ weight, expected).mean() + 0.05
    lengths = [rows.square().sum(1).mean().sqrt() for rows in (network(fresh), fresh @ weight)]
    torch.testing.assert_close(*lengths, rtol=0.05, atol=0)


def test_residual_without_anything_to_add_is_the_linear_map():
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(0)
    network = fit_residual(x, x @ weight, weight, torch.eye(8), hidden_dim=50, generator=generator)
    assert torch.nn.functional.cosine_similarity(network(x), x @ weight).mean() > 0.97


def test_residual_holds_a_share_of_the_linear_map():
    """All of it is the map itself; lengths are the map's whatever the share."""
    x, partners = (torch.randn(2000, d, generator=torch.Generator().manual_seed(d)) for d in (8, 6))
    weight = torch.randn(8, 6, generator=torch.Generator().manual_seed(1))
    for share in (0.0, 0.3, 1.0):
        generator = torch.Generator().manual_seed(0)
        network = fit_residual(x, partners, weight, torch.eye(8), hidden_dim=50, share=share, generator=generator)
        measured = x[:100]  # those that are not fitted
        torch.testing.assert_close(network(measured).norm(), (measured @ weight).norm())
    torch.testing.assert_close(network(x), x @ weight)


def test_residual_is_the_same_whatever_the_blocks(monkeypatch):
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    outputs = []
    for block in (2048, 300):
        monkeypatch.setattr("hf_vec2vec.alignment.residual.BLOCK", block)
        generator = torch.Generator().manual_seed(0)
        outputs.append(fit_residual(x, x.abs(), torch.eye(8), torch.eye(8), hidden_dim=50, generator=generator)(x))
    torch.testing.assert_close(*outputs)


def test_no_prototype_is_a_row():
    """What is published holds averages of rows, also of rows that lie alone."""
    x = torch.nn.functional.normalize(torch.randn(300, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    generator = torch.Generator().manual_seed(0)
    network = fit_residual(x, x, torch.eye(64), torch.eye(64), hidden_dim=300, generator=generator)
    keys = torch.nn.functional.normalize(network.hidden[0][0].weight, dim=1)
    assert len(keys) == 28  # of 285 rows that are fitted
    assert (keys @ x.T).max() < 0.9
