"""Batches that fit into memory: where one does not, it is halved. How much memory there is."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from transformers.utils import logging

logger = logging.get_logger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")
# Where Linux says how many bytes are left, and how many a container may have (cgroups of both versions).
ROOM = (
    ("/proc/meminfo", r"MemAvailable:\s+(\d+) kB", 1024),
    ("/sys/fs/cgroup/memory.max", r"(\d+)", 1),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", r"(\d+)", 1),
)


def in_batches(
    run: Callable[[Sequence[Item]], Result], items: Sequence[Item], batch_size: int
) -> Iterator[tuple[Sequence[Item], Result]]:
    """Each batch and what `run` makes of it. A batch that is too large for the memory is halved, and so are the next.

    Args:
        run: called with at most `batch_size` items.
        items: in the order of the batches.
        batch_size: items at a time.

    Raises:
        ValueError: for a batch size below 1.
        torch.OutOfMemoryError, MemoryError: if a single item does not fit.
    """
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
    start = 0
    while start < len(items):
        batch = items[start : start + batch_size]
        try:
            result = run(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(batch) == 1:
                raise
            batch_size = len(batch) // 2
            logger.warning(f"The memory is too small for {len(batch)} at a time: going on with `batch_size` {batch_size}.")
        else:
            yield batch, result
            start += len(batch)
            continue
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # behind the `except`, which would keep the failed batch alive


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or the machine, has no room left: torch has no type of its own for the latter."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "DefaultCPUAllocator" in str(error)


def available_memory() -> int | None:
    """Bytes that a process may still ask for; all that the machine has where it says no more; `None` where not even that."""
    found = []
    for path, pattern, unit in ROOM:
        try:
            said = re.search(pattern, Path(path).read_text())
        except OSError:
            continue
        found += [int(said[1]) * unit] if said else []
    if found:
        return min(found)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no such function
        return None
