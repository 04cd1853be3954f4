"""One line for every error, and the exit status of its kind."""

import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from helpers.commands import QUICK, WAY, run
from hf_vec2vec.cli import main
from hf_vec2vec.cli.checks import named_path
from hf_vec2vec.cli.embed import EmbedFlags
from hf_vec2vec.cli.failures import explained, reported
from hf_vec2vec.cli.main import COMMANDS
from hf_vec2vec.cli.parsing import parse


def outcome(work, capsys, debug=False):
    status = reported("embed", work, debug=lambda: debug, after_interrupt=lambda: "All is kept.")
    return status, capsys.readouterr().err


def raising(error):
    def work():
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ValueError("`rows` must be 3,\n  got 4."), 2),
        (FileNotFoundError("`path` is 'x', where there is nothing."), 2),
        (ImportError("pip install it"), 2),
        (OSError(28, "No space left on device", "/full/file"), 1),
        (MemoryError(), 1),
        (RuntimeError("CUDA out of memory. Tried to allocate"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_status_and_line(error, status, capsys):
    found, line = outcome(raising(error), capsys)
    assert found == status
    assert line.startswith("hf-vec2vec embed: ")
    assert line.count("\n") == 1


@pytest.mark.parametrize("fault", [lambda: {}["x"], lambda: 1 / 0, lambda: None + 1, lambda: int("x")])
def test_a_fault_leaves_a_log(fault, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    found, line = outcome(fault, capsys)
    (log,) = tmp_path.glob("hf-vec2vec-*.log")
    assert found == 1
    assert str(log) in line
    assert line.count("\n") == 1
    assert "Traceback" in log.read_text()
    assert "Traceback" in outcome(fault, capsys, debug=True)[1]


@pytest.mark.parametrize("error", [ValueError("`x` is wrong."), KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_bar_that_was_left_open_ends_before_the_line(error, capsys):
    bar = tqdm(total=3, disable=False, file=sys.stderr)
    bar.update()
    _, said = outcome(raising(error), capsys)
    assert said.splitlines()[-1].startswith("hf-vec2vec embed: ")
    assert bar.disable
    bar.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_without_some_signs_gets_others(encoding, trained, tmp_path, monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    flags = "--source", "a", "--target", "b", "--input", trained / "held_a.npy", "--output", tmp_path / "x.npy"
    assert run("translate", trained / "model", *flags, "--allow_not_aligned") == 0
    out.flush()
    assert rb"120 vectors, a \u2192 b" in out.buffer.getvalue()


def test_a_log_that_cannot_be_written(capsys, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/nowhere")
    assert "--debug shows where" in outcome(lambda: 1 / 0, capsys)[1]


STOPS = {signal.SIGINT: (130, "interrupted"), signal.SIGTERM: (143, "terminated")}


@pytest.mark.parametrize("by", STOPS)
def test_an_interrupt_that_came_as_another_error_is_one(by, capsys):
    def work():
        try:
            signal.raise_signal(by)
        except KeyboardInterrupt as stop:
            raise ImportError("initialization failed") from stop

    before = signal.getsignal(by)
    assert outcome(work, capsys) == (STOPS[by][0], f"hf-vec2vec embed: {STOPS[by][1]}. All is kept.\n")
    assert signal.getsignal(by) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("by", STOPS)
def test_a_worker_that_was_forked_stops_without_a_word(by, capfd):
    def work():
        if (worker := os.fork()) == 0:
            signal.raise_signal(by)
        assert os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) == STOPS[by][0]

    assert reported("embed", work, debug=lambda: False, after_interrupt=str) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "student", "--output", "x.onnx"], "`DIR` 'student' holds an encoder"),
        (["export", "./gone", "--output", "x.onnx"], "`DIR` is './gone'"),
        (["translate", "./gone"], "`DIR` is './gone'"),
        (["export", ".", "--output", "x.onnx"], "`source` must be given"),
    ],
)
def test_what_no_further_flag_would_mend_is_said_before_a_missing_one(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "modules.json").write_text("[]")
    assert main(words) == 2
    assert message in capsys.readouterr().err


WORDS = {
    "embed": ["--texts", "x.txt", "--model", "x", "--output", "x.npy"],
    "train": ["--source", "a=x", "--target", "b=x", "--output_dir", "out"],
    "evaluate": ["x"],
    "ablate": ["--source", "a=x", "--target", "b=x", "--held_out_source", "a=x", "--held_out_target", "b=x"]
    + ["--variants", "x.yaml", "--output_dir", "out"],
    "report": ["x", "--source", "a=x", "--target", "b=x", "--output_dir", "out"],
    "translate": ["x", "--source", "a", "--target", "b", "--input", "x.npy", "--output", "out"],
    "export": ["x", "--source", "a", "--target", "b", "--output", "x.npz"],
    "finetune": ["--model", "x", "--task", "x", "--output_dir", "out"],
    "distill": ["--translator", "x", "--student", "x", "--texts", "x", "--output_dir", "out"],
    "distill-check": ["--translator", "x", "--student", "x", "--task", "x", "--output_dir", "out"],
    "distill-compare": ["--translator", "x", "--student", "x", "--task", "x", "--output_dir", "out"],
    "distill-task": ["--teacher", "x", "--student", "x", "--task", "x", "--output_dir", "out"],
    "query-encoder": ["--student", "x", "--index", "x", "--translator", "x", "--output_dir", "out"],
    "export-encoder": ["x", "--texts", "x.txt", "--output", "x.onnx"],
    "push": ["x", "--repo_id", "org/name"],
    "migrate": ["x", "--from", "parquet:a", "--to", "parquet:b"],
    "completion": ["bash"],
}


@pytest.mark.parametrize("by", STOPS)
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_that_is_stopped_tells_what_is_kept(command, by, capsys, monkeypatch):
    def run(flags):
        signal.raise_signal(by)

    module = import_module(f"hf_vec2vec.cli.{command.replace('-', '_')}")
    run.__annotations__ = module.run.__annotations__
    monkeypatch.setattr(module, "run", run)
    status, word = STOPS[by]
    assert main([command, *WORDS[command]]) == status
    line = capsys.readouterr().err
    assert line.startswith(f"hf-vec2vec {command}: {word}. ")
    assert line.endswith(".\n")
    places = ("are in out/report.html", "either org/name has it", "rows that are in place stay")
    assert any(kept in line for kept in ("kept", "Nothing was written", *places))
    assert line.count("\n") == 1


def test_errors_of_many_lines_and_pages_are_short():
    assert explained(ValueError("`x`\n" * 3))[0] == 2


BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (BOMB, "aliases"),
        ("a: &a [*a]", "repeats what it stands in"),
        ("[" * 50 + "]" * 50, "levels deep"),
        ("{" * 20_000, "`config`"),
        ("x: " + "y" * 70_000, "bytes"),
        ("- a\n- b\n", "must hold lines"),
        ("a: b: c", "is no YAML"),
        ("!!python/object/apply:os.system ['true']", "is no YAML"),
        (b"\xff\xfe\x00", "is no YAML"),
        ("modle: x", "Did you mean --model?"),
        ("model: a\ntexts: b\nmodel: c\n", "has 'model' twice"),
        ("model: {a: 1, a: 2}", "has 'a' twice"),
        ("model: x\nconfig: other.yaml\n", "names another file, 'other.yaml'"),
        ("model: m\ntexts: t\nbatch_size: 1:30", "`batch_size` must be a whole number at least 1, got '1:30'"),
        ("model: m\ntexts: t\nbatch_size: 0o17", "got '0o17'"),
        ("model: m\ntexts: t\nbatch_size: 1.50", "got '1.50'"),
        ("model: m\ntexts: t\ndisable_tqdm: ja", "`disable_tqdm` must be true or false, got 'ja'"),
        ("model: {a: 1}\ntexts: [a, b]", "`texts` must be one value, got the list ['a', 'b']"),
        ("model: m\ntexts: t\nbatch_size: [5, 6]", "`batch_size` must be one value, got the list ['5', '6']"),
        ("model: m\ntexts: t\nbatch_size: []", "`batch_size` must be one value, got the list []"),
        ("model: m\ntexts: t\noverwrite: [true, false]", "`overwrite` must be one value"),
    ],
)
def test_config_files(content, message, tmp_path, capsys):
    (tmp_path / "c.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    start = time.perf_counter()
    assert run("embed", "--config", tmp_path / "c.yaml", "--output", tmp_path / "x.npy") == 2
    assert time.perf_counter() - start < 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert message in line


def test_what_stands_before_the_flags_is_not_in_the_file(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("folder: model\nsource: a\ntarget: b\ninput: a.npy\noutput: b.npy\n")
    assert run("translate", "--config", tmp_path / "c.yaml") == 2
    assert "on the line, before the flags" in capsys.readouterr().err


def test_values_of_a_config_file_are_what_stands_there(tmp_path):
    (tmp_path / "c.yaml").write_text(
        "model: no\noutput: 2024-01-05\ntexts: 007\nbatch_size: 010\ndisable_tqdm: on\ncolumn: ~\nprompt: '1_0'\n"
    )
    flags = parse(EmbedFlags, ["--config", str(tmp_path / "c.yaml")])
    assert (flags.model, flags.output, flags.texts, flags.prompt) == ("no", "2024-01-05", "007", "1_0")
    assert (flags.batch_size, flags.disable_tqdm, flags.column) == (10, True, None)
    (tmp_path / "c.yaml").write_text("<<: {model: a, texts: b}\ntexts: c\noutput: ~/x.npy\ncache_dir: null\n")
    flags = parse(EmbedFlags, ["--config", str(tmp_path / "c.yaml"), "--column=~/x"])
    assert (flags.model, flags.texts, flags.cache_dir) == ("a", "c", None)
    assert flags.output == f"{Path.home()}/x.npy"  # as a shell would have made it
    assert named_path("source", "a=~/x.npy", exists=False) == ("a", f"{Path.home()}/x.npy")


def test_a_few_aliases_are_fine(trained, tmp_path):
    values = {"source": f"a={trained}/held_a.npy", "target": f"b={trained}/held_b.npy"}
    (tmp_path / "c.yaml").write_text(
        f"source: {values['source']}\ntarget: {values['target']}\noutput_dir: &out {tmp_path}/out\njson: *out\nseed: null\n"
    )
    assert run("evaluate", trained / "model", "--config", tmp_path / "c.yaml", "--json", tmp_path / "f.json") == 0
    assert json.loads((tmp_path / "f.json").read_text())["pool_size"] == 120


PAIRS = ["--source", "a=held_a.npy", "--target", "b=held_b.npy"]
TRAIN = ["train", "--source", "a=a.npy", "--target", "b=b.npy", "--output_dir", "out"]
EMBED = ["embed", "--texts", "texts.txt", "--model", "bert", "--output", "out.npy"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([*TRAIN, "--num_train_epochs", "-2"], "`num_train_epochs` must be a number at least 0"),
        ([*TRAIN, "--num_train_epochs", "nan"], "`num_train_epochs`"),
        ([*TRAIN, "--max_steps", "-7"], "`max_steps`"),
        ([*TRAIN, "--max_steps", "0"], "`max_steps` must be at least 1, or -1"),
        ([*TRAIN, "--cycle_weight", "inf"], "`cycle_weight`"),
        ([*TRAIN, "--weight_decay", "nan"], "`weight_decay`"),
        ([*TRAIN, "--eval_strategy", "no"], "`load_best_model_at_end` requires"),
        ([*TRAIN, "--dataloader_prefetch_factor", "2"], "`dataloader_prefetch_factor`"),
        ([*TRAIN, "--tf32", "true", "--use_cpu"], "`tf32` requires"),
        ([*TRAIN, "--accelerator_config", "gone.json"], "gone.json"),
        ([*TRAIN, "--lr_scheduler_type", "warmup_stable_decay"], "`lr_scheduler_kwargs`"),
        ([*TRAIN, "--metric_for_best_model", "accuracy"], "`metric_for_best_model`"),
        ([*TRAIN, "--report_to", "wanbd"], "Did you mean wandb?"),
        ([*TRAIN, "--source_encoder", "./nowhere"], "there is no folder"),
        ([*TRAIN, "--source_encoder", "tests/x/y"], "there is no folder"),
        ([*TRAIN, "--resume_from_checkpoint", "gone"], "`resume_from_checkpoint` is 'gone'"),
        ([*TRAIN, "--push_to_hub"], "needs a login"),
        ([*TRAIN[:5]], "`output_dir` must be given"),
        ([*TRAIN[:5], "--output_dir", "a.npy/x"], "is a file"),
        ([*EMBED, "--max_length", "-1"], "`max_length` must be a whole number at least 1"),
        ([*EMBED, "--max_length", "0"], "`max_length`"),
        ([*EMBED, "--layer", "99"], "`layer`"),
        ([*EMBED, "--device", "cuda:9"], "`device` is 'cuda:9'"),
        ([*EMBED, "--column", "body"], "'texts.txt' has no columns"),
        ([*EMBED[:-1], "a.npy"], "'a.npy' exists already. Choose another, or ask to overwrite it"),
        ([*EMBED, "--cache_dir", "a.npy/x"], "`cache_dir` is 'a.npy/x', but 'a.npy' is a file"),
        ([*EMBED, "--overwrite", "perhaps"], "`overwrite` must be true or false"),
        (["evaluate", "model", "--source", "a=one.npy", "--target", "b=one_b.npy"], "hold 1 pair(s)"),
        (["evaluate", "model", *PAIRS, "--max_rows", "3"], "`max_rows` needs a `task`"),
        (["evaluate", "model", *PAIRS[:2], "--target", "a=held_b.npy"], "both name 'a'"),
        (["evaluate", "bert", "--task", "texts.txt", "--correct_hubs"], "`correct_hubs` is not for a `task`"),
        (["report", "model", *PAIRS, "--output_dir", "out", "--max_texts", "0"], "`max_texts`"),
        (["ablate", *TRAIN[1:], "--held_out_source", "a=held_a.npy", "--held_out_target", "b=held_b.npy",
          "--variants", "texts.txt", "--seeds", "0"], "`seeds` must be a whole number at least 1"),
        (["export", "model", "--source", "a", "--target", "a", "--output", "x.onnx"], "are both 'a'"),
        (["push", "model", "--repo_id", "org/name"], "needs a login"),
    ],
)  # fmt: skip
def test_bad_input_is_said_before_any_work(words, message, trained, tmp_path, monkeypatch, capsys, bert):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    for file in [*trained.glob("*.npy"), trained / "model"]:
        (tmp_path / file.name).symlink_to(file)
    np.save("one.npy", np.load("held_a.npy")[:1])
    np.save("one_b.npy", np.load("held_b.npy")[:1])
    (tmp_path / "texts.txt").write_text("the dog\nthe cat\n")
    assert run(*words) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith(f"hf-vec2vec {words[0]}: ")
    assert message in last
    assert not Path("out").exists()
    assert not Path("out.npy").exists()
    assert not Path("trainer_output").exists()


def test_a_model_that_is_nowhere(tmp_path, capsys):
    (tmp_path / "texts.txt").write_text("the dog\n")
    ask = ["embed", "--texts", tmp_path / "texts.txt", "--output", tmp_path / "x.npy"]
    assert run(*ask, "--model", "berd") == 1
    line = capsys.readouterr().err
    assert line.startswith("hf-vec2vec embed: `model` is 'berd', which is no folder here")
    assert line.count("\n") == 1


SWALLOWS = """
import os, signal, time
try:
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.3)
except BaseException:  # as a package takes one that is missing
    pass
"""


@pytest.mark.skipif(sys.platform == "win32", reason="has no timer to wait with")
def test_ctrl_c_while_a_module_is_imported_is_not_lost(tmp_path, monkeypatch, capsys):
    (tmp_path / "module_that_swallows.py").write_text(SWALLOWS)
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGALRM)

    def work():
        import_module("module_that_swallows")
        time.sleep(5)
        raise AssertionError("worked on")

    assert reported("train", work, debug=lambda: False, after_interrupt=lambda: "Nothing is lost.") == 130
    assert capsys.readouterr().err == "hf-vec2vec train: interrupted. Nothing is lost.\n"
    assert signal.getsignal(signal.SIGALRM) == before
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.5, 3, 6, 9])
def test_ctrl_c_at_any_moment_is_one_line(trained, tmp_path, seconds):
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", str(tmp_path / "out")]
    more = ["--num_train_epochs", "500", "--allow_not_aligned", "--align_starts", "2", "--disable_tqdm"]
    command = [sys.executable, "-m", "hf_vec2vec.cli", "train", *sides, *more]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    line = process.communicate(timeout=60)[1]
    assert process.returncode in (130, -signal.SIGINT)  # a shell shows 130 for both
    assert line.splitlines()[-1].startswith("hf-vec2vec train: interrupted. ")
    assert "Traceback" not in line


@pytest.mark.parametrize("how", ["variable", "flag"])
def test_no_bar_where_packages_that_show_some_were_loaded_before(how, trained, tmp_path, bert, monkeypatch, capfd):
    import datasets
    from transformers.utils.logging import is_progress_bar_enabled

    monkeypatch.setenv("TQDM_DISABLE", "1" if how == "variable" else "")
    more = ["--disable_tqdm"] if how == "flag" else []
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy"]
    pairs = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    (tmp_path / "texts.txt").write_text("the dog\nthe cat\n")
    embedded = ["--texts", tmp_path / "texts.txt", "--model", bert, "--cache_dir", tmp_path / "c"]
    shown = datasets.are_progress_bars_disabled(), is_progress_bar_enabled()
    for words in (
        ["embed", *embedded, "--output", tmp_path / "x"],
        ["train", *sides, "--output_dir", tmp_path / "t", *QUICK[:-2]],  # which end in --disable_tqdm true
        ["evaluate", trained / "model", *pairs, "--output_dir", tmp_path / "e"],
        ["translate", trained / "model", *WAY, "--input", trained / "a.npy"]
        + ["--output", tmp_path / "y.npy", "--correct_hubs", trained / "b.npy"],
    ):
        assert run(*words, *more) == 0
        said = capfd.readouterr().err
        assert "%|" not in said, said
        assert "/s]" not in said, said
    assert (datasets.are_progress_bars_disabled(), is_progress_bar_enabled()) == shown


@pytest.mark.slow
@pytest.mark.parametrize("how", ["variable", "flag"])
@pytest.mark.parametrize("work", ["use", "train", "ablate", "report", "task"])
def test_no_bar_and_no_line_of_another_package(how, work, trained, tmp_path, bert):
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy"]
    pairs = ["--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy"]
    held_out = ["--held_out_source", f"a={trained}/held_a.npy", "--held_out_target", f"b={trained}/held_b.npy"]
    (tmp_path / "texts.txt").write_text("the dog\nthe cat\n")
    rows = [{"text": f"the {word} {i}", "label": word} for i in range(20) for word in ("dog", "cat")]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "v.yaml").write_text("x: {num_train_epochs: 0, align_starts: 1, align_steps: 1, allow_not_aligned: true}")
    task = ["--task", tmp_path / "task.jsonl"]
    lines = {
        "use": [
            ["embed", "--texts", tmp_path / "texts.txt", "--model", bert, "--cache_dir", tmp_path / "c"]
            + ["--output", tmp_path / "x"],
            ["evaluate", trained / "model", *pairs, "--output_dir", tmp_path / "figures"],
            ["translate", trained / "model", *WAY, "--input", trained / "a.npy"] + ["--output", tmp_path / "y"],
        ],
        "train": [["train", *sides, "--output_dir", tmp_path / "t", *QUICK[:-2]]],  # which end in --disable_tqdm true
        "ablate": [["ablate", *sides, *held_out, "--variants", tmp_path / "v.yaml", "--output_dir", tmp_path / "a"]],
        "report": [["report", trained / "model", *pairs, "--output_dir", tmp_path / "r"]],
        "task": [
            ["finetune", "--model", bert, *task, "--output_dir", tmp_path / "f", "--max_steps", "1"],
            ["evaluate", tmp_path / "f", *task],
        ],
    }
    more = ["--disable_tqdm"] if how == "flag" else []
    environment = os.environ | ({"TQDM_DISABLE": "1"} if how == "variable" else {})
    for line in lines[work]:
        command = [sys.executable, "-m", "hf_vec2vec.cli", *map(str, line), *more]
        said = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stderr
        assert work != "use" or said == ""
        assert "%|" not in said
        assert "/s]" not in said
