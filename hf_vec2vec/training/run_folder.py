"""Where a run works, and how what it made gets to its place: all together, with nothing of others touched."""

import copy
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from transformers.utils import logging

from ..data.staging import locked, replace_entries, restore
from ..sharing.translator_card import is_own_card
from .base_arguments import BaseTrainingArguments
from .checkpoints import check_checkpoint, newest_checkpoint

WORK = ".unfinished-run"
CARD, OTHER_CARD = "README.md", "MODEL_CARD.md"  # the latter where somebody else wrote the former
MODELS = ("config.json", "model.safetensors", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json")
CHECKPOINTS = "checkpoint-*"

logger = logging.get_logger(__name__)
A = TypeVar("A", bound=BaseTrainingArguments)


@dataclass(frozen=True)
class RunFolder:
    """A model's folder, and in it the folder where the run that makes the model works.

    The model that was there, and all else, stays as it is until the new one is whole. A run that fails or is killed leaves
    what it has made in `work`, and can be resumed.

    Args:
        output: the model's folder.
        record: file in which a run of this kind tells what it did. A model without it is somebody else's.
        made: names, or patterns, of what a run of this kind makes, but for the card.
        start: folder in `work` from which a run without a checkpoint can be resumed, if it leaves one.
    """

    output: Path
    record: str
    made: tuple[str, ...]
    start: str | None = None

    @property
    def work(self) -> Path:
        """Where the run works."""
        return self.output / WORK

    def check(self, *, overwrite: bool, resume: str | bool | None) -> Path | None:
        """Raise, before any work, if the folder holds what would be lost, or nothing can be written; give the way on.

        Returns:
            The checkpoint to resume from; the start, if the run was stopped before its first checkpoint; or `None`.

        Raises:
            FileExistsError: if the folder holds a model or parts of one, and neither overwriting nor resuming was asked for;
                if a model is not of such a run; if another run writes there.
            FileNotFoundError: if there is nothing to resume from.
            OSError: if nothing can be written there.
            ValueError: if the checkpoint is truncated; with several, if all are.
        """
        check_writable(self.output)
        if self.output.is_dir():
            with self.locked():
                restore(self.output)
        place = self._place_to_resume(resume)
        if foreign := self._foreign_model():
            raise FileExistsError(
                f"`output_dir` {str(self.output)!r} holds a model that no run of this kind made ({foreign}). Choose another "
                "folder."
            )
        goes_on_here = place is not None and place.resolve().parent in (self.output.resolve(), self.work.resolve())
        if (found := self._found()) and not (overwrite or goes_on_here):
            raise FileExistsError(
                f"`output_dir` {str(self.output)!r} holds a model already, or the beginning of one ({found[0]}). Choose "
                "another folder, resume the run (`resume_from_checkpoint`), or replace it (`overwrite`)."
            )
        return place

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only run in this folder.

        Raises:
            FileExistsError: if there is another.
        """
        with locked(self.output, argument="output_dir"):
            yield

    @contextmanager
    def working(self, args: BaseTrainingArguments, resume: Path | None) -> Iterator[None]:
        """Be alone in the folder and make the one to work in; of several processes the first one does.

        What another run left in `work` goes, unless this one goes on from it. A failure leaves no empty folder behind.

        Raises:
            FileExistsError: if another run works there.
        """
        if not args.should_save:
            yield
            return
        with self.locked():
            if resume is None or resume.resolve().parent != self.work.resolve():
                shutil.rmtree(self.work, ignore_errors=True)
            self.work.mkdir(parents=True, exist_ok=True)
            try:
                yield
            finally:
                for folder in (self.work, self.output):
                    if folder.is_dir() and not any(folder.iterdir()):
                        folder.rmdir()

    def arguments(self, args: A) -> A:
        """Arguments of a trainer that works in `work` and calls its model by the name of the model's folder."""
        args = copy.copy(args)
        args.hub_model_id = args.hub_model_id or self.output.absolute().name
        args.output_dir = str(self.work)
        return args

    def finish(self, resume: Path | None) -> None:
        """Put what was made, which is whole, into its place. A card that somebody else wrote stays; ours goes beside it."""
        if not is_own_card(self.output, self.record) and (self.work / CARD).exists():
            os.replace(self.work / CARD, self.work / OTHER_CARD)
            logger.warning(f"{self.output / CARD} was not written by a run and stays; the new card is {OTHER_CARD}.")
        # Checkpoints of a finished run that was resumed belong to this one, too.
        kept = CHECKPOINTS if resume is not None and resume.resolve().parent == self.output.resolve() else None
        replace_entries(self.work, self.output, ours=[name for name in self.made if name != kept])

    def _found(self) -> list[str]:
        """What runs left, as far as it is part of a model."""
        folders = [self.output, self.work]
        return [path.name for folder in folders for pattern in self.made for path in sorted(folder.glob(pattern))]

    def _foreign_model(self) -> str | None:
        """A file of a model that no run of this kind made."""
        if (self.output / self.record).exists() or self._translator_of_this_kind():
            return None
        return next((name for name in MODELS if (self.output / name).exists()), None)

    def _translator_of_this_kind(self) -> bool:
        """Whether the model is a translator that was saved by itself, and runs of this kind make translators."""
        try:
            config = json.loads((self.output / "config.json").read_text())
        except (OSError, ValueError):
            return self.start is not None and (self.output / self.start).is_dir()
        return self.start is not None and isinstance(config, dict) and config.get("model_type") == "vec2vec"

    def _place_to_resume(self, asked: str | bool | None) -> Path | None:
        if asked is None or str(asked).lower() == "false":
            return None
        if str(asked).lower() != "true":
            check_checkpoint(Path(str(asked)))
            return Path(str(asked))
        for folder in (self.work, self.output):
            if newest := newest_checkpoint(folder):
                return newest
            if self.start and (folder / self.start).is_dir():
                return folder / self.start
        raise FileNotFoundError(
            f"`resume_from_checkpoint` is true, but {str(self.output)!r} holds no checkpoint. Leave it out to start anew."
        )


def check_writable(folder: Path) -> None:
    """Raise OSError if a folder is none, cannot be made or cannot be written to."""
    there = folder.absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"`output_dir` is {str(folder)!r}, but {str(there)!r} is a file. Choose another folder.")
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(f"`output_dir` is {str(folder)!r}, but nothing can be written to {str(there)!r}.")
