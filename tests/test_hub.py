"""Publishing and loading over a Hub on the loopback interface. Clients are unmodified, in processes of their own."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_cloud, random_rotation
from elsewhere import python, translate_elsewhere
from hub_cards import card_errors, metadata
from hub_server import Hub
from test_cli import QUICK
from test_model_card import ENCODER

from hf_vec2vec import Vec2VecModel

TRANSLATOR = {"README.md", "config.json", "model.safetensors"}
TRANSLATOR |= {f"{part}_vec2vec.py" for part in ("configuration", "modeling", "checkpoint")}
TRAIN = """
import sys

from huggingface_hub import constants  # reads the environment before the tests' conftest turns the network off

sys.path.insert(0, {tests!r})
from test_trainer import build

for strategy in {strategies!r}:
    trainer = build(
        {folder!r} + "/" + strategy, max_steps=20, save_strategy="steps", save_steps=10, learning_rate=0.01,
        push_to_hub=True, hub_model_id="org/" + strategy, hub_strategy=strategy,
    )
    trainer.train()
    trainer.push_to_hub()
"""


@pytest.fixture
def hub(tmp_path):
    with Hub(tmp_path / "hub", tokens={"secret": "org"}) as hub:
        yield hub


def client(hub: Hub, token: str | None = "secret") -> dict[str, str]:
    """Environment of a client of this Hub."""
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return environment | ({"HF_TOKEN": token} if token else {})


def run(code: str, tmp_path: Path, hub: Hub, token: str | None = "secret"):
    return python(code, tmp_path / "home", **client(hub, token))


def command(lines: list[list[str]], tmp_path: Path, hub: Hub):
    """Command lines, one after the other, until one fails."""
    code = f"import sys; from hf_vec2vec.cli import main; sys.exit(any(main(line) for line in {lines!r}))"
    return run(code, tmp_path, hub)


def same(model: Vec2VecModel, others: list[torch.Tensor], rows: torch.Tensor) -> bool:
    return all(torch.equal(model.translate(rows, source="a", target="b"), other) for other in others)


def test_trained_with_every_strategy_and_loaded_elsewhere(tmp_path, hub):
    strategies = ["end", "every_save", "checkpoint", "all_checkpoints"]
    tests = str(Path(__file__).parent)
    done = run(TRAIN.format(tests=tests, folder=str(tmp_path), strategies=strategies), tmp_path, hub)
    assert done.returncode == 0, done.stderr
    first, progress = "initial commit", [f"Training in progress, step {step}" for step in (20, 10)]
    for strategy in strategies:
        repo = f"org/{strategy}"
        assert hub.files(repo) == TRANSLATOR
        titles = hub.history(repo)
        if strategy == "end":
            assert titles == ["End of training", first]
        else:  # the last push finds nothing new, unless it took another second
            assert [title for title in titles if title != "End of training"] == [*progress, first]
        assert not card_errors(hub.read(repo, "README.md").decode())
        assert "secret" not in hub.read(repo, "README.md").decode()
    assert set(hub.repositories["org/every_save"].refs) == {"refs/heads/main"}
    kept = {name: hub.files(f"org/{name}", "checkpoints") for name in ("checkpoint", "all_checkpoints")}
    folders = {name: {path.split("/")[0] for path in paths if "/" in path} for name, paths in kept.items()}
    assert folders == {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {"checkpoint-10", "checkpoint-20"}}
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/trainer_state.json"} <= kept["checkpoint"]
    assert not any(path.endswith("training_args.bin") for path in kept["checkpoint"] | kept["all_checkpoints"])

    repository, rows = hub.repositories["org/every_save"], torch.randn(9, 6)
    halfway = next(c.oid for c in repository.commits.values() if c.title.endswith("step 10"))
    repository.refs |= {"refs/tags/v1": repository.refs["refs/heads/main"], "refs/heads/a/branch": halfway}
    revisions = [{}, {"revision": "main"}, {"revision": "v1"}, {"revision": halfway}, {"revision": "a/branch"}]
    calls = [("org/every_save", revision) for revision in revisions]
    now_1, now_2, now_3, then_1, then_2 = translate_elsewhere(tmp_path / "other", rows, calls, **client(hub, token=None))
    assert same(Vec2VecModel.from_pretrained(tmp_path / "every_save"), [now_1, now_2, now_3], rows)
    assert torch.equal(then_1, then_2)
    assert not torch.equal(now_1, then_1)


def test_push_command_branches_pull_requests_and_private_repositories(tmp_path, hub, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    for name in ("optimizer.pt", "pytorch_model.bin"):
        (tmp_path / "model" / name).write_bytes(b"not for others")
    tiny_model.save_pretrained(tmp_path / "better")
    card = "---\nlicense: mit\n---\nWritten by hand."
    (tmp_path / "model" / "README.md").write_text(card)
    pushes = [
        ["model", "--private"],
        ["model", "--revision", "next/one"],
        ["better", "--create_pr", "--commit_message", "Better"],
    ]
    lines = [["push", str(tmp_path / name), "--repo_id", "org/hidden", *flags] for name, *flags in pushes]
    done = command(lines, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/org/hidden/discussions/1" in done.stdout
    assert hub.files("org/hidden") == TRANSLATOR
    assert hub.read("org/hidden", "README.md").decode() == card
    assert hub.repositories["org/hidden"].private
    assert hub.files("org/hidden", "next/one") == TRANSLATOR
    assert hub.history("org/hidden", "refs/pr/1") == ["Better", "Upload translator", "initial commit"]

    rows = torch.randn(9, 6)
    calls = [("org/hidden", revision) for revision in ({}, {"revision": "next/one"}, {"revision": "refs/pr/1"})]
    assert same(tiny_model, translate_elsewhere(tmp_path / "friend", rows, calls, **client(hub)), rows)
    with pytest.raises(AssertionError, match="org/hidden is not a local folder and is not a valid model identifier"):
        translate_elsewhere(tmp_path / "stranger", rows, [("org/hidden", {})], **client(hub, token=None))


def test_a_model_pushes_itself_with_a_true_card(tmp_path, hub, tiny_model):
    tiny_model.config.encoders = {"a": ENCODER | {"model": str(tmp_path)}, "b": None}
    tiny_model.save_pretrained(tmp_path / "model")
    code = f"""
from hf_vec2vec import Vec2VecModel
model = Vec2VecModel.from_pretrained({str(tmp_path / "model")!r})
model.push_to_hub("org/one", private=True, tags=["mine"])
model.save_pretrained({str(tmp_path / "copy")!r}, push_to_hub=True, repo_id="org/two")
"""
    done = run(code, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert hub.files("org/one") == hub.files("org/two") == TRANSLATOR
    card = hub.read("org/one", "README.md").decode()
    assert "- mine" in card
    assert 'from_pretrained("org/one")' in card
    assert "More Information Needed" not in card
    config = json.loads(hub.read("org/one", "config.json"))
    assert config["embedding_dims"] == {"a": 6, "b": 4}
    assert config["encoders"]["a"] == ENCODER | {"model": tmp_path.name}  # the rest of the path is of this machine


def test_from_vectors_to_an_evaluated_checkpoint_on_the_hub(tmp_path, hub):
    rotation, held_out = random_rotation(6, 6), make_cloud(80, 6, seed=3)
    spaces = {"a": make_cloud(400, 6, seed=1), "b": make_cloud(400, 6, seed=2) @ rotation}
    for name, rows in {**spaces, "held_a": held_out, "held_b": held_out @ rotation}.items():
        np.save(tmp_path / f"{name}.npy", rows.numpy())
    sides = ["--source", f"a={tmp_path}/a.npy", "--target", f"b={tmp_path}/b.npy"]
    pairs = ["--source", f"a={tmp_path}/held_a.npy", "--target", f"b={tmp_path}/held_b.npy"]
    folder, repo = str(tmp_path / "model"), ["--push_to_hub", "true", "--hub_model_id", "org/demo"]
    lines = [
        ["train", *sides, "--output_dir", folder, *QUICK, *repo],
        ["evaluate", folder, *pairs],
        ["push", folder, "--repo_id", "org/demo", "--commit_message", "Figures"],
    ]
    done = command(lines, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert hub.files("org/demo") == TRANSLATOR
    titles = hub.history("org/demo")
    assert (titles[0], titles[-1]) == ("Figures", "initial commit")
    assert "Training in progress, step 2" in titles
    card = hub.read("org/demo", "README.md").decode()
    assert not card_errors(card)
    assert metadata(card)["model-index"][0]["name"] == "demo"
    for part in (
        "Verdict on the alignment",
        "Alignment: ",
        "320 of a.npy",
        "paired Procrustes",
        'from_pretrained("org/demo")',
    ):
        assert part in card
    weights = (tmp_path / "model" / "model.safetensors").read_bytes()
    assert hub.read("org/demo", "model.safetensors") == weights


def test_the_loopback_hub_speaks_to_the_unmodified_client(tmp_path, hub):
    """What the tests here lean on: the parts of the protocol that pushing and loading do not show by themselves."""
    script = str(Path(__file__).with_name("hub_client.py"))
    code = f"import runpy, sys; sys.argv = ['', {str(tmp_path / 'copy')!r}]; runpy.run_path({script!r})"
    hub.tokens["other"] = "other"
    done = run(code, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "folder" / "deep" / "weights.safetensors").read_bytes() == b"0123456789" * 50


def test_what_goes_wrong_on_the_way(tmp_path, hub, tiny_model):
    for name in ("patient", "error", "dropped", "stranger/not-ours"):
        with torch.no_grad():
            tiny_model.normalizers["a"].mean.add_(1)  # other weights, for the Hub keeps what it has seen
        tiny_model.save_pretrained(tmp_path / name)
    hub.fail("preupload", 429, Retry_After="1")
    hub.fail("PUT /lfs", "drop")
    hub.fail("PUT /lfs", 500)
    hub.fail("POST /api/models/org/error/commit", 500)
    hub.fail("POST /api/models/org/dropped/commit", "drop")
    code = f"""
from hf_vec2vec.cli import main
for name in ("org/patient", "org/error", "org/dropped", "stranger/not-ours"):
    folder = {str(tmp_path)!r} + "/" + name.removeprefix("org/")
    print(name, main(["push", folder, "--repo_id", name]))
"""
    done = run(code, tmp_path, hub)
    codes = dict(line.split() for line in done.stdout.splitlines() if "→" not in line)
    assert codes == {"org/patient": "0", "org/error": "2", "org/dropped": "2", "stranger/not-ours": "2"}, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("hf-vec2vec push: ")]
    assert len(errors) == 3
    assert all("no commit was made, nothing is published" in error for error in errors)
    assert not hub.faults  # each one was met
    assert hub.files("org/patient") == TRANSLATOR
    assert hub.files("org/error") == hub.files("org/dropped") == set()


def test_a_push_that_fails_does_not_stop_training(tmp_path, hub):
    hub.fail("commit/main", 500)
    code = TRAIN.format(tests=str(Path(__file__).parent), folder=str(tmp_path), strategies=["every_save"])
    done = run(code, tmp_path, hub)
    assert done.returncode == 0, done.stderr
    assert "Training goes on, but step 10 is not on the Hub" in done.stderr
    assert "Training in progress, step 20" in hub.history("org/every_save")
    assert "Training in progress, step 10" not in hub.history("org/every_save")
