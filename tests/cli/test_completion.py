"""The script, in a real bash."""

import shutil
import subprocess

import pytest

from helpers.commands import run

ASK = """
source /dev/stdin
COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); _hf_vec2vec; echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("hf-vec2vec tr", "train translate"),
        ("hf-vec2vec migrate model --fr", "--from"),
        ("hf-vec2vec translate x --map ''", "auto linear full"),
        ("hf-vec2vec translate x --map fu", "full"),
        ("hf-vec2vec completion ''", "bash zsh"),
        ("hf-vec2vec translate x --input fi", ""),
    ],
)
def test_bash(words, found, capsys):
    assert run("completion", "bash") == 0
    script = capsys.readouterr().out
    done = subprocess.run(["bash", "-c", ASK.format(words=words)], input=script, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == found


def test_zsh_reads_it_by_its_own_way_to_bash(capsys):
    assert run("completion", "zsh") == 0
    assert capsys.readouterr().out.startswith("autoload -U +X bashcompinit && bashcompinit\n")
    assert run("completion", "fish") == 2
    assert "`SHELL` must be one of bash, zsh" in capsys.readouterr().err
