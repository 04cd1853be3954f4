import pytest
import torch

from helpers.clouds import random_rotation
from hf_vec2vec.alignment import polar_factor
from hf_vec2vec.alignment.procrustes import paired_rotation, partial_isometry


def test_polar_factor_is_the_best_rotation():
    x = torch.randn(100, 5, generator=torch.Generator().manual_seed(0))
    rotation = random_rotation(5, 7)
    torch.testing.assert_close(polar_factor(x.T @ (x @ rotation)), rotation, rtol=0, atol=1e-5)


def test_a_partial_isometry_does_not_depend_on_rounding():
    generator = torch.Generator().manual_seed(0)
    low_rank = torch.randn(8, 3, generator=generator) @ torch.randn(3, 6, generator=generator)
    found = partial_isometry(low_rank)
    torch.testing.assert_close(torch.linalg.svdvals(found), torch.tensor([1.0, 1, 1, 0, 0, 0]), rtol=0, atol=1e-5)
    noise = 1e-7 * torch.randn(8, 6, generator=generator)
    torch.testing.assert_close(partial_isometry(low_rank + noise), found, rtol=0, atol=1e-5)


def test_of_full_rank_it_is_the_polar_factor():
    matrix = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(partial_isometry(matrix), polar_factor(matrix))


@pytest.mark.parametrize(("rows", "dims"), [(30, (80, 80)), (30, (50, 90)), (1, (40, 40)), (200, (12, 20))])
def test_of_paired_rows_of_any_number(rows, dims):
    """They are turned to their own; what none of them has is left out, and the map makes nothing longer."""
    x, turn = torch.randn(rows, dims[0], generator=torch.Generator().manual_seed(0)), random_rotation(*dims)
    found = paired_rotation(x, x @ turn)
    torch.testing.assert_close(x @ found, x @ turn, rtol=1e-4, atol=1e-4)
    values = torch.linalg.svdvals(found)
    expected = torch.zeros(min(dims))
    expected[: min(rows, *dims)] = 1
    torch.testing.assert_close(values, expected, rtol=0, atol=1e-4)
