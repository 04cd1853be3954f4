"""The curve over known pairs, on clouds whose map is known."""

import sys

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from helpers.documents import ROOT

sys.path.append(str(ROOT / "examples"))
import clip  # noqa: E402

import api_vectors  # noqa: E402


@pytest.fixture
def pairs(tmp_path):
    source = make_cloud(100, 8, seed=1)
    np.save(tmp_path / "a.npy", source.numpy())
    np.save(tmp_path / "b.npy", (source @ random_rotation(8, 10)).numpy())
    return [str(tmp_path / "a.npy"), str(tmp_path / "b.npy")]


def test_a_rotation_is_found_from_more_pairs_than_dimensions(pairs, tmp_path, capsys):
    rows = api_vectors.main([*pairs, "--seeds", "2", "--output", str(tmp_path / "curve.png")])
    found = {(row["method"], row["pairs"]): row for row in rows}
    assert {count for _, count in found} == {5, 10, 20, 50}
    assert found["Procrustes", 50]["top1"] == 1
    assert found["Procrustes", 50]["cosine"] > 0.999
    assert found["Procrustes", 5]["cosine"] < 0.99
    assert "| Procrustes | 50 | 1.00 (1.00 to 1.00) |" in capsys.readouterr().out
    assert (tmp_path / "curve.png").stat().st_size > 1000


def test_rows_of_one_vector_stay_in_one_fold():
    source = torch.arange(12.0).reshape(6, 2)
    target = torch.tensor([[0.0, 1], [0, 1], [2, 3], [4, 5], [2, 3], [6, 7]])
    groups = api_vectors.groups_of(source, target)
    assert groups.tolist() == [0, 0, 2, 3, 2, 5]
    fold = api_vectors.fold_of(groups, seed=0)
    assert fold[0] == fold[1]
    assert fold[2] == fold[4]


def test_captions_of_one_image_do_not_compete():
    target = torch.eye(4)
    answers = torch.tensor([[1.0, 2, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0], [0, 0, 2, 1]])
    groups, fold = torch.tensor([0, 0, 2, 3]), torch.zeros(4)
    assert api_vectors.judged(answers, target, fold, groups, centred=False)[0] == 0.75


def test_a_gap_is_removed(tmp_path, capsys):
    texts = make_cloud(60, 8, seed=2)
    images = torch.nn.functional.normalize(texts, dim=1) + 3 * torch.eye(8)[0]
    np.save(tmp_path / "t.npy", texts.numpy())
    np.save(tmp_path / "i.npy", images.numpy())
    found = clip.main(["--images", str(tmp_path / "i.npy"), "--texts", str(tmp_path / "t.npy"), "--seeds", "1"])
    as_it_is, without_gap, *_ = found["text → image"]
    assert without_gap > as_it_is
    assert "The means of both sides lie" in capsys.readouterr().out
