import itertools
import sys
import time
from functools import partial

import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import random_rotation
from hf_vec2vec.evaluation.other_methods import (
    _assignment,
    _csls_pairs,
    _mean_of_nearest,
    adversarial_map,
    mini_vec2vec,
    of_raw_rows,
    wasserstein_procrustes,
)
from hf_vec2vec.evaluation.transport import transport_map

CLUSTERS = 12
METHODS = {
    "mini_vec2vec": partial(
        mini_vec2vec, runs=12, clusters=10, restarts=6, neighbours=15, iterations=30, refine_clusters=60
    ),
    "wasserstein_procrustes": partial(wasserstein_procrustes, restarts=5, clusters=CLUSTERS, batch=1000, iterations=8),
    "adversarial_map": partial(adversarial_map, hidden=32, steps=100, epochs=2),
}


def islands(rows: int, seed: int) -> torch.Tensor:
    """Rows around a few centres that are further apart than wide: the published methods need an easier cloud than ours."""
    world = torch.Generator().manual_seed(11)
    axes = torch.linspace(1.5, 0.5, 24)
    centres = torch.randn(CLUSTERS, 24, generator=world)
    weights = torch.rand(CLUSTERS, generator=world) + 0.2
    draws = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(weights, rows, replacement=True, generator=draws)
    return (centres[labels] + 0.4 * torch.randn(rows, 24, generator=draws)) * axes


def make_spaces(rotation: torch.Tensor, rows: int = 1500) -> tuple[torch.Tensor, ...]:
    """Disjoint training rows of both spaces, and held-out pairs, all normalised."""
    a, b, x = islands(rows, seed=2), islands(rows, seed=3) @ rotation, islands(500, seed=4)
    spaces = (a - a.mean(0), b - b.mean(0), x - a.mean(0), x @ rotation - b.mean(0))
    return tuple(F.normalize(s, dim=1) for s in spaces)


def mean_cosine(weight: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> float:
    return F.cosine_similarity(x @ weight, y).mean().item()


def assert_semi_orthogonal(weight: torch.Tensor) -> None:
    torch.testing.assert_close(torch.linalg.svdvals(weight), torch.ones(min(weight.shape)), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("name", "width"), [("mini_vec2vec", 24), ("mini_vec2vec", 32), ("wasserstein_procrustes", 32)])
def test_known_rotation_is_recovered_from_disjoint_rows(name, width):
    a, b, x, y = make_spaces(random_rotation(24, width))
    weight = METHODS[name](a, b)
    assert weight.shape == (24, width)
    assert mean_cosine(weight, x, y) > 0.9
    if name == "wasserstein_procrustes":  # mini-vec2vec returns an average of rotations
        assert_semi_orthogonal(weight)


def test_adversarial_map_undoes_a_rotation_that_is_not_too_far():
    """From a random one it fails, as it does on real encoders within the time that it has here."""
    skew = torch.randn(24, 24, generator=torch.Generator().manual_seed(1))
    a, b, x, y = make_spaces(torch.matrix_exp(0.15 * (skew - skew.T)))
    assert mean_cosine(torch.eye(24), x, y) < 0.7
    rough, refined = (METHODS["adversarial_map"](a, b, refinements=n) for n in (0, 2))
    assert mean_cosine(rough, x, y) > 0.8
    assert mean_cosine(refined, x, y) > 0.95
    assert_semi_orthogonal(refined)


@pytest.mark.parametrize("name", METHODS)
def test_the_seed_decides_and_global_randomness_does_not(name):
    a, b, _, _ = make_spaces(random_rotation(24, 32), rows=200)
    small = {
        "mini_vec2vec": {"runs": 1, "iterations": 2, "refine_sample": 50},
        "wasserstein_procrustes": {"restarts": 1, "clusters": 5, "batch": 100, "iterations": 2},
        "adversarial_map": {"steps": 20, "epochs": 1, "refinements": 0},
    }[name]
    method = partial(METHODS[name], a, b, **small)
    first = method(seed=3)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    torch.testing.assert_close(method(seed=3), first, rtol=0, atol=1e-6)
    assert torch.equal(torch.get_rng_state(), state)
    assert (method(seed=4) - first).abs().max() > 1e-3


def test_raw_rows_of_any_length_are_translated_alike():
    a, b, x, y = make_spaces(rotation := random_rotation(24, 24))
    small = of_raw_rows(rotation, a + 1, b + 1)(x + 1)
    large = of_raw_rows(rotation, a + 1, 10 * (b + 1))(x + 1)  # an encoder whose rows are longer
    torch.testing.assert_close(large, 10 * small)
    assert F.cosine_similarity(small, y + 1).mean() > 0.99


@pytest.mark.parametrize(("batch", "taken"), [(10_000, 200), (50, 50)])
def test_every_round_of_wasserstein_procrustes_matches_other_rows(batch, taken, monkeypatch):
    """With all rows in each it would stand still at its first fixed point."""
    a, b, _, _ = make_spaces(random_rotation(24, 24), rows=400)
    rounds = []

    def recorded(queries, keys):
        rounds.append(keys)
        return _assignment(queries, keys)

    monkeypatch.setattr("hf_vec2vec.evaluation.other_methods._assignment", recorded)
    METHODS["wasserstein_procrustes"](a, b, restarts=1, clusters=6, batch=batch, iterations=5)
    assert all(len(keys) == taken for keys in rounds)
    assert len(rounds) == 400 // taken + 5  # the blocks of the start, then rounds
    for first, second in itertools.pairwise(rounds[-5:]):
        assert not torch.equal(first.sort(0).values, second.sort(0).values)


@pytest.mark.slow
def test_a_start_without_the_widest_axis_is_not_led_astray_by_it():
    """An axis that one encoder has for itself: wide, and nothing to do with the texts."""
    rotation = random_rotation(24, 24)
    a, b, x, y = make_spaces(rotation)
    noise = torch.randn(len(b), 1, generator=torch.Generator().manual_seed(6))
    own = F.normalize(b + 2.5 * noise * F.normalize(torch.ones(1, 24), dim=1), dim=1)
    found = [
        mean_cosine(METHODS["wasserstein_procrustes"](a, own, projected_out=axes, iterations=0), x, y) for axes in (0, 1)
    ]
    assert found[1] > found[0] + 0.1


def test_csls_pairs_of_the_right_map_are_the_true_pairs():
    a, _, _, _ = make_spaces(random_rotation(24, 24), rows=300)
    rotation, order = random_rotation(24, 24), torch.randperm(300, generator=torch.Generator().manual_seed(0))
    criterion, (rows, columns) = _csls_pairs(a, (a @ rotation)[order], rotation)
    assert criterion == pytest.approx(1, abs=1e-5)
    assert torch.equal(rows, torch.arange(300))
    assert torch.equal(order[columns], rows)


def test_mean_of_nearest_averages_the_nearest_keys():
    keys = F.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    values = torch.tensor([[1.0], [3.0], [100.0]])
    torch.testing.assert_close(_mean_of_nearest(keys[:1], keys, values, k=2), torch.tensor([[2.0]]))


@pytest.mark.parametrize("method", ["hungarian", "emd", "sinkhorn"])
def test_transport_between_raw_coordinates_finds_common_coordinates_and_no_others(method):
    if method != "hungarian":
        pytest.importorskip("ot")
    a, b, x, y = make_spaces(torch.eye(24, 32), rows=250)  # the wider space is the narrower one and zeros
    weight = transport_map(a, b, method)
    assert weight.shape == (24, 32)
    assert_semi_orthogonal(weight)
    assert mean_cosine(weight, x, y) > 0.9
    a, b, x, y = make_spaces(random_rotation(24, 32), rows=250)
    assert mean_cosine(transport_map(a, b, method), x, y) < 0.5


def test_exact_transport_of_equal_samples_is_the_matching():
    pytest.importorskip("ot")
    a, b, _, _ = make_spaces(random_rotation(24, 24), rows=300)
    torch.testing.assert_close(transport_map(a, b, "emd"), transport_map(a, b, "hungarian"), rtol=0, atol=1e-5)


def test_gromov_wasserstein_recovers_the_rotation_of_the_same_points():
    pytest.importorskip("ot")
    rotation = random_rotation(24, 32)
    a, _, x, _ = make_spaces(rotation, rows=150)
    shuffled = a[torch.randperm(150, generator=torch.Generator().manual_seed(0))] @ rotation
    weight = transport_map(a, shuffled, "entropic_gromov_wasserstein")
    assert weight.shape == (24, 32)
    assert_semi_orthogonal(weight)
    assert mean_cosine(weight, x, x @ rotation) > 0.9


def test_transport_of_few_wide_rows_costs_what_the_rows_do():
    rows = F.normalize(torch.randn(40, 4000, generator=torch.Generator().manual_seed(0)), dim=1)
    start = time.process_time()
    weight = transport_map(rows, rows.flip(0), "hungarian")
    assert time.process_time() - start < 20  # of a processor; by way of a matrix of 4,000 by 4,000 it is a minute
    torch.testing.assert_close(rows @ weight, rows, rtol=0, atol=1e-4)


def test_transport_samples_by_seed():
    a, b, _, _ = make_spaces(random_rotation(24, 24), rows=300)
    first, again, other = (transport_map(a, b, "hungarian", rows=50, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_what_is_missing_or_unknown_is_named(monkeypatch):
    rows = torch.eye(4)
    with pytest.raises(ValueError, match="hungarian, emd.*'wasserstein'"):
        transport_map(rows, rows, "wasserstein")
    monkeypatch.setitem(sys.modules, "ot", None)  # as if it were not installed
    with pytest.raises(ImportError, match="pip install POT"):
        transport_map(rows, rows, "emd")
