"""The benchmark of query encoders: figures that are known, and that no cell is computed twice."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
DOCUMENTS, QUESTIONS, DIM = 200, 40, 8


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import query_encoder

    yield query_encoder
    sys.modules.pop("query_encoder")


@pytest.fixture
def folder(benchmark, tmp_path) -> Path:
    """A student whose space is the teacher's, turned: the translator and enough pairs must find everything."""
    torch.manual_seed(0)
    turn, secret = torch.linalg.qr(torch.randn(DIM, DIM))[0], benchmark.secret_rotation(DIM, benchmark.SEED)
    unit = torch.nn.functional.normalize
    passages, train = unit(torch.randn(DOCUMENTS, DIM), dim=1), unit(torch.randn(60, DIM), dim=1)
    questions = unit(passages[:QUESTIONS] + 0.01 * torch.randn(QUESTIONS, DIM), dim=1)
    for name, rows in (("passages", passages), ("asked", questions), ("train", train)):
        np.save(tmp_path / f"{name}_large.npy", rows.numpy())
        np.save(tmp_path / f"{name}_small.npy", (rows @ turn).numpy())
    np.save(tmp_path / "asked_gold.npy", np.arange(QUESTIONS))
    np.save(tmp_path / "may_train.npy", np.arange(QUESTIONS, DOCUMENTS))
    exact = turn.T @ secret
    statistics = [fit_statistics(side) for side in (passages @ turn, passages @ secret)]
    model = Vec2VecModel.from_alignment(Alignment("old", "new", exact, exact.T, *statistics))
    model.save_pretrained(tmp_path / f"small-large-{benchmark.SEED}")
    return tmp_path


def test_a_turned_space_is_found_whole(benchmark, folder, monkeypatch, capsys):
    line = ["x", "--output", folder / "out", "--folder", folder, "--translators", folder, "--questions", "asked"]
    line += ["--train", "train", "--routes", "small:large", "--arms", "frozen", "mixed", "--pairs", "0", "3", "60"]
    monkeypatch.setattr(sys, "argv", [str(word) for word in [*line, "--seeds", "0"]])
    monkeypatch.setattr(benchmark, "SAMPLE", 60)
    benchmark.main()
    cells = {}
    for file in (folder / "out" / "cells").glob("*.json"):
        cell = json.loads(file.read_text())
        cells[cell["arm"], cell["pairs"]] = cell["figures"]["asked"]
    assert cells["teacher", 0] == pytest.approx({"recall": 1.0, "ndcg": 1.0, "mrr": 1.0})
    assert cells["own index", 0] == pytest.approx({"recall": 1.0, "ndcg": 1.0, "mrr": 1.0}, abs=1e-3)
    assert cells["translator", 0]["mrr"] > 0.95
    assert cells["plain ridge", 60]["recall"] > 0.95
    assert cells["plain ridge", 3]["recall"] < 0.6
    assert cells["ours", 3]["recall"] > cells["ridge", 3]["recall"]
    assert 0.3 < cells["mixed", 0]["translated"] < 0.7
    assert (folder / "out" / "small-large.png").stat().st_size > 1000
    assert "| ours | 3 | 1 |" in capsys.readouterr().out
    monkeypatch.setattr(benchmark, "Route", None)  # would be called for a cell that is missing
    benchmark.main()
