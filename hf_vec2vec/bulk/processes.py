"""Several processes that share a job, under `accelerate launch` or torchrun."""

import atexit
import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import torch

PATIENCE = timedelta(days=30)  # a process may wait so long for the others' shards


def leave_group() -> None:
    """End what connects the processes, if anything does. Else its threads abort one in dozens of processes at their end."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


class Processes:
    """Which of how many processes this is, and the device it has.

    Outside a launcher there is one.
    """

    def __init__(self):
        self.count = int(os.environ.get("WORLD_SIZE", 1))
        if self.count > 1:
            from accelerate import PartialState

            if not torch.distributed.is_initialized():
                atexit.register(leave_group)
            state = PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)  # gloo where there is no GPU
            self.index, self.device = state.process_index, state.device
        else:
            self.index, self.device = 0, torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def first_only(self, function: Callable):
        """Call `function` in the first process. All get what it returns, or raise the error that it raised."""
        if self.count == 1:
            return function()
        from accelerate.utils import broadcast_object_list

        answer: list[Any] = [None, None]
        if self.index == 0:
            try:
                answer[0] = function()
            except (OSError, ValueError, TypeError) as error:
                answer[1] = error
        broadcast_object_list(answer)
        if answer[1] is not None:
            raise answer[1]
        return answer[0]

    def wait(self) -> None:
        """Until all processes are here."""
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()
