"""`completion`: what a shell needs to complete commands, flags and their choices."""

from dataclasses import dataclass, fields
from importlib import import_module
from typing import ClassVar, Literal, get_type_hints

from .flags import Flags, flag
from .parsing import Kind, spelt

SYNOPSIS = "bash | zsh"
SCRIPT = """\
{before}_hf_vec2vec() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" words=""
    if [ "$COMP_CWORD" -eq 1 ]; then
        words="{commands}"
    else
        case "${{COMP_WORDS[1]}} ${{COMP_WORDS[COMP_CWORD-1]}}" in
{choices}
        esac
        if [ -z "$words" ]; then
            case "${{COMP_WORDS[1]}} $word" in
{flags}
            esac
        fi
    fi
    COMPREPLY=($(compgen -W "$words" -- "$word"))
}}
complete -o default -F _hf_vec2vec hf-vec2vec
"""
BEFORE = {"bash": "", "zsh": "autoload -U +X bashcompinit && bashcompinit\n"}


@dataclass(kw_only=True)
class CompletionFlags(Flags):
    """For which shell."""

    title: ClassVar[str] = "flags"

    shell: Literal["bash", "zsh"] = flag("The shell.", placeholder="SHELL")


def run(flags: CompletionFlags) -> None:
    """Print a script; let your shell read it: source <(hf-vec2vec completion bash)."""
    print(script(flags.shell), end="")


def script(shell: str) -> str:
    """The script for a shell. Values that are no choices are completed as names of files."""
    from .main import COMMANDS

    lines: dict[str, list[str]] = {"choices": [], "flags": []}
    for command in COMMANDS:
        module = import_module(f".{command.replace('-', '_')}", __package__)
        kind: type[Flags] = get_type_hints(module.run)["flags"]
        hints, names = get_type_hints(kind), ["--config", "--help"]
        for field in fields(kind):
            if "flag" not in field.metadata:
                continue
            found = Kind.of(hints[field.name])
            if field.metadata["flag"].placeholder:
                if found.choices:
                    lines["choices"].append(f'            "{command} {command}") words="{" ".join(found.choices)}" ;;')
                continue
            names.append(f"--{spelt(field.name)}")
            if found.choices:
                lines["choices"].append(f'            "{command} {names[-1]}") words="{" ".join(found.choices)}" ;;')
        lines["flags"].append(f'                "{command} -"*) words="{" ".join(names)}" ;;')
    cases = {name: "\n".join(found) for name, found in lines.items()}
    return SCRIPT.format(before=BEFORE[shell], commands=" ".join(COMMANDS), **cases)
