import json
import shutil

import numpy as np
import pytest
import torch
from conftest import make_cloud, random_rotation
from test_encoders import WORDS, bert, static  # noqa: F401  fixtures

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.cli import main
from hf_vec2vec.data import load_embeddings

QUICK = ["--align_starts", "2", "--align_steps", "3", "--max_steps", "4", "--eval_strategy", "steps", "--eval_steps", "2"]
QUICK += ["--save_strategy", "steps", "--save_steps", "2", "--hidden_dim", "16", "--disable_tqdm", "true"]


def run(*argv) -> int:
    return main([str(a) for a in argv])


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Unpaired vectors, held-out pairs, and a translator trained on them."""
    folder = tmp_path_factory.mktemp("cli")
    rotation = random_rotation(8, 10)
    np.save(folder / "a.npy", make_cloud(600, 8, seed=1).numpy())
    np.save(folder / "b.npy", (make_cloud(500, 8, seed=2) @ rotation).numpy())
    held_out = make_cloud(120, 8, seed=3)
    np.save(folder / "held_a.npy", held_out.numpy())
    np.save(folder / "held_b.npy", (held_out @ rotation).numpy())
    assert train(folder) == 0
    return folder


def train(folder, *more, output="model"):
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy"]
    return run("train", *sides, "--output_dir", folder / output, *QUICK, *more)


def test_from_texts_to_translations(tmp_path, bert, static, capsys):  # noqa: F811
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS[3:], 5)) for _ in range(700)]
    texts = list(dict.fromkeys(texts))
    (tmp_path / "a.txt").write_text("\n".join(texts[:300]))
    (tmp_path / "b.txt").write_text("\n".join(texts[300:600]))
    cache = ["--cache_dir", tmp_path / "cache"]
    assert run("embed", "--texts", tmp_path / "a.txt", "--model", bert, "--output", tmp_path / "va", *cache) == 0
    assert run("embed", "--texts", tmp_path / "b.txt", "--model", static, "--output", tmp_path / "vb.parquet", *cache) == 0
    sides = ["--source", f"bert={tmp_path}/va", "--target", f"static={tmp_path}/vb.parquet"]
    assert run("train", *sides, "--output_dir", tmp_path / "model", *QUICK) == 0
    ends = ["--source", "bert", "--target", "static"]
    output = tmp_path / "out.parquet"
    assert run("translate", tmp_path / "model", *ends, "--input", tmp_path / "va", "--output", output) == 0
    data = load_embeddings(output)
    assert list(data["text"]) == texts[:300]
    assert len(data[0]["embedding"]) == 6
    assert "mean pooling of layer -1" in (tmp_path / "model" / "README.md").read_text()


def test_train_leaves_a_translator_its_start_and_a_card(folder):
    model = Vec2VecModel.from_pretrained(folder / "model")
    assert model.config.embedding_dims == {"a": 8, "b": 10}
    assert Vec2VecModel.from_pretrained(folder / "model" / "alignment").config.spaces == ["a", "b"]
    facts = json.loads((folder / "model" / "training.json").read_text())
    assert facts["rows"] == {"a": 500, "b": 400}
    assert facts["selection"]["kept"] in ("trained", "alignment")
    assert "library_name: hf_vec2vec" in (folder / "model" / "README.md").read_text()


def test_evaluate_prints_and_saves_the_table(folder, capsys):
    sides = ["--source", f"a={folder}/held_a.npy", "--target", f"b={folder}/held_b.npy"]
    assert run("evaluate", folder / "model", *sides, "--json", folder / "table.json") == 0
    printed = capsys.readouterr().out
    rows = json.loads((folder / "table.json").read_text())["rows"]
    assert {row["method"] for row in rows} >= {"mean vector", "paired Procrustes (5-fold)"}
    stages = {row["method"].removesuffix(" (kept)") for row in rows if row["kind"] == "translator"}
    assert stages == {"alignment alone", "after adversarial training"}
    assert sum(row["method"].endswith("(kept)") for row in rows) == 2  # one stage, two directions
    assert all(row["pool_size"] == 120 for row in rows)
    for part in ("a → b", "b → a", "120 held-out pairs"):
        assert part in printed
    assert (folder / "model" / "evaluation" / "heatmap.png").stat().st_size > 10_000
    assert (folder / "model" / "evaluation" / "projection.png").stat().st_size > 10_000
    assert "paired Procrustes" in (folder / "model" / "README.md").read_text()


def test_translate_equals_the_model(folder, tmp_path):
    ends = ["--source", "a", "--target", "b", "--input", folder / "held_a.npy"]
    for name in ("x.npy", "x.safetensors", "x"):
        assert run("translate", folder / "model", *ends, "--output", tmp_path / name) == 0
    model = Vec2VecModel.from_pretrained(folder / "model")
    expected = model.translate(torch.from_numpy(np.load(folder / "held_a.npy")), source="a", target="b")
    assert np.array_equal(np.load(tmp_path / "x.npy"), expected.numpy())


def test_flags_from_a_file_give_way_to_the_line(folder, tmp_path):
    content = f"source: a={folder}/a.npy\ntarget: b={folder}/b.npy\nmax_steps: 2\nhidden_dim: 4\nalign_starts: 1\n"
    (tmp_path / "run.yaml").write_text(content + "align_steps: 1\nload_best_model_at_end: false\n")
    line = ["--hidden_dim", "12", "--disable_tqdm", "true"]
    assert run("train", "--config", tmp_path / "run.yaml", "--output_dir", tmp_path / "model", *line) == 0
    assert Vec2VecModel.from_pretrained(tmp_path / "model").config.hidden_dim == 12


def test_preset_starts_at_random_with_the_published_network(folder, tmp_path):
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    small = ["--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    assert run("train", *sides, "--preset", "public_code", *small, "--hidden_dim", "32", "--disable_tqdm", "true") == 0
    config = Vec2VecModel.from_pretrained(tmp_path / "model").config
    assert (config.residual, config.latent_dim, config.norm) == ("zero_pad", 1024, "batch")


def test_resume_goes_on_from_the_checkpoint(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    more = [*QUICK, "--max_steps", "6", "--resume_from_checkpoint", "true"]
    assert run("train", *sides, *more) == 0
    log = json.loads((tmp_path / "model" / "trainer_state.json").read_text())
    assert log["global_step"] == 6


def test_a_model_in_the_way_is_kept(folder, capsys):
    before = (folder / "model" / "model.safetensors").read_bytes()
    assert train(folder) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    assert train(folder, "--overwrite", output="model2") == 0
    assert train(folder, "--overwrite", output="model2") == 0


def test_truncated_checkpoint(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "cut")
    weights = (tmp_path / "cut" / "model.safetensors").read_bytes()
    (tmp_path / "cut" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    ends = ["--source", "a", "--target", "b", "--input", folder / "a.npy", "--output", tmp_path / "x.npy"]
    assert run("translate", tmp_path / "cut", *ends) == 2
    assert "may be truncated" in capsys.readouterr().err
    assert not (tmp_path / "x.npy").exists()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((600, 8), dtype=np.float32), "only zeros"),
        (np.full((600, 8), np.nan, dtype=np.float32), "NaN or infinite"),
        (np.ones((600, 8), dtype=np.int8), "int8"),
        (np.ones((0, 8), dtype=np.float32), "empty"),
        (np.random.default_rng(0).normal(size=(40, 8)), "too few for 25 anchors"),
    ],
)
def test_bad_vectors_to_train(folder, tmp_path, capsys, values, message):
    np.save(tmp_path / "bad.npy", values)
    sides = ["--source", f"a={tmp_path}/bad.npy", "--target", f"b={folder}/b.npy"]
    assert run("train", *sides, "--output_dir", tmp_path / "model", *QUICK) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hf-vec2vec train: ")
    assert message in error
    assert not (tmp_path / "model" / "config.json").exists()


def test_bad_calls(folder, tmp_path, capsys):
    data = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    held = f"{folder}/held_a.npy", f"{folder}/held_b.npy"
    out = ["--output", tmp_path / "x.npy"]
    calls = {
        "`source` must be NAME=PATH": ["train", "--source", "a.npy", *data[2:]],
        "both named 'a'": ["train", "--source", f"a={folder}/a.npy", "--target", f"a={folder}/b.npy", *data[4:]],
        "`fp16` is True": ["train", *data, "--fp16", "true"],
        "where there is nothing": ["train", "--source", "a=none.npy", *data[2:]],
        "`source` names 'z'": ["evaluate", folder / "model", "--source", f"z={held[0]}", "--target", f"b={held[1]}"],
        "numbers of rows": ["evaluate", folder / "model", "--source", f"a={held[0]}", "--target", f"b={folder}/b.npy"],
        "`source` is 'z'": ["translate", folder / "model", "--source", "z", "--target", "b", "--input", held[0], *out],
        "dimension 10": ["translate", folder / "model", "--source", "a", "--target", "b", "--input", held[1], *out],
        "no translator": ["translate", folder, "--source", "a", "--target", "b", "--input", held[0], *out],
        "`COMMAND` must be one of": ["distil"],
    }
    for message, argv in calls.items():
        assert run(*argv) == 2, message
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_help_is_short_and_complete(capsys):
    assert run("--help") == 0
    assert "embed" in capsys.readouterr().out
    for command in ("embed", "train", "evaluate", "translate"):
        with pytest.raises(SystemExit) as stop:
            run(command, "--help")
        assert stop.value.code == 0
        text = capsys.readouterr().out
        assert "--source" in text or command == "embed"
    with pytest.raises(SystemExit):
        run("train", "--help")
    short = capsys.readouterr().out
    with pytest.raises(SystemExit):
        run("train", "--help_all")
    assert len(capsys.readouterr().out) > 3 * len(short)
    assert "--cycle_weight" in short
    assert "--fsdp" not in short
