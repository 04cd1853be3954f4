"""What can fail without work, told in the first second."""

from functools import partial
from pathlib import Path

import torch
from accelerate.utils import DynamoBackend
from huggingface_hub import HfApi
from transformers import SchedulerType, Trainer, get_scheduler
from transformers.integrations import get_reporting_integration_callbacks
from transformers.training_args import OptimizerNames, ParallelMode

from ..sharing.hub import errors_of_one_line, retry_while_busy
from .base_arguments import BaseTrainingArguments

LONG_RUN = 1_000_000  # updates: a schedule of a few could be too short for stages that a long run has room for


def check_before_work(args: BaseTrainingArguments) -> None:
    """Raise what a trainer would raise after minutes: packages that are missing, a login that is missing or not enough.

    Where the model is to be pushed, its repository is made here, if there is none.

    Raises:
        ImportError: if a package for logging or for an optimizer is missing.
        OSError: if the Hub refuses or cannot be reached.
        ValueError: for a place to log to that is unknown, or arguments of which no optimizer or schedule can be made.
    """
    for name in args.report_to or []:
        try:
            for callback in get_reporting_integration_callbacks([name]):
                callback()
        except (ImportError, RuntimeError) as error:
            raise ImportError(
                f"`report_to` is {name!r}, which cannot be used here: {' '.join(str(error).split())} Or leave it out."
            ) from error
        except ValueError as error:
            raise ValueError(f"`report_to` is {name!r}: {error}") from error
    _check_optimizer(args)
    if args.fsdp and args.parallel_mode != ParallelMode.DISTRIBUTED:
        raise ValueError("`fsdp` spreads a model over several processes, but this is one. Start several, or leave it out.")
    if args.torch_compile and str(args.torch_compile_backend).upper() not in DynamoBackend.__members__:
        known = ", ".join(sorted(name.lower() for name in DynamoBackend.__members__))
        raise ValueError(f"`torch_compile_backend` must be one of {known}, got {args.torch_compile_backend!r}.")
    if args.push_to_hub and args.should_save:
        repo = args.hub_model_id or Path(str(args.output_dir)).absolute().name
        api = HfApi(token=args.hub_token)
        with errors_of_one_line(repo):
            retry_while_busy(partial(api.create_repo, repo, private=args.hub_private_repo, exist_ok=True))


def _check_optimizer(args: BaseTrainingArguments) -> None:
    """Make the optimizer and the schedule of the run for one number."""
    name, schedule = OptimizerNames(args.optim).value, SchedulerType(args.lr_scheduler_type).value
    try:
        kind, values = Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, RuntimeError) as error:
        raise ImportError(f"`optim` is {name!r}, which cannot be used here: {error}") from error
    except ValueError as error:
        if "model" in str(error):  # some optimizers look at the model, which is not there yet
            return
        raise ValueError(
            f"`optim_args` must be NAME=VALUE,NAME=VALUE of `optim` {name!r}, got {args.optim_args!r}: {error}."
        ) from error
    try:
        optimizer = kind([torch.nn.Parameter(torch.zeros(1))], **values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`optim` {name!r} cannot be made of its arguments: {error}.") from error
    args.check_optimizer(optimizer)
    given = args.lr_scheduler_kwargs or {}
    try:
        get_scheduler(schedule, optimizer, 0, LONG_RUN, given)  # type: ignore[arg-type]  # the line may hold no JSON
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`lr_scheduler_kwargs` is {given!r}, of which `lr_scheduler_type` {schedule!r} can make no schedule: {error}."
        ) from error


__all__ = ["check_before_work"]
