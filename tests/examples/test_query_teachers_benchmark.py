"""The benchmark of several teachers: figures that are known, and that no cell is computed twice."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DOCUMENTS, QUESTIONS, DIM, NOISE = 300, 50, 16, 0.15


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import query_teachers

    yield query_teachers
    for name in ("query_teachers", "query_encoder"):
        sys.modules.pop(name)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two teachers, each the index's encoder, turned, with noise of its own: what they have in common is the index's."""
    torch.manual_seed(0)
    passages, train = torch.randn(DOCUMENTS, DIM), torch.randn(200, DIM)
    rows = {"passages": passages, "asked": passages[:QUESTIONS] + 0.1 * torch.randn(QUESTIONS, DIM), "train": train}
    for encoder in ("index", "one", "two"):
        turn = torch.eye(DIM) if encoder == "index" else torch.linalg.qr(torch.randn(DIM, DIM))[0]
        noise = 0 if encoder == "index" else NOISE
        known = {
            name: F.normalize(F.normalize(each, dim=1) + noise * torch.randn(each.shape), dim=1) @ turn
            for name, each in rows.items()
        }
        for name, each in known.items():
            np.save(tmp_path / f"{name}_{encoder}.npy", each.numpy())
        if encoder == "index":
            statistics = fit_statistics(known["passages"])
            continue
        ends = [fit_statistics(known["passages"]), statistics]
        Vec2VecModel.from_alignment(Alignment(encoder, "index", turn.T, turn, *ends)).save_pretrained(tmp_path / encoder)
    np.save(tmp_path / "asked_gold.npy", np.arange(QUESTIONS))
    np.save(tmp_path / "may_train.npy", np.arange(QUESTIONS, DOCUMENTS))
    return tmp_path


def test_the_mean_of_two_is_nearer_than_either(benchmark, folder, monkeypatch, capsys):
    line = ["x", "--output", folder / "out", "--folder", folder, "--questions", "asked", "--train", "train"]
    line += ["--index", "index", "--ways", "one", "two", "one+two", "--students", "one", "--seeds", "0"]
    line += ["--translators", f"one={folder / 'one'}", f"two={folder / 'two'}"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in line])
    benchmark.main()
    found = {}
    for file in (folder / "out" / "cells").glob("*.json"):
        cell = json.loads(file.read_text())
        found[cell["student"], cell["way"]] = cell["figures"]["asked"]
    assert found["", "index"]["recall"] == 1
    assert 0.3 < max(found["", way]["recall"] for way in ("one", "two")) < found["", "one+two"]["recall"] - 0.05 < 1
    assert found["one", "one"]["recall"] == pytest.approx(found["", "one"]["recall"], abs=0.05)  # which is linear
    assert found["", "one+two"]["ndcg"] > 0.7
    assert "| one | one+two | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "Setting", None)  # would be called for a cell that is missing
    benchmark.main()
