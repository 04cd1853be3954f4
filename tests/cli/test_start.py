"""What happens before the flags are read: almost nothing."""

import resource
import subprocess
import sys
from dataclasses import MISSING, fields
from typing import get_args

import pytest

from hf_vec2vec.cli import checks, export, flags, train
from hf_vec2vec.cli.distill import LossFlags
from hf_vec2vec.cli.main import COMMANDS
from hf_vec2vec.deployment.export import SUFFIXES
from hf_vec2vec.distillation import DistillationTrainingArguments
from hf_vec2vec.encoders.bundled import BUNDLED
from hf_vec2vec.encoders.pooling import POOLINGS
from hf_vec2vec.training.arguments import PRESETS, Vec2VecTrainingArguments
from hf_vec2vec.training.translator_arguments import TranslatorArguments

HEAVY = ("torch", "transformers", "datasets", "pyarrow", "numpy", "pandas", "huggingface_hub", "tqdm")
PROBE = """
import sys
from hf_vec2vec.cli import main
for words in {lines!r}:
    main(words)
print([name for name in {heavy!r} if name in sys.modules], file=sys.stderr)
"""


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def test_help_and_bad_flags_load_nothing_heavy():
    lines = [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)]
    assert python(PROBE.format(lines=lines, heavy=HEAVY)).stderr == "[]\n"
    lines = [["no-such-command"], *([name, "--no-such-flag", "1"] for name in COMMANDS if name not in ("train", "distill"))]
    assert python(PROBE.format(lines=lines, heavy=HEAVY)).stderr.splitlines()[-1] == "[]"


def test_missing_files_are_told_before_anything_heavy_is_loaded():
    pair = ["--source", "a=/nowhere/a.npy", "--target", "b=/nowhere/b.npy"]
    lines = [
        ["embed", "--texts", "/nowhere/a.txt", "--model", "wordllama-256", "--output", "x.npy"],
        ["train", *pair, "--output_dir", "x"],
        ["evaluate", "/nowhere/model", *pair],
        ["report", "/nowhere/model", *pair, "--output_dir", "x"],
        ["translate", "/nowhere/model", "--source", "a", "--target", "b", "--input", "x.npy", "--output", "y.npy"],
        ["export", "/nowhere/model", "--source", "a", "--target", "b", "--output", "y.onnx"],
        ["push", "/nowhere/model", "--repo_id", "org/name"],
        ["distill", "--translator", "/nowhere/t", "--student", "wordllama-256", "--texts", "x.txt", "--output_dir", "x"],
    ]
    *told, loaded = python(PROBE.format(lines=lines, heavy=HEAVY)).stderr.splitlines()
    assert loaded == "[]"
    assert len(told) == len(lines)
    assert all(line.startswith(f"hf-vec2vec {words[0]}: ") and "/nowhere/" in line for line, words in zip(told, lines))


def test_help_takes_a_fraction_of_what_torch_takes():
    """CPU seconds of both on this machine at this moment: other work slows both down alike."""

    def seconds(*words: str) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *words], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    torch = seconds("-c", "import torch")
    assert seconds("-m", "hf_vec2vec.cli", "--help") < torch / 2
    assert seconds("-m", "hf_vec2vec.cli", "train", "--help") < torch / 2


# Flags stand in light modules, beside what they are flags of: both must agree.


def defaults(kind: type) -> dict:
    return {f.name: f.default for f in fields(kind)}


@pytest.mark.parametrize(
    ("kind", "library"),
    [
        (train.AdversarialFlags, Vec2VecTrainingArguments),
        (train.ShapeFlags, TranslatorArguments),
        (LossFlags, DistillationTrainingArguments),
    ],
)
def test_defaults_are_those_of_the_library(kind, library):
    here, there = defaults(kind), defaults(library)
    command = {
        "output_dir",
        "report_to",
        "disable_tqdm",
        "logging_steps",
        "debug",
        "num_train_epochs",
    }  # which the command decides
    shared = here.keys() & there.keys() - command
    assert len(shared) > 12
    assert {name: here[name] for name in shared} == {name: there[name] for name in shared}


def test_every_argument_of_a_translator_is_a_flag():
    assert {f.name for f in fields(TranslatorArguments)} <= set(train.ShapeFlags.__annotations__)
    own = set(Vec2VecTrainingArguments.__annotations__) - {"adam_beta1", "per_device_eval_batch_size"}
    assert own - {"remove_unused_columns"} <= defaults(train.AdversarialFlags).keys()


def test_choices_are_those_of_the_library():
    assert get_args(flags.Pooling) == POOLINGS
    assert get_args(export.Format) == tuple(SUFFIXES)
    assert set(checks.BUNDLED) == set(BUNDLED)
    (preset,) = [f for f in fields(train.TrainFlags) if f.name == "preset"]
    assert set(get_args(get_args(preset.type)[0])) == set(PRESETS)
    assert preset.default is not MISSING
