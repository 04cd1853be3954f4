"""Students of query encoders: encoders as they are, or the first layers of a plain transformer, language models too."""

from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import (
    Pooling,
    StaticEmbedding,
    WeightedLayerPooling,
    WordWeights,
)
from torch import nn

from ..encoders.folders import check_length, is_sentence_transformer, model_folder, opening, places, refuse_pickles
from ..encoders.pooling import is_decoder


def open_student(
    model: str, *, layer: int | None = None, max_length: int | None = None, trust_remote_code: bool = False
) -> SentenceTransformer:
    """A student to put a projection behind, on the CPU, in float32. A plain transformer gets mean pooling.

    Of a language model the token that opens a text tells nothing and is left out of the pooling. All is written in
    modules of sentence-transformers, and gives the vectors that [`TextEncoder`] gives with the same settings.

    Args:
        model: short name of a bundled encoder, local folder or Hub id.
        layer: the hidden state that is pooled, of a plain transformer; layers behind it are left out. Default: the last.
        max_length: tokens of a query; default: the student's own.
        trust_remote_code: run the code that a model brings along.

    Raises:
        OSError: if it is nowhere.
        ValueError: for pickled weights, vectors that are cut, a `max_length` below 1, beyond the model's positions or of a
            static embedding, a `layer` that the model does not have or of a SentenceTransformer, or a language model
            without a token to open texts.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"`max_length` must be at least 1 token, got {max_length}.")
    folder = model_folder(model, trust_remote_code=trust_remote_code)
    refuse_pickles(folder)
    known = {"dtype": torch.float32, "use_safetensors": True}
    with opening(folder):
        if is_sentence_transformer(folder):
            if layer is not None:
                raise ValueError(f"`layer` is for plain transformers; {model!r} pools as its own modules say: leave it out.")
            encoder = SentenceTransformer(str(folder), device="cpu", model_kwargs=known, trust_remote_code=trust_remote_code)
        else:
            trusted = {"trust_remote_code": trust_remote_code}
            transformer = Transformer(
                str(folder), model_kwargs=known | trusted, config_kwargs=trusted, processor_kwargs=trusted
            )
            encoder = SentenceTransformer(modules=[transformer, *_pooling(model, transformer, layer)], device="cpu")
    if encoder.truncate_dim is not None:
        raise ValueError(
            f"`model` {model!r} keeps {encoder.truncate_dim} dimensions of its vectors (`truncate_dim`), which none of its "
            "modules does: what is built on these would get them all. Take another, or save it without."
        )
    if max_length is not None:
        if isinstance(encoder[0], StaticEmbedding):
            raise ValueError(f"`max_length` is for transformers; `model` {model!r} reads texts of any length: leave it out.")
        check_length(model, max_length, places(encoder))
        encoder.max_seq_length = max_length
    return encoder.eval()


def _pooling(model: str, transformer: Transformer, layer: int | None) -> list[nn.Module]:
    """From the tokens of a plain transformer to one vector, of the hidden state `layer`."""
    width, modules = transformer.get_embedding_dimension(), list[nn.Module]()
    if layer is not None:
        modules.append(_hidden_state(model, transformer, layer))
    if is_decoder(transformer.config.model_type):
        modules.append(_without_opening(model, transformer))
    for module in modules:
        module.requires_grad_(False)  # choices, not weights
    return [*modules, Pooling(width, "mean")]


def _hidden_state(model: str, transformer: Transformer, layer: int) -> WeightedLayerPooling:
    """Take a transformer's later layers away, and its hidden state `layer` for what it gives.

    One layer more stays, for models put their final norm on the last state.
    """
    inner: Any = transformer.model
    config = inner.config.get_text_config()  # of a model that reads images, too, that of its texts
    count = config.num_hidden_layers
    if not 0 <= layer < count:
        raise ValueError(f"`layer` must be between 0 and {count - 1} for {model!r}, got {layer}; leave it out for the last.")
    stack = next((m for m in inner.modules() if isinstance(m, nn.ModuleList) and len(m) == count), None)
    if stack is None or inner.config.is_encoder_decoder:
        raise ValueError(f"`layer`: {model!r} does not keep its layers in one list. Leave it out.")
    del stack[layer + 1 :]
    config.num_hidden_layers = layer + 1
    if "layer_types" in vars(config):  # kinds of attention, one a layer
        config.layer_types = config.layer_types[: layer + 1]
    inner.config.output_hidden_states = True
    chosen = nn.Parameter(torch.tensor([1.0, 0.0]))  # of the states `layer` and the one behind it
    return WeightedLayerPooling(
        transformer.get_embedding_dimension(), num_hidden_layers=layer + 1, layer_start=layer, layer_weights=chosen
    )


def _without_opening(model: str, transformer: Transformer) -> WordWeights:
    """The weight 0 for the token that opens texts of a language model, an attention sink; 1 for all others."""
    tokenizer: Any = transformer.tokenizer
    tokenizer.padding_side = "right"
    tokenizer.chat_template = None  # sentence-transformers would put each text into a conversation
    transformer.modality_config.pop("message", None)
    first = tokenizer("a")["input_ids"][0]
    opening_token = tokenizer.convert_ids_to_tokens(first) if first in tokenizer.all_special_ids else tokenizer.bos_token
    if opening_token is None:
        raise ValueError(
            f"`student` {model!r} is a language model whose tokenizer has no token to open a text with, and its first token "
            "must be left out of the pooling. Take another student."
        )
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    vocabulary += [""] * (transformer.config.get_text_config().vocab_size - len(vocabulary))
    return WordWeights(vocabulary, {opening_token: 0.0})


def opening_prompt(student: SentenceTransformer) -> str:
    """What must stand before each text that `student` reads: the token that is left out, where its tokenizer adds none."""
    first: Any = student[0]
    if not isinstance(first, Transformer) or not is_decoder(first.config.model_type):
        return ""  # whoever weighs words there does so on purpose
    ignored = [
        token
        for module in student
        if isinstance(module, WordWeights)
        for token, weight in module.word_weights.items()
        if not weight
    ]
    own = first.tokenizer.convert_ids_to_tokens(first.tokenizer("a")["input_ids"][0])
    return "" if not ignored or own in ignored else ignored[0]


def check_prompt(student: SentenceTransformer, prompt: str) -> None:
    """Raise ValueError for a prompt that does not begin as texts of a language model must."""
    opening_token = opening_prompt(student)
    if not prompt.startswith(opening_token):
        raise ValueError(
            f"`prompt` is {prompt!r}; that of this student must begin with {opening_token!r}. The first token of a language "
            "model tells nothing, and its tokenizer puts none before a text. Embed with the same prompt what its translator "
            "learns from."
        )


__all__ = ["check_prompt", "open_student", "opening_prompt"]
