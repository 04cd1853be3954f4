"""Translators inside other libraries: sentence-transformers, pipelines, vector stores."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from transformers import pipeline

from helpers.encoders import TEXTS, WORDS
from helpers.translators import network
from hf_vec2vec import Alignment, TextEncoder, Vec2VecConfig, Vec2VecModel, pipelines
from hf_vec2vec.encoders.recorded import recorded_encoder
from hf_vec2vec.sentence_transformers import Vec2VecModule


@pytest.fixture
def translator(bert, static, monkeypatch, tmp_path) -> Vec2VecModel:  # noqa: F811
    """From a small BERT (8) to small static embeddings (6), with the encoders recorded."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    encoders = {name: vars(TextEncoder(folder).settings) for name, folder in (("bert", bert), ("static", static))}
    config = Vec2VecConfig(embedding_dims={"bert": 8, "static": 6}, hidden_dim=16, encoders=encoders)
    return Vec2VecModel(config).eval()


def test_a_sentence_transformer_yields_vectors_of_the_other_space(translator, bert, tmp_path):  # noqa: F811
    encoder = SentenceTransformer(bert, device="cpu")
    model = SentenceTransformer(modules=[*encoder, Vec2VecModule(translator, "bert", "static"), Normalize()], device="cpu")
    own = encoder.encode(TEXTS, convert_to_tensor=True)
    expected = torch.nn.functional.normalize(translator.translate(own, source="bert", target="static"), dim=1)
    torch.testing.assert_close(model.encode(TEXTS, convert_to_tensor=True), expected)
    assert model.get_embedding_dimension() == 6
    model.save_pretrained(str(tmp_path / "chain"))
    assert not list((tmp_path / "chain").rglob("*.bin"))
    loaded = SentenceTransformer(str(tmp_path / "chain"), trust_remote_code=True, device="cpu")
    assert np.array_equal(loaded.encode(TEXTS), model.encode(TEXTS))
    with pytest.raises(ValueError, match="`target` is 'mpnet'"):
        Vec2VecModule(translator, "bert", "mpnet")
    backwards = SentenceTransformer(modules=[*encoder, Vec2VecModule(translator, "static", "bert")], device="cpu")
    with pytest.raises(ValueError, match="make vectors of dimension 8, but `source` 'static' has dimension 6"):
        backwards.encode(TEXTS)


@pytest.fixture
def with_two_maps(translator, tmp_path) -> Vec2VecModel:
    """The same spaces, aligned."""
    statistics = [(torch.zeros(dim), torch.ones(dim)) for dim in (8, 6)]
    maps, networks = (torch.randn(8, 6), torch.randn(6, 8)), (network(8, 6), network(6, 8))
    alignment = Alignment("bert", "static", *maps, *statistics, residuals=networks)
    return Vec2VecModel.from_alignment(alignment, encoders=translator.config.encoders)


def test_a_sentence_transformer_takes_the_linear_map_for_queries(with_two_maps, bert, tmp_path):  # noqa: F811
    encoder, ends = SentenceTransformer(bert, device="cpu"), {"source": "bert", "target": "static"}
    own = encoder.encode(TEXTS, convert_to_tensor=True)
    for map, of_queries in (("auto", "linear"), ("full", "full"), ("linear", "linear")):
        chain = SentenceTransformer(modules=[*encoder, Vec2VecModule(with_two_maps, **ends, map=map)], device="cpu")
        chain.save_pretrained(str(tmp_path / map))
        loaded = SentenceTransformer(str(tmp_path / map), trust_remote_code=True, device="cpu")
        for model in (chain, loaded):
            for encode, chosen in (
                (model.encode, map),
                (model.encode_document, map),
                (model.encode_query, of_queries),
            ):
                expected = with_two_maps.translate(own, **ends, map=chosen)
                torch.testing.assert_close(encode(TEXTS, convert_to_tensor=True), expected)


def test_a_pipeline_takes_either_map(with_two_maps, tmp_path):
    with_two_maps.save_pretrained(tmp_path / "model")
    ends, rows = {"source": "bert", "target": "static"}, torch.randn(4, 8)
    for options in ({}, {"queries": True}, {"map": "linear"}, {"map": "full", "queries": True}):
        translate = pipeline(pipelines.TASK, model=str(tmp_path / "model"), device="cpu", **ends, **options)
        expected = with_two_maps.translate(rows, **ends, **options)
        assert torch.equal(translate(rows), expected)
        assert torch.equal(pipeline(pipelines.TASK, model=with_two_maps, device="cpu")(rows, **ends, **options), expected)


def test_a_pipeline_saves_its_translator(with_two_maps, tmp_path):
    ends, rows = {"source": "bert", "target": "static"}, torch.randn(4, 8)
    translate = pipeline(pipelines.TASK, model=with_two_maps, device="cpu", **ends)
    translate.save_pretrained(tmp_path / "saved")
    again = pipeline(pipelines.TASK, model=str(tmp_path / "saved"), device="cpu", **ends)
    assert torch.equal(again(rows), translate(rows))
    assert "custom_pipelines" not in (tmp_path / "saved" / "config.json").read_text()


def test_gradients_reach_the_encoder(translator, bert):  # noqa: F811
    model = SentenceTransformer(
        modules=[*SentenceTransformer(bert), Vec2VecModule(translator, "bert", "static")], device="cpu"
    )
    features = model.preprocess(TEXTS)
    model(features)["sentence_embedding"].square().sum().backward()
    assert model[0].auto_model.embeddings.word_embeddings.weight.grad.abs().sum() > 0


def test_pipeline_takes_vectors_and_texts(translator, bert, tmp_path):  # noqa: F811
    translator.save_pretrained(tmp_path / "model")
    ends = {"source": "bert", "target": "static"}
    translate = pipeline(pipelines.TASK, model=str(tmp_path / "model"), device="cpu", **ends)
    rows = TextEncoder(bert).encode(TEXTS, progress=False)
    expected = translator.translate(rows, **ends)
    assert torch.equal(translate(rows), expected)
    assert torch.equal(translate(rows.numpy()), expected)
    torch.testing.assert_close(translate(rows.tolist()), expected)
    torch.testing.assert_close(translate(rows[0].tolist()), expected[0])
    torch.testing.assert_close(torch.stack(translate(TEXTS)), expected)
    assert translate(TEXTS[0]).shape == (6,)
    for texts in (tuple(TEXTS), iter(TEXTS), np.array(TEXTS)):
        torch.testing.assert_close(torch.stack(translate(texts)), expected)
    half = translator.translate(rows.bfloat16(), **ends)
    grown = rows.clone().requires_grad_()
    for many in (tuple(rows), iter(rows), (row.tolist() for row in rows), grown, list(grown)):
        torch.testing.assert_close(translate(many), expected)
    for many in (rows.bfloat16(), list(rows.bfloat16())):
        torch.testing.assert_close(translate(many), half)
    assert translate(expected, source="static", target="bert").shape == (4, 8)


BAD_INPUTS = {
    "nothing": ([], ValueError, "`inputs` is empty"),
    "no text": ("", ValueError, "empty"),
    "ragged": ([[1.0, 2.0], [1.0]], ValueError, "one length"),
    "words in vectors": ([["a", "b"]], TypeError, "vectors of numbers"),
    "missing": ([None], TypeError, "vectors of numbers"),
    "nan": ([[float("nan")] * 8], ValueError, "NaN or infinite"),
    "infinite": (torch.full((2, 8), float("inf")), ValueError, "NaN or infinite"),
    "too large": (np.full((1, 8), 1e300), ValueError, "beyond the range of float32"),
    "number": (5, TypeError, "`inputs` must be a text, a vector, or several of one kind, got a int"),
    "one number": (torch.tensor(1.0), TypeError, "got a Tensor"),
    "none": (None, TypeError, "got a NoneType"),
    "mapping": ({"a": 1}, TypeError, "got a dict"),
    "bytes": (b"text", TypeError, "got a bytes"),
    "data set": (Dataset.from_dict({"embedding": [[1.0] * 8]}), TypeError, "got a Dataset. Of a data set give one column"),
    "no rows of a generator": (iter([]), ValueError, "`inputs` is empty"),
    "both": (["a", [1.0] * 8], ValueError, "must be texts, or vectors that all have one length"),
    "another dimension": (np.ones((2, 7)), ValueError, "dimension 7"),
}


@pytest.mark.parametrize(("inputs", "error", "message"), BAD_INPUTS.values(), ids=BAD_INPUTS)
def test_a_pipeline_refuses_what_is_no_vector_and_no_text(inputs, error, message, translator, tmp_path):
    translator.save_pretrained(tmp_path / "model")
    translate = pipeline(pipelines.TASK, model=str(tmp_path / "model"), device="cpu")
    with pytest.raises(error, match=message):
        translate(inputs, source="bert", target="static")


def test_a_pipeline_asks_for_both_spaces(translator, tmp_path):
    translator.save_pretrained(tmp_path / "model")
    translate = pipeline(pipelines.TASK, model=str(tmp_path / "model"), device="cpu")
    for ends, missing in (({}, "source"), ({"source": "bert"}, "target"), ({"source": "x", "target": "bert"}, "source")):
        with pytest.raises(ValueError, match=rf"`{missing}` must be one of \['bert', 'static'\], got"):
            translate(torch.ones(1, 8), **ends)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "incomplete, broken or of another version"),
        ({"layer": "last"}, "incomplete, broken or of another version"),
        ({"device": "cuda"}, "incomplete, broken or of another version"),
        ({"model": "./bert"}, "'bert' was made by './bert', which cannot be loaded here"),
        ({"model": "../../etc"}, "which cannot be loaded here"),
    ],
)
def test_a_record_that_cannot_be_followed_says_so(translator, changes, message):
    translator.config.encoders["bert"] |= changes
    with pytest.raises(ValueError, match=message) as caught:
        recorded_encoder(translator.config, "bert")
    assert len(str(caught.value).splitlines()) == 1


def test_an_index_is_migrated_without_re_embedding(translator, tmp_path, capsys):
    pytest.importorskip("faiss")
    pytest.importorskip("qdrant_client")
    spec = importlib.util.spec_from_file_location("migrate", Path(__file__).parents[1] / "examples" / "migrate_index.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    draw = np.random.default_rng(0)
    for name, count in (("documents", 200), ("queries", 20)):
        lines = [" ".join(draw.choice(WORDS[3:], 6)) for _ in range(count)]
        (tmp_path / f"{name}.txt").write_text("\n".join(lines))
    translator.save_pretrained(tmp_path / "model")
    folder = str(tmp_path / "model")
    documents, queries = str(tmp_path / "documents.txt"), str(tmp_path / "queries.txt")
    scores = example.main(folder, "bert", "static", documents, queries)
    assert scores["FAISS, store translated"] == pytest.approx(scores["Qdrant, store translated"], abs=0.05)
    assert scores["FAISS, queries translated"] == pytest.approx(scores["Qdrant, queries translated"], abs=0.05)
    assert scores["by chance"] == 0.05
    assert "Recall of the 10 of 200 documents" in capsys.readouterr().out
    # With nothing to migrate, everything is found.
    assert example.main(folder, "static", "static", documents, queries)["old encoder on both sides"] == 1
    assert json.loads((tmp_path / "model" / "config.json").read_text())["encoders"]["bert"]["pooling"] == "mean"
