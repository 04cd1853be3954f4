import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec.alignment import polar_factor
from hf_vec2vec.alignment.neighbours import mutual_covariance, nearest_means


def test_nearest_means_averages_the_nearest_keys():
    keys = torch.nn.functional.normalize(torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), dim=1)
    values = torch.tensor([[1.0], [3.0], [100.0]])
    queries = torch.tensor([[1.0, 0.0], [0.95, 0.05]])
    torch.testing.assert_close(nearest_means(queries, keys, values, k=2), torch.tensor([[2.0], [2.0]]))


def test_mutual_covariance_with_one_neighbour_is_that_of_the_true_pairs():
    a = torch.nn.functional.normalize(make_cloud(200), dim=1)
    rotation = random_rotation(24, 24)
    found = mutual_covariance(a, a @ rotation, rotation, k=1)
    torch.testing.assert_close(found, a.T @ (a @ rotation), rtol=1e-4, atol=1e-3)


def test_nearest_means_can_leave_out_the_row_that_a_query_was_made_from():
    keys = torch.nn.functional.normalize(make_cloud(300), dim=1)
    own = nearest_means(keys, keys, keys, k=1)
    torch.testing.assert_close(own, keys)
    other = nearest_means(keys, keys, keys, k=1, leave_one_out=True)
    assert (other != keys).any(1).all()


@pytest.mark.parametrize("dims", [(24, 40), (40, 24), (24, 24)])
@pytest.mark.parametrize("turned", [True, False])
def test_mutual_covariance_compares_by_cosines_of_translations(dims, turned):
    """Also of a map that is no rotation, and where the products are made in the space of the source."""
    a, b = (F.normalize(torch.randn(300, dim, generator=torch.Generator().manual_seed(dim)), dim=1) for dim in dims)
    weight = torch.randn(*dims, generator=torch.Generator().manual_seed(7))
    if turned:
        weight = polar_factor(weight)
    lengths = (a @ weight).norm(dim=1, keepdim=True)
    pairs = mutual_covariance(a @ weight / lengths, b, torch.eye(dims[1]), k=5)  # of translations, not of what they are of
    torch.testing.assert_close(weight.T @ mutual_covariance(a / lengths, b, weight, k=5), pairs, rtol=1e-3, atol=1e-3)
