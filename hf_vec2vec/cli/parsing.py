"""Words of a line to the flags of a command, and help that fits a screen.

argparse cuts the line into names and values and lays out the help. What a value may be is checked here, so that every
message names the flag, what came and what is allowed.
"""

import argparse
import math
import os
import types
import typing
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, NoReturn, TypeVar

from .checks import did_you_mean
from .config_file import as_words, read_yaml
from .flags import Flag, Flags

TRUE, FALSE = ("true", "yes", "on", "t", "y", "1"), ("false", "no", "off", "f", "n", "0")
LARGEST = 2**63 - 1  # a number beyond it fits into no array
F = TypeVar("F", bound=Flags)


class Parser(argparse.ArgumentParser):
    """argparse that raises instead of leaving, with messages in the words of this package."""

    def error(self, message: str) -> NoReturn:
        """Bad input, as everywhere else."""
        if message.startswith("the following arguments are required"):
            raise ValueError(f"`{message.split(': ')[1]}` must be given, before the flags.")
        argument, _, reason = message.removeprefix("argument ").partition(": ")
        raise ValueError(f"`{argument.split('/')[0].lstrip('-')}`: {reason}." if reason else f"`flags`: {message}.")


class HelpFormatter(argparse.HelpFormatter):
    """One line a flag: its name, its choices or what it takes, its help and its default."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=36, width=110)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        if not action.option_strings:
            return super()._format_action_invocation(action)
        return action.option_strings[0] + (f" {action.metavar}" if action.metavar else "")


def parse(kind: type[F], words: list[str]) -> F:
    """Read the flags of a command.

    Args:
        kind: its flags.
        words: of the line, without the command's name.

    Raises:
        FileNotFoundError: if the `--config` file is not there.
        ValueError: for an unknown flag, a missing or an impossible value.
    """
    declared = {f.name: f for f in fields(kind) if "flag" in f.metadata}
    hints = typing.get_type_hints(kind)
    parser = build_parser(kind)
    # A word that belongs to no flag stands first.
    placed = any(f.metadata["flag"].placeholder for f in declared.values())
    first, rest = (words[:1], words[1:]) if placed and words and not words[0].startswith("-") else ([], words)
    _check_repeated(rest, ["config", *(spelt(name) for name in declared if Kind.of(hints[name]).many)])
    path, rest = _config_path(rest)
    from_file = as_words(_in_file(path, declared, hints)) if path is not None else []
    found, others = parser.parse_known_args([*first, *from_file, *rest])
    if others and not (kind.passes_on and others[0].startswith("--")):
        word = others[0].split("=")[0]
        raise ValueError(
            f"`{word}` is no flag of this command{did_you_mean(word, (f'--{spelt(name)}' for name in declared))}"
        )
    given = {name: value for name, value in vars(found).items() if name in declared and value is not None}
    for name, f in declared.items():
        if name not in given and f.default is MISSING and f.default_factory is MISSING:
            kind.check_incomplete(given)
            facts: Flag = f.metadata["flag"]
            raise ValueError(f"`{facts.placeholder or spelt(name)}` must be given: {facts.help}")
    values = {name: convert(name, value, hints[name], declared[name]) for name, value in given.items()}
    return kind(**values, given=frozenset(given), others=others)


def build_parser(kind: type[Flags], prog: str = "", synopsis: str = "", description: str = "") -> Parser:
    """The parser of a command's flags; those of one class stand in one group of the help."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} {synopsis}",
        description=description,
        formatter_class=HelpFormatter,
        allow_abbrev=False,
        add_help=False,
        argument_default=argparse.SUPPRESS,
    )
    parser._positionals.title = "what it is about"
    hints = typing.get_type_hints(kind)
    names = {f.name: f for f in fields(kind) if "flag" in f.metadata}
    for owner in kind.__mro__:  # a command's own flags first, those of every command last
        own = [names.pop(name) for name in vars(owner).get("__annotations__", {}) if name in names]
        if not own:
            continue
        group = parser.add_argument_group(vars(owner).get("title", "flags"))
        for f in own:
            _add_flag(parser, group, f, hints[f.name])
        if owner is Flags:
            group.add_argument("--config", metavar="FILE.yaml", help="Flags from a file; flags on the line win.")
            group.add_argument("--help", action="store_true", help="Show this.")
    return parser


def _add_flag(parser: Parser, group: Any, f: Field[Any], hint: Any) -> None:
    facts: Flag = f.metadata["flag"]
    if facts.placeholder:
        parser.add_argument(f.name, metavar=facts.placeholder, help=facts.help)
        return
    kind = Kind.of(hint)
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    help = facts.help.replace("%", "%%")
    if default is MISSING:
        help += " (must be given)"
    elif default is not None and default is not False and default != "":
        help += f" (default: {' '.join(default) if kind.many else default})".replace("%", "%%")
    if kind.type is bool:
        group.add_argument(f"--{spelt(f.name)}", dest=f.name, nargs="?", const="true", metavar="", help=help)
    else:
        metavar = "|".join(kind.choices) or {int: "INT", float: "FLOAT"}.get(kind.type, "VALUE")
        group.add_argument(f"--{spelt(f.name)}", dest=f.name, nargs="+" if kind.many else None, metavar=metavar, help=help)


def spelt(name: str) -> str:
    """How a field's flag is written: `from_` is `from`, which Python keeps for itself."""
    return name.rstrip("_")


@dataclass(frozen=True)
class Kind:
    """What the words of a flag are.

    Args:
        type: of one of them.
        many: whether there may be several.
        choices: that are allowed; none: all.
    """

    type: type
    many: bool = False
    choices: tuple[str, ...] = ()

    @classmethod
    def of(cls, hint: Any) -> "Kind":
        """That of a type hint: `X`, `X | None`, `list[str]`, `Literal[...]`."""
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            (hint,) = [part for part in typing.get_args(hint) if part is not types.NoneType]
        if typing.get_origin(hint) is list:
            return cls(typing.get_args(hint)[0], many=True)
        if typing.get_origin(hint) is typing.Literal:
            return cls(str, choices=typing.get_args(hint))
        return cls(hint)


def convert(name: str, value: str | list[str], hint: Any, f: Field[Any]) -> Any:
    """Words of the line as the value of a flag.

    Raises:
        ValueError: if they cannot be that.
    """
    kind, name = Kind.of(hint), f.metadata["flag"].placeholder or spelt(name)
    found = [_convert_one(name, word, kind, f) for word in (value if isinstance(value, list) else [value])]
    return found if kind.many else found[0]


def _convert_one(name: str, word: str, kind: Kind, f: Field[Any]) -> Any:
    if kind.type is bool:
        if word.lower() not in TRUE + FALSE:
            raise ValueError(f"`{name}` must be true or false, got {word!r}.")
        return word.lower() in TRUE
    if kind.type in (int, float):
        return _number(name, word, kind.type, f.metadata["flag"])
    if kind.choices and word not in kind.choices:
        raise ValueError(
            f"`{name}` must be one of {', '.join(kind.choices)}, got {word!r}{did_you_mean(word, kind.choices)}"
        )
    if word.startswith("~/"):  # in a file, or behind `=`, where no shell makes it the home
        word = os.path.expanduser(word)
    if "\0" in word or (not word.strip() and not f.metadata["flag"].may_be_empty):
        raise ValueError(f"`{name}` must be some text, got {word!r}.")
    return word


def _number(name: str, word: str, kind: type, facts: Flag) -> int | float:
    bounds = [
        f" {words} {bound:g}"
        for words, bound in (("at least", facts.minimum), ("above", facts.above), ("at most", facts.maximum))
        if bound is not None
    ]
    try:
        number = kind(word)
    except (ValueError, OverflowError):
        number = math.nan
    low = (facts.minimum is not None and number < facts.minimum) or (facts.above is not None and number <= facts.above)
    high = abs(number) > (LARGEST if facts.maximum is None else facts.maximum)
    if low or high or not math.isfinite(number):
        what = "a whole number" if kind is int else "a number"
        raise ValueError(f"`{name}` must be {what}{' and'.join(bounds)}, got {word!r}.")
    return number


def _flags_of(path: str) -> dict[str, Any]:
    found = read_yaml("config", path, as_written=True)
    if "config" in found:
        raise ValueError(f"`config` {path!r} names another file, {found['config']!r}: put all flags into one.")
    return found


def _in_file(path: str, declared: dict[str, Field[Any]], hints: dict[str, Any]) -> dict[str, Any]:
    """Flags of a file; those of one value have one, and what has no name on the line has none here."""
    found = _flags_of(path)
    for name, f in declared.items():
        value = found.get(spelt(name))
        if (placeholder := f.metadata["flag"].placeholder) and name in found:
            raise ValueError(f"`config` {path!r} holds `{name}`: give {placeholder} on the line, before the flags.")
        if isinstance(value, list) and len(value) != 1 and not Kind.of(hints[name]).many:
            raise ValueError(f"`config` {path!r}: `{spelt(name)}` must be one value, got the list {value}.")
    return found


def _check_repeated(words: list[str], names: list[str]) -> None:
    """Raise if a flag whose values all count stands twice: argparse would keep the last ones without a word."""
    for name in names:
        if sum(word.partition("=")[0] == f"--{name}" for word in words) > 1:
            several = "One file holds all flags." if name == "config" else f"Give all values behind one: --{name} A B."
            raise ValueError(f"`{name}` stands twice on the line. {several}")


def _config_path(words: list[str]) -> tuple[str | None, list[str]]:
    """The value of `--config`, and the other words."""
    parser = Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("--config")
    known, rest = parser.parse_known_args(words)
    return known.config, rest
