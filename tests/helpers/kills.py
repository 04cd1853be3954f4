"""Runs that are killed at random moments, and what a second run makes of what they leave. A program: see `main`."""

import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from peft import LoraConfig
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaModel

from helpers.encoders import SHAPE, WORDS, save_model
from helpers.training import arguments, spaces
from hf_vec2vec import UnpairedEmbeddings
from hf_vec2vec.distillation import DistillationTrainingArguments, load_student, train_student
from hf_vec2vec.training import TranslatorArguments, train_translator

SAVES = {"max_steps": 12, "save_strategy": "steps", "save_steps": 2, "logging_steps": 2, "save_total_limit": 2}
MOST = 3  # runs begun for each that is to be killed
WEIGHTS = ("model.safetensors", "trained/model.safetensors", "adapter_model.safetensors")


def translator(folder: Path, resume: str | None) -> None:
    """Train a translator."""
    shape = TranslatorArguments(align_starts=1, align_steps=1, allow_not_aligned=True, hidden_dim=8)
    args = arguments(folder, **SAVES, resume_from_checkpoint=resume)
    train_translator(UnpairedEmbeddings(spaces(200)), shape, args, {"a": None, "b": None})


def student(folder: Path, resume: str | None) -> None:
    """Train a student, with dropout, so that random states count."""
    own = folder.parent / "student-model"
    model, tokenizer, known = load_student(str(own))
    texts = [" ".join(WORDS[3 + (i * k) % 8] for k in range(1, 5)) for i in range(64)]
    label = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    fixed = {"report_to": "none", "disable_tqdm": True, "use_cpu": True, "resume_from_checkpoint": resume}
    args = DistillationTrainingArguments(str(folder), per_device_train_batch_size=8, **known, **SAVES, **fixed)
    train_student(
        model,
        args,
        processing_class=tokenizer,
        peft_config=LoraConfig(r=2, target_modules="all-linear", lora_dropout=0.2),
        train_dataset=Dataset.from_dict({"text": texts, "label": label.tolist()}),
    )


def in_a_child(run: Callable[[], None], seconds: float | None = None) -> bool:
    """Run in another process, and kill that after so many seconds; whether it came to its end."""
    if (pid := os.fork()) == 0:
        try:
            run()
            os._exit(0)
        except BaseException as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.stderr.flush()
            os._exit(1)
    if seconds is None:
        return os.waitpid(pid, 0)[1] == 0
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (done := os.waitpid(pid, os.WNOHANG))[0]:
            return done[1] == 0
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return False


def goes_on(train: Callable[[Path, str | None], None], folder: Path) -> None:
    """What a user does after a crash: resume; where nothing was left to resume from, start."""
    try:
        train(folder, "true")
    except FileNotFoundError:
        train(folder, None)


def main(kind: str, place: str, kills: int, seed: int) -> None:
    """Kill as many runs, at moments drawn over the whole length of one, and check each second run bit by bit.

    A run that ends before its moment is no kill; on a machine with other work there are such, so that more are begun.
    """
    disable_progress_bars()
    train, root, generator = {"translator": translator, "student": student}[kind], Path(place), random.Random(seed)
    torch.manual_seed(0)
    if kind == "student":
        save_model(LlamaModel(LlamaConfig(**SHAPE, num_key_value_heads=2)), root / "student-model")
    assert in_a_child(lambda: train(root / "first", None))  # which fills caches of the system
    began = time.monotonic()
    assert in_a_child(lambda: train(root / "straight", None))
    length = time.monotonic() - began
    expected = {name: load_file(root / "straight" / name) for name in WEIGHTS if (root / "straight" / name).exists()}
    killed, number = 0, 0
    while killed < kills:
        number += 1
        assert number <= MOST * kills, f"{killed} of {number} were killed"
        folder = root / f"killed-{number}"
        moment = generator.uniform(0, length)
        killed += not in_a_child(lambda: train(folder, None), moment)  # noqa: B023
        assert in_a_child(lambda: goes_on(train, folder)), f"after {moment:.2f} of {length:.2f} s"  # noqa: B023
        for name, weights in expected.items():
            found = load_file(folder / name)
            assert found.keys() == weights.keys()
            assert all(torch.equal(found[key], weights[key]) for key in weights), (name, moment)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".")]
        assert not left, left
        shutil.rmtree(folder)
    sys.stdout.write(f"{killed} killed, all equal\n")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
