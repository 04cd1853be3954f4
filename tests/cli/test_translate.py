import json
import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset

from helpers.commands import WAY, run
from hf_vec2vec import Vec2VecModel, hub_corrected
from hf_vec2vec.data import load_embeddings, vectors


def test_a_process_of_several_leaves_its_group(trained, tmp_path):
    """NCCL complains of those that do not, and gloo aborts some."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    ends = [*WAY, "--input", trained / "held_a.npy"]
    assert run("translate", trained / "model", *ends, "--output", tmp_path / "out.npy") == 0
    assert not torch.distributed.is_initialized()


def test_translate_equals_the_model(trained, tmp_path):
    ends = [*WAY, "--input", trained / "held_a.npy"]
    for name in ("x.npy", "x.safetensors", "x"):
        assert run("translate", trained / "model", *ends, "--output", tmp_path / name) == 0
    model = Vec2VecModel.from_pretrained(trained / "model")
    expected = model.translate(torch.from_numpy(np.load(trained / "held_a.npy")), source="a", target="b")
    for name in ("x.npy", "x.safetensors", "x"):
        torch.testing.assert_close(vectors(load_embeddings(tmp_path / name), name), expected, rtol=0, atol=1e-5)


def test_other_columns_travel_with_their_rows(trained, tmp_path):
    rows = np.load(trained / "held_a.npy")
    store = Dataset.from_dict({"id": list(range(len(rows))), "vector": rows.tolist()}).select(range(50, 10, -1))
    store.to_parquet(tmp_path / "store.parquet")
    ends = [*WAY, "--input", tmp_path / "store.parquet"]
    assert run("translate", trained / "model", *ends, "--output", tmp_path / "out.parquet") == 0
    out = load_embeddings(tmp_path / "out.parquet")
    assert out["id"][:3] == [50, 49, 48]
    model = Vec2VecModel.from_pretrained(trained / "model")
    expected = model.translate(torch.from_numpy(rows)[[50]], source="a", target="b")[0]
    torch.testing.assert_close(torch.tensor(out[0]["embedding"]), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("command", ["translate", "export"])
def test_a_translator_that_is_not_aligned_is_refused(command, trained, tmp_path, capsys):
    model = shutil.copytree(trained / "model", tmp_path / "model")
    facts = json.loads((model / "training.json").read_text())
    rest = ["--input", trained / "held_a.npy"] if command == "translate" else ["--format", "merged", "--map", "linear"]
    ask = [command, model, "--source", "a", "--target", "b", *rest]
    for verdict, flags, status in (("not aligned", [], 2), ("not aligned", ["--allow_not_aligned"], 0), ("doubtful", [], 0)):
        facts["report"]["verdict"] = verdict
        (model / "training.json").write_text(json.dumps(facts))
        output = tmp_path / f"{verdict}{len(flags)}.{'npy' if command == 'translate' else 'npz'}"
        assert run(*ask, "--output", output, *flags) == status
        assert ("'not aligned': its translations are likely wrong" in capsys.readouterr().err) == (status == 2)
        assert output.exists() == (status == 0)


def test_scales_in_the_way_are_told_before_any_work(trained, tmp_path, capsys):
    np.save(tmp_path / "out.scale.npy", np.arange(7.0))
    ends = [*WAY, "--input", trained / "held_a.npy", "--output", tmp_path / "out.npy", "--dtype", "int8"]
    assert run("translate", trained / "model", *ends, "--dry_run") == 2
    assert "would have its scales in" in capsys.readouterr().err


def test_truncated_checkpoint(trained, tmp_path, capsys):
    shutil.copytree(trained / "model", tmp_path / "cut")
    weights = (tmp_path / "cut" / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    ends = [*WAY, "--input", trained / "a.npy", "--output", tmp_path / "x.npy"]
    assert run("translate", tmp_path / "cut", *ends) == 2
    assert "may be truncated" in capsys.readouterr().err
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize("suffix", ["", ".npy", ".parquet"])
def test_hub_corrected_translations_are_those_of_the_library(trained, tmp_path, suffix):
    ends = [*WAY, "--input", trained / "held_a.npy"]
    for name, more in (("plain", []), ("corrected", ["--correct_hubs", trained / "b.npy"])):
        assert run("translate", trained / "model", *ends, *more, "--output", tmp_path / f"{name}{suffix}") == 0
    plain, corrected = (vectors(load_embeddings(tmp_path / f"{name}{suffix}"), name) for name in ("plain", "corrected"))
    expected = hub_corrected(plain, torch.from_numpy(np.load(trained / "b.npy")))
    torch.testing.assert_close(corrected, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("suffix", ["", ".npy", ".parquet"])
def test_translations_of_one_length_keep_their_directions(trained, tmp_path, suffix):
    ends = [*WAY, "--input", trained / "held_a.npy"]
    for name, more in (("plain", []), ("longer", ["--length", "1.25"])):
        assert run("translate", trained / "model", *ends, *more, "--output", tmp_path / f"{name}{suffix}") == 0
    plain, longer = (vectors(load_embeddings(tmp_path / f"{name}{suffix}"), name) for name in ("plain", "longer"))
    torch.testing.assert_close(longer, 1.25 * torch.nn.functional.normalize(plain, dim=1), rtol=0, atol=1e-5)
    assert (plain.norm(dim=1) - 1.25).abs().max() > 0.01  # which no flag has touched


def test_a_folder_of_another_length_is_another_job(trained, tmp_path, capsys):
    ask = ["translate", trained / "model", *WAY, "--input", trained / "held_a.npy"]
    ask += ["--output", tmp_path / "out"]
    assert run(*ask, "--length", "1.25") == 0
    assert run(*ask, "--length", "1.25") == 0
    assert "were there already" in capsys.readouterr().out
    assert run(*ask, "--length", "1.5") == 2
    assert "is of another job" in capsys.readouterr().err


def test_a_folder_of_other_hubs_is_another_job(trained, tmp_path, capsys):
    ask = ["translate", trained / "model", *WAY, "--input", trained / "held_a.npy"]
    ask += ["--output", tmp_path / "out"]
    assert run(*ask, "--correct_hubs", trained / "b.npy") == 0
    assert run(*ask, "--correct_hubs", trained / "held_b.npy") == 2
    assert "is of another job" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--correct_hubs", "few.npy"], "`hub_sample` must hold at least 10"),
        (["--correct_hubs", "held_a.npy"], "dimension 8"),
        (["--correct_hubs", "b.npy", "--length", "1.1"], "`correct_hubs` and `length` both say how long"),
        (["--length", "0"], "`length` must be a number above 0"),
        (["--target", "a"], "are both 'a'"),
        (["--split", "test"], "`split` is of a `dataset`"),
        (["--shard_rows", "0"], "`shard_rows` must be a whole number at least 1"),
        (["--batch_size", "1e3"], "`batch_size` must be a whole number"),
        (["--dtype", "float23"], "Did you mean float32?"),
        (["--device", "cuda"], "`device` is 'cuda'"),
        (["--device", "nope"], "`device` must be"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(trained, tmp_path, more, message, monkeypatch, capsys):
    monkeypatch.chdir(trained)
    monkeypatch.setattr(torch.accelerator, "is_available", lambda *args: False)
    np.save(tmp_path / "few.npy", np.load("held_b.npy")[:9])
    more = [str(tmp_path / word) if word == "few.npy" else word for word in more]
    ask = ["translate", "model", *WAY, "--input", "held_a.npy", "--output", tmp_path / "x.npy"]
    assert run(*ask, *more) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "x.npy").exists()


def test_queries_take_the_linear_map_and_a_store_the_full_one(trained, tmp_path):
    model, rows = Vec2VecModel.from_pretrained(trained / "model"), np.load(trained / "held_a.npy")
    ends = [*WAY, "--input", trained / "held_a.npy"]
    for name, flags, map in (
        ("store", [], "full"),
        ("queries", ["--queries"], "linear"),
        ("linear", ["--map", "linear"], "linear"),
        ("full", ["--map", "full", "--queries"], "full"),
    ):
        assert run("translate", trained / "model", *ends, *flags, "--output", tmp_path / f"{name}.npy") == 0
        expected = model.translate(torch.from_numpy(rows), source="a", target="b", map=map).numpy()
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), expected, atol=1e-4)
    assert not np.allclose(np.load(tmp_path / "store.npy"), np.load(tmp_path / "queries.npy"), atol=1e-2)
