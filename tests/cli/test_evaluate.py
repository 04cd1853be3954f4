import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.commands import run
from hf_vec2vec import Vec2VecModel


def test_evaluate_prints_and_saves_the_table(trained, capsys):
    sides = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    assert run("evaluate", trained / "model", *sides, "--json", trained / "table.json") == 0
    printed = capsys.readouterr().out
    rows = json.loads((trained / "table.json").read_text())["rows"]
    assert {row["method"] for row in rows} >= {"mean vector", "paired Procrustes (5-fold)"}
    stages = {row["method"].removesuffix(" (kept)") for row in rows if row["kind"] == "translator"}
    assert stages == {"alignment alone", "after adversarial training"}
    assert sum(row["method"].endswith("(kept)") for row in rows) == 2  # one stage, two directions
    assert all(row["pool_size"] == 120 for row in rows)
    for part in ("a → b", "b → a", "120 held-out pairs"):
        assert part in printed
    assert (trained / "model" / "evaluation" / "heatmap.png").stat().st_size > 10_000
    assert (trained / "model" / "evaluation" / "projection.png").stat().st_size > 10_000
    assert "paired Procrustes" in (trained / "model" / "README.md").read_text()


def test_a_card_written_by_hand_is_left_alone(trained, tmp_path):
    model = tmp_path / "model"
    Vec2VecModel.from_pretrained(trained / "model").save_pretrained(model)
    (model / "README.md").write_text("mine")
    sides = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    assert run("evaluate", model, *sides, "--output_dir", tmp_path / "figures") == 0
    assert (model / "README.md").read_text() == "mine"


@pytest.mark.parametrize("words", [[], ["--id_column", "id"]])
def test_rows_in_another_order_are_no_pairs(trained, tmp_path, capsys, words):
    sides = []
    for space, order in (("a", 1), ("b", -1)):
        rows, ids = np.load(trained / f"held_{space}.npy"), np.arange(120)[::order]
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows[ids].astype("f4").ravel()), rows.shape[1])
        pq.write_table(pa.table({"id": ids, "embedding": vectors}), tmp_path / f"{space}.parquet")
        sides.append(f"{space}={tmp_path}/{space}.parquet")
    call = ["evaluate", trained / "model", "--source", sides[0], "--target", sides[1], "--output_dir", tmp_path / "out"]
    assert run(*call, *words) == 2
    assert "row 0 has the id 0 in 'a' and 119 in 'b'. Put both in one order" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
