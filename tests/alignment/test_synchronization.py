import pytest
import torch

from helpers.clouds import random_rotation
from hf_vec2vec.alignment import polar_factor, synchronize


def noisy(rotation, seed, size=0.05):
    noise = torch.randn(rotation.shape, generator=torch.Generator().manual_seed(seed))
    return polar_factor(rotation + size * noise)


@pytest.fixture
def frames():
    """Rotations of four spaces, one of them larger, into a common frame."""
    return {
        name: random_rotation(dim, 10, seed=i) for i, (name, dim) in enumerate({"a": 8, "b": 8, "c": 8, "d": 10}.items())
    }


def error(found, frames, a, b):
    return (found - polar_factor(frames[a] @ frames[b].T)).norm()


def test_a_pair_that_was_never_aligned_comes_out_of_the_others():
    frames = {name: random_rotation(8, 8, seed=i) for i, name in enumerate("abc")}
    found = synchronize({("a", "b"): frames["a"] @ frames["b"].T, ("b", "c"): frames["b"] @ frames["c"].T})
    torch.testing.assert_close(found["a", "c"], frames["a"] @ frames["c"].T, rtol=0, atol=1e-5)
    torch.testing.assert_close(found["c", "a"], found["a", "c"].T, rtol=0, atol=1e-5)


def test_many_noisy_rotations_are_better_than_one():
    frames = {name: random_rotation(8, 8, seed=i) for i, name in enumerate("abcdef")}
    pairs = [(a, b) for a in frames for b in frames if a < b]
    rotations = {p: noisy(frames[p[0]] @ frames[p[1]].T, seed) for seed, p in enumerate(pairs)}
    found = synchronize(rotations)
    before, after = (sum(error(some[p], frames, *p).item() for p in pairs) / len(pairs) for some in (rotations, found))
    assert after < 0.75 * before
    around = found["a", "b"] @ found["b", "c"] @ found["c", "a"]
    torch.testing.assert_close(around, torch.eye(8), rtol=0, atol=1e-5)


def test_unequal_dimensions_give_semi_orthogonal_maps(frames):
    rotations = {(a, "d"): frames[a] @ frames["d"].T for a in "abc"}
    found = synchronize(rotations)
    assert error(found["a", "d"], frames, "a", "d") < 0.1 * rotations["a", "d"].norm()
    torch.testing.assert_close(found["d", "b"].T @ found["d", "b"], torch.eye(8), rtol=0, atol=1e-5)


def test_spaces_meet_in_a_larger_one_of_which_they_hold_different_parts():
    frames = {name: random_rotation(8, 12, seed=i) for i, name in enumerate("ab")}
    found = synchronize({("a", "c"): frames["a"], ("b", "c"): frames["b"]})
    torch.testing.assert_close(found["a", "b"], polar_factor(frames["a"] @ frames["b"].T), rtol=0, atol=1e-5)


def test_rotations_that_join_nothing_or_contradict_are_refused():
    with pytest.raises(ValueError, match="no way from 'a' to 'c'"):
        synchronize({("a", "b"): torch.eye(3), ("c", "d"): torch.eye(3)})
    with pytest.raises(ValueError, match="'b' 3 and 4 dimensions"):
        synchronize({("a", "b"): torch.eye(3), ("b", "c"): torch.eye(4)})
