"""Distances of two batches: zero for one distribution, blind to rotations, downhill where they are less."""

import pytest
import torch
from scipy import stats

from hf_vec2vec.training.distances import DISTANCES, energy_distance, mmd, sinkhorn_divergence, sliced_wasserstein


def rows(count: int, seed: int, dim: int = 6) -> torch.Tensor:
    """A skewed cloud of variance 1."""
    noise = torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))
    skewed = noise.exp()
    return (skewed - skewed.mean(0)) / skewed.std(0)


@pytest.mark.parametrize("name", DISTANCES)
def test_it_is_small_between_samples_of_one_cloud_and_large_to_another(name):
    torch.manual_seed(0)
    distance, real = DISTANCES[name], rows(400, 1)
    same, mirrored = distance(rows(400, 2), real), distance(-rows(400, 2), real)
    assert mirrored > 3 * same.abs()


@pytest.mark.parametrize("name", DISTANCES)
def test_turning_both_clouds_changes_nothing(name):
    distance, fake, real = DISTANCES[name], rows(300, 2) + 1, rows(300, 1)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=torch.Generator().manual_seed(3)))[0]
    values = []
    for a, b in ((fake, real), (fake @ turn, real @ turn)):
        torch.manual_seed(0)
        values.append(torch.stack([distance(a, b) for _ in range(20 if name == "sliced_wasserstein" else 1)]).mean())
    torch.testing.assert_close(values[0], values[1], rtol=0.05 if name == "sliced_wasserstein" else 1e-3, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in DISTANCES if name != "hubs"])  # which has no one lowest point
def test_its_gradient_leads_downhill(name):
    torch.manual_seed(0)
    shift = torch.full((6,), 1.5, requires_grad=True)
    optimizer = torch.optim.Adam([shift], lr=0.05)
    for step in range(60):
        optimizer.zero_grad()
        DISTANCES[name](rows(128, 2 * step) + shift, rows(128, 2 * step + 1)).backward()
        optimizer.step()
    assert shift.norm() < 0.25 * 1.5 * 6**0.5


def test_by_hand_and_by_scipy():
    a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0], [5.0]])
    assert energy_distance(a, b).item() == pytest.approx(2 * (1 + 5 + 1 + 3) / 4 - 2 - 4)
    x, y = rows(200, 1, dim=1), rows(200, 2, dim=1)
    unequal = (len(x) - 1) / len(x)  # scipy counts each row's distance to itself
    within = sum(torch.cdist(each, each).sum() / (len(each) * (len(each) - 1)) for each in (x, y))
    expected = stats.energy_distance(x[:, 0], y[:, 0]) ** 2
    assert energy_distance(x, y).item() == pytest.approx(expected + within.item() * (unequal - 1), abs=1e-4)
    sorted_gap = (x.sort(0).values - y.sort(0).values).square().mean()
    torch.testing.assert_close(sliced_wasserstein(x, y), sorted_gap)
    assert mmd(x, x.clone()).abs() < 1e-5
    assert sinkhorn_divergence(x, x.flip(0)).abs() < 1e-3
