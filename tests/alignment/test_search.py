import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import random_rotation
from hf_vec2vec import align
from hf_vec2vec.alignment.consensus import Patience, find_consensus
from hf_vec2vec.alignment.options import AlignmentOptions
from hf_vec2vec.alignment.search import find_rotation, search_steps

DIM, TOPICS, SHARE = 24, 60, 0.3


def mixed_topics(rows: int, seed: int) -> torch.Tensor:
    """Rows that mix a third of 60 topics each: skewed, and without clusters that could be matched."""
    directions = torch.randn(TOPICS, DIM, generator=torch.Generator().manual_seed(1)) * torch.linspace(1.5, 0.5, DIM)
    draws = torch.Generator().manual_seed(seed)
    weights = -torch.rand(rows, TOPICS, generator=draws).clamp_min(1e-6).log()
    weights *= torch.rand(rows, TOPICS, generator=draws) < SHARE
    cloud = weights @ directions + 0.2 * torch.randn(rows, DIM, generator=draws)
    return F.normalize(cloud - cloud.mean(0), dim=1)


@pytest.fixture(scope="module")
def spaces():
    rotation = random_rotation(DIM, DIM, seed=11)
    return mixed_topics(3000, seed=1), mixed_topics(3000, seed=2) @ rotation, rotation


def _cosine(found, rotation):
    return ((found * rotation).sum() / DIM).item()


def test_guesses_from_third_moments_climb_until_they_agree(spaces):
    source, target, rotation = spaces
    generator = torch.Generator().manual_seed(0)
    looks = list(find_consensus(source[600:], target[600:], source[:600], Patience(3, 8), generator=generator))
    assert _cosine(looks[-1].rotation, rotation) > 0.8
    assert looks[-1].agreement > 0.8


def test_guesses_on_noise_do_not_agree():
    noise = F.normalize(torch.randn(2, 1500, DIM, generator=torch.Generator().manual_seed(0)), dim=2)
    *_, last = find_consensus(*noise, noise[0, :200], Patience(2, 3), generator=torch.Generator().manual_seed(0))
    assert last.agreement < 0.5


def test_quick_gives_up_where_default_goes_on():
    noise = F.normalize(torch.randn(2, 400, 8, generator=torch.Generator().manual_seed(0)), dim=2)
    guesses = {}
    for effort in ("quick", "default"):
        options = AlignmentOptions(effort=effort, num_starts=8, num_anchors=10, steps=2)
        guesses[effort] = len(find_rotation(*noise, options, generator=torch.Generator().manual_seed(0)).start_scores)
    assert guesses == {"quick": 7, "default": 10}  # a wave of six, another of two, and a sum in each


@pytest.mark.parametrize("effort", ["quick", "default", "thorough"])
def test_steps_of_each_effort_are_not_more_than_announced(effort):
    noise = F.normalize(torch.randn(2, 300, 6, generator=torch.Generator().manual_seed(0)), dim=2)
    options, done = AlignmentOptions(effort=effort, num_starts=3, num_anchors=5, steps=2), []
    find_rotation(*noise, options, generator=torch.Generator().manual_seed(0), progress=done.append)
    assert 0 < sum(done) <= search_steps(options)


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


def test_an_interrupt_during_the_search_keeps_what_was_found(spaces):
    source, target, _ = spaces

    def stop(agreement):
        raise KeyboardInterrupt

    options = AlignmentOptions(effort="quick")
    found = find_rotation(source, target, options, generator=torch.Generator().manual_seed(0), agreed=stop)
    assert found.interrupted
    torch.testing.assert_close(found.rotation.T @ found.rotation, torch.eye(DIM), rtol=1e-4, atol=1e-4)


def test_an_interrupt_before_anything_was_found_is_one(spaces):
    source, target, _ = spaces

    def stop(steps):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        find_rotation(source, target, AlignmentOptions(), generator=torch.Generator().manual_seed(0), progress=stop)
