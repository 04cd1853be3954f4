import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from helpers.clouds import random_rotation
from hf_vec2vec.metrics.translation import (
    TranslationCosine,
    TranslationIntervals,
    TranslationRank,
    TranslationStructure,
    _draws,
    bootstrap_intervals,
    csls_metrics,
    linear_cka,
    mean_cosines,
    neighbour_overlap,
    rank_metrics,
    ranks,
    structure_metrics,
    translation_metrics,
)

TRUTH = torch.eye(4)


def test_ranks_by_hand():
    predictions = torch.tensor([[1.0, 0.5, 0, 0], [1.0, 0.5, 0, 0], [0.3, 0.2, 0.1, 0], [0, 0, 0, 1.0]])
    assert ranks(predictions, TRUTH).tolist() == [1, 2, 3, 1]
    assert ranks(predictions, TRUTH, block=3).tolist() == [1, 2, 3, 1]
    found = rank_metrics(predictions, TRUTH)
    expected = {"top1": 0.5, "top5": 1.0, "top10": 1.0, "mean_rank": 1.75, "mrr": (1 + 1 / 2 + 1 / 3 + 1) / 4}
    # The first row ties with the second, the second loses to the third.
    expected |= {"median_rank": 1.5, "pool_size": 4, "reverse_top1": 0.5}
    # Of three other samples, one way 0, 1, 2 and 0 are closer; back 0, 1, 0 and 0, and the first two tie with each other.
    assert found == pytest.approx(expected | {"foscttm": (3 / 12 + (0.5 + 1.5) / 12) / 2})


@pytest.mark.parametrize(("rows", "dim"), [(501, 256), (300, 37)])
def test_equal_rows_share_their_rank_whatever_the_block(rows, dim):
    different = torch.randn(rows // 3, dim, generator=torch.Generator().manual_seed(0))
    pool = different[torch.arange(rows) % len(different)]
    penalties = torch.rand(len(different), generator=torch.Generator().manual_seed(1))[torch.arange(rows) % len(different)]
    for taken_off in (None, 1e-3 * penalties):
        for block in (2048, 100, 7, 1):
            assert ranks(pool, pool, block=block, penalties=taken_off).eq(2).all(), block  # of three


@pytest.fixture
def noisy():
    references = torch.randn(200, 16, generator=torch.Generator().manual_seed(0)) + 1
    return references + 1.5 * torch.randn(200, 16, generator=torch.Generator().manual_seed(1)), references


def test_figures_agree_with_brute_force(noisy):
    """Written out with loops and scipy, row by row: no line in common with the library."""
    predictions, references = (rows.double().numpy() for rows in noisy)
    distances = cdist(predictions, references, "cosine")
    by_hand = [1 + sum(distances[i, j] < distances[i, i] for j in range(200)) for i in range(200)]
    found = rank_metrics(*noisy)
    assert found["mean_rank"] == pytest.approx(sum(by_hand) / 200)
    assert found["top1"] == pytest.approx(sum(r == 1 for r in by_hand) / 200)
    assert found["reverse_top1"] == pytest.approx(sum(distances[:, j].argmin() == j for j in range(200)) / 200)
    assert found["top10"] == pytest.approx(sum(r <= 10 for r in by_hand) / 200)
    closer = [(distances[i] < distances[i, i]).mean() + (distances[:, i] < distances[i, i]).mean() for i in range(200)]
    assert found["foscttm"] == pytest.approx(sum(closer) / 400 * 200 / 199)  # a sample is not compared with itself
    assert found["mrr"] == pytest.approx(sum(1 / r for r in by_hand) / 200)
    assert mean_cosines(*noisy, torch.zeros(16))["cosine"] == pytest.approx(1 - distances.diagonal().mean())
    neighbours = [cdist(rows, rows, "cosine").argsort(1)[:, 1:11] for rows in (predictions, references)]
    shared = [len(set(a) & set(b)) / 10 for a, b in zip(*neighbours, strict=True)]
    assert neighbour_overlap(*noisy, block=64).tolist() == pytest.approx(shared)
    kernels = [rows @ rows.T for rows in (predictions, references)]
    centring = np.eye(200) - 1 / 200
    a, b = (centring @ kernel @ centring for kernel in kernels)
    assert linear_cka(*noisy) == pytest.approx((a * b).sum() / np.sqrt((a * a).sum() * (b * b).sum()))


def test_permuted_truth_gives_chance(noisy):
    predictions, references = noisy
    order = torch.randperm(200, generator=torch.Generator().manual_seed(2))
    found = translation_metrics(predictions, references[order], references.mean(0))
    assert found["top1"] < 0.04
    assert found["mean_rank"] == pytest.approx(100.5, abs=15)
    assert found["foscttm"] == pytest.approx(0.5, abs=0.07)
    assert abs(found["centred_cosine"]) < 0.05
    assert neighbour_overlap(predictions, references[order]).mean() == pytest.approx(10 / 199, abs=0.02)


def test_structure_does_not_see_rotation_shift_and_scale(noisy):
    _, references = noisy
    turned = 3 * (references - references.mean(0)) @ random_rotation(16, 20)
    assert linear_cka(turned + 5, references) == pytest.approx(1.0)
    assert neighbour_overlap(turned, references - references.mean(0)).mean() == pytest.approx(1.0)


def test_bootstrap_intervals_hold_every_figure_and_narrow_with_more_texts(noisy):
    mean = noisy[1].mean(0)
    intervals = bootstrap_intervals(*noisy, mean)
    figures = translation_metrics(*noisy, mean) | structure_metrics(*noisy)
    assert set(intervals) == set(figures) - {"pool_size"}
    for name, (low, high) in intervals.items():
        if name != "cka":  # biased upwards where texts are drawn twice
            assert low <= figures[name] <= high, name
        assert low < high, name
    low, high = bootstrap_intervals(*(rows.repeat(16, 1) for rows in noisy), mean, resamples=200)["centred_cosine"]
    assert high - low == pytest.approx((intervals["centred_cosine"][1] - intervals["centred_cosine"][0]) / 4, rel=0.2)


def test_intervals_are_quantiles_of_figures_of_resampled_rows(noisy):
    """Each draw made again by hand, rows repeated, with the plain functions."""
    mean = noisy[1].mean(0)
    intervals = bootstrap_intervals(*noisy, mean, resamples=200)
    draws = [draw.long() for draw in _draws(200, 200, 0)]
    assert all(draw.sum() == 200 for draw in draws)
    found, overlap = ranks(*noisy), neighbour_overlap(*noisy)
    by_hand = {
        "mean_rank": [found.repeat_interleave(draw).mean() for draw in draws],
        "median_rank": [found.repeat_interleave(draw).quantile(0.5) for draw in draws],
        "neighbour_overlap": [overlap.repeat_interleave(draw).mean() for draw in draws],
        "cka": [linear_cka(*(r.repeat_interleave(draw, dim=0) for r in noisy)) for draw in _draws(200, 20, 0).long()],
    }
    for name, values in by_hand.items():
        expected = np.quantile(values, [0.025, 0.975])
        assert intervals[name] == pytest.approx(expected, rel=1e-4), name


@pytest.mark.parametrize("size", [1e-38, 1e-20, 1e-9, 1e20, 1e37])
def test_figures_of_directions_do_not_depend_on_lengths(size, noisy):
    predictions, references = noisy
    mean = references.mean(0)
    expected = translation_metrics(predictions, references, mean) | structure_metrics(predictions, references)
    rows = size * predictions, size * references
    found = translation_metrics(*rows, size * mean) | structure_metrics(*rows)
    assert found == pytest.approx(expected, abs=0.01 if size < 1e-37 else 1e-4)  # what is so small has few digits
    assert rank_metrics(rows[0], references) == pytest.approx(rank_metrics(*noisy), abs=0.01)
    assert neighbour_overlap(rows[0], rows[0]).mean() == pytest.approx(1)


def test_values_that_float32_has_not_are_refused(noisy):
    """They were infinite, and of NaN no rank is better: each row was found at the first place."""
    for figures in FIGURES:
        with pytest.raises(ValueError, match="`predictions` has values beyond the range of float32"):
            figures(1e300 * noisy[0].double(), noisy[1])


@pytest.mark.parametrize("copies", [5, 15, 200])
def test_rows_that_are_equally_near_share_the_places_among_the_neighbours(copies, noisy):
    """By chance, other ones of them were found in either cloud."""
    _, references = noisy
    rows = torch.cat([references, references[:1].expand(copies, -1)])
    turned = rows @ random_rotation(16, 20)
    assert neighbour_overlap(turned, rows, block=100).tolist() == pytest.approx([1.0] * len(rows))
    # All equally near: of ten places each other row has a part, and the ten true neighbours have ten of these.
    alike = neighbour_overlap(torch.ones(200, 4), references)
    assert alike.tolist() == pytest.approx([10 / 199] * 200)


@pytest.mark.parametrize(("rows", "k"), [(1, 10), (200, 0)])
def test_there_must_be_a_neighbour(rows, k, noisy):
    with pytest.raises(ValueError, match="`k` must be at least 1, of two rows or more"):
        neighbour_overlap(*(side[:rows] for side in noisy), k=k)


def test_figures_take_arrays(noisy):
    """A mean that was an array ended in a traceback."""
    mean = noisy[1].mean(0)
    arrays = [rows.numpy() for rows in noisy]
    for given in (mean.numpy(), mean.double().numpy(), mean.tolist()):
        assert translation_metrics(*arrays, given) == pytest.approx(translation_metrics(*noisy, mean))
        assert bootstrap_intervals(*arrays, given, resamples=20) == bootstrap_intervals(*noisy, mean, resamples=20)


def test_answers_without_information_get_the_middle_rank():
    found = rank_metrics(torch.ones(4, 4), TRUTH)
    assert found["top1"] == 0.0
    assert found["mean_rank"] == 2.5


def test_predictions_without_value_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        ranks(torch.full((4, 4), torch.nan), TRUTH)


@pytest.mark.parametrize("mean", [torch.zeros(1), torch.zeros(5), torch.tensor(0.0), torch.tensor([0.0, 0, 0, torch.nan])])
def test_a_mean_that_is_none_of_the_space_is_refused(mean):
    """One number would be taken off every coordinate without a word."""
    for figures in (mean_cosines, translation_metrics, bootstrap_intervals):
        with pytest.raises(ValueError, match=r"`mean` must be 4 finite numbers"):
            figures(TRUTH, TRUTH, mean)


def test_few_pairs_have_hubs_too():
    assert csls_metrics(TRUTH, TRUTH, TRUTH, TRUTH) == {"csls_top1": 1.0, "csls_reverse_top1": 1.0}


def test_centred_cosine_sees_through_the_mean_vector():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(500, 8, generator=generator) + 3
    mean = references.mean(0)
    answers = mean + 1e-3 * torch.randn(500, 8, generator=generator)
    found = mean_cosines(answers, references, mean)
    assert found["cosine"] > 0.9
    assert abs(found["centred_cosine"]) < 0.1


def test_evaluate_classes_give_the_same_as_the_functions():
    generator = torch.Generator().manual_seed(0)
    predictions, references = torch.randn(2, 20, 8, generator=generator)
    mean = references.mean(0)
    cosines = TranslationCosine().compute(predictions=predictions.numpy(), references=references.numpy(), mean=mean)
    assert cosines == pytest.approx(mean_cosines(predictions, references, mean), abs=1e-6)
    metric = TranslationRank()
    metric.add_batch(predictions=predictions[:10].numpy(), references=references[:10].numpy())
    metric.add_batch(predictions=predictions[10:].numpy(), references=references[10:].numpy())
    assert metric.compute() == pytest.approx(rank_metrics(predictions, references))
    structure = TranslationStructure().compute(predictions=predictions.numpy(), references=references.numpy())
    assert structure == pytest.approx(structure_metrics(predictions, references), abs=1e-6)
    intervals = TranslationIntervals().compute(predictions=predictions.numpy(), references=references.numpy(), resamples=50)
    for name, expected in bootstrap_intervals(predictions, references, mean, resamples=50).items():
        assert intervals[name] == pytest.approx(expected, abs=1e-6)
    assert "2505.12540" in TranslationCosine().citation


FIGURES = [
    lambda p, r: mean_cosines(p, r, r.float().mean(0)),
    rank_metrics,
    structure_metrics,
    lambda p, r: bootstrap_intervals(p, r, r.float().mean(0), resamples=20),
]


@pytest.mark.parametrize("figures", FIGURES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_figures_do_not_depend_on_how_rows_are_kept(figures, dtype):
    generator = torch.Generator().manual_seed(0)
    references = (torch.randn(300, 64, generator=generator) * 0.05 + 1).to(dtype)  # a long common mean
    predictions = (references.float() + torch.randn(300, 64, generator=generator) * 0.01).to(dtype)
    expected = figures(predictions.float(), references.float())
    assert figures(predictions, references) == expected
    with torch.autocast("cpu", torch.bfloat16):
        assert figures(predictions, references) == expected


@pytest.mark.parametrize("figures", FIGURES)
def test_rows_that_have_no_figure(figures, noisy):
    predictions, references = noisy
    for name, place in (("predictions", 0), ("references", 1)):
        rows = [predictions.clone(), references.clone()]
        rows[place][3, 2] = torch.nan
        with pytest.raises(ValueError, match=f"`{name}` .*NaN"):
            figures(*rows)
    with pytest.raises(ValueError, match="`predictions` and `references` have 1 and 200 rows"):
        figures(predictions[:1], references)
    with pytest.raises(ValueError, match="`predictions` is empty"):
        figures(predictions[:0], references[:0])
