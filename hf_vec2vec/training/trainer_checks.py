"""What both trainers ask of the arguments of `transformers.Trainer`, before anything is done with them."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from .base_arguments import BaseTrainingArguments

# Arguments of `transformers.Trainer` that could only be ignored, and why.
WITHOUT_USE = {
    "compute_loss_func": "the losses are chosen by their weights in `args`",
    "data_collator": "batches are made here",
    "model_init": "this trainer keeps what it made of one model: make a trainer for each trial, with its `model`",
}


def check_given(args: Any, kind: type[BaseTrainingArguments], others: Mapping[str, Any]) -> None:
    """Raise for arguments of another class, and for those that a trainer could only ignore.

    Args:
        args: of the trainer.
        kind: what they must be.
        others: further arguments of `transformers.Trainer`.

    Raises:
        TypeError: for arguments of another class.
        ValueError: for one without a use.
    """
    for name, reason in WITHOUT_USE.items():
        if others.get(name) is not None:
            raise ValueError(f"`{name}` has no use here, for {reason}. Leave it out.")
    if not isinstance(args, kind):
        raise TypeError(f"`args` must be {kind.__name__}, got {type(args).__name__}.")


def check_given_optimizer(optimizer: torch.optim.Optimizer, trained: Mapping[str, nn.Parameter]) -> None:
    """Raise ValueError if an optimizer that was made elsewhere lacks parameters that are to be trained, by their names."""
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    if lacking := [name for name, parameter in trained.items() if id(parameter) not in held]:
        raise ValueError(
            f"`optimizers` has an optimizer without {len(lacking)} of the {len(trained)} parameters that are trained, for "
            f"instance {lacking[0]!r}, which would stay as they are. The trainer itself makes adapters, projections and "
            "discriminators: pass `optimizer_cls_and_kwargs` instead, or freeze what should stay (`requires_grad_(False)`)."
        )


__all__ = ["check_given", "check_given_optimizer"]
