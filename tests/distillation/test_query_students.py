"""Students of query encoders: whole encoders, first layers, language models."""

import json

import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import WordWeights

from helpers.commands import run
from helpers.distillation import TEXTS
from helpers.translators import random_translator
from hf_vec2vec.data.columns import to_dataset
from hf_vec2vec.data.files import save_embeddings
from hf_vec2vec.deployment.query_export import export_query_encoder
from hf_vec2vec.distillation.query_encoder import query_encoder, save_query_encoder
from hf_vec2vec.distillation.query_recipe import Pairs, make_query_encoder
from hf_vec2vec.distillation.query_starts import random_projection
from hf_vec2vec.distillation.query_students import open_student, opening_prompt
from hf_vec2vec.distillation.query_training import QueryTraining, train_query_encoder
from hf_vec2vec.encoders.text import TextEncoder

OPENS = "[BOS]"
TALK = "{% for message in messages %}[BOS] {{ message.content }} dog dog{% endfor %}"


@pytest.fixture
def speaker(llama, tmp_path) -> str:
    """A language model whose tokenizer knows how to open a text, and what a conversation looks like."""
    settings = tmp_path / "llama" / "tokenizer_config.json"
    settings.write_text(json.dumps(json.loads(settings.read_text()) | {"bos_token": OPENS, "chat_template": TALK}))
    return llama


@pytest.mark.parametrize("layer", [0, 1, None])
def test_a_language_model_gives_the_vectors_of_text_encoder(speaker, layer, tmp_path):
    student = open_student(speaker, layer=layer)
    assert opening_prompt(student) == OPENS
    expected = TextEncoder(speaker, layer=-1 if layer is None else layer, prompt=OPENS).encode(TEXTS, progress=False)
    found = student.encode(TEXTS, prompt=OPENS, convert_to_tensor=True)
    torch.testing.assert_close(found, expected)
    student.save(str(tmp_path / "saved"), create_model_card=False)
    opened = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    torch.testing.assert_close(opened.encode(TEXTS, prompt=OPENS, convert_to_tensor=True), expected)
    stack = opened[0].auto_model.layers
    assert len(stack) == (2 if layer is None else layer + 1)  # one more than it needs, for the final norm


def test_first_layers_of_an_encoder(bert):
    student = open_student(bert, layer=1)
    assert opening_prompt(student) == ""
    expected = TextEncoder(bert, layer=1).encode(TEXTS, progress=False)
    torch.testing.assert_close(student.encode(TEXTS, convert_to_tensor=True), expected)


@pytest.mark.parametrize("trained", ["lora", "whole"])
def test_a_language_model_learns_and_its_choices_stay(speaker, trained, tmp_path):
    """What picks layer and tokens is not trained; whoever opens the folder needs nothing of ours."""
    encoder = query_encoder(open_student(speaker, layer=1), random_projection(8, 5), prompt=OPENS)
    targets = torch.randn(len(TEXTS), 5, generator=torch.Generator().manual_seed(0))
    before = encoder.encode(TEXTS, convert_to_tensor=True)
    training = QueryTraining(trained=trained, steps=20, learning_rate=1e-2, lora_r=2)
    train_query_encoder(encoder, TEXTS, targets, targets, training, prompt=OPENS)
    after = encoder.encode(TEXTS, convert_to_tensor=True)
    goal = torch.nn.functional.normalize(targets, dim=1)
    assert (after * goal).sum(1).mean() > (before * goal).sum(1).mean() + 0.1
    assert encoder[1].layer_weights.tolist() == [1, 0]
    assert encoder[2].emb_layer.weight.flatten().tolist() == [1, 1, 0] + [1] * 8
    save_query_encoder(encoder, tmp_path / "asker", {})
    assert encoder.prompts == {"query": OPENS, "document": OPENS}
    modules = json.loads((tmp_path / "asker" / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.") for module in modules)
    opened = SentenceTransformer(str(tmp_path / "asker"), device="cpu")
    expected = encoder.encode_query("the small dog", convert_to_tensor=True)
    torch.testing.assert_close(opened.encode_query("the small dog", convert_to_tensor=True), expected)


@pytest.mark.slow
def test_export_of_a_language_model(speaker, tmp_path):
    pytest.importorskip("onnxruntime")
    encoder = query_encoder(open_student(speaker, layer=1), random_projection(8, 5), prompt=OPENS)
    assert export_query_encoder(encoder, tmp_path / "asker.onnx", TEXTS) > 0.9999


def test_weights_of_words_in_an_encoder_are_no_business_of_its_prompt(bert):
    """An encoder that weighs words, as some do, needs no token in front: all of them count for what they do."""
    plain = open_student(bert)
    vocabulary = plain.tokenizer.convert_ids_to_tokens(range(11))
    weighing = SentenceTransformer(modules=[plain[0], WordWeights(vocabulary, {"the": 0.0, "dog": 2.0}), plain[1]])
    assert opening_prompt(weighing) == ""
    query_encoder(weighing, random_projection(8, 5))


def test_a_prompt_that_opens_no_text_is_told_before_pairs_are_read(speaker, monkeypatch):
    monkeypatch.setattr(SentenceTransformer, "encode", lambda *_, **__: pytest.fail("texts were read"))
    pairs = Pairs(TEXTS, torch.randn(len(TEXTS), 5))
    with pytest.raises(ValueError, match="must begin with '.BOS.'"):
        make_query_encoder(open_student(speaker), pairs.vectors, start="ridge", pairs=pairs)


def test_what_is_refused(speaker, bert, static, tmp_path, capsys):
    with pytest.raises(ValueError, match="`layer` must be between 0 and 1 for .*, got 2; leave it out for the last"):
        open_student(bert, layer=2)
    with pytest.raises(ValueError, match="`layer` is for plain transformers"):
        open_student(static, layer=0)
    with pytest.raises(ValueError, match="`prompt` is 'a dog'; that of this student must begin with '.BOS.'"):
        query_encoder(open_student(speaker), random_projection(8, 5), prompt="a dog")
    index, pairs = tmp_path / "index.npy", tmp_path / "pairs"
    torch.manual_seed(0)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    assert run("embed", "--texts", tmp_path / "texts.txt", "--model", static, "--output", pairs) == 0
    assert run("embed", "--texts", tmp_path / "texts.txt", "--model", static, "--output", index) == 0
    flags = ["query-encoder", "--student", speaker, "--index", index, "--pairs", pairs, "--output_dir", tmp_path / "asker"]
    assert run(*flags, "--layer", "1") == 2
    assert "must begin with '[BOS]'" in capsys.readouterr().err
    assert run(*flags, "--layer", "1", "--prompt", OPENS) == 0
    assert SentenceTransformer(str(tmp_path / "asker"), device="cpu").encode_query("a dog").shape == (6,)


def test_a_translator_that_is_not_aligned_is_refused(bert, tmp_path, capsys):
    save_embeddings(to_dataset(torch.randn(20, 5)), tmp_path / "index.parquet")
    random_translator(8, 5).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "training.json").write_text(json.dumps({"report": {"verdict": "not aligned"}}))
    files = ["--index", tmp_path / "index.parquet", "--translator", tmp_path / "model", "--output_dir", tmp_path / "out"]
    words = ["query-encoder", "--student", bert, "--student_space", "old", *files]
    assert run(*words) == 2
    assert "`translator` '" in (said := capsys.readouterr().err)
    assert "the verdict on its alignment is 'not aligned'" in said
    assert run(*words, "--allow_not_aligned") == 0


def test_settings_that_differ_from_the_translators(bert, speaker, tmp_path, capsys):
    made = {"model": "elsewhere/bert", "pooling": "mean", "layer": -1, "max_length": 16, "normalize": True}
    made |= {"mask_first_token": False, "prompt": "", "prompt_name": ""}
    save_embeddings(to_dataset(torch.randn(20, 5)), tmp_path / "index.parquet")

    def status(student: str, settings: dict, *words) -> int:
        model = random_translator(8, 5)
        model.config.encoders = {"old": made | settings}
        model.save_pretrained(tmp_path / "model")
        files = ["--index", tmp_path / "index.parquet", "--translator", tmp_path / "model", "--output_dir", tmp_path / "out"]
        return run("query-encoder", "--student", student, "--student_space", "old", *files, "--overwrite", *words)

    assert status(bert, {}) == 0
    assert status(bert, {"pooling": "cls"}) == 2
    assert "makes other vectors here than those of 'old' that the translator learned from" in capsys.readouterr().err
    assert status(bert, {"mask_first_token": True}) == 2
    speaks = {"mask_first_token": True, "prompt": OPENS}
    assert status(speaker, speaks, "--prompt", OPENS) == 0
    assert status(speaker, speaks | {"layer": 1}, "--prompt", OPENS) == 2
    assert status(speaker, speaks | {"layer": 1}, "--prompt", OPENS, "--layer", 1) == 0
    assert status(speaker, speaks, "--prompt", OPENS, "--layer", 1) == 2
