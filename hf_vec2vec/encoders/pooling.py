"""From the states of tokens to one vector a text, and what kinds of models there are."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor
from transformers import PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)
from transformers.utils import ModelOutput

POOLINGS = ("mean", "cls", "last", "weighted_mean")
PROJECTION = "projection"  # into the space that texts and images share: what CLIP-like models have for a pooling


@contextmanager
def first_layers(model: PreTrainedModel, layer: int) -> Iterator[None]:
    """Run no layer that hidden state `layer` does not need, in models that go by their config: the language models.

    One more than that is run, for models put their final norm on the last state. Negative layers change nothing.
    """
    config = model.config.get_text_config()
    before = vars(config).copy()
    if 0 <= layer < config.num_hidden_layers:
        config.num_hidden_layers = layer + 1
        config.use_cache = False  # GPT-2 runs all its layers, but would make a cache for those of its config only
    try:
        yield
    finally:
        vars(config).clear()  # a config may have had no `use_cache`
        vars(config).update(before)


def pool(states: Tensor, mask: Tensor, pooling: str, mask_first_token: bool = False) -> Tensor:
    """One vector a text from its tokens' vectors.

    Args:
        states: `(n, tokens, d)`, padded on the right.
        mask: `(n, tokens)`, 1 for tokens, 0 for padding.
        pooling: see [`EncoderSettings`].
        mask_first_token: leave out the first token, except from texts that have no other.

    Returns:
        `(n, d)`.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    # Sums of many tokens, and of their places, leave the range of half precision.
    exact = states.float() if states.dtype.itemsize == 2 else states
    weights = mask.to(exact.dtype)
    if mask_first_token:
        weights[:, 0] = (mask.sum(1) == 1).to(weights.dtype)
    if pooling == "weighted_mean":
        weights = weights * torch.arange(1, weights.shape[1] + 1, device=weights.device)
    return ((exact * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)).to(states.dtype)


def token_states(outputs: ModelOutput) -> tuple[Tensor, ...]:
    """Hidden states of all layers, each `(n, tokens, d)`; of an encoder-decoder its encoder's."""
    states = outputs.get("encoder_hidden_states")
    return outputs["hidden_states"] if states is None else states


def is_decoder(model_type: str) -> bool:
    """Whether a model reads from left to right only, so that its first token tells nothing."""
    # The former list has encoder-decoders, too, of which the encoder is used here: Marian, Pegasus.
    others = MODEL_FOR_MASKED_LM_MAPPING_NAMES.keys() | MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES.keys()
    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in others


def has_decoder(config: PretrainedConfig) -> bool:
    """Whether a model, or a head on it, has a decoder behind its encoder; one that was saved without it gets a new one."""
    return bool(config.is_encoder_decoder) or config.model_type in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES


def is_dual(model: torch.nn.Module) -> bool:
    """Whether a model has a text and an image side that meet in one space, like CLIP."""
    return hasattr(model, "get_text_features") and hasattr(model, "get_image_features")
