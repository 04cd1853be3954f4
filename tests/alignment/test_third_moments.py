import pytest
import torch

from helpers.clouds import random_rotation
from hf_vec2vec.alignment.third_moments import moment_rotations, third_moments

pytestmark = pytest.mark.whole_search


def _skewed(rows: int, dim: int, seed: int) -> torch.Tensor:
    """Rows without clusters, skewed along every axis, most along the widest."""
    draws = torch.rand(rows, dim, generator=torch.Generator().manual_seed(seed))
    cloud = -draws.clamp_min(1e-6).log() * torch.linspace(1.5, 0.5, dim)
    return cloud - cloud.mean(0)


def test_third_moments_are_means_of_products_three_by_three():
    rows = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)).exp()  # more rows than are held at a time
    expected = torch.einsum("ni,nj,nk->ijk", *[rows.double()] * 3)
    torch.testing.assert_close(third_moments(rows).double(), expected / expected.norm(), rtol=1e-4, atol=1e-5)


def test_third_moments_turn_with_the_rows():
    rows, rotation = _skewed(2000, 4, seed=0), random_rotation(4, 4)
    turned = torch.einsum("ijk,ia,jb,kc->abc", third_moments(rows), *[rotation] * 3)
    torch.testing.assert_close(third_moments(rows @ rotation), turned, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_the_rotation_between_skewed_clouds_is_guessed_from_disjoint_rows(seed):
    rotation = random_rotation(6, 9, seed=seed + 20)
    generator = torch.Generator().manual_seed(seed)
    guess = moment_rotations(_skewed(8000, 6, seed=1), _skewed(8000, 6, seed=2) @ rotation, 1, generator)[0]
    assert (guess * rotation).sum() / 6 > 0.98


def test_guesses_differ_and_each_is_a_rotation_of_leading_axes():
    cloud = torch.randn(500, 12, generator=torch.Generator().manual_seed(0))  # no skew but by chance: many ends
    guesses = moment_rotations(cloud[:250], cloud[250:], 4, torch.Generator().manual_seed(0))
    assert 2 <= len(guesses) <= 4
    torch.testing.assert_close(guesses.mT @ guesses, torch.eye(12).expand(len(guesses), 12, 12), rtol=1e-4, atol=1e-4)
    cosines = torch.nn.functional.cosine_similarity(guesses.flatten(1)[:, None], guesses.flatten(1)[None], dim=2)
    assert cosines.fill_diagonal_(0).max() < 0.951
