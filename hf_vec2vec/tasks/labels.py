"""Classes by name: numbers of a data set's labels, and which output of a model stands for which class."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from datasets import ClassLabel, Dataset, Value
from transformers import PretrainedConfig
from transformers.utils import logging

from ..data.corpora import LABEL
from ..data.labels import MISSING, read_labels

logger = logging.get_logger(__name__)
NO_AGREEMENT = "-"  # what SNLI and MNLI write where annotators did not agree: no label


def folded(name: str) -> str:
    """A name as it is compared: without regard to case, spaces, underscores and hyphens."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", name)).casefold()


def with_classes(rows: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The rows with their labels, names or numbers, as numbers of `labels`; -1 for rows that have none.

    Args:
        rows: with the column `label`.
        labels: names of the classes, in the order of their numbers.

    Raises:
        ValueError: for a label that is none of them.
    """
    feature = rows.features[LABEL]
    found = read_labels(rows[LABEL][:], feature.names if isinstance(feature, ClassLabel) else None)
    places = {folded(name): i for i, name in enumerate(labels)}
    # In own files "0" may be the name of a class; where it is not, numbers are places.
    places = {str(i): i for i in range(len(labels))} | places | {NO_AGREEMENT: MISSING, str(MISSING): MISSING}
    places |= {name: i for i, name in enumerate(labels)}
    if unknown := sorted({label for label in found if label and label not in places and folded(label) not in places}):
        raise ValueError(f"`label` must be one of {list(labels)}, their numbers, or -1; got {unknown[:5]}.")
    numbers = [MISSING if label is None else places[label if label in places else folded(label)] for label in found]
    return rows.remove_columns(LABEL).add_column(LABEL, numbers, feature=ClassLabel(names=list(labels)))


def with_scores(rows: Dataset) -> Dataset:
    """The rows with their scores as float32, -1 for rows that have none.

    Raises:
        ValueError: for what is no number, or a negative one.
    """
    scores = []
    for label in rows[LABEL][:]:
        try:
            score = float(MISSING if label is None or not str(label).strip() else label)
        except ValueError:
            score = -math.inf
        scores.append(MISSING if math.isnan(score) else score)
        if not (0 <= scores[-1] < math.inf or scores[-1] == MISSING):
            raise ValueError(f"`label` must be a score from 0 on, or -1 where there is none, got {label!r}.")
    return rows.remove_columns(LABEL).add_column(LABEL, scores, feature=Value("float32"))


def output_names(config: PretrainedConfig) -> list[str]:
    """Names of a classifier's outputs in their order, out of `id2label`, or `label2id` where only that has names.

    Raises:
        ValueError: if both have the same names in different orders: then nothing tells which of them is right.
    """
    by_number = {int(i): str(name) for i, name in (config.id2label or {}).items()}
    names = [by_number[i] for i in sorted(by_number)]
    other = {int(i): str(name) for name, i in (config.label2id or {}).items()}
    if sorted(other) != sorted(by_number) or class_numbers(list(other.values())) is not None:
        return names
    if class_numbers(names) is not None:
        return [other[i] for i in sorted(other)]
    differing = [i for i in sorted(other) if folded(by_number[i]) != folded(other[i])]
    if differing and {folded(name) for name in names} == {folded(name) for name in other.values()}:
        i = differing[0]
        raise ValueError(
            f"`model` contradicts itself: its config calls output {i} {by_number[i]!r} in `id2label` and {other[i]!r} in "
            "`label2id`. Set both to what it was trained with."
        )
    return names


def class_numbers(names: Sequence[str]) -> list[int] | None:
    """The numbers of names that say no more than a number, such as `LABEL_2` or `2`; `None` if one says more."""
    found = [re.fullmatch(r"(?:(?:label|class)[\s_-]*)?(-?\d+)", name.strip().casefold()) for name in names]
    return [int(match[1]) for match in found if match] if all(found) else None


def classes_of_outputs(
    outputs: Sequence[str], labels: Sequence[str], label_map: Mapping[str, str] | None = None
) -> np.ndarray:
    """Which class of the data each output of a model stands for. The model's own names decide.

    Names are compared as `folded` has them. Names that are only numbers (`LABEL_0`, `LABEL_1`, …) mean the classes in the
    order of the data.

    Args:
        outputs: the model's names, in the order of its outputs.
        labels: the data's names, in the order of their numbers.
        label_map: `{name of the model: name of the data}`, where names differ; several names of the model may stand for one
            class. Names that it leaves out are compared as they are.

    Returns:
        `(len(outputs),)`, numbers of classes.

    Raises:
        ValueError: for names that do not match, another number of classes, or a `label_map` with unknown names.
    """
    label_map = dict(label_map or {})
    _check_map(label_map, outputs, labels)
    wanted = [label_map.get(name, name) for name in outputs]
    found = _by_name(wanted, labels)
    if found is None and not label_map:
        found = _by_number(outputs, labels)
    if found is None or set(found) != set(range(len(labels))) or (len(set(found)) < len(found) and not label_map):
        raise ValueError(
            f"`model` has the {len(outputs)} classes {list(outputs)}, the data have the {len(labels)} classes "
            f"{list(labels)}, and the names do not match one to one. Say which is which with `label_map`, "
            "{name of the model: name of the data}, or take a model of these classes."
        )
    return np.array(found)


def _check_map(label_map: dict[str, str], outputs: Sequence[str], labels: Sequence[str]) -> None:
    unknown = [name for name in label_map if name not in outputs]
    unknown_classes = [name for name in label_map.values() if name not in labels]
    if unknown or unknown_classes:
        raise ValueError(
            f"`label_map` must map names of the model, {list(outputs)}, to names of the data, {list(labels)}; got "
            f"{(unknown + unknown_classes)[0]!r}."
        )


def _by_name(wanted: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Places of names among the labels, by their exact or their folded form; `None` if one is not there or is unclear."""
    for form in (str, folded):
        places = {form(name): i for i, name in enumerate(labels)}
        if len(places) == len(labels) and all(form(name) in places for name in wanted):
            return [places[form(name)] for name in wanted]
    return None


def _by_number(outputs: Sequence[str], labels: Sequence[str]) -> list[int] | None:
    """Places of outputs that have only numbers; `None` if they name something, or are not as many as the labels."""
    numbers, own = class_numbers(outputs), class_numbers(labels)
    if numbers is None or len(numbers) != len(labels):
        return None
    if own is not None and sorted(own) == sorted(numbers):
        return [own.index(number) for number in numbers]
    plain = all(name.strip().lstrip("-").isdecimal() for name in outputs)
    if sorted(numbers) != list(range(len(labels))) or (own is not None and plain):
        return None
    logger.warning(
        f"The model gives its classes no names ({outputs[0]!r}, …): its outputs are taken in the order of the data, "
        f"{list(labels)}. If they stand in another, say so with `label_map`."
    )
    return numbers
