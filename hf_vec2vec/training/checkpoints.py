"""Checkpoints of a training run: whole or absent, whatever happens while they are written."""

import json
import os
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open
from transformers.trainer_utils import rotate_checkpoints, sort_checkpoints

STAGING = ".partial-checkpoint"
STATE, FILES = "trainer_state.json", "files.json"
NEEDED = ("model.safetensors", "optimizer.pt", "scheduler.pt", STATE)


class WholeCheckpoints:
    """Mixin of a `transformers.Trainer`: a checkpoint is written aside and appears under its name once it is whole.

    Older ones are deleted only then. What a run that was killed left half written the next save clears away.
    """

    _staging = False

    def train(self, resume_from_checkpoint: str | bool | None = None, *args, **kwargs):
        """The parent's `train`; `True` goes on from the newest checkpoint that is whole."""
        if resume_from_checkpoint is True and (newest := newest_checkpoint(Path(self.args.output_dir))):
            resume_from_checkpoint = str(newest)
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _get_output_dir(self, trial) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, STAGING) if self._staging else folder

    def _save_checkpoint(self, model, trial) -> None:
        output, name = Path(self._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        staging = output / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
            if Path(self.state.best_model_checkpoint or "") == staging / name:
                self.state.best_model_checkpoint = str(output / name)
            self.accelerator.wait_for_everyone()  # each process adds files of its own
            if self.args.should_save:
                self.state.save_to_json(str(staging / name / STATE))  # again, with the final path of the best one
                _seal(staging / name)
                shutil.rmtree(output / name, ignore_errors=True)
                os.replace(staging / name, output / name)
                staging.rmdir()
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full
            shutil.rmtree(staging, ignore_errors=True)
            raise OSError(f"{name!r} was not written to {str(output)!r}; earlier ones are as they were: {error}") from error
        finally:
            self._staging = False
        if self.args.should_save:
            rotate_checkpoints(
                str(output), self.args.save_total_limit, best_model_checkpoint=self.state.best_model_checkpoint
            )
        self.accelerator.wait_for_everyone()


def _seal(checkpoint: Path) -> None:
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
    except (OSError, ValueError):  # of a version that did not write it
        sizes = {}
    for name in {*NEEDED, *sizes}:
        file = checkpoint / name
        if not file.exists() or file.stat().st_size != sizes.get(name, file.stat().st_size):
            raise ValueError(
                f"`resume_from_checkpoint` {str(checkpoint)!r} is truncated: {name} is missing or not whole. Delete it and "
                "take an earlier one."
            )
    try:
        with safe_open(checkpoint / "model.safetensors", framework="pt"):
            whole = zipfile.is_zipfile(checkpoint / "optimizer.pt")
    except SafetensorError:
        whole = False
    if not whole:
        raise ValueError(f"`resume_from_checkpoint` {str(checkpoint)!r} is truncated. Delete it and take an earlier one.")


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
