import json

import numpy as np
import pytest
import torch
from datasets import Dataset

from helpers.clouds import make_cloud, random_rotation
from helpers.commands import QUICK, run
from hf_vec2vec.cli.anchors import Anchors


@pytest.fixture
def sides(tmp_path):
    """Two stores with ids; the first 60 ids are on both sides, in another order, and are the same texts."""
    rotation = random_rotation(8, 10)
    rows = {"a": make_cloud(420, 8, seed=1), "b": make_cloud(420, 8, seed=2) @ rotation}
    rows["b"][:60] = rows["a"][:60] @ rotation
    order = torch.randperm(420, generator=torch.Generator().manual_seed(0)).tolist()
    ids = {"a": [f"doc{i}" for i in range(420)], "b": [f"doc{i}" if i < 60 else f"other{i}" for i in range(420)]}
    Dataset.from_dict({"key": ids["a"], "embedding": rows["a"].tolist()}).to_parquet(tmp_path / "a.parquet")
    shuffled = {"key": [ids["b"][i] for i in order], "embedding": rows["b"][order].tolist()}
    Dataset.from_dict(shuffled).to_parquet(tmp_path / "b.parquet")
    np.save(tmp_path / "pairs_a.npy", rows["a"][:60].numpy())
    np.save(tmp_path / "pairs_b.npy", rows["b"][:60].numpy())
    (tmp_path / "pairs.csv").write_text("b,a\n" + "".join(f"doc{i},doc{i}\n" for i in range(60)))
    lines = [json.dumps({"left": f"doc{i}", "right": f"doc{i}"}) for i in range(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    return tmp_path


def numbers(spaces):
    return {name: np.arange(len(rows)) for name, rows in spaces.items()}


def loaded(folder, words):
    from hf_vec2vec.data import load_embeddings

    spaces = {name: load_embeddings(folder / f"{name}.parquet", id_column="key") for name in "ab"}
    columns = {name: {"column": None, "id_column": "key"} for name in "ab"}
    return Anchors.of(words, ["a", "b"], has_ids=True).load(spaces, columns, numbers(spaces))


@pytest.mark.parametrize("form", ["pairs.csv", "pairs.jsonl", "same_ids", "vectors"])
def test_every_form_gives_the_same_pairs(sides, form):
    words = {"same_ids": ["same_ids"], "vectors": [f"b={sides}/pairs_b.npy", f"a={sides}/pairs_a.npy"]}
    (source, target), rest = loaded(sides, words.get(form, [str(sides / form)]))
    assert np.allclose(source, np.load(sides / "pairs_a.npy"))
    assert np.allclose(target, np.load(sides / "pairs_b.npy"))
    assert len(rest["a"]) == 420
    assert len(rest["b"]) == (420 if form == "vectors" else 360)  # pairs of the stores count as unpaired on no side
    assert form == "vectors" or not set(rest["b"]["id"]) & {f"doc{i}" for i in range(60)}


def test_row_numbers_are_ids_where_there_are_none(sides):
    from hf_vec2vec.data import load_embeddings

    (sides / "numbers.tsv").write_text("a\tb\n3\t7\n419\t0\n")
    spaces = {name: load_embeddings(sides / f"{name}.parquet") for name in "ab"}
    none = {name: {"column": None, "id_column": None} for name in "ab"}
    (source, target), rest = Anchors.of([f"{sides}/numbers.tsv"], ["a", "b"], has_ids=False).load(
        spaces, none, numbers(spaces)
    )
    assert np.allclose(source, np.array([spaces["a"]["embedding"][i] for i in (3, 419)]))
    assert np.allclose(target, np.array([spaces["b"]["embedding"][i] for i in (7, 0)]))
    assert len(rest["b"]) == 418


def test_row_numbers_are_those_of_the_file_when_rows_were_dropped(sides, monkeypatch, capsys):
    from hf_vec2vec.training import recipe

    rows = {name: np.random.default_rng(0).normal(size=(40, 4)).astype("f4") for name in "ab"}
    rows["b"] += 1
    rows["a"][[0, 9]] = 0
    rows["b"][3] = np.nan
    for name, values in rows.items():
        np.save(sides / f"{name}.npy", values)
    (sides / "numbers.csv").write_text("a,b\n1,2\n10,4\n39,39\n")
    given = []
    monkeypatch.setattr(
        recipe, "train_translator", lambda *args: given.extend(args) or recipe.TrainedTranslator(*[None] * 3)
    )
    data = ["--source", f"a={sides}/a.npy", "--target", f"b={sides}/b.npy", "--output_dir", sides / "model"]
    words = [*data, "--invalid_rows", "drop", "--anchors", sides / "numbers.csv"]
    assert run("train", *words) == 0
    spaces, (source, target) = given[0], given[-1]
    assert np.array_equal(source, rows["a"][[1, 10, 39]])
    assert np.array_equal(target, rows["b"][[2, 4, 39]])
    assert np.array_equal(spaces.spaces["b"], np.delete(rows["b"], [2, 3, 4, 39], axis=0))
    (sides / "numbers.csv").write_text("a,b\n1,2\n9,4\n")
    assert run("train", *words) == 2
    assert "pair 1: 'a' has no row 9, or it was dropped as invalid" in capsys.readouterr().err


@pytest.mark.whole_search
def test_training_with_known_pairs_finds_the_map_and_says_so(sides):
    data = ["--source", f"a={sides}/a.parquet", "--target", f"b={sides}/b.parquet", "--id_column", "key"]
    more = ["--anchors", "same_ids", "--back_translation_rounds", "1", "--num_train_epochs", "0", "--max_steps", "-1"]
    assert run("train", *data, "--output_dir", sides / "model", *QUICK, *more) == 0
    facts = json.loads((sides / "model" / "training.json").read_text())
    assert facts["anchors"] == 60
    assert "60 known pairs" in (sides / "model" / "README.md").read_text()
    held_out = make_cloud(200, 8, seed=9)
    np.save(sides / "held_a.npy", held_out.numpy())
    np.save(sides / "held_b.npy", (held_out @ random_rotation(8, 10)).numpy())
    pairs = ["--source", f"a={sides}/held_a.npy", "--target", f"b={sides}/held_b.npy"]
    words = ["--correct_hubs", "--json", sides / "figures.json"]
    assert run("evaluate", sides / "model", *pairs, *words) == 0
    rows = json.loads((sides / "figures.json").read_text())["rows"]
    best = max(row["csls_top1"] for row in rows if row["kind"] == "translator")
    assert best > 0.9  # without the pairs, rows that few are not aligned


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere.csv"], "there is nothing"),
        (["a=pairs_a.npy"], "must be NAME=PATH for both"),
        (["a=pairs_a.npy", "c=pairs_b.npy"], "must be NAME=PATH for both"),
        (["a=pairs_a.npy", "b=held.npy"], "there is nothing"),
        (["a=pairs_a.npy", "b=short.npy"], "60 and 59 rows"),
        (["same_ids"], "name the `id_column`"),
        (["unknown.csv", "--id_column", "key"], "no row with the id 'nobody'"),
        (["three.csv", "--id_column", "key"], "it must have 'a' and 'b', or two"),
        (["pairs.csv", "--init", "random"], "`anchors` guide an alignment"),
        (["pairs.csv", "--id_column", "none"], "'none'"),
        (["pairs.csv", "--streaming", "--max_steps", "2"], "a stream has no rows to look up"),
    ],
)
def test_anchors_that_are_none(sides, words, message, monkeypatch, capsys):
    monkeypatch.chdir(sides)
    np.save("short.npy", np.load("pairs_b.npy")[:59])
    (sides / "unknown.csv").write_text("a,b\ndoc1,nobody\n")
    (sides / "three.csv").write_text("x,y,z\n1,2,3\n")
    data = ["--source", "a=a.parquet", "--target", "b=b.parquet", "--output_dir", "model"]
    assert run("train", *data, *QUICK, "--anchors", *words) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in error
    assert not (sides / "model").exists()
