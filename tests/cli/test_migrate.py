"""`migrate`: one command that begins, goes on, switches and rolls back."""

import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from helpers.commands import run
from hf_vec2vec import Vec2VecModel


@pytest.fixture
def place(trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(trained / "model", "model")
    rows = np.load(trained / "a.npy")
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
    pq.write_table(pa.table({"id": range(len(rows)), "embedding": vectors}), "docs.parquet")
    return tmp_path


ASK = ["migrate", "model", "--from", "parquet:docs.parquet", "--to", "parquet:new.parquet", "--source", "a"]
ASK += ["--disable_tqdm", "--allow_not_aligned"]


def rows_of(path) -> np.ndarray:
    return np.array(pq.read_table(path)["embedding"].to_pylist(), "f4")


def test_from_begin_to_rollback(place, capsys):
    assert run(*ASK, "--dry_run") == 0
    shown = capsys.readouterr().out
    assert "reads   parquet:docs.parquet: 600 vectors of dimension 8" in shown
    assert "writes  parquet:new.parquet: about 24 kB" in shown
    assert not (place / "migration.json").exists()
    assert run(*ASK) == 0
    shown = capsys.readouterr().out
    assert "600 rows copied" in shown
    assert "stay the nearest (by chance 1.7%)" in shown
    assert "Verdict on the translator's alignment:" in shown
    old, new = rows_of("docs.parquet"), rows_of("new.parquet")
    model = Vec2VecModel.from_pretrained("model")
    np.testing.assert_allclose(new, model.translate(torch.from_numpy(old), source="a", target="b").numpy(), atol=1e-5)
    assert run(*ASK, "--switch") == 0
    assert "Switched: parquet:docs.parquet has the new vectors" in capsys.readouterr().out
    np.testing.assert_array_equal(rows_of("docs.parquet"), new)
    assert run(*ASK, "--rollback") == 0
    np.testing.assert_array_equal(rows_of("docs.parquet"), old)
    assert run(*ASK, "--rollback") == 2
    assert "knows of no switch" in capsys.readouterr().err


def test_a_translator_that_is_not_aligned_is_refused(place, capsys):
    facts = json.loads((place / "model" / "training.json").read_text())
    facts["report"] = (facts["report"] or {}) | {"verdict": "not aligned"}
    (place / "model" / "training.json").write_text(json.dumps(facts))
    assert run(*ASK[:-1]) == 2
    assert "set `allow_not_aligned`" in capsys.readouterr().err
    assert not (place / "new.parquet").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--source", "z"], "`source` is 'z'; the translator has the spaces a, b"),
        (["--target", "a"], "are both 'a'"),
        (["--from", "nowhere"], "`from` must be the address of a store"),
        (["--from", "parquet:nowhere.parquet"], "there is nothing at 'nowhere.parquet'"),
        (["--to", "parquet:docs.parquet"], "are both 'parquet:docs.parquet'"),
        (["--switch", "--rollback"], "exclude each other"),
        (["--fron", "x"], "Did you mean --from?"),
    ],
)
def test_bad_input(place, more, message, capsys):
    assert run(*ASK, *more) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (place / "migration.json").exists()
