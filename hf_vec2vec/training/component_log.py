"""Parts of a loss in the Trainer's log."""

from collections import defaultdict

import torch
from torch import Tensor


class ComponentLog:
    """Mixin of a `transformers.Trainer`: the mean of every part of the loss since the last line of the log."""

    def add_components(self, losses: dict[str, Tensor]) -> None:
        """Add the scalars of one step."""
        for name, value in losses.items():
            total = self._log_sums[name]
            total[0] += value.detach()
            total[1] += 1

    @property
    def _log_sums(self) -> dict:
        return self.__dict__.setdefault("_component_sums", defaultdict(lambda: [0.0, 0]))

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means, over all processes."""
        if "loss" in logs and self._log_sums:
            for name in sorted(self._log_sums):  # the same order everywhere, for the processes exchange values
                total, count = self._log_sums[name]
                sums = torch.stack([total, torch.tensor(float(count), device=total.device)])
                total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
                logs[name] = total / count
            self._log_sums.clear()
        super().log(logs, start_time)
