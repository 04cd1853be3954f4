import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec.alignment import ridge
from hf_vec2vec.alignment.back_translation import back_translate
from hf_vec2vec.alignment.moments import Moments
from hf_vec2vec.alignment.partners import partner_estimator
from hf_vec2vec.alignment.soft_matching import balanced_covariance


@pytest.fixture(scope="module")
def noisy_spaces():
    """Two noisy views of one cloud, the second stretched and rotated: no rotation is the best map between them."""
    rotation, generator = random_rotation(24, 24), torch.Generator().manual_seed(0)

    def views(seed):
        rows = make_cloud(3000, seed=seed)
        rows = rows - make_cloud(20_000, seed=9).mean(0)
        noise = 0.7 * torch.randn(2, *rows.shape, generator=generator)
        return rows + noise[0], (rows * torch.linspace(0.3, 1.7, 24) + noise[1]) @ rotation

    (x, _), (_, y), pairs = views(1), views(2), views(3)
    return x, y, pairs, rotation


def test_back_translation_beats_the_true_rotation(noisy_spaces):
    x, y, (held_x, held_y), rotation = noisy_spaces
    generator = torch.Generator().manual_seed(0)
    found = back_translate(x, y, rotation, rounds=2, neighbours=15, generator=generator)
    forward, backward = found.maps
    cosine = torch.nn.functional.cosine_similarity
    best = ridge(held_x, held_y, 0.0)
    calibrated = ridge(found.source[: len(x)], found.target_partners[: len(x)], 0.0)
    weights = rotation, forward, calibrated, best
    rotated, plain, freed, oracle = (cosine(held_x @ weight, held_y).mean().item() for weight in weights)
    assert rotated < plain < freed <= oracle
    assert freed > rotated + 0.5 * (oracle - rotated)
    assert cosine(held_y @ backward, held_x).mean() > rotated
    assert found.agreement > 0.5
    # Real rows with estimated partners, then estimated ones with real partners.
    assert found.source.shape == found.target_partners.shape == (6000, 24)
    for rows, real in ((found.source[: len(x)], x), (found.target_partners[len(x) :], y)):
        assert torch.equal(rows.sort(0).values, real.sort(0).values)


def test_rows_that_lie_near_to_everything_do_not_take_every_partner():
    x, y = ((rows - rows.mean(0)) / rows.std() for rows in (make_cloud(3000, seed=1), make_cloud(3000, seed=2)))
    rotation, generator = random_rotation(24, 24), torch.Generator().manual_seed(0)
    true, y = (x.T @ x @ rotation / len(x)).double(), y @ rotation
    direction = torch.nn.functional.normalize(x[:50].sum(0), dim=0) @ rotation
    y[:1000] = 24**0.5 * direction + 0.3 * torch.randn(1000, 24, generator=generator)
    found = balanced_covariance(x, y, (rotation, rotation.T), Moments.of(x, y), generator)
    # Without equal shares it is .83.
    assert torch.nn.functional.cosine_similarity(found.flatten(), true.flatten(), dim=0) > 0.93


def test_simulated_partners_lead_back_to_the_rows_that_they_hide(noisy_spaces):
    """Calibration: where the model is true, estimates are as good as the best regression on true partners."""
    x, _, (held_x, held_y), _ = noisy_spaces
    moments = Moments.of(held_x, held_y)
    cross = (held_x.T @ held_y / len(held_x)).double()
    left, _, right = moments.canonical(cross)
    features = (moments.source_inverse_root @ left).float(), (moments.target_inverse_root @ right.T).float()
    generator = torch.Generator().manual_seed(0)
    estimate = partner_estimator(x, moments, cross, features, neighbours=15, generator=generator)
    error = (estimate(held_y) - held_x).square().mean()
    assert error < 1.05 * (held_y @ ridge(held_y, held_x, 0.0) - held_x).square().mean()


def test_possible_covariances_have_no_correlation_above_one():
    x, y = make_cloud(500, seed=1), make_cloud(500, seed=2)
    moments = Moments.of(x - x.mean(0), y - y.mean(0))
    cross = torch.randn(24, 24, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 10
    assert moments.canonical(moments.possible(cross))[1].max() < 1
    small = moments.source_root @ torch.eye(24, dtype=torch.float64) @ moments.target_root * 0.5
    torch.testing.assert_close(moments.possible(small), small)
