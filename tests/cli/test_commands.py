import itertools
import json
import shutil
import sys

import numpy as np
import pytest
import torch
from datasets import Dataset

from helpers.clouds import make_cloud, random_rotation
from helpers.commands import QUICK
from helpers.encoders import WORDS
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.cli import main
from hf_vec2vec.data import load_embeddings, save_embeddings, to_dataset, vectors


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


def test_from_texts_to_translations(tmp_path, bert, static, capsys, monkeypatch):  # noqa: F811
    monkeypatch.setitem(sys.modules, "umap", None)  # takes half a minute to compile
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
    # The config records how vectors are made, so that texts will do.
    (tmp_path / "first.txt").write_text("\n".join(texts[:300]))
    ask = ["translate", tmp_path / "model", *ends, "--texts", tmp_path / "first.txt", *cache]
    assert run(*ask, "--output", tmp_path / "asked.parquet") == 0
    asked = load_embeddings(tmp_path / "asked.parquet")
    assert list(asked["text"]) == texts[:300]
    assert torch.equal(vectors(asked, "asked"), vectors(data, "data"))
    # The recorded encoders embed labelled texts for the report; one corpus has a single class.
    (tmp_path / "held.txt").write_text("\n".join(texts[600:]))
    for name, encoder in (("bert", bert), ("static", static)):
        assert run("embed", "--texts", tmp_path / "held.txt", "--model", encoder, "--output", tmp_path / f"held_{name}") == 0
    labelled = [{"text": text, "label": "ab"["dog" in text]} for text in texts[:100]]
    (tmp_path / "first.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    (tmp_path / "one.jsonl").write_text("\n".join(json.dumps(row | {"label": "a"}) for row in labelled))
    ends = ["--source", f"bert={tmp_path}/held_bert", "--target", f"static={tmp_path}/held_static"]
    corpora = ["--labelled", tmp_path / "first.jsonl", tmp_path / "one.jsonl"]
    assert run("report", tmp_path / "model", *ends, *corpora, "--output_dir", tmp_path / "report") == 0
    printed = capsys.readouterr().out
    assert "Attributes: first: done" in printed
    assert f"Attributes: {tmp_path}/one.jsonl: not made: `labels` of 'one' hold 1 class" in printed
    assert printed.count("not made") == 1
    assert (tmp_path / "report" / "report.html").exists()


def test_train_on_texts(tmp_path, bert, static, monkeypatch):  # noqa: F811
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    for side in ("a", "b"):
        texts = (" ".join([*words, side]) for words in itertools.product(WORDS[3:], repeat=3))
        (tmp_path / f"{side}.txt").write_text("\n".join(texts))
    sides = ["--source", f"bert={tmp_path}/a.txt", "--target", f"static={tmp_path}/b.txt"]
    encoders = ["--source_encoder", bert, "--target_encoder", static]
    assert run("train", *sides, *encoders, "--output_dir", tmp_path / "model", *QUICK) == 0
    assert "No text was on both sides, which was checked" in (tmp_path / "model" / "README.md").read_text()


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


def test_a_process_of_several_leaves_its_group(folder, tmp_path):
    """NCCL complains of those that do not, and gloo aborts some."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    ends = ["--source", "a", "--target", "b", "--input", folder / "held_a.npy"]
    assert run("translate", folder / "model", *ends, "--output", tmp_path / "out.npy") == 0
    assert not torch.distributed.is_initialized()


def test_translate_equals_the_model(folder, tmp_path):
    ends = ["--source", "a", "--target", "b", "--input", folder / "held_a.npy"]
    for name in ("x.npy", "x.safetensors", "x"):
        assert run("translate", folder / "model", *ends, "--output", tmp_path / name) == 0
    model = Vec2VecModel.from_pretrained(folder / "model")
    expected = model.translate(torch.from_numpy(np.load(folder / "held_a.npy")), source="a", target="b")
    for name in ("x.npy", "x.safetensors", "x"):
        torch.testing.assert_close(vectors(load_embeddings(tmp_path / name), name), expected, rtol=0, atol=1e-5)


def test_flags_from_a_file_give_way_to_the_line(folder, tmp_path):
    content = f"source: a={folder}/a.npy\ntarget: b={folder}/b.npy\nmax_steps: 2\nhidden_dim: 4\nalign_starts: 1\n"
    (tmp_path / "run.yaml").write_text(content + "align_steps: 1\nallow_not_aligned: true\nload_best_model_at_end: false\n")
    line = ["--hidden_dim", "12", "--disable_tqdm", "true"]
    assert run("train", f"--config={tmp_path}/run.yaml", "--output_dir", tmp_path / "model", *line) == 0
    assert Vec2VecModel.from_pretrained(tmp_path / "model").config.hidden_dim == 12


def test_preset_starts_at_random_with_the_published_network(folder, tmp_path):
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    small = ["--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    assert run("train", *sides, "--preset=public_code", *small, "--hidden_dim", "32", "--disable_tqdm", "true") == 0
    config = Vec2VecModel.from_pretrained(tmp_path / "model").config
    assert (config.residual, config.latent_dim, config.norm) == ("zero_pad", 1024, "batch")


def test_resume_goes_on_from_the_checkpoint(folder, tmp_path):
    shutil.copytree(folder / "model", tmp_path / "model")
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    more = [*QUICK, "--max_steps", "6", "--resume_from_checkpoint", "true"]
    assert run("train", *sides, *more) == 0
    log = json.loads((tmp_path / "model" / "trainer_state.json").read_text())
    assert log["global_step"] == 6
    before = json.loads((folder / "model" / "trainer_state.json").read_text())["log_history"]
    assert before[0] in log["log_history"]  # the first steps are those of the first run, not new ones


def test_a_model_in_the_way_is_kept(folder, capsys):
    before = (folder / "model" / "model.safetensors").read_bytes()
    assert train(folder) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (folder / "model" / "model.safetensors").read_bytes() == before
    assert train(folder, "--overwrite", output="model2") == 0
    assert train(folder, "--overwrite", output="model2") == 0


def test_only_what_training_made_is_replaced(folder, tmp_path, capsys):
    shutil.copytree(folder / "model", tmp_path / "model")
    (tmp_path / "model" / "mine.txt").write_text("mine")
    (tmp_path / "model" / "config.json").unlink()  # a run that broke off: its parts are still worth something
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    assert run("train", *sides, *QUICK) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (tmp_path / "model" / "alignment" / "model.safetensors").exists()
    assert run("train", *sides, *QUICK, "--overwrite") == 0
    assert (tmp_path / "model" / "mine.txt").read_text() == "mine"


def test_a_failed_overwrite_keeps_the_old_model(folder, tmp_path, monkeypatch):
    shutil.copytree(folder / "model", tmp_path / "model")

    def files(model):
        found = [path for path in model.rglob("*") if path.is_file() and ".unfinished-run" not in path.parts]
        return {str(path.relative_to(model)): path.read_bytes() for path in found}

    before = files(tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    for broken in ("start.align", "recipe.Vec2VecTrainer.train"):  # before anything was made, and halfway
        with monkeypatch.context() as patched:
            patched.setattr(f"hf_vec2vec.training.{broken}", fail)
            for _ in range(2):
                assert run("train", *sides, *QUICK, "--overwrite") == 2
                assert files(tmp_path / "model") == before
    assert run("train", *sides, *QUICK, "--overwrite") == 0
    assert not (tmp_path / "model" / ".unfinished-run").exists()


@pytest.mark.parametrize("known", [True, False], ids=["with report", "made before there were reports"])
def test_resume_into_another_folder_brings_the_alignment_along(folder, tmp_path, known):
    shutil.copytree(folder / "model", tmp_path / "old")
    if not known:
        (tmp_path / "old" / "alignment" / "report.json").unlink()
    (checkpoint, *_) = (tmp_path / "old").glob("checkpoint-*")
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "new"]
    assert run("train", *sides, *QUICK, "--max_steps", "6", "--resume_from_checkpoint", checkpoint) == 0
    assert (tmp_path / "new" / "alignment" / "model.safetensors").exists()
    assert ("Verdict" in (tmp_path / "new" / "README.md").read_text()) == known


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_truncated_training_checkpoint(folder, tmp_path, capsys, file):
    shutil.copytree(folder / "model", tmp_path / "model")
    (path,) = (tmp_path / "model").glob(f"checkpoint-*/{file}")
    path.write_bytes(path.read_bytes()[:200])
    sides = ["--source", f"a={folder}/a.npy", "--target", f"b={folder}/b.npy", "--output_dir", tmp_path / "model"]
    assert run("train", *sides, *QUICK, "--resume_from_checkpoint", "true") == 2
    assert "is truncated" in capsys.readouterr().err


def test_shared_texts_are_refused_on_the_command_line(tmp_path, capsys):
    rows, texts = make_cloud(200, 6), [f"text {i}" for i in range(200)]
    save_embeddings(to_dataset(rows, texts), tmp_path / "a")
    save_embeddings(to_dataset(rows, [f"other {t}" for t in texts[1:]] + ["text 7"]), tmp_path / "b")
    sides = ["--source", f"a={tmp_path}/a", "--target", f"b={tmp_path}/b", "--output_dir", tmp_path / "model"]
    assert run("train", *sides, *QUICK) == 2
    assert "share 1 text(s), for instance 'text 7'" in capsys.readouterr().err
    assert run("train", *sides, *QUICK, "--strict_unpaired", "false") == 0
    assert "It was not checked whether texts" in (tmp_path / "model" / "README.md").read_text()


def test_other_columns_travel_with_their_rows(folder, tmp_path):
    rows = np.load(folder / "held_a.npy")
    store = Dataset.from_dict({"id": list(range(len(rows))), "vector": rows.tolist()}).select(range(50, 10, -1))
    store.to_parquet(tmp_path / "store.parquet")
    ends = ["--source", "a", "--target", "b", "--input", tmp_path / "store.parquet"]
    assert run("translate", folder / "model", *ends, "--output", tmp_path / "out.parquet") == 0
    out = load_embeddings(tmp_path / "out.parquet")
    assert out["id"][:3] == [50, 49, 48]
    model = Vec2VecModel.from_pretrained(folder / "model")
    expected = model.translate(torch.from_numpy(rows)[[50]], source="a", target="b")[0]
    torch.testing.assert_close(torch.tensor(out[0]["embedding"]), expected, rtol=0, atol=1e-5)


def test_a_card_written_by_hand_is_left_alone(folder, tmp_path):
    model = tmp_path / "model"
    Vec2VecModel.from_pretrained(folder / "model").save_pretrained(model)
    (model / "README.md").write_text("mine")
    sides = ["--source", f"a={folder}/held_a.npy", "--target", f"b={folder}/held_b.npy"]
    assert run("evaluate", model, *sides, "--output_dir", tmp_path / "figures") == 0
    assert (model / "README.md").read_text() == "mine"


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
        "dimension 8 for 'b'": ["evaluate", folder / "model", "--source", f"a={held[0]}", "--target", f"b={held[0]}"],
        "both name 'a'": ["evaluate", folder / "model", "--source", f"a={held[0]}", "--target", f"a={held[0]}"],
        "set `init` to 'random'": ["train", *data, "--architecture", "paper"],
        "'train', which torch needs": ["train", "--source", f"train={folder}/a.npy", *data[2:]],
        "`validation_rows` leaves 0": ["train", *data, "--validation_rows", "0"],
        "numbers of rows": ["evaluate", folder / "model", "--source", f"a={held[0]}", "--target", f"b={folder}/b.npy"],
        "`source` is 'z'": ["translate", folder / "model", "--source", "z", "--target", "b", "--input", held[0], *out],
        "dimension 10": ["translate", folder / "model", "--source", "a", "--target", "b", "--input", held[1], *out],
        "no translator": ["translate", folder, "--source", "a", "--target", "b", "--input", held[0], *out],
        "`input` or `texts` must be given": ["translate", folder / "model", "--source", "a", "--target", "b", *out],
        "`space` 'a': the translator does not record": [
            "translate",
            folder / "model",
            "--source",
            "a",
            "--target",
            "b",
            "--texts",
            "x.txt",
            *out,
        ],
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
