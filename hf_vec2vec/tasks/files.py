"""Local files of benchmarks: which split a file is, and its rows in the Hub's schema, also out of the authors' own form."""

import csv
import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datasets import Dataset, concatenate_datasets

from ..data.columns import LABEL, without_foreign
from ..data.text_tables import text_encoding, unquoted
from ..data.texts import load_table
from ..data.vector_files import naming
from .choice_files import read_questions

logger = logging.getLogger(__name__)
SUFFIXES = (".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
BY_NAME = (".json", ".txt")  # are data only where their name is that of a split
SPLITS = {"train": "train", "trn": "train", "dev": "validation", "validation": "validation", "valid": "validation"}
SPLITS |= {"val": "validation", "test": "test", "tst": "test"}
FILE_NAME = re.compile(  # as the authors of GLUE, SNLI, MultiNLI, MRPC, STS-B, SQuAD, CommonsenseQA and SocialIQA have them
    r"(?:multinli_[\d.]+_|snli_[\d.]+_|msr_paraphrase_|sts-|socialiwa_v[\d.]+_)?"
    rf"({'|'.join(SPLITS)})(_matched|_mismatched)?(?:-v\d\.\d)?(?:_rand_split)?(?:_no_answers)?"
)
SHARD = re.compile(r"-\d+-of-(\d+)$")  # train-00000-of-00002, as the Hub has them
WITHOUT_HEADER = {  # authors' files whose first line is a row: columns by place
    "cola": ("source", LABEL, "annotation", "sentence"),
    "stsb": ("genre", "file", "year", "id", LABEL, "sentence1", "sentence2"),
    "qqp": (LABEL, "question1", "question2", "id"),  # the partition of Wang et al.
}
RENAMED = {  # the authors' columns by the Hub's, of each task
    "mrpc": {"sentence1": "#1 String", "sentence2": "#2 String", LABEL: "Quality"},
    "stsb": {LABEL: "score"},
    "qqp": {LABEL: "is_duplicate"},
    "mnli": {"premise": "sentence1", "hypothesis": "sentence2", LABEL: "gold_label"},
    "boolq": {LABEL: "answer"},
}


def local_splits(
    name: str, source: Path, needed: list[str], alone: Callable[[Dataset], dict[str, Dataset]]
) -> dict[str, Dataset]:
    """Rows of each split, in the Hub's schema.

    Args:
        name: of the task.
        source: a folder with a file (or shards) a split, or one file.
        needed: columns of the Hub's schema.
        alone: splits the rows of a file that is all there is.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        ValueError: for a file that cannot be read, or two files of one split.
    """
    files = sorted(file for file in source.glob("*") if _is_data(file)) if source.is_dir() else []
    if not files:
        split = _split(source)
        rows = _read(name, source, needed, split)
        one_split = source.is_file() or (source / "state.json").exists()
        return {split: rows} if split.startswith(("validation", "test")) and one_split else alone(rows)
    shards: dict[str, list[Path]] = {}
    for file in files:
        shards.setdefault(_split(file), []).append(file)
    for split, parts in shards.items():
        if len(parts) > 1 and not all(SHARD.search(part.stem) for part in parts):
            raise ValueError(
                f"`source` {str(source)!r} has {len(parts)} files of {split!r}: {', '.join(part.name for part in parts)}. "
                "Leave one."
            )
    return {
        split: _joined(source, split, parts, [_read(name, part, needed, split) for part in parts])
        for split, parts in shards.items()
    }


def _joined(source: Path, split: str, parts: list[Path], rows: list[Dataset]) -> Dataset:
    """The rows of a split, of one file or of shards, whose number their names tell."""
    whole = max(int(found[1]) if (found := SHARD.search(part.stem)) else 1 for part in parts)
    if whole > len(parts):
        logger.warning("%s: of %s files of %r only %s are there.", source, f"{whole:,}", split, f"{len(parts):,}")
    try:
        return concatenate_datasets(rows)
    except ValueError as error:
        raise ValueError(
            f"`source` {str(source)!r}: the {len(parts)} files of {split!r} have columns of unlike types: {error} Rewrite "
            "one as the others are."
        ) from error


def _is_data(file: Path) -> bool:
    suffix = file.suffix.lower()
    if file.name[0] == ".":  # as `._train.tsv`, which macOS puts beside `train.tsv`
        return False
    return suffix in SUFFIXES or (suffix in BY_NAME and FILE_NAME.fullmatch(file.stem.lower()) is not None)


def _split(file: Path) -> str:
    stem = SHARD.sub("", file.stem)
    found = FILE_NAME.fullmatch(stem.lower())
    return SPLITS[found[1]] + (found[2] or "") if found else stem


def in_hub_schema(name: str, rows: Dataset, needed: list[str], split: str) -> Dataset:
    """Rows with the columns of the Hub's schema. Those of a test set may lack the label, and get an empty one."""
    for column, theirs in RENAMED.get(name, {}).items():
        if column not in rows.column_names and theirs in rows.column_names:
            rows = rows.rename_column(theirs, column)
    if LABEL in needed and LABEL not in rows.column_names and split.startswith("test"):
        rows = rows.add_column(LABEL, [None] * len(rows))
    return rows


def _read(name: str, file: Path, needed: list[str], split: str) -> Dataset:
    """The rows of one file."""
    if not file.exists():
        raise FileNotFoundError(f"`source` is {str(file)!r}, where there is nothing.")
    with naming("source", file):
        suffix = file.suffix.lower()
        if suffix in (".tsv", ".txt", ".csv") and _has_tabs(file):
            return in_hub_schema(name, Dataset.from_list(list(_separated(name, file))), needed, split)
        if "answerKey" in needed:
            is_json = suffix in (".jsonl", ".ndjson", ".json")
            return read_questions(_objects(file) if is_json else _table(file))
        if "context" in needed and suffix == ".json":
            content = _json(file)
            if isinstance(content, dict) and isinstance(content.get("data"), list):
                return Dataset.from_list(list(_articles(name, content)))
    return in_hub_schema(name, _table(file), needed, split)


def _table(file: Path) -> Dataset:
    return Dataset(without_foreign(load_table(file), file))


def _has_tabs(file: Path) -> bool:
    """Whether values stand between tabs: also in STS-B's `.csv`, and in MRPC's and MultiNLI's `.txt`."""
    with open(file, encoding=text_encoding(file)) as lines:
        return file.suffix.lower() == ".tsv" or "\t" in lines.readline()


def _separated(name: str, file: Path) -> Iterator[dict[str, str]]:
    """Rows of a file whose values stand between tabs. Quotes are like others, unless quotes in them are doubled."""
    with open(file, encoding=text_encoding(file), newline="") as lines:
        reader = csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        first = next(reader, None)
        if first is None:
            raise ValueError("it is empty.")
        columns = WITHOUT_HEADER.get(name)
        is_row = columns is not None and len(first) >= len(columns) and _is_number(first[columns.index(LABEL)])
        names = list(columns) if is_row and columns else first
        if is_row:
            yield dict(zip(names, first, strict=False))
        wrong = []
        for values in (list(map(unquoted, read)) for read in reader):
            # STS-B's authors leave sources behind the last column.
            if len(values) == len(names) or (is_row and len(values) > len(names)):
                yield dict(zip(names, values, strict=False))
            elif values:
                wrong.append(reader.line_num)
    if wrong:
        logger.warning(
            "%s: %s line(s) have another number of values than the first and are left out, such as line %s.",
            file.name, f"{len(wrong):,}", f"{wrong[0]:,}",
        )  # fmt: skip


def _is_number(value: str) -> bool:
    return re.fullmatch(r"\d+(\.\d+)?", value.strip()) is not None


def _json(file: Path) -> Any:
    """What a file holds: one value, or a list of those that stand in its lines, whatever its suffix says."""
    text = file.read_text(encoding=text_encoding(file))
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        lines = [line for line in text.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def _objects(file: Path) -> Iterator[dict[str, Any]]:
    rows = _json(file)
    rows = [rows] if isinstance(rows, dict) else rows
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ValueError(f"row {number:,} is no object with names and values.")
        yield row


def _articles(name: str, content: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """SQuAD: questions in paragraphs in articles."""
    try:
        for article in content["data"]:
            for paragraph in article["paragraphs"]:
                for question in paragraph["qas"]:
                    if question.get("is_impossible") and name == "squad":
                        raise ValueError("it has questions without an answer: it is of the task 'squad_v2'.")
                    answers = question.get("answers")
                    yield {
                        "id": str(question["id"]),
                        "title": article.get("title", ""),
                        "context": paragraph["context"],
                        "question": question["question"],
                        "answers": None if answers is None else _columns(answers, ("text", "answer_start")),
                    }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it is not in the form of SQuAD: {error!r}.") from error


def _columns(rows: list[dict[str, Any]], names: tuple[str, ...]) -> dict[str, list]:
    return {name: [row[name] for row in rows] for name in names}
