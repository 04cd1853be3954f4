"""Known pairs, the way people hold them: two files of vectors, or a file of ids."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .checks import check_input, named_path
from .columns import Columns

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset
    from torch import Tensor

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")


@dataclass
class Anchors:
    """Where the known pairs are.

    Args:
        vectors: files of their vectors, row by row, by the name of the space; or
        ids: a file with two columns of ids; or
        same_ids: rows whose ids are alike are pairs.
    """

    vectors: dict[str, str] = field(default_factory=dict)
    ids: str | None = None
    same_ids: bool = False

    @classmethod
    def of(cls, words: list[str], spaces: list[str], *, has_ids: bool) -> "Anchors":
        """What the words of `--anchors` mean.

        Raises:
            FileNotFoundError: if there is nothing at a path.
            ValueError: for any other words.
        """
        if words == ["same_ids"]:
            if not has_ids:
                raise ValueError("`anchors` same_ids pairs the rows that have one id: name the `id_column`, too.")
            return cls(same_ids=True)
        if len(words) == 1 and "=" not in words[0]:
            path = check_input("anchors", words[0])
            if Path(path).suffix.lower() not in FORMATS:
                raise ValueError(f"`anchors` {path!r} must be a file of ids: {', '.join(FORMATS)}.")
            return cls(ids=path)
        paths = dict(named_path("anchors", word) for word in words)
        if set(paths) != set(spaces) or len(words) != len(spaces):
            raise ValueError(
                f"`anchors` must be NAME=PATH for both of {spaces} (row i of both files is the same text), a file with two "
                f"columns of ids, or same_ids, got {words}."
            )
        return cls(vectors=paths)

    def load(
        self, spaces: "dict[str, Dataset]", columns: dict[str, Columns], numbers: "dict[str, np.ndarray]"
    ) -> "tuple[tuple[Tensor, Tensor], dict[str, Dataset]]":
        """Vectors of the pairs, and the training rows.

        Rows that are known pairs are left out of the second space, so that no text is on both sides of those that count as
        unpaired.

        Args:
            spaces: the rows.
            columns: of their files.
            numbers: of the rows in their files, which have more where invalid rows were dropped.

        Raises:
            ValueError: for numbers of rows, dimensions or encoders that differ, or an id that is not there or there twice.
        """
        from ..data.columns import vectors
        from ..data.files import load_embeddings
        from ..encoders.recorded import described, differences

        source, target = spaces
        if self.vectors:
            sides = [load_embeddings(self.vectors[name], column=columns[name]["column"]) for name in spaces]
            for side, (name, data) in zip(sides, spaces.items(), strict=True):
                now, then = (described(known.info.description or "") for known in (side, data))
                if differing := differences(now, then):
                    raise ValueError(
                        f"`anchors` of {name!r} were made otherwise than the vectors of {name!r}: {'; '.join(differing)}. "
                        "Embed their texts in the same way."
                    )
            rows = [vectors(side, f"anchors {name}") for side, name in zip(sides, spaces, strict=True)]
            if len(rows[0]) != len(rows[1]):
                raise ValueError(f"`anchors` have {len(rows[0])} and {len(rows[1])} rows: row i of both is the same text.")
            return (rows[0], rows[1]), spaces
        ids = [_ids(spaces[name], name, columns[name]["id_column"], numbers[name]) for name in spaces]
        pairs = [(a, a) for a in ids[0] if a in ids[1]] if self.same_ids else _pairs(self.ids or "", source, target)
        if not pairs:
            raise ValueError("`anchors` hold no pair: no id is on both sides.")
        places: list[list[int]] = [[], []]
        for number, pair in enumerate(pairs):
            for side, (name, wanted) in enumerate(zip(spaces, pair, strict=True)):
                if wanted not in ids[side]:
                    row = f"row {wanted}" if columns[name]["id_column"] is None else f"row with the id {wanted!r}"
                    raise ValueError(
                        f"`anchors`, pair {number}: {name!r} has no {row}, or it was dropped as invalid. Leave the pair out."
                    )
                places[side].append(ids[side][wanted])
        taken = set(places[1])
        rest = spaces[target].select([i for i in range(len(spaces[target])) if i not in taken])
        if not len(rest):
            raise ValueError(f"`anchors` are all rows of {target!r}: fit a regression on the pairs instead.")
        found = [vectors(spaces[name].select(places[side]), name) for side, name in enumerate(spaces)]
        return (found[0], found[1]), {source: spaces[source], target: rest}


def _ids(data: "Dataset", name: str, id_column: str | None, numbers: "np.ndarray") -> dict[str, int]:
    """Where rows are, by id; without ids, by their numbers in the file.

    Raises:
        ValueError: for an id that is there twice.
    """
    from ..data.columns import ID

    if id_column is None:
        return {str(number): i for i, number in enumerate(numbers.tolist())}
    found = [str(value) for value in data[ID]]
    twice = [value for value, count in Counter(found).items() if count > 1]
    if twice:
        raise ValueError(f"`id_column` {id_column!r} of {name!r} has {twice[0]!r} more than once, which names no row.")
    return {value: i for i, value in enumerate(found)}


def _pairs(path: str, source: str, target: str) -> list[tuple[str, str]]:
    """Pairs of ids: the columns named as the spaces are, or the only two.

    Raises:
        ValueError: for other columns.
    """
    from ..data.texts import load_table

    table: pa.Table = load_table(path)
    names: Any = [source, target] if {source, target} <= set(table.column_names) else table.column_names
    if len(names) != 2:
        raise ValueError(
            f"`anchors` {path!r} has the columns {table.column_names}; it must have {source!r} and {target!r}, or two."
        )
    return list(zip(*([str(value) for value in table[name].to_pylist()] for name in names), strict=True))
