"""What a trainer of translators asks of its model, its data and of what chooses a checkpoint."""

from typing import Any

import torch

from ..data.spaces import PairedEmbeddings, UnpairedEmbeddings
from ..data.streaming import StreamedEmbeddings
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel
from .adversarial import Vec2VecForAdversarialTraining
from .arguments import Vec2VecTrainingArguments
from .finite import check_magnitudes


def check_model(model: Any) -> None:
    """Raise for what is no translator, or one that cannot be trained as it is.

    Raises:
        TypeError: for another model.
        ValueError: for weights in half precision, as a checkpoint brings them where `dtype` was not said, or frozen ones.
    """
    if not isinstance(model, Vec2VecModel | Vec2VecForAdversarialTraining):
        compiled = " To have it compiled, set `torch_compile`." if hasattr(model, "_orig_mod") else ""
        raise TypeError(
            f"`model` must be a Vec2VecModel or Vec2VecForAdversarialTraining, got {type(model).__name__}.{compiled}"
        )
    if model.dtype in (torch.float16, torch.bfloat16):
        raise ValueError(
            f"`model` is in {str(model.dtype).removeprefix('torch.')}, in which small updates are lost. Load it with "
            "`dtype=torch.float32`, or call its `float()`; `bf16` of the arguments computes in bfloat16 beside such weights."
        )
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("`model` has no weight that may be trained: call its `requires_grad_(True)`.")


def check_selection(args: Vec2VecTrainingArguments) -> None:
    """Raise ValueError if a checkpoint would be chosen by a figure that needs pairs."""
    if args.metric_for_best_model is not None and "_to_" in args.metric_for_best_model:
        raise ValueError(
            f"`metric_for_best_model` is {args.metric_for_best_model!r}, which needs pairs. A checkpoint is chosen without "
            "them: use 'alignment_score' or 'loss'."
        )


def check_discriminators(args: Vec2VecTrainingArguments, config: Vec2VecConfig) -> None:
    """Raise ValueError if a model came with other discriminators than were asked for; defaults ask for none."""
    asked = {"discriminator_norm": args.discriminator_norm, "discriminator_dim": args.discriminator_dim}
    has = {"discriminator_norm": config.discriminator_norm, "discriminator_dim": config.discriminator_dim}
    for name, value in asked.items():
        if value not in (has[name], type(args).__dataclass_fields__[name].default):
            raise ValueError(
                f"`{name}` is {value!r}, but the model came with discriminators of {has[name]!r}. Set it in the model's "
                "config, or give the translator alone, around which new ones are put."
            )


def check_batch(args: Vec2VecTrainingArguments, data: UnpairedEmbeddings) -> None:
    """Raise ValueError if a batch that was asked for, or must be full, is larger than the data; else the default is less."""
    asked = args.per_device_train_batch_size != type(args).per_device_train_batch_size or args.dataloader_drop_last
    if asked and args.train_batch_size > len(data):
        raise ValueError(
            f"`per_device_train_batch_size` is {args.train_batch_size:,}, but the larger space has {len(data):,} rows. Take "
            "a smaller batch, or give more rows."
        )


def leaves_out_last_batch(
    args: Vec2VecTrainingArguments, config: Vec2VecConfig, data: UnpairedEmbeddings | StreamedEmbeddings | None
) -> bool:
    """Whether an epoch must end before a batch of one row: that has no deviation, and no distances among its rows."""
    rows = len(data) if isinstance(data, UnpairedEmbeddings) else 0  # batches of streams are full
    single = rows % args.train_batch_size == 1
    return rows > args.train_batch_size and (config.norm == "batch" or (args.objective != "game" and single))


def check_spaces(
    argument: str, data: UnpairedEmbeddings | PairedEmbeddings | StreamedEmbeddings, dims: dict[str, int]
) -> None:
    """Raise ValueError for spaces or dimensions that the model does not have, or numbers that are too large."""
    check_magnitudes(data.spaces if not isinstance(data, StreamedEmbeddings) else {}, argument)
    found = data.dims
    if found != {name: dims.get(name) for name in found} or set(found) != set(dims):
        raise ValueError(f"`{argument}` has the spaces and dimensions {found}, but the model has {dict(dims)}.")


def check_held_out(argument: str, data: Any, config: Vec2VecConfig) -> None:
    """Raise TypeError or ValueError for what a translator of this shape cannot be evaluated on."""
    if not isinstance(data, UnpairedEmbeddings | PairedEmbeddings):
        raise TypeError(f"`{argument}` must be UnpairedEmbeddings or PairedEmbeddings, got {type(data).__name__}.")
    check_spaces(argument, data, dict(config.embedding_dims or {}))


__all__ = [
    "check_batch",
    "check_discriminators",
    "check_held_out",
    "check_model",
    "check_selection",
    "check_spaces",
    "leaves_out_last_batch",
]
