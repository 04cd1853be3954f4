import itertools
import json
import shutil

import numpy as np
import pytest

from helpers.clouds import make_cloud
from helpers.commands import QUICK, run, train
from helpers.encoders import WORDS
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.data import save_embeddings, to_dataset


def test_train_on_texts(tmp_path, bert, static, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    for side in ("a", "b"):
        some = itertools.islice(itertools.product(WORDS[3:], repeat=4), 0, None, 5)
        texts = (" ".join([*words, side]) for words in some)
        (tmp_path / f"{side}.txt").write_text("\n".join(texts))
    sides = ["--source", f"bert={tmp_path}/a.txt", "--target", f"static={tmp_path}/b.txt"]
    encoders = ["--source_encoder", bert, "--target_encoder", static]
    assert run("train", *sides, *encoders, "--output_dir", tmp_path / "model", *QUICK) == 0
    assert "No text was on both sides; texts were compared" in (tmp_path / "model" / "README.md").read_text()


def test_train_leaves_a_translator_its_start_and_a_card(trained):
    model = Vec2VecModel.from_pretrained(trained / "model")
    assert model.config.embedding_dims == {"a": 8, "b": 10}
    assert Vec2VecModel.from_pretrained(trained / "model" / "alignment").config.spaces == ["a", "b"]
    facts = json.loads((trained / "model" / "training.json").read_text())
    assert facts["rows"] == {"a": 500, "b": 400}
    assert facts["selection"]["kept"] in ("trained", "alignment")
    assert "library_name: hf_vec2vec" in (trained / "model" / "README.md").read_text()


def test_flags_from_a_file_give_way_to_the_line(trained, tmp_path):
    content = f"source: a={trained}/a.npy\ntarget: b={trained}/b.npy\nmax_steps: 2\nhidden_dim: 4\nalign_starts: 1\n"
    (tmp_path / "run.yaml").write_text(content + "align_steps: 1\nallow_not_aligned: true\nload_best_model_at_end: false\n")
    line = ["--hidden_dim", "12", "--disable_tqdm", "true"]
    assert run("train", f"--config={tmp_path}/run.yaml", "--output_dir", tmp_path / "model", *line) == 0
    assert Vec2VecModel.from_pretrained(tmp_path / "model").config.hidden_dim == 12


@pytest.mark.parametrize(
    ("more", "updates"),
    [
        ([], 0),
        (["--seed", "3", "--effort", "quick"], 0),
        (["--init", "random"], 7),
        (["--preset", "r3gan"], 1),
        (["--gan_loss", "hinge"], 7),
        (["--num_train_epochs", "2"], 4),
        (["--max_steps", "9"], 9),
    ],
)
def test_training_follows_where_it_is_asked_for_or_starts_at_random(trained, tmp_path, capsys, more, updates):
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "new"]
    assert run("train", *sides, *more, "--dry_run") == 0
    assert f"{updates} updates of adversarial training" in capsys.readouterr().out


def test_preset_starts_at_random_with_the_published_network(trained, tmp_path):
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    small = ["--max_steps", "2", "--eval_strategy", "no", "--save_strategy", "no", "--load_best_model_at_end", "false"]
    assert run("train", *sides, "--preset=public_code", *small, "--hidden_dim", "32", "--disable_tqdm", "true") == 0
    config = Vec2VecModel.from_pretrained(tmp_path / "model").config
    assert (config.residual, config.latent_dim, config.norm) == ("zero_pad", 1024, "batch")


def test_resume_goes_on_from_the_checkpoint(trained, tmp_path):
    shutil.copytree(trained / "model", tmp_path / "model")
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    more = [*QUICK, "--max_steps", "6", "--resume_from_checkpoint", "true"]
    assert run("train", *sides, *more) == 0
    log = json.loads((tmp_path / "model" / "trainer_state.json").read_text())
    assert log["global_step"] == 6
    before = json.loads((trained / "model" / "trainer_state.json").read_text())["log_history"]
    assert before[0] in log["log_history"]  # the first steps are those of the first run, not new ones


@pytest.mark.parametrize(("metric", "best"), [("loss", min), ("alignment_score", max)])
def test_the_better_of_a_metric_is_kept(trained, tmp_path, metric, best):
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    more = [*QUICK, "--init", "random", "--max_steps", "6", "--learning_rate", "0.01", "--metric_for_best_model", metric]
    assert run("train", *sides, *more) == 0
    state = json.loads((tmp_path / "model" / "trainer_state.json").read_text())
    *seen, after = (log[f"eval_{metric}"] for log in state["log_history"] if "eval_loss" in log)
    assert len(set(seen)) == 3
    assert state["best_metric"] == after == best(seen)


def test_a_model_in_the_way_is_kept(trained, capsys):
    before = (trained / "model" / "model.safetensors").read_bytes()
    assert train(trained) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (trained / "model" / "model.safetensors").read_bytes() == before
    assert train(trained, "--overwrite", output="model2") == 0
    assert train(trained, "--overwrite", output="model2") == 0


def test_only_what_training_made_is_replaced(trained, tmp_path, capsys):
    shutil.copytree(trained / "model", tmp_path / "model")
    (tmp_path / "model" / "mine.txt").write_text("mine")
    (tmp_path / "model" / "config.json").unlink()  # a run that broke off: its parts are still worth something
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    assert run("train", *sides, *QUICK) == 2
    assert "holds a model already" in capsys.readouterr().err
    assert (tmp_path / "model" / "alignment" / "model.safetensors").exists()
    assert run("train", *sides, *QUICK, "--overwrite") == 0
    assert (tmp_path / "model" / "mine.txt").read_text() == "mine"


def test_a_failed_overwrite_keeps_the_old_model(trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "model", tmp_path / "model")

    def files(model):
        found = [path for path in model.rglob("*") if path.is_file() and ".unfinished-run" not in path.parts]
        return {str(path.relative_to(model)): path.read_bytes() for path in found}

    before = files(tmp_path / "model")

    def fail(*args, **kwargs):
        raise OSError("disk full")

    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    for broken in ("start.align", "recipe.Vec2VecTrainer.train"):  # before anything was made, and halfway
        with monkeypatch.context() as patched:
            patched.setattr(f"hf_vec2vec.training.{broken}", fail)
            for _ in range(2):
                assert run("train", *sides, *QUICK, "--overwrite") == 1
                assert files(tmp_path / "model") == before
    assert run("train", *sides, *QUICK, "--overwrite") == 0
    assert not (tmp_path / "model" / ".unfinished-run").exists()


@pytest.mark.parametrize("known", [True, False], ids=["with report", "made before there were reports"])
def test_resume_into_another_trained_brings_the_alignment_along(trained, tmp_path, known):
    shutil.copytree(trained / "model", tmp_path / "old")
    if not known:
        (tmp_path / "old" / "alignment" / "report.json").unlink()
    (checkpoint, *_) = (tmp_path / "old").glob("checkpoint-*")
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "new"]
    assert run("train", *sides, *QUICK, "--max_steps", "6", "--resume_from_checkpoint", checkpoint) == 0
    assert (tmp_path / "new" / "alignment" / "model.safetensors").exists()
    assert ("Verdict" in (tmp_path / "new" / "README.md").read_text()) == known


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.pt"])
def test_truncated_training_checkpoint(trained, tmp_path, capsys, file):
    shutil.copytree(trained / "model", tmp_path / "model")
    (path,) = (tmp_path / "model").glob(f"checkpoint-*/{file}")
    path.write_bytes(path.read_bytes()[:200])
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
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


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((600, 8), dtype=np.float32), "only zeros"),
        (np.full((600, 8), np.nan, dtype=np.float32), "NaN or infinite"),
        (np.ones((600, 8), dtype=np.int8), "int8"),
        (np.ones((0, 8), dtype=np.float32), "empty"),
        (np.random.default_rng(0).normal(size=(40, 8)), "too few to align: give at least 100"),
    ],
)
def test_bad_vectors_to_train(trained, tmp_path, capsys, values, message):
    np.save(tmp_path / "bad.npy", values)
    sides = ["--source", f"a={tmp_path}/bad.npy", "--target", f"b={trained}/b.npy"]
    assert run("train", *sides, "--output_dir", tmp_path / "model", *QUICK) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("hf-vec2vec train: ")
    assert message in error
    assert not (tmp_path / "model" / "config.json").exists()
