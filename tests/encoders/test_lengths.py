"""Plain models, whose folders say nothing of sentence vectors, read as much as their positions and tokenizers allow."""

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import (
    BartConfig,
    BartModel,
    BertConfig,
    BertModel,
    BloomConfig,
    BloomModel,
    GPT2Config,
    GPT2Model,
    LlamaConfig,
    LlamaModel,
    MPNetConfig,
    MPNetModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5EncoderModel,
    XLMRobertaConfig,
    XLMRobertaModel,
    XLNetConfig,
    XLNetModel,
)

from helpers.encoders import SHAPE, tokenizer
from hf_vec2vec import TextEncoder
from hf_vec2vec.distillation import load_student
from hf_vec2vec.encoders.text import logger

pytestmark = pytest.mark.usefixtures("own_cache")
LONG = "dog " * 700 + "cat " * 2000  # only its first 700 words are of dogs


def positions(count):
    return SHAPE | {"max_position_embeddings": count}


MODELS = {
    "bert": (lambda: BertModel(BertConfig(**positions(900))), None, 900),
    "bert, its tokenizer says fewer": (lambda: BertModel(BertConfig(**positions(900))), 750, 750),
    "bert, its tokenizer says more": (lambda: BertModel(BertConfig(**positions(900))), 5000, 900),
    "roberta": (lambda: RobertaModel(RobertaConfig(**positions(1026), pad_token_id=1)), None, 1024),
    "xlm-roberta": (lambda: XLMRobertaModel(XLMRobertaConfig(**positions(803), pad_token_id=2)), None, 800),
    "mpnet": (lambda: MPNetModel(MPNetConfig(**positions(514), pad_token_id=1)), None, 512),
    "llama": (lambda: LlamaModel(LlamaConfig(**positions(2048), num_key_value_heads=2)), None, 2048),
    "gpt2": (
        lambda: GPT2Model(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=640)), 10**30, 640,
    ),
    "bart": (lambda: BartModel(bart(600)), None, 600),
    "bloom, which has no positions": (
        lambda: BloomModel(BloomConfig(hidden_size=8, n_layer=2, n_head=2, vocab_size=11)), 1500, 1500,
    ),
    "t5, where nobody says": (
        lambda: T5EncoderModel(T5Config(d_model=8, d_kv=4, d_ff=16, num_layers=2, num_heads=2, vocab_size=11)), None, 512,
    ),
    "xlnet, which has -1 for no end": (
        lambda: XLNetModel(XLNetConfig(d_model=8, n_layer=2, n_head=2, d_inner=16, vocab_size=11)), None, 512,
    ),
    "few positions": (lambda: BertModel(BertConfig(**positions(40))), None, 40),
}  # fmt: skip


def bart(count):
    sizes = {f"{side}_{name}": value for side in ("encoder", "decoder")
             for name, value in (("layers", 1), ("attention_heads", 2), ("ffn_dim", 16))}  # fmt: skip
    return BartConfig(d_model=8, vocab_size=11, max_position_embeddings=count, **sizes)


@pytest.fixture
def folder(request, tmp_path):
    make, of_tokenizer, length = MODELS[request.param]
    torch.manual_seed(0)
    make().save_pretrained(tmp_path)
    said = {} if of_tokenizer is None else {"model_max_length": of_tokenizer}
    words = PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]", **said)
    words.save_pretrained(tmp_path)
    return str(tmp_path), length


@pytest.mark.parametrize("folder", MODELS, indirect=True)
def test_as_many_tokens_as_the_model_has_and_not_one_more(folder):
    folder, length = folder
    encoder = TextEncoder(folder, device="cpu")
    assert encoder.settings.max_length == length
    cut, whole, longer = ("".join(part) for part in (["dog "] * (length - 1), ["dog "] * (length - 1) + ["cat"], [LONG] * 2))
    found = encoder.encode([cut, whole, whole + " cat", longer], progress=False)
    assert found.isfinite().all()
    assert not torch.allclose(found[0], found[1])  # the last token counts
    torch.testing.assert_close(found[1], found[2])  # what is behind it does not
    shorter = TextEncoder(folder, device="cpu", max_length=length - 1).encode([cut, whole], progress=False)
    torch.testing.assert_close(shorter[0], shorter[1])


@pytest.mark.parametrize("folder", MODELS, indirect=True)
def test_students_are_cut_where_encoders_are(folder):
    folder, length = folder
    assert load_student(folder)[2]["max_length"] == length


@pytest.mark.parametrize("folder", ["bert", "bert, its tokenizer says fewer", "few positions"], indirect=True)
def test_sentence_transformers_reads_as_much(folder):
    folder, _ = folder
    theirs = SentenceTransformer(folder, device="cpu").encode([LONG, "a dog"], convert_to_tensor=True)
    torch.testing.assert_close(TextEncoder(folder, device="cpu").encode([LONG, "a dog"], progress=False), theirs)


@pytest.mark.parametrize("folder", ["few positions", "t5, where nobody says", "gpt2"], indirect=True)
def test_a_text_that_is_cut_is_told(folder, monkeypatch):
    folder, length = folder
    said = []
    monkeypatch.setattr(logger, "warning_once", said.append)
    encoder = TextEncoder(folder, device="cpu")
    encoder.encode(["a dog"], progress=False)
    assert not said
    encoder.encode([LONG], progress=False)
    assert f"more than {length} tokens are cut" in said[0]
