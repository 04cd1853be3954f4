"""Folders of models whose files do not belong together: no vector is made of weights that nobody trained."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Pooling
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    OPTConfig,
    OPTModel,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
)

from helpers.encoders import SHAPE, TEXTS, save_model
from helpers.tasks import write_task
from hf_vec2vec import TextEncoder
from hf_vec2vec.cli import main
from hf_vec2vec.distillation import load_student
from hf_vec2vec.tasks import load_task, load_trained_model


def edit(file: Path, **changes) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def rename(folder: Path, change) -> None:
    """Other names for the weights; `None` leaves one out."""
    weights = load_file(folder / "model.safetensors")
    kept = {change(name): values for name, values in weights.items() if change(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


DAMAGE = {
    "of fewer layers": (lambda folder: edit(folder / "config.json", num_hidden_layers=3), "encoder.layer.2."),
    "saved in parallel": (lambda folder: rename(folder, lambda name: f"module.{name}"), "embeddings.LayerNorm"),
    "compiled": (lambda folder: rename(folder, lambda name: f"_orig_mod.{name}"), "embeddings.LayerNorm"),
    "without its words": (
        lambda folder: rename(folder, lambda name: None if "word_embeddings" in name else name),
        "embeddings.word_embeddings.weight",
    ),
}


@pytest.mark.parametrize(
    ("kind", "damage"), [*(("plain", damage) for damage in DAMAGE), ("sentence-transformers", "of fewer layers")]
)
def test_weights_that_are_missing_are_not_made_up(damage, kind, tmp_path, capsys):
    harm, name = DAMAGE[damage]
    save_model(BertModel(BertConfig(**SHAPE)), tmp_path / "model")
    folder = tmp_path / "model"
    if kind != "plain":
        modules = [Transformer(str(folder)), Pooling(8, "mean")]
        SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(tmp_path / "st"))
        folder = tmp_path / "st"
    harm(folder)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    words = ["--texts", tmp_path / "texts.txt", "--model", folder, "--output", tmp_path / "x.npy", "--cache_dir", tmp_path]
    assert main(["embed", *map(str, words)]) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"hf-vec2vec embed: `model` folder {str(folder)!r} lacks " in last
    assert name in last
    assert not (tmp_path / "x.npy").exists()
    with pytest.raises(ValueError, match=f"lacks .* such as '{name}"):
        load_student(str(folder))


def test_a_language_model_that_calls_its_layers_a_decoder_is_not_made_up_either(tmp_path):
    shape = {"vocab_size": 11, "hidden_size": 8, "word_embed_proj_dim": 8, "ffn_dim": 16, "max_position_embeddings": 32}
    folder = save_model(OPTModel(OPTConfig(**shape, num_hidden_layers=2, num_attention_heads=2)), tmp_path)
    TextEncoder(folder)
    rename(tmp_path, lambda name: None if "layers.1." in name else name)
    with pytest.raises(ValueError, match=r"lacks .* such as 'decoder.layers.1."):
        TextEncoder(folder)


def test_a_head_is_put_on_no_body_of_random_numbers(tmp_path):
    names = {"id2label": {0: "negative", 1: "positive"}, "label2id": {"negative": 0, "positive": 1}}
    save_model(BertForSequenceClassification(BertConfig(**SHAPE, **names)), tmp_path)
    task = load_task("sst2", write_task("sst2", tmp_path / "data"))
    load_trained_model(str(tmp_path), task)
    task.load_model(str(tmp_path))
    rename(tmp_path, lambda name: name if name.startswith("classifier") else f"other.{name}")
    for load in (lambda: load_trained_model(str(tmp_path), task), lambda: task.load_model(str(tmp_path))):
        with pytest.raises(ValueError, match=r"lacks .* such as 'embeddings.LayerNorm.bias', which would be random"):
            load()


MODELS = {
    "without a pooler": lambda: BertForMaskedLM(BertConfig(**SHAPE)),
    "with another head": lambda: BertForSequenceClassification(BertConfig(**SHAPE)),
    "of a family with shared weights": lambda: T5ForConditionalGeneration(
        T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, vocab_size=11, decoder_start_token_id=0)
    ),
}


@pytest.mark.parametrize("kind", MODELS)
def test_what_makes_no_vector_may_be_missing(kind, tmp_path):
    folder = save_model(MODELS[kind](), tmp_path)
    assert TextEncoder(folder, device="cpu").encode(TEXTS, progress=False).shape == (4, 8)
    load_student(folder)


def test_weights_that_are_no_numbers_are_the_model_s_fault(tmp_path):
    model = BertModel(BertConfig(**SHAPE))
    model.encoder.layer[1].output.dense.weight.data[0, 0] = float("nan")
    with pytest.raises(ValueError, match="`model` .* makes NaN or infinite values of 'a dog'. Its weights are damaged"):
        TextEncoder(save_model(model, tmp_path), device="cpu").encode(TEXTS, progress=False)


def bert(places):
    return BertModel(BertConfig(**SHAPE, max_position_embeddings=places))


def roberta(places):
    return RobertaModel(RobertaConfig(**SHAPE, max_position_embeddings=places + 2, pad_token_id=1))


def sentence_transformer(model, folder, pooling="mean") -> str:
    modules = [Transformer(save_model(model, folder / "base")), Pooling(8, pooling)]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder / "st"))
    return str(folder / "st")


@pytest.mark.parametrize("make", [bert, roberta])
@pytest.mark.parametrize("said", [512, 20, 7])
def test_a_folder_that_says_more_than_its_model_has_places_for(make, said, tmp_path):
    folder = sentence_transformer(make(20), tmp_path)
    edit(Path(folder) / "sentence_bert_config.json", max_seq_length=said)
    encoder = TextEncoder(folder, device="cpu")
    assert encoder.settings.max_length == min(said, 20)
    long, short = encoder.encode(["dog " * 60, "dog " * min(said, 20)], progress=False)
    torch.testing.assert_close(long, short)


@pytest.mark.parametrize("said", [0, -1, "64", True, 1.5])
def test_a_folder_that_says_no_length(said, tmp_path):
    folder = sentence_transformer(bert(20), tmp_path)
    edit(Path(folder) / "sentence_bert_config.json", max_seq_length=said)
    with pytest.raises(ValueError, match=r"`model` .* maximal length is .*, which must be at least 1 token"):
        TextEncoder(folder, device="cpu")


@pytest.mark.parametrize("kind", ["plain", "sentence-transformers"])
def test_a_length_beyond_the_places_is_refused(kind, tmp_path):
    folder = save_model(bert(20), tmp_path / "x") if kind == "plain" else sentence_transformer(bert(20), tmp_path)
    with pytest.raises(ValueError, match="`max_length` is 21, but `model` .* reads 20 tokens at most"):
        TextEncoder(folder, device="cpu", max_length=21)
    assert TextEncoder(folder, device="cpu", max_length=20).settings.max_length == 20


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_vector_does_not_depend_on_the_texts_beside_it(pooling, tmp_path):
    folder = sentence_transformer(bert(64), tmp_path, pooling)
    edit(Path(folder) / "tokenizer_config.json", padding_side="left")
    encoder = TextEncoder(folder, device="cpu")
    alone = torch.cat([encoder.encode([text], progress=False) for text in TEXTS])
    torch.testing.assert_close(encoder.encode(TEXTS, progress=False), alone, atol=1e-5, rtol=1e-5)


def test_a_folder_of_an_adapter_alone_is_called_one(tmp_path):
    save_model(bert(20), tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "bert"}')
    with pytest.raises(ValueError, match="holds an adapter alone, not a whole model"):
        TextEncoder(str(tmp_path), device="cpu")
