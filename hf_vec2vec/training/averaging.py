"""The moving average of a translator's weights, which a game gives in place of its last weights."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback

FILE = "average.safetensors"  # in a checkpoint


class WeightAverage:
    """Exponential moving average of the parameters of a module. Buffers stay as they are.

    Args:
        module: what is trained.
        decay: share of the old average in the new one, below 1.

    Source: Yazıcı et al., "The unusual effectiveness of averaging in GAN training", 2019.
    """

    def __init__(self, module: nn.Module, decay: float):
        self.decay = decay
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Take in the weights after one more update."""
        for name, parameter in module.named_parameters():
            self.values[name].lerp_(parameter.detach(), 1 - self.decay)

    @torch.no_grad()
    def put_into(self, module: nn.Module) -> None:
        """Give the module the averaged weights, for good."""
        for name, parameter in module.named_parameters():
            parameter.copy_(self.values[name])

    @contextmanager
    def inside(self, module: nn.Module) -> Iterator[None]:
        """The module has the averaged weights within."""
        last = {name: p.detach().clone() for name, p in module.named_parameters()}
        self.put_into(module)
        try:
            yield
        finally:
            with torch.no_grad():
                for name, parameter in module.named_parameters():
                    parameter.copy_(last[name])

    def save(self, checkpoint: Path) -> None:
        """Leave the average in a checkpoint."""
        save_file({name: value.contiguous() for name, value in self.values.items()}, checkpoint / FILE)

    def load(self, checkpoint: Path) -> None:
        """Go on from a checkpoint's average.

        Raises:
            ValueError: if it has none, or one of another model.
        """
        file = checkpoint / FILE
        found: dict[str, Tensor] = load_file(file) if file.exists() else {}
        if {name: v.shape for name, v in found.items()} != {name: v.shape for name, v in self.values.items()}:
            raise ValueError(
                f"`resume_from_checkpoint` {str(checkpoint)!r} has no average of this model's weights, which `ema_decay` "
                f"{self.decay} asks for. Resume with the arguments of the run that wrote it."
            )
        for name, value in found.items():
            self.values[name].copy_(value)


class AfterUpdates(TrainerCallback):
    """Calls a function after every update."""

    def __init__(self, function: Callable[[], None]):
        self.function = function

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        """Of the callback's contract."""
        self.function()


__all__ = ["AfterUpdates", "WeightAverage"]
