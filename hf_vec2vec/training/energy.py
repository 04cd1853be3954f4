"""What a training run cost, for its card: time, and energy as far as it can be known."""

import os
import time
from typing import NamedTuple

import torch

WATTS_A_THREAD = 5  # of a busy thread, with its share of memory: servers take about 2 to 5, laptops and desktops up to 10


class EnergyMeter(NamedTuple):
    """Clocks and counters at the moment when it was started; `cost` tells what has been used since."""

    seconds: float
    cpu_seconds: float
    gpu_joules: float | None

    @classmethod
    def start(cls) -> "EnergyMeter":
        """Read them. GPUs have a counter since Volta; it is of the whole device, whoever used it."""
        used = os.times()
        cpu_seconds = used.user + used.system + used.children_user + used.children_system
        return cls(time.monotonic(), cpu_seconds, _gpu_joules())

    def cost(self) -> dict[str, float | str]:
        """Since the start: `seconds`, `watt_hours`, and `energy_source`, how the energy is known."""
        now = EnergyMeter.start()
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
