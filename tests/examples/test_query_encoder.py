"""The example finds what it should, with the real encoders of the demo's wheels."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_pairs_help_and_no_pair_is_far_above_chance(capsys):
    main = runpy.run_path(str(ROOT / "examples" / "query_encoder.py"))["main"]
    texts = ROOT / "model_cards" / "minilm-wordllama" / "texts.txt"
    scores = main(str(texts), "a kind of bird", "to move quickly", "money that is owed")
    assert scores["no pair"] > 0.3  # 10 of 100 texts by chance: .1
    assert scores["100 pairs"] > 0.3
    assert "a kind of bird" in capsys.readouterr().out
