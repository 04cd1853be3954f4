"""One trial: two sets of vectors to a verdict, a picture and a translator, by the command that a user would run at home."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.evaluation.figures import clouds

SECONDS = 240  # that an alignment may take
LEAST = 125  # rows of a side: an alignment needs 100, and a fifth is held out
DRAWN = 1_000  # rows of each side in the picture
COMMAND = "hf-vec2vec train --source old=old.npy --target new=new.npy --output_dir translator"
# Without adversarial training, which takes longer than a visitor waits, and so with few rows to judge it by. What is not
# aligned is shown, and said to be so.
FLAGS = ("--num_train_epochs", "0", "--validation_rows", "100", "--allow_not_aligned")
MEANING = {
    "aligned": "Two guesses of their own led to the same map, and it fits as well as a right map does.",
    "doubtful": "The signs disagree. Many doubtful maps are right: check this one on some hundred known pairs.",
    "not aligned": "What was found is likely wrong. Give more vectors, of the same kind of text on both sides.",
}


@dataclass(frozen=True)
class Trial:
    """What came of it.

    Args:
        verdict: `aligned`, `doubtful` or `not aligned`.
        report: the figures behind it, in one line.
        seconds: that it took.
        picture: PNG, before and after.
        archive: ZIP of the translator's folder.
    """

    verdict: str
    report: str
    seconds: float
    picture: Path
    archive: Path


def align_and_draw(old: Tensor, new: Tensor, outputs: Path, *, seconds: float = SECONDS) -> Trial:
    """Align in a process of its own, which can be stopped, and whose end frees all that it took.

    Args:
        old: `(n, d_old)`.
        new: `(m, d_new)`.
        outputs: folder for the picture and the archive. Nothing else stays.
        seconds: after which it is stopped.

    Raises:
        ValueError: if it took too long, or the vectors cannot be aligned: too few, all alike.
    """
    for side, rows in (("old", old), ("new", new)):
        if len(rows) < LEAST:
            raise ValueError(f"`{side}` has {len(rows)} vectors; {LEAST} are needed at least, better some thousands.")
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(folder / "old.npy", old.numpy())
        np.save(folder / "new.npy", new.numpy())
        _run(
            ["train", "--source", "old=old.npy", "--target", "new=new.npy", "--output_dir", "translator", *FLAGS],
            folder,
            seconds,
        )
        translator = folder / "translator"
        report = json.loads((translator / "training.json").read_text())["report"]
        model = Vec2VecModel.from_pretrained(translator)
        picture = outputs / "before_after.png"
        clouds(model, old[:DRAWN], new[:DRAWN], "old", "new", picture)
        archive = shutil.make_archive(str(outputs / "translator"), "zip", folder, "translator")
    figures = (
        f"Score {report['score']:.3f}, by chance {report['null_score']:.3f}, at best {report['ceiling']:.3f}; "
        f"consensus of independent guesses {report['consensus']:.2f}"
    )
    return Trial(report["verdict"], figures, time.perf_counter() - started, picture, Path(archive))


def _run(arguments: list[str], folder: Path, seconds: float) -> None:
    """`hf-vec2vec` in a folder; its one line of error as a ValueError."""
    process = subprocess.Popen(
        [sys.executable, "-m", "hf_vec2vec.cli", *arguments],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # with all that it starts
    )
    try:
        errors = process.communicate(timeout=seconds)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise ValueError(
            f"It was not done in {seconds:g} seconds, which is all that this page gives. Give fewer vectors, or run it on a "
            f"machine of your own: `{COMMAND}`"
        ) from None
    if process.returncode:
        lines = errors.strip().splitlines() or [f"it ended with the status {process.returncode}."]
        raise ValueError(
            lines[-1].removeprefix("hf-vec2vec train: ").replace("`source`", "`old`").replace("`target`", "`new`")
        )


__all__ = ["COMMAND", "DRAWN", "MEANING", "SECONDS", "Trial", "align_and_draw"]
