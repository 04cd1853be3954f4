"""What happens to processes and disks: kills at random moments, and no room left."""

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from tqdm import tqdm

FORK = multiprocessing.get_context("fork")  # a child needs no seconds to import what its parent has


def _quiet(work: Callable[[], object], said: str) -> None:
    torch.set_num_threads(1)  # threads of the parent are not there
    tqdm.set_lock(threading.RLock())  # the parent's is shared: a child that is killed while it holds it keeps it for good
    with open(said, "w") as file, open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.stdout, sys.stderr = (open(number, "w", closefd=False) for number in (1, 2))  # noqa: SIM115 pytest has its own
    work()


def in_a_child(work: Callable[[], object], *, seconds: float | None = None) -> bool:
    """Do the work in a process of its own, which is killed after so many seconds. Says whether it came to its end."""
    return stopped(work, seconds, signal.SIGKILL)[0] == 0


def stopped(work: Callable[[], object], seconds: float | None, by: int) -> tuple[int | None, str]:
    """Do the work in a process of its own, which a signal may stop after so many seconds: exit status, and stderr."""
    with tempfile.NamedTemporaryFile("r") as said:
        child = FORK.Process(target=_quiet, args=(work, said.name))
        child.start()
        child.join(seconds)
        if child.is_alive() and child.pid is not None:
            os.kill(child.pid, by)
        child.join()
        return child.exitcode, said.read()


def kill_at_random(begin: Callable[[int], Callable[[], object]], check: Callable[[int, bool], None], kills: int) -> None:
    """Kill work at random moments, and let a second run go on.

    Args:
        begin: gives the work of the n-th time, which has not been begun.
        check: told the time and whether the second run is over: first after the kill, then after the second run.
        kills: how often, before the end of the work: what ends before its moment is checked, but does not count.
    """
    assert in_a_child(begin(-1))  # fills the caches of the system: later runs are faster
    started = time.perf_counter()
    assert in_a_child(begin(-2))
    length, draw, hit, number = time.perf_counter() - started, random.Random(0), 0, -1
    while hit < kills:
        assert (number := number + 1) < 4 * kills, f"{hit} of {number} were killed"
        work = begin(number)
        hit += not in_a_child(work, seconds=draw.uniform(0.02, length))
        check(number, False)
        assert in_a_child(work), f"the run after kill {number} failed"
        check(number, True)


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[Path]:
    """A disk of so many kilobytes. Only root can make one."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # a file may be mapped until garbage is collected


def fill(disk: Path, left: int) -> None:
    """Leave so many kilobytes of a disk."""
    usage = os.statvfs(disk)
    with open(disk / "filler", "wb") as file:
        file.write(bytes(max(0, usage.f_bavail * usage.f_frsize - left * 1024)))


def can_mount() -> bool:
    """Whether this machine lets us make a small disk."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        return False
    with contextlib.suppress(OSError):
        return b"tmpfs" in Path("/proc/filesystems").read_bytes() and _tried()
    return False


def _tried() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with small_disk(Path(folder) / "disk", 64):
                return True
        except (subprocess.CalledProcessError, FileNotFoundError):
            return False
