"""CSV, TSV, JSON Lines and JSON with a column of vectors: lists, or strings such as `"[0.1, 0.2]"`."""

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch

from .blocks import Block, BufferPool, VectorFile
from .columns import HEAD, TEXT, RowError, first_dimension, list_array, vector_column, vector_rows
from .text_tables import TABLES, TextTable, column_of

PIECE = 4_096  # rows between two places from which a file can be read
EXACT = 2**53  # up to which floats hold all whole numbers


class TextVectorFile(VectorFile):
    """See `VectorFile`. The file is read once when it is opened: for its rows, its types, and what is wrong with it."""

    def __init__(self, path: Path, column: str | None):
        self.table = table = TextTable(path)
        kinds: dict[str, set[pa.DataType]] = {}
        self.large: set[str] = set()  # columns with whole numbers that floats would round
        self.starts: dict[int, tuple[int, int]] = {}  # by row, where it stands in the file
        rows, place, dim, chosen = 0, table.start, 0, ""
        reader = table.rows()
        while block := list(islice(reader, PIECE)):
            columns = _columns(table, [values for _, values, _ in block])
            for name, values in columns.items():
                kinds.setdefault(name, set()).add(values.type)
                if pa.types.is_int64(values.type) and any(abs(end) > EXACT for end in pc.min_max(values).as_py().values()):
                    self.large.add(name)
            if not rows:
                head = pa.table({name: values.slice(0, HEAD) for name, values in columns.items()})
                chosen = vector_column(head, "it", column)
            vectors = self._lists([values.get(chosen) for _, values, _ in block], [line for line, _, _ in block])
            dim = dim or first_dimension(vectors, str)
            if table.can_start_anywhere or not rows:
                self.starts[rows] = place
            rows, place = rows + len(block), block[-1][2]
        if not rows:
            raise ValueError("it is empty: it has no rows.")
        self.kinds = {name: _common(found, large=name in self.large) for name, found in kinds.items()}
        schema = pa.schema(list(self.kinds.items()))
        super().__init__(path, rows, dim, cuts=list(self.starts), schema=schema, column=chosen)

    def read(
        self, start: int, stop: int, batch_size: int, others: Sequence[str] = (), buffers: BufferPool | None = None
    ) -> Iterator[Block]:
        """See `VectorFile`."""
        reader = islice(self.table.rows(self.starts[start]), stop - start)
        while block := list(islice(reader, batch_size)):
            lines = [line for line, _, _ in block]
            rows = vector_rows(
                self._lists([values.get(self.column) for _, values, _ in block], lines), self.dim, self._place(lines)
            )
            beside = {
                name: column_of(
                    [values.get(name) for _, values, _ in block],
                    self.kinds[name],
                    separated=self.table.separated,
                )
                for name in others
            }
            yield Block(torch.from_numpy(rows), start, pa.table(beside) if others else None)
            start += len(block)

    def place(self, row: int) -> str:
        """See `VectorFile`: its line, for that is how editors number rows. The file is read up to there once more."""
        line = next(islice(self.table.rows(), row, None))[0]
        return f"{self.table.row_word} {line:,}"

    def _lists(self, values: list, lines: list[int]) -> pa.Array:
        """Vectors as lists of numbers."""
        if any(isinstance(value, str) for value in values):
            strings = [value if value is None or isinstance(value, str) else str(value) for value in values]
            return list_array(pa.array(strings, pa.large_string()), self._place(lines))
        try:
            return pa.array(values, pa.large_list(pa.float64()))
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            for line, value in zip(lines, values, strict=True):
                if value is not None and not (
                    isinstance(value, list) and all(isinstance(x, int | float | None) for x in value)
                ):
                    raise RowError(f"{self.table.row_word} {line:,}: a vector that is no list of numbers.") from error
            raise

    def _place(self, lines: list[int]):
        return lambda row: f"{self.table.row_word} {lines[row]:,}"


def _columns(table: TextTable, rows: list[dict]) -> dict[str, pa.Array]:
    names = table.names or list(dict.fromkeys(name for values in rows for name in values))
    return {
        name: column_of(
            [values.get(name) for values in rows],
            pa.string() if name == TEXT else None,
            separated=table.separated,
        )
        for name in names
    }


def _common(kinds: set[pa.DataType], *, large: bool) -> pa.DataType:
    """The type that values of all these types can have, with whole numbers that a float would round (`large`) or without."""
    kinds = kinds - {pa.null()}
    if len(kinds) == 1:
        return next(iter(kinds))
    return pa.float64() if kinds == {pa.int64(), pa.float64()} and not large else pa.string()


OPENERS = dict.fromkeys(TABLES, TextVectorFile)

__all__ = ["OPENERS", "TextVectorFile"]
