"""Write beside, then replace: a file or folder appears under its name whole or not at all, made by one process at a time."""

import fnmatch
import os
import shutil
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

PARTIAL, REPLACED, LOCK = ".partial-", ".replaced-", ".lock-"  # and then the name of what is written
WHOLE = ".whole-files"  # a folder of entries that are complete, on their way into the folder around it


def beside(path: Path, prefix: str) -> Path:
    """The place beside a file or folder that has its name behind a prefix."""
    return path.with_name(prefix + path.name)


@contextmanager
def staged_file(path: str | Path) -> Iterator[Path]:
    """A place to write a file to, which takes the place of `path` when the block ends without an error.

    Until then, and after any error, what was at `path` is as it was. If `path` is a symbolic link, the file that it points
    to is replaced.

    Args:
        path: of the file. Its folder is made if there is none.

    Returns:
        A context manager that gives the place. It has the suffix of `path`.
    """
    target = _real(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = beside(target, PARTIAL)
    try:
        yield partial
        replace_file(partial, target)
    except BaseException:
        with suppress(OSError):  # the first error is the one that counts
            partial.unlink()
        raise


def replace_file(new: Path, path: Path) -> None:
    """Put a file that is complete, and lies beside `path`, into its place."""
    _to_disk(new)
    os.replace(new, path)
    _to_disk(path.parent)


@contextmanager
def staged_folder(path: str | Path, *, ours: Collection[str] = ()) -> Iterator[Path]:
    """An empty folder to fill, which takes the place of the folder `path` when the block ends without an error.

    Of an old folder, entries that `ours` names are deleted; all others are kept, in the new one. A process that is killed
    leaves the old folder or the new one, if need be after [`restore`], which the next call does first.

    Args:
        path: of the folder. The folder around it is made if there is none.
        ours: names, or patterns such as `data-*.arrow`, of what an earlier run may have made.

    Returns:
        A context manager that gives the folder to fill.
    """
    target = _real(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    restore(target, ours=ours)
    partial = beside(target, PARTIAL)
    _delete(partial)
    partial.mkdir()
    try:
        yield partial
        replace_folder(partial, target, ours=ours)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_folder(new: Path, path: Path, *, ours: Collection[str] = ()) -> None:
    """Put a folder that is complete, and lies beside `path`, into its place; see [`staged_folder`]."""
    replaced = beside(path, REPLACED)
    _all_to_disk(new)
    if path.exists():
        os.rename(path, replaced)
    try:
        os.rename(new, path)
    except BaseException:
        if replaced.exists():
            os.rename(replaced, path)
        raise
    _keep_foreign(replaced, path, ours)
    _to_disk(path.parent)


@contextmanager
def staged_entries(folder: str | Path, *, ours: Collection[str] = ()) -> Iterator[Path]:
    """An empty folder to fill, whose entries then take the places of those of the same names in `folder`.

    For files that change together in a folder that holds others, too. The entries move when all are complete; a process
    that is killed while they do leaves the rest to [`restore`], which the next call does first.

    Args:
        folder: made if there is none.
        ours: names, or patterns, of what an earlier run may have made; deleted at the end, where it was not made again.

    Returns:
        A context manager that gives the folder to fill.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    restore(folder)
    partial = folder / f"{PARTIAL}files"
    _delete(partial)
    partial.mkdir()
    try:
        yield partial
        replace_entries(partial, folder, ours=ours)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def replace_entries(new: Path, folder: Path, *, ours: Collection[str] = ()) -> None:
    """Move what a complete folder `new` holds, which lies in `folder`, into their places there; see [`staged_entries`]."""
    _all_to_disk(new)
    made = {entry.name for entry in new.iterdir()}
    os.rename(new, folder / WHOLE)
    restore(folder)
    for entry in list(folder.iterdir()):
        if entry.name not in made and _matches(entry.name, ours):
            _delete(entry)


def restore(path: str | Path, *, ours: Collection[str] = ()) -> None:
    """Bring a folder that was being replaced by a process that was killed to a whole state; nothing else is touched.

    A folder that was moved aside comes back, unless the new one is in its place; entries that were complete move in.

    Args:
        path: of the folder.
        ours: see [`staged_folder`].
    """
    target = _real(path)
    if (replaced := beside(target, REPLACED)).is_dir():
        if target.exists():
            _keep_foreign(replaced, target, ours)
        else:
            os.rename(replaced, target)
    if (whole := target / WHOLE).is_dir():
        for entry in list(whole.iterdir()):
            place = target / entry.name
            if entry.is_dir() or place.is_dir():
                _delete(place)
            os.replace(entry, place)
        whole.rmdir()
        _to_disk(target)


@contextmanager
def locked(path: str | Path, *, argument: str = "output", wait: bool = False) -> Iterator[None]:
    """Be the only process that writes to `path`; the system lets go of the lock when the process ends, however it ends.

    Args:
        path: of the file or folder that is written. The folder around it is made if there is none.
        argument: that named it, for the error.
        wait: until the other process has ended, where what it makes is what is wanted.

    Raises:
        FileExistsError: if another process writes there.
        PermissionError: if nothing can be written there.
    """
    target = _real(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    file = beside(target, LOCK)
    lock = FileLock(file)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout as error:
        try:  # some folders of the system, such as /proc, refuse files in a way that looks like a lock
            tempfile.TemporaryFile(dir=target.parent).close()
        except OSError as refused:
            raise PermissionError(f"`{argument}` is {str(path)!r}, but nothing can be written there.") from refused
        raise FileExistsError(
            f"`{argument}` {str(path)!r}: another process is writing there (it holds {str(file)!r}). Wait for it, or choose "
            "another place."
        ) from error
    try:
        yield
    finally:
        with suppress(OSError):  # Windows deletes no open file
            file.unlink()  # before it is let go of: else another process might hold a file that has no name any more
        lock.release()


def check_apart(output: str | Path, reads: Iterable[str | Path]) -> None:
    """Raise if writing `output` could change what is read: the same file, by whatever name, or one inside the other.

    Args:
        output: the file or folder to be written.
        reads: files and folders that are read.

    Raises:
        ValueError: if one of them is in the way.
    """
    target = _real(output)
    for path in reads:
        given = _real(path)
        if given == target or (target.exists() and given.exists() and os.path.samefile(given, target)):
            raise ValueError(f"`output` {str(output)!r} is what is read. Choose another place.")
        if given.is_dir() and given in target.parents:
            raise ValueError(f"`output` {str(output)!r} lies inside {str(path)!r}, which is read. Choose another place.")
        if target in given.parents:
            raise ValueError(f"`output` {str(output)!r} holds {str(path)!r}, which is read. Choose another place.")


def _real(path: str | Path) -> Path:
    """With links followed and a name of its own, so that places beside it are on the same disk."""
    return Path(os.path.realpath(path))


def _matches(name: str, patterns: Collection[str]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _keep_foreign(replaced: Path, target: Path, ours: Collection[str]) -> None:
    """Move what is not ours from the old folder into the new one, then delete the old one."""
    if not replaced.is_dir():
        return
    for entry in list(replaced.iterdir()):
        if not _matches(entry.name, ours) and not (target / entry.name).exists():
            os.rename(entry, target / entry.name)
    shutil.rmtree(replaced)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _all_to_disk(folder: Path) -> None:
    for entry in [*folder.rglob("*"), folder]:
        _to_disk(entry)


def _to_disk(path: Path) -> None:
    """Have the disk hold a file, or the names in a folder, before anything relies on it."""
    if path.is_symlink() or (os.name == "nt" and path.is_dir()):  # Windows opens no folder
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


__all__ = [
    "PARTIAL",
    "beside",
    "check_apart",
    "locked",
    "replace_entries",
    "replace_file",
    "replace_folder",
    "restore",
    "staged_entries",
    "staged_file",
    "staged_folder",
]
