"""Text out of a language model: the likeliest token at each step, and nothing that its folder would have instead."""

from typing import Any, cast

import torch
from peft import PeftModel
from torch import Tensor
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteriaList


@torch.no_grad()
def likeliest(
    model: PreTrainedModel | PeftModel,
    inputs: dict[str, Tensor],
    *,
    max_new_tokens: int,
    end: int | None,
    padding: int | None,
    stop: StoppingCriteriaList | None = None,
) -> Tensor:
    """What a model writes behind its inputs.

    A folder may ask for penalties, beams or a least length (`generation_config.json`), and transformers takes from there
    whatever a call leaves open. So the model has no such settings while it writes, but for the token that texts begin with.

    Args:
        model: that can generate.
        inputs: `input_ids` or `inputs_embeds`, and `attention_mask`.
        max_new_tokens: at most so many.
        end: token that ends a text.
        padding: token behind the end, where other texts of the batch go on.
        stop: other reasons to end.

    Returns:
        `(n, tokens)`; behind `input_ids`, if these are what was given.
    """
    bare: Any = model
    if isinstance(model, PeftModel):  # a shell, whose settings are those of the model in it
        bare = model.get_base_model()
    own = bare.generation_config
    bare.generation_config = GenerationConfig(bos_token_id=own.bos_token_id)
    try:
        return cast(Any, model).generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            num_beams=1,
            eos_token_id=end,
            pad_token_id=padding,
            stopping_criteria=stop,
        )
    finally:
        bare.generation_config = own


__all__ = ["likeliest"]
