import time

import pytest
import torch

from helpers.clouds import make_cloud, random_rotation, top1
from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.alignment.residual import fit_residual
from hf_vec2vec.alignment.subspace import Subspace, lifted_map, lifted_network, reduced_map


def test_a_space_of_more_rows_than_dimensions_stays_as_it_is():
    rows, weight = torch.randn(30, 7), torch.randn(7, 5)
    space, other = Subspace.of(rows), Subspace.of(torch.randn(5, 5))
    assert space.axes is None
    assert space.coordinates(rows) is rows
    assert torch.equal(lifted_map(weight, space, other), weight)
    assert torch.equal(reduced_map(weight, space, other), weight)


@pytest.mark.parametrize("rank", [3, 10])
def test_nothing_is_lost_where_rows_span_little(rank):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, rank, generator=generator) @ torch.randn(rank, 300, generator=generator)
    space = Subspace.of(rows)
    assert space.coordinates(rows).shape == (20, rank)
    torch.testing.assert_close(space.lifted(space.coordinates(rows)), rows, rtol=1e-4, atol=1e-3)


def test_the_longest_axes_are_kept_one_for_two_rows():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(20, 300, generator=generator)
    space = Subspace.of(rows)
    assert space.axes.shape == (300, 10)
    torch.testing.assert_close(space.axes.T @ space.axes, torch.eye(10), rtol=0, atol=1e-5)
    lengths = torch.linalg.svdvals(rows)
    lost = rows - space.lifted(space.coordinates(rows))
    torch.testing.assert_close(torch.linalg.svdvals(lost)[:10], lengths[10:], rtol=1e-4, atol=1e-3)


def test_maps_and_networks_are_the_same_in_both_coordinates():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(120, d, generator=generator) for d in (150, 130))
    a, b = Subspace.of(x), Subspace.of(y)
    weight = torch.randn(60, 60, generator=generator)
    lifted = lifted_map(weight, a, b)
    assert lifted.shape == (150, 130)
    torch.testing.assert_close(x @ lifted, b.lifted(a.coordinates(x) @ weight), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(reduced_map(lifted, a, b), weight, rtol=1e-3, atol=1e-3)
    inside = a.coordinates(x), b.coordinates(y)
    network = fit_residual(*inside, weight, torch.eye(60), hidden_dim=5, generator=generator)
    found = lifted_network(network, a, b)(x)
    torch.testing.assert_close(found, b.lifted(network(inside[0])), rtol=1e-3, atol=1e-3)


def test_a_space_of_more_dimensions_than_rows_is_aligned():
    wide, rotation = random_rotation(24, 1100, seed=8), random_rotation(24, 24)
    a, b, held_out = make_cloud(1000, seed=2), make_cloud(1000, seed=3), make_cloud(300, seed=4)
    quick = {"num_starts": 6, "num_anchors": 20, "steps": 10, "hidden_dim": 32, "progress": False}
    found = align(a @ wide, b @ rotation, source_name="a", target_name="b", **quick)
    model = Vec2VecModel.from_alignment(found, allow_not_aligned=True)
    assert top1(model.translate(held_out @ wide, source="a", target="b"), held_out @ rotation) > 0.9
    assert top1(model.translate(held_out @ rotation, source="b", target="a"), held_out @ wide) > 0.9
    assert found.rotation.shape == (1100, 24)
    torch.testing.assert_close(found.rotation.T @ found.rotation, torch.eye(24), rtol=0, atol=1e-4)


def test_far_more_dimensions_than_rows_cost_what_the_rows_do():
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(100, 4000, generator=generator) for _ in range(2))
    quick = {"num_starts": 2, "num_anchors": 10, "steps": 3, "hidden_dim": 16, "progress": False}
    start = time.process_time()
    found = align(a, b, anchors=(a[:5], b[:5]), guess=torch.eye(4000), **quick)
    assert time.process_time() - start < 30  # of a processor; with matrices of 4,000 by 4,000 it is minutes
    assert found.source_to_target.isfinite().all()
    assert found.report.verdict == "not aligned"
