import json
import resource
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from helpers.training import build
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.cli import main
from hf_vec2vec.model.checkpoint_vec2vec import weights_sha256
from hf_vec2vec.sharing.translator_card import write_model_card
from hf_vec2vec.training.checkpoints import FILES


@pytest.fixture
def saved(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def edit_config(folder, **fields):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | fields))


def flip(folder, position):
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[position % len(weights)] ^= 4
    (folder / "model.safetensors").write_bytes(weights)


def test_the_hash_is_of_the_weights_on_disk(saved, tiny_model):
    assert json.loads((saved / "config.json").read_text())["weights_sha256"] == weights_sha256(tiny_model.state_dict())
    loaded = Vec2VecModel.from_pretrained(saved)
    assert loaded.config.weights_sha256 is None  # the loaded weights may be trained on, and saved again
    with torch.no_grad():
        loaded.normalizers["a"].mean.add_(1)
    loaded.save_pretrained(saved)
    assert torch.equal(Vec2VecModel.from_pretrained(saved).normalizers["a"].mean, loaded.normalizers["a"].mean)


def test_other_types_and_shards_load(saved, tiny_model):
    assert Vec2VecModel.from_pretrained(saved, dtype=torch.bfloat16).dtype == torch.bfloat16
    tiny_model.save_pretrained(saved, max_shard_size=2000)
    assert not (saved / "model.safetensors").exists()  # else it would be loaded in place of the shards
    x = torch.randn(3, 6)
    loaded, report = Vec2VecModel.from_pretrained(saved, output_loading_info=True)
    assert torch.equal(loaded.translate(x, source="a", target="b"), tiny_model.translate(x, source="a", target="b"))
    assert not report["missing_keys"]


@pytest.mark.parametrize("position", [0, 3, 60, 200, -1, -1000, -3001])
def test_a_flipped_bit_is_found(saved, position):
    flip(saved, position)
    with pytest.raises((ValueError, OSError)):
        Vec2VecModel.from_pretrained(saved)


@pytest.mark.parametrize("cls", [Vec2VecModel, AutoModel])
@pytest.mark.parametrize("dtype", [None, "auto", torch.float32, torch.float16])
def test_changed_weights_are_not_loaded(saved, cls, dtype):
    flip(saved, -1000)
    with pytest.raises(ValueError, match="its weights are not those that were saved"):
        cls.from_pretrained(saved, dtype=dtype)


def test_a_save_touches_no_weights_but_its_own(saved, tiny_model):
    kept = saved / "model_backup.safetensors"
    shutil.copy(saved / "model.safetensors", kept)
    before = (saved / "model.safetensors").read_bytes()
    with pytest.raises(ValueError, match="`variant` is 'fp16'"):
        tiny_model.save_pretrained(saved, variant="fp16")
    assert (saved / "model.safetensors").read_bytes() == before
    tiny_model.save_pretrained(saved, max_shard_size="2KB")
    assert kept.exists()
    assert not (saved / "model.safetensors").exists()
    tiny_model.save_pretrained(saved)
    found = sorted(file.name for file in saved.glob("model*.safetensors*"))
    assert found == ["model.safetensors", "model_backup.safetensors"]


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.999])
def test_a_checkpoint_cut_short(saved, share):
    weights = (saved / "model.safetensors").read_bytes()
    (saved / "model.safetensors").write_bytes(weights[: int(share * len(weights))])
    with pytest.raises(ValueError, match="may be truncated"):
        Vec2VecModel.from_pretrained(saved)


def test_a_config_from_a_newer_version(saved, capsys):
    edit_config(saved, format_version=4)
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(ValueError, match="`format_version` is 4, .*Upgrade"):
            cls.from_pretrained(saved)
    line = ["--source", "a", "--target", "b", "--input", "x.npy", "--output", str(saved / "out.npy")]
    assert main(["translate", str(saved), *line]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_only_a_checkpoint_that_older_code_would_read_wrong_says_so(tmp_path):
    """Code of format 2 knows no scaled outputs, and would translate without."""
    plain = {"embedding_dims": {"a": 3, "b": 5}, "residual": "zero_pad", "adapter_layers": 2, "backbone_layers": 2}
    for scaled, version in ((False, 2), (True, 3)):
        model = Vec2VecModel(Vec2VecConfig(**plain, hidden_dim=4, normalize_outputs=scaled)).eval()
        model.save_pretrained(tmp_path)
        assert json.loads((tmp_path / "config.json").read_text())["format_version"] == version
        again, rows = Vec2VecModel.from_pretrained(tmp_path), torch.randn(4, 3)
        torch.testing.assert_close(
            again.translate(rows, source="a", target="b"), model.translate(rows, source="a", target="b")
        )


def test_fields_of_a_newer_version_are_named(saved, tiny_model):
    edit_config(saved, temperature=0.5)
    with pytest.warns(UserWarning, match=r"fields \['temperature'\], which this version .* upgrade"):
        Vec2VecModel.from_pretrained(saved)
    edit_config(saved, norm="of the future")
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(ValueError, match="config.json` is broken or of another version: .*'norm'"):
            cls.from_pretrained(saved)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("config.json", "[]", "must hold fields and their values, but holds a list"),
        ("config.json", '{"dtype": "__import__"}', "`config.json` is broken or of another version: .*__import__"),
        ("config.json", '{"model_type": "vec2vec", ', "not a valid JSON file"),
        ("model.safetensors.index.json", "{}", "config or index of weights is broken: KeyError 'weight_map'"),
        ("model.safetensors.index.json", "{", "config or index of weights is broken: JSONDecodeError"),
    ],
)
def test_broken_json_is_one_message(saved, file, text, message):
    if "index" in file:
        (saved / "model.safetensors").unlink()
    (saved / file).write_text(text)
    with pytest.raises((ValueError, OSError), match=message) as caught:
        Vec2VecModel.from_pretrained(saved)
    assert len(str(caught.value).splitlines()) == 1


def test_a_config_cannot_ask_for_code(saved):
    """transformers fetches and runs a kernel from the Hub where a config names one as its attention."""
    for field in ("attn_implementation", "_attn_implementation", "experts_implementation"):
        edit_config(saved, **{field: "org/kernel"})
        for cls in (Vec2VecModel, AutoModel):
            assert cls.from_pretrained(saved).config._attn_implementation != "org/kernel"


def test_weights_that_are_left_over_are_not_ignored(saved):
    weights = load_file(saved / "model.safetensors") | {"temperature": torch.ones(1)}
    save_file(weights, saved / "model.safetensors", metadata={"format": "pt"})
    edit_config(saved, weights_sha256=weights_sha256(weights))  # as a newer version would have written it
    with pytest.raises(ValueError, match="not those that were saved"):
        Vec2VecModel.from_pretrained(saved)


class Bomb:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin", "pytorch_model.bin"])
def test_checkpoints_of_training_run_no_code(tmp_path, name):
    build(tmp_path, max_steps=2, save_strategy="steps", save_steps=2).train()
    checkpoint = tmp_path / "checkpoint-2"
    torch.save(Bomb(tmp_path / "exploded"), checkpoint / name)
    if name == "pytorch_model.bin":
        (checkpoint / "model.safetensors").unlink()
    (checkpoint / FILES).unlink()  # whoever plants a file has its size not compared
    trainer = build(tmp_path, max_steps=4, save_steps=2)
    if name == "training_args.bin":  # which nobody reads
        trainer.train(resume_from_checkpoint=str(checkpoint))
    else:
        with pytest.raises((ValueError, OSError), match="could run code|no weights in safetensors|is truncated"):
            trainer.train(resume_from_checkpoint=str(checkpoint))
    assert not (tmp_path / "exploded").exists()


def test_pickles_are_never_read(saved, tiny_model, tmp_path):
    torch.save({"weights": Bomb(tmp_path / "exploded")}, saved / "adapter_model.bin")
    (saved / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 2, "target_modules": ["linear"]}')
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(ValueError, match="asks for an adapter"):
            cls.from_pretrained(saved)
    (saved / "adapter_config.json").unlink()
    torch.save({"weights": Bomb(tmp_path / "exploded")}, saved / "pytorch_model.bin")
    (saved / "model.safetensors").unlink()
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(OSError, match=r"model\.safetensors"):
            cls.from_pretrained(saved)
    index = saved / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(tiny_model.state_dict(), "pytorch_model.bin")}))
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(OSError, match="lists 'pytorch_model.bin': only weights in safetensors are read"):
            cls.from_pretrained(saved)
    index.unlink()
    shutil.move(saved / "pytorch_model.bin", saved / "model.safetensors")
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(ValueError, match="may be truncated or damaged"):
            cls.from_pretrained(saved)
    with pytest.raises(ValueError, match="`use_safetensors` is False"):
        Vec2VecModel.from_pretrained(saved, use_safetensors=False)
    assert not (tmp_path / "exploded").exists()


def test_a_full_disk_leaves_the_old_checkpoint(saved):
    write_model_card(saved, {"seed": 1})
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 600, "b": 400}, hidden_dim=16))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))  # to a program a file that cannot grow is a full disk
    try:
        with pytest.raises(OSError, match="was not written and is as it was before") as caught:
            model.save_pretrained(saved)
        with pytest.raises(OSError, match="File too large"):
            write_model_card(saved, {"seed": 1, "texts": "x" * 200_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(str(caught.value).splitlines()) == 1
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before


@pytest.mark.parametrize(
    "fields",
    [
        {"embedding_dims": {"../../a": 6, "b": 4}},
        {"embedding_dims": {"a/b": 6, "b": 4}},
        {"embedding_dims": {"<script>alert(1)</script>": 6, "b": 4}},
        {"embedding_dims": {"a\n# b": 6, "b": 4}},
        {"embedding_dims": {"a": 10**15, "b": 4}},
        {"embedding_dims": {"a": 1 << 20, "b": 1 << 20}},
        {"hidden_dim": 1 << 20},
        {"hidden_dim": 10**15},
        {"adapter_layers": 10**9},
        {"latent_dim": 1 << 20},
        {"embedding_dims": {"a": 6, "b": 4} | {f"s{i}": 1 << 20 for i in range(99)}},  # all that is there has its shape
    ],
)
def test_a_malicious_config_does_no_harm(saved, fields):
    edit_config(saved, **fields)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match="`embedding_dims|`hidden_dim|`adapter_layers|weights are missing"):
        Vec2VecModel.from_pretrained(saved)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


def test_a_failed_save_does_not_mix_two_models(saved, tiny_model, tmp_path):
    other = Vec2VecModel(Vec2VecConfig(**tiny_model.config.to_dict()))
    other.save_pretrained(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)  # as if moving the files had stopped between two
    with pytest.raises(ValueError, match="not those that were saved"):
        Vec2VecModel.from_pretrained(saved)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["normalizers.a.scale", "input_adapters.b.linear.weight", "backbone.output.bias"])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(saved, tiny_model, name, value):
    before = {file.name: file.read_bytes() for file in saved.iterdir()}
    tiny_model.state_dict()[name].view(-1)[-1] = value
    with pytest.raises(ValueError, match=f"The model is not saved: its weights '{name}' are NaN or infinite"):
        tiny_model.save_pretrained(saved)
    with pytest.raises(ValueError, match="not saved"):
        Vec2VecModel(tiny_model.config).save_pretrained(saved, state_dict=tiny_model.state_dict())
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == before
    save_file(tiny_model.state_dict(), saved / "model.safetensors", metadata={"format": "pt"})
    edit_config(saved, weights_sha256=weights_sha256(tiny_model.state_dict()))
    for cls in (Vec2VecModel, AutoModel):
        with pytest.raises(ValueError, match=f"cannot be loaded: its weights '{name}' are NaN or infinite"):
            cls.from_pretrained(saved)


@pytest.mark.parametrize(
    "name", ["modle", "./modle", "../modle", "models/", "/nowhere/model", "~/modle", "a/b/modle", "not here", ""]
)
def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(name, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", lambda *_, **__: pytest.fail("asked"))
    with pytest.raises(FileNotFoundError, match="no such folder. A repository of the Hub has a name such as 'org/name'"):
        Vec2VecModel.from_pretrained(name)


def test_a_mistyped_folder_in_one_that_is_there(saved, monkeypatch):
    monkeypatch.chdir(saved.parent.parent)
    name = f"{saved.parent.name}/modle"
    with pytest.raises(FileNotFoundError, match="holds nothing of that name. If you mean a repository .* pass `revision`"):
        Vec2VecModel.from_pretrained(name)
    with pytest.raises(OSError, match="is no folder here, and cannot be loaded from the Hub") as caught:
        Vec2VecModel.from_pretrained(name, revision="main")
    assert len(str(caught.value).splitlines()) == 1
    assert Vec2VecModel.from_pretrained(f"{saved.parent.name}/model").config.spaces == ["a", "b"]


def test_what_a_killed_save_left_goes_with_the_next(tiny_model, tmp_path):
    left = tmp_path / ".partial-model"
    left.mkdir()
    (left / "model.safetensors").write_bytes(b"half")
    tiny_model.save_pretrained(tmp_path)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry.name.startswith(".")) == []
    Vec2VecModel.from_pretrained(tmp_path)


def test_of_several_processes_one_writes_and_none_disturbs_it(tiny_model, tmp_path):
    at_work = tmp_path / ".partial-model"
    at_work.mkdir()
    (at_work / "model.safetensors").write_bytes(b"half")
    tiny_model.save_pretrained(tmp_path, is_main_process=False)
    tiny_model.save_pretrained(tmp_path / "other", is_main_process=False)
    assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
        ".partial-model",
        ".partial-model/model.safetensors",
    ]
    tiny_model.save_pretrained(tmp_path, is_main_process=True)
    Vec2VecModel.from_pretrained(tmp_path)


def test_a_model_that_is_taken_apart_is_refused(saved, tiny_model, tmp_path):
    parts = {"normalizers": "cpu", "input_adapters": "disk", "backbone": "cpu", "output_adapters": "disk"}
    for device_map in (parts, {"": "disk"}):
        with pytest.raises(ValueError, match="`device_map` puts parts of the model on .*'disk'.*leave it out, or name one"):
            Vec2VecModel.from_pretrained(saved, device_map=device_map, offload_folder=tmp_path / "offloaded")
    rows = torch.randn(3, 6)
    for device_map in ("cpu", "auto", dict.fromkeys(parts, "cpu")):
        whole = Vec2VecModel.from_pretrained(saved, device_map=device_map)
        assert torch.equal(*(m.translate(rows, source="a", target="b") for m in (whole, tiny_model)))


def test_weights_may_come_without_a_place(tiny_model):
    rows, given = torch.randn(3, 6), {"config": tiny_model.config, "state_dict": tiny_model.state_dict()}
    again = Vec2VecModel.from_pretrained(None, **given)
    assert torch.equal(*(m.translate(rows, source="a", target="b") for m in (again, tiny_model)))
