"""JSON files that this package writes, and reads again: a disk or a hand may have changed them since."""

import json
from pathlib import Path
from typing import Any

from .staging import staged_file


def read_object(file: str | Path) -> dict[str, Any]:
    """Names and values of a JSON file.

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is no JSON, or no names and values.
    """
    try:
        content = json.loads(Path(file).read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{str(file)!r} is damaged: it is no JSON ({' '.join(str(error).split())}).") from error
    if not isinstance(content, dict):
        raise ValueError(f"{str(file)!r} is damaged: it must hold names and values, and holds a {type(content).__name__}.")
    return content


def write_object(file: str | Path, content: object) -> None:
    """Write names and values, or a list of them, as a JSON file that appears whole or not at all."""
    with staged_file(file) as partial:
        partial.write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_part(file: str | Path, name: str, kind: type) -> Any:
    """One value of such a file, empty where it is missing.

    Raises:
        ValueError: see [`read_object`]; also for a value of another kind.
    """
    value = read_object(file).get(name, kind())
    if not isinstance(value, kind):
        raise ValueError(f"{str(file)!r} is damaged: {name!r} must be a {kind.__name__}, and is a {type(value).__name__}.")
    return value


__all__ = ["read_object", "read_part", "write_object"]
