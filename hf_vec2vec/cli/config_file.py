"""YAML files of flags, read with limits: a few lines of YAML can stand for gigabytes."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import yaml

LARGEST = 1 << 16  # bytes; a file with every flag there is has 4,000
DEEPEST = 10  # levels; flags have two
MOST_ALIASES = 20  # repetitions (`*name`): each may double what is read


def read_yaml(argument: str, path: str | Path, *, as_written: bool = False) -> dict[str, Any]:
    """Read `name: value` lines.

    Args:
        argument: that the path came in, for messages.
        path: of the file.
        as_written: leave values, and those of lists, as they stand there: YAML makes 8 of `010`, 90 of `1:30`, 1.1 of `1.10`
            and false of `no`. What is in braces is read as YAML does.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no YAML of that shape, too large, nested too deeply, repeats itself too often, or has one name
            twice.
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
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            _check_names(argument, path, node)
        content = None if node is None else loader.construct_document(node)  # puts what `<<` stands for in its place
        if not isinstance(node, yaml.MappingNode) or not isinstance(content, dict):
            raise ValueError(f"`{argument}` {str(path)!r} must hold lines `name: value`.")
        if as_written:
            content = {str(key.value): _as_written(value, typed) for (key, value), typed in _paired(node, content)}
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"`{argument}` {str(path)!r} is no YAML: {' '.join(str(error).split())}") from error
    return {str(name): value for name, value in content.items()}


def _check_names(argument: str, path: str | Path, node: "yaml.Node") -> None:
    """Raise if a name stands twice in a mapping: YAML would take the last value without a word."""
    import yaml

    inner = [value for _, value in node.value] if isinstance(node, yaml.MappingNode) else []
    inner = list(node.value) if isinstance(node, yaml.SequenceNode) else inner
    if isinstance(node, yaml.MappingNode):
        names = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"`{argument}` {str(path)!r} has {twice[0]!r} twice. Leave one.")
    for part in inner:
        _check_names(argument, path, part)


def _paired(node: "yaml.MappingNode", content: dict) -> Iterator[tuple[tuple, Any]]:
    """Names and values as nodes, each with its value; of names that `<<` brought along, too, the last counts."""
    last = {key.value: (key, value) for key, value in node.value}
    return zip(last.values(), content.values(), strict=True)


def _as_written(node: "yaml.Node", typed: Any) -> Any:
    """A value, or each of a list, as it stands in the file; null and what is in braces as YAML reads it."""
    import yaml

    if isinstance(node, yaml.SequenceNode) and isinstance(typed, list):
        return [_as_written(item, value) for item, value in zip(node.value, typed, strict=True)]
    return node.value if isinstance(node, yaml.ScalarNode) and typed is not None else typed


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
