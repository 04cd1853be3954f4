"""Which columns of the two sides' files hold vectors and ids."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypedDict

from .checks import WITHOUT_COLUMNS, check_column
from .flags import Flags, flag


class Columns(TypedDict):
    """What `load_embeddings` is told of a file's columns."""

    column: str | None
    id_column: str | None


@dataclass(kw_only=True)
class ColumnFlags(Flags):
    """Columns of files that have several."""

    title: ClassVar[str] = "columns"

    column: list[str] | None = flag(
        "Column with the vectors, of both sides or NAME=COLUMN for each; default: `embedding`, or the only one that can "
        "hold vectors.",
        None,
    )
    id_column: list[str] | None = flag("Column with the ids, of both sides or NAME=COLUMN for each.", None)

    def columns(self, paths: dict[str, str]) -> dict[str, Columns]:
        """What `load_embeddings` is told of the file of each space.

        Raises:
            ValueError: for a column of no space, or of a file that has none.
        """
        columns, ids = _by_space("column", self.column, paths), _by_space("id_column", self.id_column, paths)
        for name, path in paths.items():
            none = all(Path(other).suffix.lower() in WITHOUT_COLUMNS for other in paths.values())
            if none or f"{name}={columns[name]}" in (self.column or []):
                check_column("column", columns[name], path)
        return {name: {"column": columns[name], "id_column": ids[name]} for name in columns}


def _by_space(argument: str, values: list[str] | None, spaces: Iterable[str]) -> dict[str, str | None]:
    names = list(spaces)
    if not values:
        return dict.fromkeys(names)
    if len(values) == 1 and values[0].partition("=")[0] not in names:
        return dict.fromkeys(names, values[0])
    found = {name: column for name, _, column in (value.partition("=") for value in values)}
    if not found.keys() <= set(names) or not all(found.values()) or len(found) < len(values):
        raise ValueError(f"`{argument}` must be a column of both sides, or NAME=COLUMN for {names}, got {values}.")
    return {name: found.get(name) for name in names}
