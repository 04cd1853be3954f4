"""A query encoder as one graph: what onnxruntime makes of tokens is what the encoder makes of the texts."""

import sys

import numpy as np
import onnx
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import nn
from torch.nn import functional as F

from helpers.distillation import TEXTS
from hf_vec2vec.cli import main
from hf_vec2vec.deployment.query_export import export_query_encoder, query_tokens, run_query_graph
from hf_vec2vec.distillation.query_encoder import query_encoder
from hf_vec2vec.distillation.query_starts import random_projection
from hf_vec2vec.distillation.query_students import open_student
from hf_vec2vec.training.start import load_translator

PROMPT = "the dog "


def asked(path, folder, texts, **options):
    """Vectors as somebody makes them who has tokenizers, onnxruntime and NumPy."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()
    tokens = tokenizer.encode_batch([PROMPT + text for text in texts], **options)
    ids, mask = (np.array([getattr(each, name) for each in tokens]) for name in ("ids", "attention_mask"))
    return torch.from_numpy(run_query_graph(path, ids, mask))


@pytest.mark.slow  # seconds of torch's exporter
def test_graphs_agree_with_the_encoder_at_any_length(bert, tmp_path):
    encoder = query_encoder(open_student(bert), random_projection(8, 5), prompt=PROMPT)
    encoder.save(str(tmp_path))
    few = TEXTS[:3]
    assert export_query_encoder(encoder, tmp_path / "asker.onnx", few) > 1 - 1e-5
    int8 = export_query_encoder(encoder, tmp_path / "int8.onnx", few, format="int8")
    assert 0.99 < int8 < 1 - 1e-6
    graph = onnx.load(tmp_path / "int8.onnx")
    assert any(node.op_type == "MatMulInteger" for node in graph.graph.node)
    assert {entry.key: entry.value for entry in graph.metadata_props}["prompt"] == PROMPT
    for texts in (TEXTS, TEXTS[:1], [" ".join(TEXTS[:4])]):
        expected = encoder.encode_query(texts, convert_to_tensor=True)
        torch.testing.assert_close(asked(tmp_path / "asker.onnx", tmp_path, texts), expected, atol=1e-5, rtol=0)
        assert F.cosine_similarity(asked(tmp_path / "int8.onnx", tmp_path, texts), expected).min() > 0.98


def test_a_static_student_is_a_small_graph(static, tmp_path):
    encoder = query_encoder(open_student(static), random_projection(6, 5), prompt=PROMPT)
    encoder.save(str(tmp_path))
    assert export_query_encoder(encoder, tmp_path / "asker.onnx", TEXTS[:3]) > 1 - 1e-5
    assert not any("Attention" in node.op_type for node in onnx.load(tmp_path / "asker.onnx").graph.node)
    expected = encoder.encode_query(TEXTS, convert_to_tensor=True)
    found = asked(tmp_path / "asker.onnx", tmp_path, TEXTS, add_special_tokens=False)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert len(set(query_tokens(encoder, TEXTS)[1].sum(1))) > 1  # or padding would not be tried


def test_the_command_tells_an_encoder_from_a_translator(bert, static, tmp_path, capsys):
    for name, student in (("of_bert", bert), ("of_static", static)):
        opened = open_student(student)
        query_encoder(opened, random_projection(opened.get_embedding_dimension(), 5)).save(str(tmp_path / name))
        direction = ["--source", "a", "--target", "b"]
        assert main(["export", str(tmp_path / name), *direction, "--output", str(tmp_path / "x.onnx")]) == 2
        assert "holds an encoder, such as a query encoder, and no translator" in (said := capsys.readouterr().err)
        assert "`export-encoder` exports it" in said
        with pytest.raises(ValueError, match="holds an encoder of sentence-transformers, and no translator"):
            load_translator(str(tmp_path / name))
    with pytest.raises(ValueError, match="holds a model of the kind 'bert', and no translator"):
        load_translator(bert)


def test_the_command_writes_what_the_function_writes(static, tmp_path, capsys):
    encoder = query_encoder(open_student(static), random_projection(6, 5), prompt=PROMPT)
    encoder.save(str(tmp_path / "asker"))
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = [str(tmp_path / "asker"), "--texts", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "x.onnx")]
    assert main(["export-encoder", *words]) == 0
    assert f"on {len(TEXTS)} texts the least cosine of a vector to the encoder's own is 1.0000" in capsys.readouterr().out
    found = asked(tmp_path / "x.onnx", tmp_path / "asker", TEXTS, add_special_tokens=False)
    torch.testing.assert_close(found, encoder.encode_query(TEXTS, convert_to_tensor=True), atol=1e-5, rtol=0)
    assert main(["export-encoder", *words]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main(["export-encoder", *words, "--overwrite", "--column", "query"]) == 2
    assert "has no columns" in capsys.readouterr().err


def test_what_cannot_be_exported_is_said(static, tmp_path, monkeypatch):
    encoder = query_encoder(open_student(static), random_projection(6, 5))
    path = tmp_path / "asker.onnx"
    with pytest.raises(ValueError, match="`format` must be one of onnx, int8, got 'torch'"):
        export_query_encoder(encoder, path, TEXTS, format="torch")
    with pytest.raises(ValueError, match="`path` .* ends in .onnx"):
        export_query_encoder(encoder, tmp_path / "asker.pt2", TEXTS)
    with pytest.raises(ValueError, match="`texts` is empty"):
        export_query_encoder(encoder, path, [])
    with pytest.raises(ValueError, match="begins with a Linear; it must be a Transformer or a StaticEmbedding"):
        export_query_encoder(SentenceTransformer(modules=[nn.Linear(2, 2)], device="cpu"), path, TEXTS)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "onnxscript", None)
        with pytest.raises(ImportError, match='ONNX needs `onnxscript`: pip install "hf-vec2vec\\[export\\]"'):
            export_query_encoder(encoder, path, TEXTS)
    path.write_bytes(b"mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export_query_encoder(encoder, path, TEXTS)
    assert [file.name for file in tmp_path.glob("asker*")] == ["asker.onnx"]
    assert path.read_bytes() == b"mine"
