import pytest
import torch
from torch.nn import functional as F

from hf_vec2vec import hub_corrected, hub_queries
from hf_vec2vec.metrics.hubness import hub_penalties, penalties
from hf_vec2vec.metrics.translation import csls_metrics, rank_metrics


@pytest.fixture
def clouds():
    """A store with a dense spot, a query for each of its rows, and queries for rows that it does not have.

    Queries are noisy and drawn to the rows around theirs, as translations are.
    """
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(900, 24, generator=generator)
    rows[:300] = 0.4 * rows[:300] + 0.8 * torch.randn(24, generator=generator)
    rows = rows[torch.randperm(900, generator=generator)]
    units = F.normalize(rows, dim=1)
    around = rows[(units @ units.T).fill_diagonal_(-1).topk(20).indices].mean(1)
    queries = 0.3 * rows + 0.7 * around + 0.3 * torch.randn(900, 24, generator=generator)
    return rows[:400], queries[:400], queries[400:]


def test_inner_products_are_cosines_less_penalties_by_hand(clouds):
    store, queries, sample = clouds
    found = hub_queries(queries) @ hub_corrected(store, sample, k=3).T
    for i, j in ((0, 0), (5, 17), (399, 3)):
        near = sorted((F.cosine_similarity(store[j], row, dim=0).item() for row in sample), reverse=True)[:3]
        expected = F.cosine_similarity(queries[i], store[j], dim=0).item() - sum(near) / 6
        assert found[i, j].item() == pytest.approx(expected, abs=1e-5)
    torch.testing.assert_close(hub_penalties(store, sample, block=7), hub_penalties(store, sample))


def test_queries_find_more_and_hubs_are_found_less(clouds):
    store, queries, sample = clouds
    own = torch.arange(len(store))
    plain = (F.normalize(queries, dim=1) @ F.normalize(store, dim=1).T).argmax(1)
    corrected = (hub_queries(queries) @ hub_corrected(store, sample).T).argmax(1)
    assert (corrected == own).sum() > 1.05 * (plain == own).sum()
    assert corrected.bincount().max() < plain.bincount().max()


def test_figures_are_those_of_the_index(clouds):
    store, queries, sample = clouds
    own = torch.arange(len(store))
    found = csls_metrics(queries, store, sample, store[200:])
    assert found["csls_top1"] == pytest.approx(
        ((hub_queries(queries) @ hub_corrected(store, sample).T).argmax(1) == own).float().mean().item()
    )
    assert found["csls_reverse_top1"] == pytest.approx(
        ((hub_queries(store) @ hub_corrected(queries, store[200:]).T).argmax(1) == own).float().mean().item()
    )
    assert found["csls_top1"] > rank_metrics(queries, store)["top1"]


def test_a_sample_without_structure_changes_nothing(clouds):
    """Every row of the store as near to the queries as any other: the order stays."""
    _, queries, _ = clouds
    store = torch.eye(24)
    plain = F.normalize(queries, dim=1) @ store.T
    corrected = hub_queries(queries) @ hub_corrected(store, torch.eye(24), k=24).T
    torch.testing.assert_close(plain.argsort(), corrected.argsort())


def test_bad_input_is_named(clouds):
    store, _, sample = clouds
    with pytest.raises(ValueError, match="`sample` has vectors of dimension 8, but this space has dimension 24"):
        hub_corrected(store, sample[:, :8])
    with pytest.raises(ValueError, match="`k` must be between 1 and the 4 rows of `sample`, got 10"):
        hub_corrected(store, sample[:4])
    with pytest.raises(ValueError, match="`store`"):
        hub_corrected(torch.full((3, 24), torch.nan), sample)
    with pytest.raises(TypeError, match="`queries` holds"):
        hub_queries(torch.ones(3, 24, dtype=torch.int64))


@pytest.mark.parametrize("dim", [0, 1])
def test_penalties_of_rows_and_columns_are_half_the_mean_of_the_largest(dim):
    cosines = torch.rand(60, 60, generator=torch.Generator().manual_seed(0)) * 2 - 1
    lines = (cosines if dim else cosines.T).tolist()
    expected = [sum(sorted(line, reverse=True)[:7]) / 14 for line in lines]
    torch.testing.assert_close(penalties(cosines, 7, dim=dim), torch.tensor(expected))
    torch.testing.assert_close(penalties(cosines, 7, dim=dim, approximate=True), torch.tensor(expected))
    torch.testing.assert_close(penalties(cosines, 100, dim=dim), cosines.mean(dim) / 2)


def test_approximate_penalties_are_little_below_the_exact():
    cosines = torch.rand(50, 4000, generator=torch.Generator().manual_seed(0))
    exact, approximate = penalties(cosines), penalties(cosines, approximate=True)
    assert (approximate <= exact + 1e-6).all()
    torch.testing.assert_close(approximate, exact, rtol=0, atol=0.002)


def test_a_block_holds_a_row_at_least(clouds):
    store, _, sample = clouds
    for block in (0, -1):
        with pytest.raises(ValueError, match=f"`block` must be at least 1 row, got {block}"):
            hub_penalties(store, sample, block=block)
