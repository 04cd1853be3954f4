import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import random_rotation
from hf_vec2vec import align
from hf_vec2vec.alignment.anchors import Anchors
from hf_vec2vec.alignment.consensus import agreements, groups, halves, weighted_mean
from hf_vec2vec.alignment.options import AlignmentOptions
from hf_vec2vec.alignment.procrustes import polar_factor
from hf_vec2vec.alignment.search import find_rotation, search_steps

DIM, TOPICS, SHARE = 24, 60, 0.3


def mixed_topics(rows: int, seed: int, share: float | torch.Tensor = SHARE) -> torch.Tensor:
    """Rows that mix a third of 60 topics each: skewed, and without clusters that could be matched."""
    directions = torch.randn(TOPICS, DIM, generator=torch.Generator().manual_seed(1)) * torch.linspace(1.5, 0.5, DIM)
    draws = torch.Generator().manual_seed(seed)
    weights = -torch.rand(rows, TOPICS, generator=draws).clamp_min(1e-6).log()
    weights *= torch.rand(rows, TOPICS, generator=draws) < share
    cloud = weights @ directions + 0.2 * torch.randn(rows, DIM, generator=draws)
    return F.normalize(cloud - cloud.mean(0), dim=1)


@pytest.fixture(scope="module")
def spaces():
    rotation = random_rotation(DIM, DIM, seed=11)
    return mixed_topics(3000, seed=1), mixed_topics(3000, seed=2) @ rotation, rotation


def _cosine(found, rotation):
    return ((found * rotation).sum() / DIM).item()


@pytest.mark.slow
def test_halves_made_of_other_guesses_meet_at_the_truth(spaces):
    source, target, rotation = spaces
    found = find_rotation(source, target, AlignmentOptions(), generator=torch.Generator().manual_seed(0))
    assert _cosine(found.rotation, rotation) > 0.9
    assert found.consensus > 0.6
    # Held-out rows judge the one and are fitted by the other.
    assert _cosine(found.rotation, rotation) > _cosine(found.judged, rotation) > 0.85


def test_known_pairs_are_followed_where_the_clouds_lead_away_from_them():
    rotation = random_rotation(DIM, DIM, seed=11)
    common, rare = torch.full((30,), SHARE), torch.full((30,), SHARE / 10)
    source = mixed_topics(800, 1, torch.cat([common, rare]))
    target = mixed_topics(800, 2, torch.cat([rare, common])) @ rotation  # of other topics
    known = mixed_topics(24, 3, torch.cat([common, rare]))
    noise = 0.2 * torch.randn(known.shape, generator=torch.Generator().manual_seed(9))
    pairs = Anchors(known, F.normalize(known @ rotation + noise, dim=1))
    options = AlignmentOptions(effort="quick", num_starts=2, num_anchors=10, steps=5)
    found = {}
    for name, anchors in (("none", None), ("all", pairs)):
        found[name] = find_rotation(source, target, options, generator=torch.Generator().manual_seed(0), anchors=anchors)
    assert [search.trusted for search in found.values()] == [False, True]
    assert _cosine(found["none"].rotation, rotation) < 0.3
    assert _cosine(found["all"].rotation, rotation) > 0.5


def test_pairs_are_split_into_parts_and_tell_how_far_a_rotation_misses_them():
    rows = F.normalize(torch.randn(7, DIM, generator=torch.Generator().manual_seed(0)), dim=1)
    rotation = random_rotation(DIM, DIM)
    pairs = Anchors(rows, rows @ rotation, least_share=0.4)
    parts = list(pairs.split(3))
    assert sorted(len(part) for _, part in parts) == [2, 2, 3]
    for rest, part in parts:
        assert rest.least_share == 0.4
        both = torch.cat([rest.source, part.source])
        assert {tuple(row) for row in both.tolist()} == {tuple(row) for row in rows.tolist()}
    others = F.normalize(torch.randn(50, DIM, generator=torch.Generator().manual_seed(1)), dim=1)
    assert pairs.missed(rotation, others) == 0
    assert pairs.missed(-rotation, others) == 1
    assert pairs.share(10**9) == 0.4
    assert pairs.share(1) > 0.9


@pytest.mark.slow  # test_aligner.py asks for the verdict
def test_halves_on_noise_do_not_meet():
    noise = F.normalize(torch.randn(2, 1500, DIM, generator=torch.Generator().manual_seed(0)), dim=2)
    options = AlignmentOptions(effort="quick")
    assert find_rotation(*noise, options, generator=torch.Generator().manual_seed(0)).consensus < 0.5


@pytest.mark.slow  # the test after it asks each effort for less
def test_more_is_tried_where_nothing_is_believed():
    noise = F.normalize(torch.randn(2, 400, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    guesses = []
    for effort in ("quick", "default", "thorough"):
        options = AlignmentOptions(effort=effort, num_starts=8, num_anchors=10, steps=2)
        guesses.append(find_rotation(*noise, options, generator=torch.Generator().manual_seed(0)).guesses)
    assert guesses[0] < guesses[1] < guesses[2]


@pytest.mark.parametrize("effort", ["quick", "default", "thorough"])
def test_steps_of_each_effort_are_not_more_than_announced(effort):
    noise = F.normalize(torch.randn(2, 300, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    options, done = AlignmentOptions(effort=effort, num_starts=3, num_anchors=5, steps=2), []
    find_rotation(*noise, options, generator=torch.Generator().manual_seed(0), progress=done.append)
    assert 0 < sum(done) <= search_steps(options)


@pytest.fixture(scope="module")
def agreeing():
    """Five noisy guesses of one rotation, three noisy ones of another, two random ones; rows; the one rotation."""
    truth, mirror = random_rotation(DIM, DIM, seed=1), random_rotation(DIM, DIM, seed=2)
    noise = torch.stack([random_rotation(DIM, DIM, seed=10 + i) for i in range(10)])
    guesses = torch.stack([polar_factor(base + guess) for base, guess in zip([truth] * 5 + [mirror] * 3, noise)])
    return torch.cat([guesses, noise[8:]]), mixed_topics(400, seed=3), truth


def test_the_largest_group_of_guesses_comes_first_and_another_last():
    agreement = torch.full((10, 10), 0.02)
    agreement[:5, :5], agreement[5:8, 5:8], agreement[:5, 5:8], agreement[5:8, :5] = 0.2, 0.3, -0.05, -0.05
    first, _, second = groups(agreement.fill_diagonal_(1), best=9)
    assert first[:5].min() > 4 * first[5:].max()
    assert second[5:8].min() > 4 * max(second[:5].max(), second[8:].max())


def test_the_mean_of_a_group_is_nearer_to_the_truth_than_each_of_its_guesses(agreeing):
    guesses, rows, truth = agreeing
    mean = weighted_mean(guesses, groups(agreements(guesses, rows), best=0)[0])
    assert _cosine(mean, truth) > max(_cosine(guess, truth) for guess in guesses) + 0.03


def test_no_group_is_empty_where_guesses_disagree():
    apart = torch.zeros(5, 5)
    apart[:3, :3], apart[3, 4], apart[4, 3] = 0.3, -0.1, -0.1
    for weights in groups(apart.fill_diagonal_(1), best=0):
        assert weights.sum() > 0


def test_a_guess_that_stands_out_is_a_group_of_its_own(agreeing):
    guesses, rows, _ = agreeing
    alone = groups(agreements(guesses, rows), best=8)[1]
    assert alone[8] > 3 * alone[:8].max()


def test_halves_have_nearly_the_same_weight_and_part_no_origin():
    weights = torch.tensor([0.3, 0.3, 0.2, 0.5, 0.1, 0.0])
    one, other = halves(weights, [0, 0, 0, 3, 4, 5])
    assert one.tolist() == pytest.approx([0.3, 0.3, 0.2, 0, 0, 0])
    torch.testing.assert_close(one + other, weights)


def test_agreement_is_one_with_itself_and_symmetric(agreeing):
    guesses, rows, _ = agreeing
    found = agreements(guesses, rows)
    torch.testing.assert_close(found.diagonal(), torch.ones(len(guesses)))
    torch.testing.assert_close(found, found.T)


def test_effort_is_checked():
    with pytest.raises(ValueError, match=r"`effort` must be one of 'quick', 'default', 'thorough', got 'max'"):
        AlignmentOptions(effort="max")


@pytest.mark.slow  # test_aligner.py asks the same of each stage, on fewer rows
def test_an_interrupt_gives_the_best_so_far_and_its_verdict(spaces, monkeypatch):
    source, target, _ = spaces

    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_vec2vec.alignment.aligner.back_translate", interrupted)
    with pytest.warns(UserWarning, match="interrupted"):
        found = align(source, target, effort="quick", progress=False)
    assert found.interrupted
    assert found.residuals is None
    assert torch.equal(found.source_to_target, found.rotation)
    assert found.report.verdict in ("aligned", "doubtful", "not aligned")


@pytest.mark.short_search
def test_an_interrupt_during_the_search_keeps_what_was_found(spaces):
    source, target, _ = spaces

    def stop(agreement):
        raise KeyboardInterrupt

    options = AlignmentOptions(effort="quick", num_starts=2, num_anchors=20)
    found = find_rotation(source, target, options, generator=torch.Generator().manual_seed(0), agreed=stop)
    assert found.interrupted
    torch.testing.assert_close(found.rotation.T @ found.rotation, torch.eye(DIM), rtol=1e-4, atol=1e-4)


@pytest.mark.short_search
def test_an_interrupt_before_anything_was_found_is_one(spaces):
    source, target, _ = spaces

    def stop(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_rotation(source, target, AlignmentOptions(), generator=torch.Generator().manual_seed(0), progress=stop)
