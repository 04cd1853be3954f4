"""Files of texts, and tables with a column of them."""

import logging
import math
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import load_from_disk

from .columns import TEXT
from .text_tables import TABLES, TextTable, column_of, text_encoding
from .validity import InvalidRows, check_choice
from .vector_files import naming

TEXT_FORMATS = (
    f".txt (one text a line), or {', '.join(TABLES)}, .parquet, .arrow or a saved data set with a column of texts, `text`"
)
SHOWN = 10  # numbers of rows in an error
# Also what has no width: a byte-order mark stands before a line where files were joined.
WHITE = "".join(filter(str.isspace, map(chr, range(0x3001)))) + "\ufeff\u200b\u2060"

logger = logging.getLogger(__name__)


def load_texts(path: str | Path, *, column: str = TEXT, invalid_rows: InvalidRows = "stop") -> list[str]:
    """Read texts: as many as the file has rows, in their order, without the white space around them.

    Blank lines at the end of a file are no rows. CSV values are texts as they are: `007` stays `007`.

    Args:
        path: `.txt` (one text a line), `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`, `.arrow` or a saved data set.
        column: of the texts; `.txt` has none.
        invalid_rows: what to do with rows that are blank, missing or no text: `stop` or `drop` them.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these, a file that cannot be read, a column that is not there, rows without
            a text (they are named, lines as editors number them), or no text at all.
    """
    check_choice(invalid_rows)
    path = Path(path)
    word, rows = _rows(path, column)
    texts, without = [], []
    for number, value in rows:
        text = _as_text(value)
        if text:
            texts.append(text)
        else:
            without.append(number)
    if not texts:
        other = next((type(value).__name__ for _, value in rows if value is not None and not isinstance(value, str)), None)
        found = f", but values of the type {other}: each row must have one text" if other else ""
        raise ValueError(f"`path` {str(path)!r} holds no text{found}.")
    if without:
        shown = ", ".join(f"{number:,}" for number in without[:SHOWN]) + (", …" if len(without) > SHOWN else "")
        found = f"`path` {str(path)!r}: {len(without):,} of {len(rows):,} rows have no text: {word} {shown}"
        if invalid_rows == "stop":
            raise ValueError(f"{found}. Each row becomes one vector: fill them, or delete them.")
        logger.warning("%s. They are left out, so that later rows move up.", found)
    return texts


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list.

    Raises:
        TypeError: for one text in place of several, or something among them that is no text.
        ValueError: for no texts, or an empty one.
    """
    if isinstance(texts, str):
        raise TypeError(f"`texts` must be a list of texts, got one text, {texts[:80]!r}. Put it in a list.")
    for i, text in enumerate(texts):
        if not isinstance(text, str):
            raise TypeError(f"`texts` must hold texts, got a {type(text).__name__} at index {i}.")
    empty = [i for i, text in enumerate(texts) if not text.strip()]
    if empty:
        raise ValueError(f"`texts` has {len(empty)} empty text(s), the first at index {empty[0]}.")
    if not len(texts):
        raise ValueError("`texts` is empty.")
    return list(texts)


def load_table(path: str | Path) -> pa.Table:
    """Read all columns of a `.csv`, `.tsv`, `.jsonl`, `.json`, `.parquet`, `.arrow` or saved data set.

    Columns of CSV and TSV are numbers where all values are and would come back as they are, else strings. A column of JSON
    whose values are of several types becomes strings.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these, or a file that cannot be read.
    """
    path = _existing(Path(path))
    with naming("path", path):
        if path.suffix.lower() in TABLES:
            return _text_table(path)
        return _arrow_table(path)


def _existing(path: Path) -> Path:
    if not path.exists():
        raise FileNotFoundError(f"`path` is {str(path)!r}, where there is nothing. Give {TEXT_FORMATS}.")
    if not path.is_dir() and path.suffix.lower() not in (*TABLES, ".txt", ".parquet", ".arrow"):
        raise ValueError(f"`path` is {str(path)!r}, which is no known format. Give {TEXT_FORMATS}.")
    return path


def _rows(path: Path, column: str) -> tuple[str, list[tuple[int, object]]]:
    """What numbers count (lines, rows), and number and value of each row."""
    _existing(path)
    with naming("path", path):
        if path.suffix.lower() == ".txt" and path.is_file():
            return "line", _lines(path)
        if path.suffix.lower() not in TABLES:
            table = _arrow_table(path)
            _check_column(table.column_names, column)
            return "row (the first is 0)", list(enumerate(table[column].to_pylist()))
        table = TextTable(path)
        if table.separated:
            _check_column(table.names, column)
        rows = [(number, values.get(column), values) for number, values, _ in table.rows()]
        if rows and not any(column in values for *_, values in rows):
            _check_column(list(dict.fromkeys(name for *_, values in rows for name in values)), column)
        return table.row_word, [(number, value) for number, value, _ in rows]


def _lines(path: Path) -> list[tuple[int, object]]:
    lines = path.read_text(encoding=text_encoding(path)).rstrip().split("\n")
    return list(enumerate(lines, start=1)) if lines != [""] else []


def _check_column(names: list[str], column: str) -> None:
    if names.count(column) != 1:
        found = f"has {names.count(column)} columns {column!r}" if column in names else f"has the columns {names}"
        raise ValueError(f"it {found}; it needs one column {column!r}.")


def _as_text(value: object) -> str:
    """Without white space around it; blank for what is no text."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    if isinstance(value, float) and not math.isfinite(value):  # a gap of a table, or a number that was too large for it
        return ""
    text = str(value).strip(WHITE)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a character, as JSON can hold
        return ""
    return text


def _text_table(path: Path) -> pa.Table:
    table = TextTable(path)
    rows = [values for _, values, _ in table.rows()]
    names = table.names or list(dict.fromkeys(name for values in rows for name in values))
    return pa.table({name: column_of([row.get(name) for row in rows], separated=table.separated) for name in names})


def _arrow_table(path: Path) -> pa.Table:
    if path.is_dir():
        if not (path / "state.json").exists():
            splits = sorted(file.parent.name for file in path.glob("*/state.json"))
            raise ValueError(
                f"it has the splits {splits}: give the folder of one."
                if splits
                else "it is a folder, but no saved data set. "
                "Give a file of it, or save the rows with `Dataset.save_to_disk`."
            )
        return load_from_disk(str(path)).with_format("arrow")[:]
    if path.suffix.lower() == ".parquet":
        return pq.ParquetFile(path).read()  # `read_table` cannot read two columns of one name
    if path.suffix.lower() == ".arrow":
        with pa.memory_map(str(path)) as source:
            is_file = source.read(6) == b"ARROW1"
            source.seek(0)
            return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).read_all()
    raise ValueError("it is no table.")


__all__ = ["TEXT_FORMATS", "load_table", "load_texts"]
