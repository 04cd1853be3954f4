"""The adversarial trainer learns from random weights, and games that are broken do not: `benchmarks/adversarial.py`."""

import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "adversarial.py"


@pytest.fixture(scope="module")
def benchmark():
    return runpy.run_path(str(SCRIPT))


def test_a_game_learns_a_known_problem_from_random_weights(tmp_path, benchmark):
    assert benchmark["solve"](0, str(tmp_path), max_steps=600) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_it_does_with_every_seed(tmp_path, benchmark, seed):
    assert benchmark["solve"](seed, str(tmp_path)) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("frozen", ["learning_rate", "discriminator_learning_rate"])
def test_a_game_with_one_side_frozen_does_not(tmp_path, benchmark, frozen):
    assert benchmark["solve"](0, str(tmp_path), **{frozen: 0.0}) < 0.5


@pytest.mark.slow
def test_a_game_whose_translator_helps_the_discriminators_does_not(tmp_path, benchmark, monkeypatch):
    right = benchmark["losses"].generator_loss
    monkeypatch.setattr(benchmark["losses"], "generator_loss", lambda *given: -right(*given))
    assert benchmark["solve"](0, str(tmp_path)) < 0.5
