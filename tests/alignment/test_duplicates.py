import pytest
import torch

from helpers.clouds import make_cloud
from hf_vec2vec.alignment.duplicates import unique_rows


def noisy(rows, size, seed=0):
    """Copies that lie about so far from their rows, in root mean square lengths."""
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed)) / rows.shape[1] ** 0.5
    return rows + size * rows.square().sum(1).mean().sqrt() * noise


@pytest.fixture(scope="module")
def rows():
    return make_cloud(3000, dim=48, seed=1)


@pytest.mark.parametrize(
    "copies",
    [
        lambda x: x,
        lambda x: x.repeat(4, 1),
        lambda x: x[:1].repeat(2000, 1),
        lambda x: x[:100].repeat(80, 1),
        lambda x: x.flip(0)[:700],
        lambda x: x.half().float(),
        lambda x: x.bfloat16().float(),
        lambda x: noisy(x[:500], 1e-4).repeat(3, 1),
        lambda x: torch.cat([noisy(x[:400], 1e-3, seed) for seed in range(5)]),
        lambda x: noisy(x[200:900], 5e-3),
    ],
    ids=[
        "all",
        "five times",
        "one",
        "a hundred",
        "reversed",
        "float16",
        "bfloat16",
        "noise 1e-4",
        "noise 1e-3",
        "noise 5e-3",
    ],
)
def test_of_rows_that_are_the_same_the_first_stays(rows, copies):
    assert torch.equal(unique_rows(torch.cat([rows, copies(rows)])), torch.arange(len(rows)))


def test_copies_far_from_the_origin_are_found(rows):
    """The squares of such lengths leave no digits for the distances, which were told too small."""
    far = torch.cat([rows, noisy(rows[:500], 1e-3)]) + 4000
    assert torch.equal(unique_rows(far), torch.arange(len(rows)))


def test_signs_of_zeros_make_no_difference():
    rows = torch.tensor([[0.0, 1.0], [-0.0, 1.0], [1.0, 0.0], [1.0, -0.0], [0.0, -1.0]])
    assert unique_rows(rows).tolist() == [0, 2, 4]


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x * 1e6 + 1e7,
        lambda x: x * torch.cat([torch.full((1,), 300.0), torch.ones(47)]),  # one direction holds all variance
        lambda x: x[:60].repeat(50, 1) + 0.01 * torch.randn(3000, 48, generator=torch.Generator().manual_seed(0)),
        lambda x: x[:, :3],
    ],
    ids=["as it is", "far from the origin", "one direction", "tight clusters", "three dimensions"],
)
def test_rows_that_are_different_all_stay(rows, change):
    changed = change(rows)
    assert len(unique_rows(changed)) >= 0.99 * len(changed)


@pytest.mark.parametrize("count", [1, 2, 50])
def test_few_rows_and_rows_that_are_all_alike(count):
    assert unique_rows(torch.ones(count, 7)).tolist() == [0]
    assert len(unique_rows(torch.eye(60)[:count])) == count
