import json

import numpy as np
import pytest
from datasets import Dataset

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import PairedEmbeddings
from hf_vec2vec.cli import main
from hf_vec2vec.training import ablation
from hf_vec2vec.training.ablation import ablation_table

QUICK = {"allow_not_aligned": True, "align_starts": 2, "align_steps": 3, "hidden_dim": 16, "num_train_epochs": 0}


@pytest.fixture
def words(tmp_path):
    rotation = random_rotation(8, 10)
    rows = {"a": make_cloud(400, 8, seed=1), "b": make_cloud(400, 8, seed=2) @ rotation}
    held_out = make_cloud(80, 8, seed=3)
    rows |= {"held_a": held_out, "held_b": held_out @ rotation}
    for name, values in rows.items():
        np.save(tmp_path / f"{name}.npy", values.numpy())
    variants = {"alignment": QUICK, "one step, no cycle": QUICK | {"max_steps": 1, "cycle_weight": 0}}
    (tmp_path / "variants.yaml").write_text(json.dumps(variants))  # JSON is YAML, too
    sides = ["--source", f"a={tmp_path}/a.npy", "--target", f"b={tmp_path}/b.npy"]
    sides += ["--held_out_source", f"a={tmp_path}/held_a.npy", "--held_out_target", f"b={tmp_path}/held_b.npy"]
    return ["ablate", *sides, "--variants", f"{tmp_path}/variants.yaml", "--output_dir", f"{tmp_path}/out"]


def test_runs_are_made_once_and_averaged(words, tmp_path, capsys):
    assert main([*words, "--seeds", "1"]) == 0
    made = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").iterdir()}
    assert sorted(made) == ["alignment-0.json", "one-step--no-cycle-0.json"]
    assert main([*words, "--seeds", "2"]) == 0
    after = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "out" / "runs").iterdir()}
    assert len(after) == 4
    assert {name: after[name] for name in made} == made
    rows = json.loads((tmp_path / "out" / "ablation.json").read_text())
    found = [json.loads((tmp_path / "out" / "runs" / f"alignment-{i}.json").read_text())["figures"] for i in (0, 1)]
    for name, value in found[0].items():
        assert rows[0][name]["mean"] == pytest.approx((value + found[1][name]) / 2)
        # Student's t of 97.5 % with one degree of freedom is 12.706.
        assert rows[0][name]["interval"] == pytest.approx(12.706 * abs(value - found[1][name]) / 2, rel=1e-3, abs=1e-9)
    printed = capsys.readouterr().out
    assert ablation_table(rows) in printed
    assert not any((tmp_path / "out" / "models").iterdir())
    variants = json.loads((tmp_path / "variants.yaml").read_text())
    variants["alignment"]["hidden_dim"] = 8
    (tmp_path / "variants.yaml").write_text(json.dumps(variants))
    assert main([*words, "--seeds", "2"]) == 2
    assert "differs from this one: `arguments`" in capsys.readouterr().err


def test_names_that_differ_in_signs_have_a_run_each(tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "_measure", lambda folder, pairs: {"figure": float((folder / "figure").read_text())})
    rows = {name: make_cloud(20, 4, seed=i) for i, name in enumerate("ab")}

    def train(name, seed, folder):
        folder.mkdir(parents=True)
        (folder / "figure").write_text(str(figures[name]))

    figures = {"+vsp": 1, "-vsp": 2, "no gan": 3, "no-gan": 4, "No gan": 5, "plain": 6}
    sides = {name: Dataset.from_dict({"embedding": values.tolist()}) for name, values in rows.items()}
    for _ in range(2):  # the second time from the files
        found = ablation.run_ablation(train, figures, sides, PairedEmbeddings(rows), 1, tmp_path)
        assert {row["variant"]: row["figure"]["mean"] for row in found} == figures
        monkeypatch.setattr(ablation, "_measure", None)
    names = [file.name for file in (tmp_path / "runs").iterdir()]
    assert len({name.casefold() for name in names}) == 6
    assert "plain-0.json" in names


def test_a_variant_that_fails_is_named(words, tmp_path, capsys):
    (tmp_path / "variants.yaml").write_text("odd: {hidden_dim: -3}")
    assert main(words) == 2
    assert "`variants`: 'odd': `hidden_dim`" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["- a list", "name: 3", "{", ""])
def test_variants_that_are_none_are_refused(words, tmp_path, capsys, content):
    (tmp_path / "variants.yaml").write_text(content)
    assert main(words) == 2
    assert "`variants`" in capsys.readouterr().err
