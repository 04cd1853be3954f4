import warnings

import pytest

from helpers.commands import run
from hf_vec2vec import __version__
from hf_vec2vec.cli.flags import Flags
from hf_vec2vec.cli.main import COMMANDS, spoken


def test_bad_calls(trained, tmp_path, capsys):
    data = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy", "--output_dir", tmp_path / "model"]
    held = f"{trained}/held_a.npy", f"{trained}/held_b.npy"
    out = ["--output", tmp_path / "x.npy", "--allow_not_aligned"]
    (tmp_path / "texts.txt").write_text("one\ntwo\n")
    calls = {
        "`source` must be NAME=PATH": ["train", "--source", "a.npy", *data[2:]],
        "both name 'a'; give": ["train", "--source", f"a={trained}/a.npy", "--target", f"a={trained}/b.npy", *data[4:]],
        "`fp16` is True": ["train", *data, "--fp16", "true"],
        "where there is nothing": ["train", "--source", "a=none.npy", *data[2:]],
        "`source` names 'z'": ["evaluate", trained / "model", "--source", f"z={held[0]}", "--target", f"b={held[1]}"],
        "dimension 8 for 'b'": ["evaluate", trained / "model", "--source", f"a={held[0]}", "--target", f"b={held[0]}"],
        "both name 'a'": ["evaluate", trained / "model", "--source", f"a={held[0]}", "--target", f"a={held[0]}"],
        "set `init` to 'random'": ["train", *data, "--architecture", "paper"],
        "'train', which torch needs": ["train", "--source", f"train={trained}/a.npy", *data[2:]],
        "`validation_rows` leaves 0": ["train", *data, "--validation_rows", "0"],
        "numbers of rows": ["evaluate", trained / "model", "--source", f"a={held[0]}", "--target", f"b={trained}/b.npy"],
        "`source` is 'z'": ["translate", trained / "model", "--source", "z", "--target", "b", "--input", held[0], *out],
        "dimension 10": ["translate", trained / "model", "--source", "a", "--target", "b", "--input", held[1], *out],
        "no translator": ["translate", trained, "--source", "a", "--target", "b", "--input", held[0], *out],
        "`input` or `texts` must be given": ["translate", trained / "model", "--source", "a", "--target", "b", *out],
        "`space` 'a': the translator does not record": [
            "translate",
            trained / "model",
            "--source",
            "a",
            "--target",
            "b",
            "--texts",
            tmp_path / "texts.txt",
            *out,
        ],
        "`COMMAND` must be one of": ["distil"],
    }
    for message, argv in calls.items():
        assert run(*argv) == 2, message
        assert message in capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_is_its_own(command, capsys):
    assert run(command, "--help") == 0
    shown = capsys.readouterr().out
    assert f"usage: hf-vec2vec {command} " in shown
    assert "--config FILE.yaml" in shown
    assert "--fsdp" not in shown


def test_help_names_all_commands(capsys):
    assert run("--help") == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize("command", ["train", "distill", "distill-compare"])
def test_the_flags_of_transformers_are_shown_when_asked_for(command, capsys):
    run(command, "--help")
    short = capsys.readouterr().out
    assert run(command, "--help_all") == 0
    whole = capsys.readouterr().out
    assert len(whole) > 2 * len(short)
    assert "--fsdp" in whole
    assert whole.count("--learning_rate ") == 1
    assert "--remove_unused_columns" not in whole


def test_version(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"hf-vec2vec {__version__}\n"


@pytest.mark.parametrize(
    ("word", "meant"), [("tarin", "train"), ("transalte", "translate"), ("distill_check", "distill-check")]
)
def test_unknown_commands_get_a_guess(word, meant, capsys):
    assert run(word) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["embed", "--modell", "x"], "--model"),
        (["push", "x", "--repo-id=a/b"], "--repo_id"),
        (
            ["train", "--source", "a=.", "--target", "b=.", "--output_dir", "no/where", "--weight_deacy", "1"],
            "--weight_decay",
        ),
    ],
)
def test_unknown_flags_get_a_guess(words, meant, capsys):
    assert run(*words) == 2
    assert f"Did you mean {meant}?" in capsys.readouterr().err


def test_commands_show_warnings_but_not_of_names_between_libraries():
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        filters = list(warnings.filters)
        with spoken(Flags()):
            warnings.warn("`is_gradient_checkpointing` is deprecated and will be removed", FutureWarning, stacklevel=1)
            warnings.warn("`rows` are few", FutureWarning, stacklevel=1)
        assert warnings.filters == filters
    assert [str(warning.message) for warning in shown] == ["`rows` are few"]
