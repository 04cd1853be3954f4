"""What becomes of an error: one line, an exit status, and a log file for what nobody foresaw."""

import errno
import os
import platform
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from ..version import __version__

FAILED, BAD_INPUT = 1, 2
STOPS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}  # Ctrl-C; what schedulers and containers send
BY_SIGNAL = 128  # exit status of a process that a signal stopped, to which the signal's number is added
LONGEST = 1000  # characters of the line: some errors of other packages are pages
# Errors that tell of what was given, if they come from the system.
ABOUT_PATHS = (FileNotFoundError, FileExistsError, NotADirectoryError, IsADirectoryError, PermissionError)
CAN_WAIT, LATER = hasattr(signal, "setitimer"), 0.1  # seconds between two looks; Windows has no such timer
NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "unable to allocate")


def reported(
    command: str, work: Callable[[], None], *, debug: Callable[[], bool], after_interrupt: Callable[[], str]
) -> int:
    """Do the work of a command; make of what it raises one line on stderr, and an exit status.

    Args:
        command: its name.
        work: what it does.
        debug: whether to show tracebacks, too.
        after_interrupt: what to say of the work that Ctrl-C or SIGTERM stopped.
    """
    with _stops() as stops:
        try:
            work()
        except (Exception, KeyboardInterrupt) as error:
            _close_bars()
            if debug():
                traceback.print_exc()
            if stops or isinstance(error, KeyboardInterrupt):  # modules in C make other errors of it
                by = stops[0] if stops else signal.SIGINT
                status, line = BY_SIGNAL + by, f"{STOPS[by]}. {after_interrupt()}"
            else:
                status, line = explained(error)
            line = " ".join(line.split())  # errors of other packages have many lines
            print(f"hf-vec2vec {command}: {line[:LONGEST]}", file=sys.stderr)
            return status
    return 0


def _close_bars() -> None:
    """End bars that an error left open, which would be drawn again below its line."""
    if bars := sys.modules.get("tqdm"):
        for bar in list(bars.tqdm._instances):
            bar.close()


def explained(error: Exception) -> tuple[int, str]:
    """Exit status and message of an error. What no `raise` foresaw is a fault of the program, and gets a log file."""
    message = str(error)
    if isinstance(error, MemoryError) or any(words in message.lower() for words in NO_MEMORY):
        return FAILED, f"out of memory. Fewer rows at a time, a shorter `max_length` or a smaller model need less. {message}"
    if isinstance(error, BrokenPipeError):
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 for the interpreter, which flushes it at its end
        return FAILED, "who read the output has left."
    if isinstance(error, ABOUT_PATHS + (ImportError,)):
        return BAD_INPUT, message
    if isinstance(error, OSError):
        return BAD_INPUT if error.errno == errno.ENAMETOOLONG else FAILED, message
    if _written_for_users(error):
        return BAD_INPUT if isinstance(error, ValueError | TypeError) else FAILED, message
    return FAILED, f"{type(error).__name__}: {message} {_log()}"


def _written_for_users(error: Exception) -> bool:
    """Whether a `raise` of this package made the error, or it names an argument, as those of transformers do."""
    package = Path(__file__).parent.parent
    last = traceback.extract_tb(error.__traceback__)[-1:]
    raised = [f for f in last if Path(f.filename).is_relative_to(package) and (f.line or "").startswith("raise ")]
    return bool(raised) or "`" in str(error)


def _log() -> str:
    """Write the traceback of the present error to a new file; say where it is."""
    text = f"hf_vec2vec {__version__}, Python {platform.python_version()}, {platform.platform()}\n{traceback.format_exc()}"
    try:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="hf-vec2vec-", suffix=".log", delete=False) as file:
            file.write(text)
    except OSError:
        return "This is a fault of the program; --debug shows where."
    return f"This is a fault of the program; {file.name} tells where."


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported where the interpreter is."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@contextmanager
def _stops() -> Iterator[list[signal.Signals]]:
    """Collect the signals that ask to stop. The first raises `KeyboardInterrupt`; the second ends the process at once.

    While a module is imported the first one waits: what is raised there can be taken for a missing package, and lost.
    """
    received: list[signal.Signals] = []
    process = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a worker that was forked, whose parent has the word
            os._exit(BY_SIGNAL + number)
        if received:
            os._exit(BY_SIGNAL + received[0])
        received.append(signal.Signals(number))
        interrupt(number, frame)

    def interrupt(number: int, frame: FrameType | None) -> None:
        if CAN_WAIT and _importing(frame):
            signal.setitimer(signal.ITIMER_REAL, LATER)
        else:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.signal(number, stop) for number in STOPS}
    if CAN_WAIT:
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield received
    finally:
        if CAN_WAIT:
            signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
