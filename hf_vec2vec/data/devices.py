"""Where tensors lie: a device that this machine has."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

Given = ParamSpec("Given")
Found = TypeVar("Found")


def chosen_device(device: str | torch.device | None = None) -> torch.device:
    """The device that was asked for; else a GPU if there is one.

    Raises:
        ValueError: for a name that torch does not know, or a device that this machine does not have.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"`device` must be a device of torch such as 'cpu' or 'cuda', got {device!r}.") from error
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"`device` is {str(found)!r}, but torch finds {torch.cuda.device_count()} GPUs here. Leave it out, or take "
            "'cpu'."
        )
    if found.type not in ("cpu", "cuda"):
        try:
            torch.empty(0, device=found)
        except (RuntimeError, NotImplementedError, AssertionError) as error:
            raise ValueError(f"`device` is {str(found)!r}, which this machine or this torch does not have.") from error
    return found


def in_full_precision(function: Callable[Given, Found]) -> Callable[Given, Found]:
    """The function, which no autocast around the call reaches: half of the digits would go, without a word."""

    @wraps(function)
    def run(*args: Given.args, **kwargs: Given.kwargs) -> Found:
        with ExitStack() as stack:
            for device in {"cpu", (torch.accelerator.current_accelerator() or torch.device("cpu")).type}:
                stack.enter_context(torch.autocast(device, enabled=False))
            return function(*args, **kwargs)

    return run
