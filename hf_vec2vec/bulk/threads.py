"""Read ahead, compute on every core, and write behind, in threads: disks work while matrices are multiplied."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import torch

WAIT = 0.2  # seconds between two looks at whether the other side is still there
DEPTH = 2  # items that may wait, beside one for each worker; memory is a multiple of it


def in_flight(workers: int) -> int:
    """Blocks between disk and disk: being read, waiting, handed over, with a worker or waiting for the writer, written."""
    return 1 + DEPTH + 1 + (DEPTH - 1 + workers) + 1


class _End:
    """Behind the last item; with what went wrong, if anything did."""

    def __init__(self, error: BaseException | None = None):
        self.error = error


@contextmanager
def read_ahead(items: Iterable) -> Iterator[Iterator]:
    """The items, of which up to `DEPTH` are made in advance by a thread. Its errors are raised where they are awaited."""
    waiting: queue.Queue = queue.Queue(DEPTH)
    stop = threading.Event()

    def put(item) -> None:
        while not stop.is_set():
            try:
                return waiting.put(item, timeout=WAIT)
            except queue.Full:
                continue
        return None

    def work() -> None:
        iterator, error = iter(items), None
        try:
            for item in iterator:
                put(item)
                if stop.is_set():
                    break
        except BaseException as caught:
            error = caught
        put(_End(error))

    def taken() -> Iterator:
        while not isinstance(item := waiting.get(), _End):
            yield item
        if item.error is not None:
            raise item.error

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield taken()
    finally:
        stop.set()
        thread.join()


@contextmanager
def compute(workers: int, *, on_cpu: bool) -> Iterator[ThreadPoolExecutor]:
    """Threads that work on blocks at the same time.

    On a CPU each multiplies on its own: threads that share one product wait for each other, all the more while reading and
    writing take one of their cores.
    """
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(workers, initializer=partial(torch.set_num_threads, 1) if on_cpu else None)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        if on_cpu:
            torch.set_num_threads(threads)


@contextmanager
def write_behind(write: Callable, workers: int) -> Iterator[Callable]:
    """A function that hands an item over to a thread that calls `write` on it, in order.

    An error of `write` is raised at the next item, or at the end; items behind it are dropped.
    """
    waiting: queue.Queue = queue.Queue(DEPTH - 1 + workers)
    failed: list[BaseException] = []

    def work() -> None:
        while not isinstance(item := waiting.get(), _End):
            if not failed:
                try:
                    write(item)
                except BaseException as error:
                    failed.append(error)

    def put(item) -> None:
        if failed:
            raise failed[0]
        waiting.put(item)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield put
    finally:
        waiting.put(_End())
        thread.join()
    if failed:
        raise failed[0]
