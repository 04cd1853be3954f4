"""Checkpoints on disk: is one whole, which is the newest."""

import json
import os
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import sort_checkpoints

STATE, FILES = "trainer_state.json", "files.json"
NEEDED = ("optimizer.pt", "scheduler.pt", STATE)


def seal_checkpoint(checkpoint: Path) -> None:
    """List the files with their sizes, and have the disk hold them before the folder gets its name."""
    sizes = {}
    for file in sorted(path for path in checkpoint.rglob("*") if path.is_file()):
        sizes[str(file.relative_to(checkpoint))] = file.stat().st_size
        with open(file, "rb") as stream:
            os.fsync(stream.fileno())
    (checkpoint / FILES).write_text(json.dumps(sizes))


def check_checkpoint(checkpoint: Path) -> None:
    """Raise if a training run cannot go on from a checkpoint.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if files are missing or truncated, as an interrupted deletion or a full disk leave them.
    """
    if not checkpoint.is_dir():
        raise FileNotFoundError(f"`resume_from_checkpoint` is {str(checkpoint)!r}, where there is no checkpoint.")
    try:
        sizes = json.loads((checkpoint / FILES).read_text())
    except FileNotFoundError:  # of a version that did not write it
        sizes = {}
    except (OSError, ValueError):
        sizes = None
    if not isinstance(sizes, dict):
        raise ValueError(
            f"`resume_from_checkpoint` {str(checkpoint)!r} is damaged: {FILES} cannot be read. Delete it and take an "
            "earlier one."
        )
    if sizes and NEEDED[0] not in sizes:
        raise ValueError(
            f"`resume_from_checkpoint` {str(checkpoint)!r} holds the model alone, as `save_only_model` asks for: no run can "
            "go on from it. It can be loaded as a model."
        )
    for name in sorted({*NEEDED, *sizes}):
        file = checkpoint / name
        if not file.exists() or file.stat().st_size != sizes.get(name, file.stat().st_size):
            raise ValueError(
                f"`resume_from_checkpoint` {str(checkpoint)!r} is truncated: {name} is missing or not whole. Delete it and "
                "take an earlier one."
            )
    if not _can_be_opened(checkpoint):
        raise ValueError(f"`resume_from_checkpoint` {str(checkpoint)!r} is truncated. Delete it and take an earlier one.")


def _can_be_opened(checkpoint: Path) -> bool:
    """Whether there are weights, and their files and the optimizer's have a beginning and an end."""
    weights = list(checkpoint.glob("*.safetensors"))
    try:
        for file in weights:
            with safe_open(file, framework="pt"):
                pass
    except SafetensorError:
        return False
    return bool(weights) and zipfile.is_zipfile(checkpoint / "optimizer.pt")


def newest_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a run; `None` if it left none at all.

    Raises:
        ValueError: if it left some, but none is whole.
    """
    found = [Path(path) for path in sort_checkpoints(str(folder))]
    for checkpoint in reversed(found):
        try:
            check_checkpoint(checkpoint)
            return checkpoint
        except ValueError:
            if checkpoint == found[0]:
                raise
    return None
