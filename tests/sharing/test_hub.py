"""Publishing and loading over a Hub on the loopback interface. Clients are unmodified, in processes of their own."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.cards import ENCODER
from helpers.clouds import make_cloud, random_rotation
from helpers.commands import QUICK
from helpers.elsewhere import Machine, translate_elsewhere
from helpers.hub_cards import card_errors, metadata
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.sharing.translator_card import write_model_card

TRANSLATOR = {"README.md", "config.json", "model.safetensors"}
TRANSLATOR |= {f"{part}_vec2vec.py" for part in ("configuration", "modeling", "layers", "modes", "checkpoint")}
TRAINED = TRANSLATOR | {"training.json"}
STUDENT_PAGE = re.compile(
    r"---\nlibrary_name: peft\ntags:\n- .*\nbase_model_relation: adapter\n---\n\n# org/student\n.*## Use\n.*"
    r"PeftModel\.from_pretrained\(.*\"org/student\"\).*## Training\n.*32 texts.* 6 updates .*losses: cosine 1\.0\.\n"
    r".* seconds on .* Wh, .*Versions: hf_vec2vec .*## Intended use\n.*## Limits and privacy\n.*"
    r"## Citation\n.*2505\.12540\.\s*",
    re.DOTALL,
)
TRAIN = """
import sys

from huggingface_hub import constants  # reads the environment before the tests' conftest turns the network off

sys.path.insert(0, {tests!r})
from helpers.training import build

for strategy in {strategies!r}:
    trainer = build(
        {folder!r} + "/" + strategy, max_steps=20, save_strategy="steps", save_steps=10, learning_rate=0.01,
        push_to_hub=True, hub_model_id="org/" + strategy, hub_strategy=strategy,
    )
    trainer.train()
    trainer.push_to_hub()
"""


def command(machine: Machine, lines: list[list[str]]):
    """Command lines, one after the other, until one fails."""
    return machine.run(f"import sys; from hf_vec2vec.cli import main; sys.exit(any(main(line) for line in {lines!r}))")


def same(model: Vec2VecModel, others: list[torch.Tensor], rows: torch.Tensor) -> bool:
    return all(torch.equal(model.translate(rows, source="a", target="b"), other) for other in others)


@pytest.mark.slow
def test_trained_with_every_strategy_and_loaded_elsewhere(tmp_path, hub, publisher, stranger):
    strategies = ["end", "every_save", "checkpoint", "all_checkpoints"]
    tests = str(Path(__file__).parents[1])
    done = publisher.run(TRAIN.format(tests=tests, folder=str(tmp_path), strategies=strategies))
    assert done.returncode == 0, done.stderr
    first, progress = "initial commit", [f"Training in progress, step {step}" for step in (20, 10)]
    for strategy in strategies:
        repo = f"org/{strategy}"
        assert hub.files(repo) == TRAINED
        titles = hub.history(repo)
        if strategy == "end":
            assert titles == ["End of training", first]
        else:  # the last push finds nothing new, unless it took another second
            assert [title for title in titles if title != "End of training"] == [*progress, first]
        assert not card_errors(hub.read(repo, "README.md").decode())
        assert "secret" not in hub.read(repo, "README.md").decode()
    assert set(hub.repositories["org/every_save"].refs) == {"refs/heads/main"}
    kept = {name: hub.files(f"org/{name}", "checkpoints") for name in ("checkpoint", "all_checkpoints")}
    found = {name: {path.split("/")[0] for path in paths if "/" in path} for name, paths in kept.items()}
    assert found == {"checkpoint": {"last-checkpoint"}, "all_checkpoints": {"checkpoint-10", "checkpoint-20"}}
    assert {"last-checkpoint/optimizer.pt", "last-checkpoint/trainer_state.json"} <= kept["checkpoint"]
    assert not any(path.endswith("training_args.bin") for path in kept["checkpoint"] | kept["all_checkpoints"])

    repository, rows = hub.repositories["org/every_save"], torch.randn(9, 6)
    halfway = next(c.oid for c in repository.commits.values() if c.title.endswith("step 10"))
    repository.refs |= {"refs/tags/v1": repository.refs["refs/heads/main"], "refs/heads/a/branch": halfway}
    revisions = [{}, {"revision": "main"}, {"revision": "v1"}, {"revision": halfway}, {"revision": "a/branch"}]
    calls = [("org/every_save", revision) for revision in revisions]
    now_1, now_2, now_3, then_1, then_2 = translate_elsewhere(stranger, tmp_path / "other", rows, calls)
    assert same(Vec2VecModel.from_pretrained(tmp_path / "every_save"), [now_1, now_2, now_3], rows)
    assert torch.equal(then_1, then_2)
    assert not torch.equal(now_1, then_1)


@pytest.mark.slow
def test_push_command_branches_pull_requests_and_private_repositories(tmp_path, hub, publisher, stranger, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    for name in ("optimizer.pt", "pytorch_model.bin"):
        (tmp_path / "model" / name).write_bytes(b"not for others")
    tiny_model.save_pretrained(tmp_path / "better")
    card = "---\nlicense: mit\n---\nWritten by hand."
    (tmp_path / "model" / "README.md").write_text(card)
    pushes = [
        ["model", "--private", "--tag", "v1"],
        ["model", "--revision", "next/one"],
        ["better", "--create_pr", "--commit_message", "Better"],
    ]
    lines = [["push", str(tmp_path / name), "--repo_id", "org/hidden", *flags] for name, *flags in pushes]
    done = command(publisher, lines)
    assert done.returncode == 0, done.stderr
    assert f"{hub.url}/org/hidden/discussions/1" in done.stdout
    assert hub.files("org/hidden") == TRANSLATOR
    assert hub.read("org/hidden", "README.md").decode() == card
    assert hub.repositories["org/hidden"].private
    assert hub.files("org/hidden", "next/one") == hub.files("org/hidden", "v1") == TRANSLATOR
    again = command(publisher, [lines[0]])
    assert again.returncode == 1
    assert "`tag` 'v1' was not made, but" in again.stderr
    assert hub.history("org/hidden", "refs/pr/1") == ["Better", "Upload translator", "initial commit"]

    rows = torch.randn(9, 6)
    known = [{"token": "secret"} | revision for revision in ({}, {"revision": "v1"}, {"revision": "refs/pr/1"})]
    unknown = [{}, {"token": "wrong"}, {"token": "other"}]
    hub.tokens["other"] = "other"
    calls = [("org/hidden", kwargs) for kwargs in [*unknown, *known]]
    *refused, first, second, third = translate_elsewhere(stranger, tmp_path / "elsewhere", rows, calls)
    assert same(tiny_model, [first, second, third], rows)
    for message in (refused[0], refused[2]):
        assert "org/hidden is not a local folder and is not a valid model identifier" in message
    assert "Invalid credentials" in refused[1]


def test_a_model_pushes_itself_with_a_true_card(tmp_path, hub, publisher, tiny_model):
    tiny_model.config.encoders = {"a": ENCODER | {"model": str(tmp_path)}, "b": ENCODER | {"model": "org/encoder"}}
    tiny_model.save_pretrained(tmp_path / "model")
    code = f"""
from hf_vec2vec import Vec2VecModel
model = Vec2VecModel.from_pretrained({str(tmp_path / "model")!r})
model.push_to_hub("org/one", private=True, tags=["mine"])
model.save_pretrained({str(tmp_path / "copy")!r}, push_to_hub=True, repo_id="org/two", revision="next", max_shard_size=3000)
"""
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    assert hub.files("org/one") == TRANSLATOR
    assert hub.files("org/two") == set()
    assert "model.safetensors.index.json" in hub.files("org/two", "next")
    card = hub.read("org/one", "README.md").decode()
    assert "- mine" in card
    assert 'from_pretrained("org/one")' in card
    assert "More Information Needed" not in card
    config = json.loads(hub.read("org/one", "config.json"))
    assert config["embedding_dims"] == {"a": 6, "b": 4}
    assert config["encoders"]["a"] == ENCODER | {"model": f"./{tmp_path.name}"}  # the rest is of this machine
    assert metadata(card)["base_model"] == ["org/encoder"]  # a folder's name may be another model on the Hub


def test_a_card_on_the_hub_is_kept_on_its_branch_and_under_a_short_name(tmp_path, hub, publisher, tiny_model):
    tiny_model.save_pretrained(tmp_path / "short")
    code = f"""
from huggingface_hub import HfApi
from hf_vec2vec import Vec2VecModel
api, model = HfApi(), Vec2VecModel.from_pretrained({str(tmp_path / "short")!r})
model.push_to_hub("org/short")
api.create_branch("org/short", branch="own")
for branch in ("main", "own"):
    text = f"---\\nlicense: mit\\n---\\n\\nOf {{branch}}.\\n".encode()
    api.upload_file(path_or_fileobj=text, path_in_repo="README.md", repo_id="org/short", revision=branch)
model.save_pretrained({str(tmp_path / "short")!r}, push_to_hub=True)
model.push_to_hub("short", revision="own")
model.push_to_hub("short", revision="new")
model.push_to_hub("fresh")
"""
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    cards = {branch: hub.read("org/short", "README.md", branch).decode() for branch in ("main", "own", "new")}
    assert {branch: card.strip().splitlines()[-1] for branch, card in cards.items()} == {
        "main": "Of main.",
        "own": "Of own.",
        "new": "Of main.",
    }
    assert 'from_pretrained("org/fresh")' in hub.read("org/fresh", "README.md").decode()


def test_weights_in_parts_take_the_place_of_whole_ones_and_back(tmp_path, hub, publisher, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    hub.part_size = 3000  # so that whole weights are uploaded in parts
    code = f"""
import torch
from hf_vec2vec import Vec2VecModel
model = Vec2VecModel.from_pretrained({str(tmp_path / "model")!r})
for i, size in enumerate(("1GB", 2000, "1GB")):
    with torch.no_grad():
        model.normalizers["a"].mean.fill_(i)
    model.push_to_hub("org/parts", max_shard_size=size)
    assert Vec2VecModel.from_pretrained("org/parts").normalizers["a"].mean[0] == i
"""
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    assert hub.files("org/parts") == TRANSLATOR
    assert hub.history("org/parts") == ["Upload translator"] * 3 + ["initial commit"]
    assert any(line.startswith("POST /lfs/") for line in hub.log)


def test_a_student_publishes_its_adapter_and_a_card(tmp_path, hub, publisher, folders):  # noqa: F811
    tests = str(Path(__file__).parents[1])
    code = f"""
import sys
sys.path.insert(0, {tests!r})
from huggingface_hub import constants
from helpers.distillation import make_trainer
trainer = make_trainer(
    {folders!r}, {str(tmp_path / "run")!r}, save_strategy="steps", save_steps=3, push_to_hub=True,
    hub_model_id="org/student", hub_strategy="checkpoint", hub_token="secret",
)
trainer.train()
trainer.push_to_hub()
"""
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    files = hub.files("org/student")
    assert {"README.md", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= files
    assert not {name for name in files if name.endswith((".bin", ".pt", ".pkl"))}
    assert "last-checkpoint/optimizer.pt" in hub.files("org/student", "checkpoints")
    assert not any(name.endswith("training_args.bin") for name in hub.files("org/student", "checkpoints"))
    page = hub.read("org/student", "README.md").decode()
    assert STUDENT_PAGE.fullmatch(page)
    assert not card_errors(page)
    for part in ("{{", "None", "nan", "TODO", "More Information", "secret", str(tmp_path), folders["llama"]):
        assert part not in page
    base = json.loads(hub.read("org/student", "adapter_config.json"))["base_model_name_or_path"]
    assert base == f"./{Path(folders['llama']).name}"


def test_from_vectors_to_an_evaluated_checkpoint_on_the_hub(tmp_path, hub, publisher):
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
    done = command(publisher, lines)
    assert done.returncode == 0, done.stderr
    assert hub.files("org/demo") == TRAINED
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
    commits = hub.repositories["org/demo"].commits.values()
    halfway = next(c.oid for c in commits if c.title == "Training in progress, step 2")
    for revision in ("main", halfway):
        facts = hub.read("org/demo", "training.json", revision).decode()
        assert json.loads(facts)["report"]["verdict"]
        assert str(tmp_path) not in facts


def test_the_verdict_on_an_alignment_goes_along(tmp_path, hub, publisher, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    scores = dict.fromkeys(("score", "null_score", "ceiling", "consensus"), 0.1)
    encoders = {"a": ENCODER | {"model": str(tmp_path)}, "b": ENCODER | {"model": "/gone/from/here"}}
    facts = {"report": scores | {"verdict": "not aligned"}, "encoders": encoders, "files": {"a": f"{tmp_path}/mails.npy"}}
    write_model_card(tmp_path / "model", facts)
    np.save(tmp_path / "x.npy", np.eye(6, dtype="f4"))
    words = ["--source", "a", "--target", "b", "--input", f"{tmp_path}/x.npy", "--output", f"{tmp_path}/y.npy"]
    lines = [["push", str(tmp_path / "model"), "--repo_id", "org/wrong"], ["push", "org/wrong", "--repo_id", "org/again"]]
    done = command(publisher, [*lines, ["translate", "org/wrong", *words, "--allow_not_aligned"]])
    assert done.returncode == 0, done.stderr
    for repo in ("org/wrong", "org/again"):
        assert hub.files(repo) == TRAINED
        published = json.loads(hub.read(repo, "training.json"))
        assert [published["encoders"][space]["model"] for space in "ab"] == [f"./{tmp_path.name}", "./here"]
        assert published["files"] == {"a": "mails.npy"}
        refused = command(publisher, [["translate", repo, *words, "--overwrite"]])
        assert refused.returncode == 1
        assert "the verdict on its alignment is 'not aligned'" in refused.stderr


def test_a_translator_in_half_precision_stays_as_small(tmp_path, hub, publisher, tiny_model):
    tiny_model.half().save_pretrained(tmp_path / "model")
    done = command(publisher, [["push", str(tmp_path / "model"), "--repo_id", "org/half"]])
    assert done.returncode == 0, done.stderr
    assert hub.read("org/half", "model.safetensors") == (tmp_path / "model" / "model.safetensors").read_bytes()
    assert json.loads(hub.read("org/half", "config.json"))["dtype"] == "float16"


def test_the_loopback_hub_speaks_to_the_unmodified_client(tmp_path, hub, publisher):
    """What the tests here lean on: the parts of the protocol that pushing and loading do not show by themselves."""
    script = str(Path(__file__).parents[1] / "helpers" / "hub_client.py")
    code = f"import runpy, sys; sys.argv = ['', {str(tmp_path / 'copy')!r}]; runpy.run_path({script!r})"
    hub.tokens["other"] = "other"
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "copy" / "folder" / "deep" / "weights.safetensors").read_bytes() == b"0123456789" * 50


def test_what_goes_wrong_on_the_way(tmp_path, hub, publisher, tiny_model):
    for name in ("patient", "error", "dropped", "stranger/not-ours", "silent"):
        with torch.no_grad():
            tiny_model.normalizers["a"].mean.add_(1)  # other weights, for the Hub keeps what it has seen
        tiny_model.save_pretrained(tmp_path / name)
    for busy in ("repos/create", "validate-yaml", "branch", "POST /api/models/org/patient/commit"):
        hub.fail(busy, 429, Retry_After="0")
    hub.fail("PUT /lfs", "drop")
    hub.fail("PUT /lfs", 500)
    hub.fail("POST /api/models/org/error/commit", 500)
    hub.fail("POST /api/models/org/dropped/commit", "drop")
    hub.fail("POST /api/models/org/silent/commit", "cut", times=2)  # the commit is made, and the answer lost
    code = f"""
from hf_vec2vec.cli import main
for name in ("org/patient", "org/error", "org/dropped", "stranger/not-ours", "org/silent"):
    folder = {str(tmp_path)!r} + "/" + name.removeprefix("org/")
    print(name, main(["push", folder, "--repo_id", name, "--revision", "main"]))
print("pull request", main(["push", {str(tmp_path / "dropped")!r}, "--repo_id", "org/silent", "--create_pr"]))
"""
    done = publisher.run(code)
    codes = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines() if "→" not in line)
    refused = {"org/error": "1", "org/dropped": "1", "stranger/not-ours": "1"}
    assert codes == {"org/patient": "0", "org/silent": "0", "pull request": "1"} | refused, done.stderr
    *errors, unknown = [line for line in done.stderr.splitlines() if line.startswith("hf-vec2vec push: ")]
    assert len(errors) == 3
    assert all("no commit was made, nothing is published" in error for error in errors)
    assert "whether it was made is not known" in unknown
    assert not hub.faults  # each one was met
    assert hub.files("org/patient") == hub.files("org/silent") == TRANSLATOR
    assert hub.files("org/error") == hub.files("org/dropped") == set()


def test_a_download_that_breaks_off_is_resumed_and_a_changed_one_is_refused(tmp_path, hub, publisher, tiny_model):
    with torch.no_grad():
        tiny_model.normalizers["a"].mean.add_(9)
    tiny_model.save_pretrained(tmp_path / "model")
    assert command(publisher, [["push", str(tmp_path / "model"), "--repo_id", "org/far"]]).returncode == 0
    hub.fail("GET /cdn/", "cut")
    load = "from hf_vec2vec import Vec2VecModel; Vec2VecModel.from_pretrained('org/far')"
    done = publisher.run(load)
    assert done.returncode == 0, done.stderr
    assert not hub.faults
    oid, size, _ = hub.repositories["org/far"].find("main").files["model.safetensors"]
    content = bytearray((hub.contents / oid).read_bytes())
    content[-100] ^= 1
    (hub.contents / oid).write_bytes(content)  # as a broken disk or a proxy would
    done = publisher.run(load.replace("'org/far'", "'org/far', force_download=True"))
    assert done.returncode == 1
    assert "its weights are not those that were saved" in done.stderr
    (hub.contents / oid).unlink()


def test_a_push_that_fails_does_not_stop_training(tmp_path, hub, publisher):
    hub.fail("commit/main", 500)
    code = TRAIN.format(tests=str(Path(__file__).parents[1]), folder=str(tmp_path), strategies=["every_save"])
    done = publisher.run(code)
    assert done.returncode == 0, done.stderr
    assert "Training goes on, but step 10 is not on the Hub" in done.stderr
    assert "Training in progress, step 20" in hub.history("org/every_save")
    assert "Training in progress, step 10" not in hub.history("org/every_save")
