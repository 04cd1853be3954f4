"""CSV, TSV, JSON Lines and JSON as people have them: any encoding, mixed types, and errors that name lines of the file."""

import codecs
import csv
import json
import re
import sys
import warnings
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from .blocks import something_else

CHUNK = 1 << 20  # bytes or characters that are looked at together
MARKS = {  # byte-order marks; the longer ones first, for one starts as another
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PACKED = {
    b"\x1f\x8b": "gzip",
    b"PK\x03\x04": "zip, as Excel's files are",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
SEPARATORS = ",;\t|"  # of CSV; where the comma is the decimal point, Excel writes semicolons
WESTERN = "cp1252"  # of Windows in Western Europe and America; a few letters in a hundred are beyond ASCII
FOREIGN_SHARE = 0.15  # of the letters: where more are beyond ASCII, the language is another one, and its encoding unknown
TOLD = re.compile(r"sep=(.)\s*")  # the first line of a CSV that tells Excel what separates its values
QUOTED = re.compile(r'"(?:[^"]|"")*"')
FRACTION = re.compile(r"-?(0|[1-9]\d*)\.(0|\d*[1-9])")
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json")


def text_encoding(path: Path) -> str:
    """The encoding of a file: by its byte-order mark, else UTF-8, else Windows' Western one, of which a warning tells.

    Raises:
        ValueError: if it is none of these, or holds NUL bytes.
    """
    with open(path, "rb") as file:
        if found := something_else(path):
            raise ValueError(found)
        start = file.read(8)
        if packed := next((name for mark, name in PACKED.items() if start.startswith(mark)), None):
            raise ValueError(f"it is compressed ({packed}). Unpack it, or save it as text, first.")
        marked = next((name for mark, name in MARKS.items() if start.startswith(mark)), None)
        decoder, line = codecs.getincrementaldecoder(marked or "utf-8")(), 1
        file.seek(0)
        while True:
            chunk = file.read(CHUNK)
            try:
                text = decoder.decode(chunk, final=not chunk)
            except UnicodeDecodeError as error:
                if marked:
                    raise ValueError(f"at or after line {line:,} it is not {marked}, as its first bytes say.") from error
                return _western(path, line + chunk[: error.start].count(b"\n"))
            if "\0" in text:
                line += text[: text.index("\0")].count("\n")
                raise ValueError(f"line {line:,} holds a NUL byte: it is no text, or UTF-16 without a byte-order mark.")
            if not chunk:
                return marked or "utf-8"
            line += text.count("\n")


def _western(path: Path, line: int) -> str:
    content = path.read_bytes()
    foreign = sum(byte >= 0x80 for byte in content)
    letters = sum(chr(byte).isalpha() for byte in content if byte < 0x80) + foreign
    with suppress(UnicodeDecodeError):
        text = content.decode(WESTERN)
        if "\0" not in text and foreign <= FOREIGN_SHARE * letters:
            shown = text.split("\n")[line - 1].strip()[:80]
            warnings.warn(
                f"{str(path)!r} is not UTF-8 and is read as {WESTERN}: line {line:,} is {shown!r}. If that is wrong, save "
                "the file as UTF-8.",
                stacklevel=2,
            )
            return WESTERN
    raise ValueError(f"line {line:,} is not UTF-8, and the encoding is not known. Save the file as UTF-8.")


class TextTable:
    """A file of rows with named values.

    Args:
        path: of a `.csv` or `.tsv` with a header, of JSON Lines, or of a JSON list of objects.

    Raises:
        ValueError: for an encoding that is not known, or a header that is missing.
    """

    def __init__(self, path: Path):
        self.path, self.encoding = path, text_encoding(path)
        self.separated = path.suffix.lower() in (".csv", ".tsv")
        self.is_list = not self.separated and self._starts_list()
        self.names: list[str] = []  # of a JSON file they are known when all has been read
        self.start = (1, 0)
        self.separator, self.plain_quotes, self.width = ",", False, 0  # of a row; 0 until the header is read
        if self.separated:
            csv.field_size_limit(sys.maxsize)  # long documents and vectors are larger than 128 KiB
            first, end = next(self._lines(0), ("", 0))
            told = TOLD.fullmatch(first)
            self.separator = told[1] if told else "\t" if path.suffix.lower() == ".tsv" else self._separator()
            self.plain_quotes = path.suffix.lower() == ".tsv" and self._has_plain_quotes()
            header = next((record for record in self._split(*((end, 2) if told else (0, 1))) if record[1]), None)
            if header is None:
                raise ValueError("it is empty: it has no header.")
            _, self.names, self.start = header[0], _distinct(header[1]), header[2]

    def rows(self, start: tuple[int, int] | None = None) -> Iterator[tuple[int, dict, tuple[int, int]]]:
        """Line, values by name, and the place behind each row.

        Args:
            start: a place behind an earlier row; default: the beginning.

        Raises:
            ValueError: for a row that cannot be read, with its line.
        """
        line, offset = start or self.start
        if self.separated:
            for number, values, place in self._split(offset, line):
                if values or len(self.names) == 1:  # where there is one column, a blank line is a blank value
                    yield number, dict(zip(self.names, values or [""], strict=True)), place
        elif self.is_list:
            yield from self._items()
        else:
            yield from self._objects(offset, line)

    @property
    def can_start_anywhere(self) -> bool:
        """Whether `rows` may start behind any row; else only at the beginning."""
        return not self.is_list

    def _lines(self, offset: int) -> Iterator[tuple[str, int]]:
        """Lines and the bytes up to their ends; of encodings with wide characters the lines up to there."""
        if self.encoding.startswith(("utf-16", "utf-32")):
            with open(self.path, encoding=self.encoding, newline="") as text:
                yield from ((line, number) for number, line in enumerate(islice(text, offset, None), start=offset + 1))
            return
        with open(self.path, "rb") as file:
            offset = max(offset, 3 if self.encoding == "utf-8-sig" else 0)
            file.seek(offset)
            for raw in file:
                offset += len(raw)
                yield raw.decode(WESTERN if self.encoding == WESTERN else "utf-8"), offset

    def _split(self, offset: int, line: int) -> Iterator[tuple[int, list[str], tuple[int, int]]]:
        """Records of CSV or TSV: the line each begins in, its values, the place behind it. Blank lines are empty records."""
        place = [line, offset]

        def counted() -> Iterator[str]:
            for text, end in self._lines(offset):
                place[:] = place[0] + 1, end
                yield text

        quoting: Literal[0, 3] = csv.QUOTE_NONE if self.plain_quotes else csv.QUOTE_MINIMAL
        reader = csv.reader(counted(), delimiter=self.separator, quoting=quoting, strict=not self.plain_quotes)
        blank: list[tuple[int, list[str], tuple[int, int]]] = []  # at the end of the file they are no rows
        while True:
            first = place[0]
            try:
                values = next(reader, None)
            except csv.Error as error:
                if "new-line character" in str(error):  # Python's words are for who opened the file
                    raise ValueError(
                        f"line {first:,} holds a carriage return that ends no line, as files of old Macs have them for line "
                        "ends. Save the file with the line ends of Unix or Windows; a value that holds one must be quoted."
                    ) from error
                raise ValueError(f"line {first:,} cannot be read: {error}.") from error
            if values is None:
                return
            if not values:
                blank.append((first, values, (place[0], place[1])))
                continue
            yield from blank
            blank.clear()
            self.width = self.width or len(values)
            if len(values) != self.width:
                raise ValueError(
                    f"line {first:,} has {len(values)} values, but the header has {self.width}. A value with a separator or "
                    "quotes in it must be quoted."
                )
            values = [unquoted(value) for value in values] if self.plain_quotes else values
            yield first, values, (place[0], place[1])

    def _separator(self) -> str:
        """What stands between the names of a CSV's header most often, names in quotes aside."""
        header = QUOTED.sub("", next((text for text, _ in self._lines(0) if text.strip()), ""))
        return max(SEPARATORS, key=header.count)

    def _has_plain_quotes(self) -> bool:
        """Whether every line of a TSV is a row as it stands: in GLUE's files quotes are characters like others."""
        lines = (text for text, _ in self._lines(0) if text.strip())
        header = next(lines, "")
        return not header.startswith('"') and all(text.count("\t") == header.count("\t") for text in lines)

    def _starts_list(self) -> bool:
        return next((text.strip()[0] for text, _ in self._lines(0) if text.strip()), "") == "["

    def _items(self) -> Iterator[tuple[int, dict, tuple[int, int]]]:
        """Objects of a JSON list, numbered from 1, for their lines are not known."""
        items = _parsed("".join(text for text, _ in self._lines(0)), "it")
        for number, item in enumerate(items, start=1):
            if not isinstance(item, dict):
                raise ValueError(f"item {number:,} is no object with names and values.")
            yield number, item, (1, 0)

    def _objects(self, offset: int, line: int) -> Iterator[tuple[int, dict, tuple[int, int]]]:
        for number, (text, end) in enumerate(self._lines(offset), start=line):
            if not text.strip():
                continue
            item = _parsed(text, f"line {number:,}")
            if not isinstance(item, dict):
                raise ValueError(f"line {number:,} is no JSON object with names and values.")
            yield number, item, (number + 1, end)

    @property
    def row_word(self) -> str:
        """What the numbers of rows count."""
        return "item" if self.is_list else "line"


def unquoted(value: str) -> str:
    """What a program that quotes only where it must, such as Excel, meant by a value with doubled quotes."""
    inner = value[1:-1]
    quoted = value == '""' or (QUOTED.fullmatch(value) and '""' in inner)
    return inner.replace('""', '"') if quoted else value


def _parsed(text: str, what: str):
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError(f"{what} is nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{what} is no JSON: {error}.") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of values by one name none is silently the last."""
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    return dict(zip(_distinct([name for name, _ in pairs]), (value for _, value in pairs), strict=True))


def _distinct(names: list[str]) -> list[str]:
    """Names with a number behind those that came before; whoever asks for one of these is told, see `check_name`."""
    seen: dict[str, int] = {}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    counts, distinct = dict.fromkeys(names, 0), []
    for name in names:
        counts[name] += 1
        distinct.append(name if seen[name] == 1 else f"{name} ({counts[name]})")
    return distinct


def column_of(values: list, kind: pa.DataType | None = None, *, separated: bool = False) -> pa.Array:
    """Values of a row each as an Arrow array: of the type that all of them have, else as strings, JSON where they are none.

    Args:
        values: Python values, strings where `separated`.
        kind: the type; default: by the values.
        separated: they come out of CSV, where numbers are strings. Those that would not come back as they are stay strings:
            `007`, `1e5`, `1.10`.
    """
    if separated:
        kind = kind or _kind_of(values)
        strings = pa.array(values, pa.string())
        if kind == pa.string():
            return strings
        return pa.array([None if value == "" else value for value in values], pa.string()).cast(kind)
    try:
        return pa.array(values, kind) if kind != pa.string() else pa.array([_as_text(value) for value in values], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError):
        return pa.array([_as_text(value) for value in values], pa.string())


def _as_text(value) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _kind_of(strings: list[str]) -> pa.DataType:
    given = [text for text in strings if text != ""]
    if given and all(_is_whole(text) for text in given):
        return pa.int64()
    numbers = bool(given) and all(map(_is_number, given))
    if numbers and len({float(text) for text in given}) == len(set(given)):  # 1 and 1.0 are no numbers, but two names
        return pa.float64()
    return pa.string()


def _is_number(text: str) -> bool:
    """Whether a float tells all that the text does: of 1.10, which may be a version or a section, it would make 1.1."""
    return bool(FRACTION.fullmatch(text) or _is_whole(text)) and Decimal(repr(float(text))) == Decimal(text)


def _is_whole(text: str) -> bool:
    return len(text) < 19 and text.lstrip("-").isascii() and text.lstrip("-").isdigit() and str(int(text)) == text


__all__ = ["TABLES", "TextTable", "column_of", "text_encoding", "unquoted"]
