"""What a training run cost, for its card: time, and energy as far as it can be known."""

import os
import time
from typing import NamedTuple

import torch

WATTS_A_THREAD = 5  # of a busy thread, with its share of memory: servers take about 2 to 5, laptops and desktops up to 10


class Reading(NamedTuple):
    """Clocks and counters at one moment."""

    seconds: float
    cpu_seconds: float
    gpu_joules: float | None

    @classmethod
    def now(cls) -> "Reading":
        """Read them. GPUs have a counter since Volta; it is of the whole device, whoever used it."""
        used = os.times()
        cpu_seconds = used.user + used.system + used.children_user + used.children_system
        return cls(time.monotonic(), cpu_seconds, _gpu_joules())

    def cost(self) -> dict[str, float | str]:
        """Since this reading: `seconds`, `watt_hours`, and `energy_source`, how the energy is known."""
        now = Reading.now()
        joules = (now.cpu_seconds - self.cpu_seconds) * WATTS_A_THREAD
        source = f"estimated from CPU time at {WATTS_A_THREAD} W a busy thread"
        if self.gpu_joules is not None and now.gpu_joules is not None:
            joules += now.gpu_joules - self.gpu_joules
            source = f"the GPUs' own counters, and for the CPU {source}"
        elif torch.cuda.is_available():
            source += ", without the GPUs, whose counters need nvidia-ml-py"
        return {"seconds": now.seconds - self.seconds, "watt_hours": joules / 3600, "energy_source": source}


def _gpu_joules() -> float | None:
    """Of all GPUs of this process since their driver was loaded; `None` without any, or without nvidia-ml-py."""
    if not torch.cuda.is_available():
        return None
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
        devices = [torch.cuda.get_device_properties(i).uuid for i in range(torch.cuda.device_count())]
        handles = [pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}") for uuid in devices]
        return sum(map(pynvml.nvmlDeviceGetTotalEnergyConsumption, handles)) / 1000
    except pynvml.NVMLError:  # older than the counter, or a part of a device
        return None


class RunCost:
    """Mixin of a `transformers.Trainer` that keeps account of `train`."""

    _spent = (0.0, 0.0)  # seconds, watt-hours of earlier calls
    _started: Reading | None = None

    def train(self, *args, **kwargs):
        """The parent's `train`."""
        self._started = Reading.now()
        try:
            return super().train(*args, **kwargs)
        finally:
            cost = self.cost()
            self._spent, self._started = (cost["seconds"], cost["watt_hours"]), None

    def cost(self) -> dict[str, float | str]:
        """Of all training so far, as [`Reading.cost`] gives it. Processes other than this one are not counted."""
        cost = (self._started or Reading.now()).cost()
        seconds, watt_hours = self._spent
        return cost | {"seconds": seconds + cost["seconds"], "watt_hours": watt_hours + cost["watt_hours"]}
