"""The student that is trained: its adapter, its projection, and which of its weights move."""

import copy
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, set_seed

from ..tasks.fine_tuning import with_whole_head
from .arguments import DistillationTrainingArguments
from .bases import check_base, has_new_pooler
from .students import is_encoder_decoder

PROJECTION = "distillation_projection"
LAYER = re.compile(r"\.(?:layers?|h|block)\.(\d+)\.")  # of the names that models give their layers
Student = PreTrainedModel | PeftModel


def check_student(
    model: Student,
    tokenizer: PreTrainedTokenizerBase,
    peft_config: PeftConfig | None,
    args: DistillationTrainingArguments,
) -> None:
    """Raise, before anything is computed, for a student that these arguments cannot train.

    Raises:
        ValueError: for a tokenizer that lacks something, an adapter that nothing could load (on another, on weights that lie
            nowhere), a head without a use, a layer that the student does not have, or its own folder as `output_dir`.
    """
    if tokenizer.pad_token is None:
        raise ValueError("`processing_class` has no pad token: set `tokenizer.pad_token`, for instance to its `eos_token`.")
    if args.span_words and not tokenizer.is_fast:
        raise ValueError("`span_words` needs character offsets, which this tokenizer does not give: use a fast one.")
    is_adapted = any(isinstance(module, BaseTunerLayer) for module in model.modules())
    if peft_config is not None and is_adapted:
        raise ValueError(
            "`model` has an adapter already, and `peft_config` asks for a second, which nothing could load. Merge "
            "the first (`model = model.merge_and_unload()`), save the result and give its folder to `load_student`; or "
            "leave out `peft_config` to train the first adapter further."
        )
    if is_adapted and not isinstance(model, PeftModel):
        raise ValueError(
            "`model` has an adapter that transformers put in (by `add_adapter`, or from the folder of an adapter), which no "
            "checkpoint would bring back. Load the model without it, and pass `peft_config` or "
            "`PeftModel.from_pretrained(model, FOLDER, is_trainable=True)`."
        )
    if isinstance(model, PeftModel) and model.active_adapters != ["default"]:
        raise ValueError(
            f"`model` would train the adapters {model.active_adapters}, but only one named 'default' is saved where it is "
            "looked for. Leave out `adapter_name` where the adapter is made or loaded, and let it be the active one "
            "(`model.set_adapter('default')`)."
        )
    if peft_config is not None and peft_config.is_prompt_learning:
        raise ValueError(
            f"`peft_config` is a {type(peft_config).__name__}, which puts tokens of its own before each text, and "
            "vectors would be made of them. Use an adapter of the layers, such as `LoraConfig`."
        )
    if peft_config is None and not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError(
            "`model` has no weight that may be trained: load its adapter with `is_trainable=True`, or pass `peft_config`."
        )
    if is_encoder_decoder(model) and args.uses_head:
        raise ValueError(
            "`model` is an encoder-decoder, whose encoder alone is the student: `task_weight`, `lm_loss_weight` and "
            "`logit_weight` need a head, so leave them at 0."
        )
    dropout = getattr(peft_config, "lora_dropout", 0.0)  # other adapters have none
    if not 0 <= dropout < 1:
        raise ValueError(f"`lora_dropout` must be at least 0 and below 1, got {dropout}.")
    if (own := Path(model.config._name_or_path)).is_dir() and own.resolve() == Path(str(args.output_dir)).resolve():
        raise ValueError(f"`output_dir` {args.output_dir!r} is the student's own folder. Choose another one.")
    if peft_config is not None or is_adapted:
        check_base(cast(PreTrainedModel, model.get_base_model()) if isinstance(model, PeftModel) else model)
    layers = model.config.get_text_config().num_hidden_layers
    if not -layers - 1 <= args.layer <= layers:
        raise ValueError(f"`layer` must be between {-layers - 1} and {layers} for this student, got {args.layer}.")


def with_adapter(model: Student, peft_config: PeftConfig | None, args: DistillationTrainingArguments) -> Student:
    """The model under a new adapter, if one is asked for, with nothing left to train that no loss reaches."""
    set_seed(args.seed)  # new adapters depend on the seed, not on what came before
    if peft_config is not None:
        bare = cast(PreTrainedModel, model)
        copied: Any = copy.deepcopy(peft_config)  # into which this model's layers are written
        if peft_config.task_type == "SEQ_CLS":
            copied = with_whole_head(bare, copied)
            copied.modules_to_save += ["pooler"] if has_new_pooler(bare) else []  # no base would have it
        model = get_peft_model(bare, copied)
    freeze_unused(model, args)
    if args.gradient_checkpointing:
        model.enable_input_require_grads()
    return model


def freeze_unused(model: nn.Module, args: DistillationTrainingArguments) -> None:
    """No parameter that no loss reaches is trained: above `args.layer`, where no head is used, and in a decoder."""
    if args.uses_head:
        return
    encoder_only = is_encoder_decoder(model)
    for name, parameter in model.named_parameters():
        above = args.layer >= 0 and (found := LAYER.search(name)) and int(found[1]) >= args.layer
        if above or (encoder_only and ".decoder." in f".{name}"):
            parameter.requires_grad_(False)


def new_projection(student_dim: int, teacher_dim: int, start: Tensor | None) -> nn.Linear:
    """A linear map from the student's space to the teacher's, at random or with the weights `start`, `(d_t, d_s)`.

    Raises:
        ValueError: for weights of another shape, or that are not finite.
    """
    projection = nn.Linear(student_dim, teacher_dim)
    if start is not None:
        if start.shape != (teacher_dim, student_dim) or not start.isfinite().all():
            raise ValueError(
                f"`projection` must be finite weights of the shape {(teacher_dim, student_dim)}, teacher by student, got "
                f"{tuple(start.shape)}{'' if start.isfinite().all() else ' with values that are not finite'}."
            )
        with torch.no_grad():
            projection.weight.copy_(start)
            projection.bias.zero_()
    return projection


def merged(adapted: Student) -> PreTrainedModel:
    """The model with its adapter merged into its weights, and without the projection that only training needs."""
    model = cast(Any, adapted).merge_and_unload()
    if hasattr(model, PROJECTION):
        delattr(model, PROJECTION)
    return model


def set_rate(optimizer: torch.optim.Optimizer, parameters: Iterable[nn.Parameter], rate: float) -> None:
    """Give some of an optimizer's parameters `rate` times the learning rate that they have."""
    own = {id(parameter) for parameter in parameters}
    for group in list(optimizer.param_groups):
        picked = [parameter for parameter in group["params"] if id(parameter) in own]
        if picked:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in own]
            optimizer.add_param_group({**group, "params": picked, "lr": rate * group["lr"]})


def width(model: Student) -> int:
    """Dimensions of the student's vectors."""
    return int(model.config.get_text_config().hidden_size)


__all__ = [
    "PROJECTION",
    "Student",
    "check_student",
    "freeze_unused",
    "merged",
    "new_projection",
    "set_rate",
    "width",
    "with_adapter",
]
