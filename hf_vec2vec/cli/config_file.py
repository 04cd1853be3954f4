"""YAML files of flags, read with limits: a few lines of YAML can stand for gigabytes."""

import json
from pathlib import Path
from typing import Any

LARGEST = 1 << 16  # bytes; a file with every flag there is has 4,000
DEEPEST = 10  # levels; flags have two
MOST_ALIASES = 20  # repetitions (`*name`): each may double what is read


def read_yaml(argument: str, path: str | Path) -> dict[str, Any]:
    """Read `name: value` lines.

    Args:
        argument: that the path came in, for messages.
        path: of the file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML of that shape, too large, nested too deeply, or repeats itself too often.
    """
    import yaml

    file = Path(path)
    if not file.is_file():
        raise FileNotFoundError(f"`{argument}` is {str(path)!r}, where there is no file.")
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(f"`{argument}` {str(path)!r} has {size:,} bytes; a file of flags may have {LARGEST:,}.")
    try:
        text = file.read_text(encoding="utf-8-sig")
        _check_nesting(argument, path, text)
        content = yaml.safe_load(text)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"`{argument}` {str(path)!r} is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ValueError(f"`{argument}` {str(path)!r} must hold lines `name: value`.")
    return {str(name): value for name, value in content.items()}


def _check_nesting(argument: str, path: str | Path, text: str) -> None:
    """Refuse what grows when it is read: deep nesting, many aliases, and an alias inside of what it repeats."""
    import yaml

    open_anchors: list[str | None] = []
    aliases = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            open_anchors.append(event.anchor)
        elif isinstance(event, yaml.CollectionEndEvent):
            open_anchors.pop()
        elif isinstance(event, yaml.AliasEvent):
            aliases += 1
            if event.anchor in open_anchors:
                raise ValueError(f"`{argument}` {str(path)!r}: *{event.anchor} repeats what it stands in.")
        if len(open_anchors) > DEEPEST:
            raise ValueError(f"`{argument}` {str(path)!r} is nested more than {DEEPEST} levels deep.")
        if aliases > MOST_ALIASES:
            raise ValueError(f"`{argument}` {str(path)!r} has more than {MOST_ALIASES} aliases (*name): write them out.")


def as_words(values: dict[str, Any]) -> list[str]:
    """`{name: value}` as words of a command line. What is null is left out: the default holds."""
    words = []
    for name, value in values.items():
        if value is None:
            continue
        items = value if isinstance(value, list) else [json.dumps(value) if isinstance(value, dict) else value]
        words += [f"--{name}", *map(str, items)]
    return words
