import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import align
from hf_vec2vec.alignment import parts
from hf_vec2vec.alignment.parts import halves, parts_to_try

QUICK = {"num_starts": 4, "num_anchors": 20, "steps": 10, "back_translation_rounds": 0, "progress": False}


def foreign(rows: int, seed: int) -> torch.Tensor:
    """Rows of another kind: the cloud turned, around another middle."""
    turned = make_cloud(rows, seed=seed) @ random_rotation(24, 24, seed=12)
    return turned + turned.std() * torch.randn(24, generator=torch.Generator().manual_seed(3))


def test_halves_are_two_kinds_of_rows_and_hold_each_row_once(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ROWS", 100)
    rows = torch.cat([make_cloud(300, seed=1), foreign(200, seed=2)])
    found = halves(rows - rows.mean(0), seed=0)
    assert torch.cat(found).sort().values.tolist() == list(range(500))
    assert sorted((half < 300).float().mean().round().item() for half in found) == [0, 1]


def test_a_side_of_few_rows_is_not_cut_and_halves_of_both_are_tried_last(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ROWS", 100)
    few = make_cloud(190, seed=1)
    many = torch.cat([make_cloud(200, seed=3), foreign(200, seed=4)])
    sizes = [[tuple(map(len, places)) for places in parts_to_try(source, many, seed=0)] for source in (few, many)]
    assert [first for first, _ in sizes[0]] == [190, 190]
    assert [400 in pair for pair in sizes[1]] == [True] * 4 + [False] * 4


@pytest.mark.slow
def test_a_source_that_shares_half_of_its_texts_is_aligned_by_that_half(monkeypatch):
    monkeypatch.setattr(parts, "LEAST_ROWS", 700)
    rotation = random_rotation(24, 24, seed=11)
    source, target = torch.cat([make_cloud(1500, seed=2), foreign(1500, seed=5)]), make_cloud(1500, seed=3) @ rotation
    whole = align(source, target, **QUICK)
    assert whole.report.verdict != "aligned"
    assert whole.report.shares == {"source": 1.0, "target": 1.0}
    found = align(source, target, effort="thorough", **QUICK)
    assert found.report.verdict == "aligned"
    assert found.report.shares == {"source": pytest.approx(0.5, abs=0.1), "target": 1.0}
    assert "made of 50% of the source's rows" in str(found.report)
    assert F.cosine_similarity(found.source_to_target, rotation, dim=1).mean() > 0.8
    assert F.cosine_similarity(whole.source_to_target, rotation, dim=1).mean() < 0.5
