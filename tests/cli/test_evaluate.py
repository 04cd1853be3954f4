import json

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
