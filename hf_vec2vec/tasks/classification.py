"""Classes or scores of single sentences and pairs: GLUE, and any labelled texts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from datasets import ClassLabel, Dataset
from transformers import AutoModelForSequenceClassification, EvalPrediction

from .base import Task, first_of_pair
from .metrics import accuracy

LABEL = "label"


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Sequence classification, or regression, by an encoder or a causal language model with such a head.

    Args:
        name, splits: see [`Task`]; rows have the text columns and `label`, -1 where it is hidden.
        columns: one or two columns of text.
        labels: names of the classes, in the order of their numbers; none for regression.
        metrics: of `hf_vec2vec.tasks.metrics`.
    """

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]] = accuracy

    head: ClassVar[type] = AutoModelForSequenceClassification
    default_length: ClassVar[int] = 128

    @property
    def num_labels(self) -> int:
        """Outputs of the head: one for regression."""
        return len(self.labels) or 1

    def head_arguments(self) -> dict[str, Any]:
        """Number, names and kind of the labels."""
        if not self.labels:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: i for i, name in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. Rows with `labels`; of pairs the longer text is cut first."""
        rows, columns, max_length = self.rows(split), self.columns, max_length or self.default_length

        def encode(batch: dict[str, list]) -> dict[str, list]:
            first, *second = (batch[column] for column in columns)
            texts = [first_of_pair(tokenizer, first), *second] if second else [first]
            encoded = tokenizer(*texts, truncation=True, max_length=max_length)
            return dict(encoded) | {"labels": batch[LABEL]}

        return rows.map(encode, batched=True, remove_columns=rows.column_names)

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are `(n, num_labels)`."""
        references = np.asarray(features["labels"][:])
        if references.min(initial=0) < 0:
            raise ValueError(f"`features` of {self.name!r} have hidden labels (-1): there is nothing to compare with.")

        def compute(found: EvalPrediction) -> dict[str, float]:
            logits = np.asarray(found.predictions)
            if logits.shape != (len(references), self.num_labels):
                raise ValueError(
                    f"`predictions` must be {(len(references), self.num_labels)} for {self.name!r}, got {logits.shape}."
                )
            return self.metrics(logits.argmax(1) if self.labels else logits[:, 0], references)

        return compute

    def evaluate(self, model, tokenizer, split: str, **options) -> dict[str, float]:
        """See [`Task`].

        Raises:
            ValueError: if the model has the task's classes in another order, as some published MNLI models do.
        """
        names = [str(model.config.id2label[i]).lower() for i in sorted(model.config.id2label)]
        if names != list(self.labels) and sorted(names) == sorted(self.labels):
            raise ValueError(
                f"`model` has the classes in the order {names}, {self.name!r} as {list(self.labels)}: reorder the rows of "
                "its last layer, and `config.id2label`."
            )
        return super().evaluate(model, tokenizer, split, **options)


def with_classes(data: Dataset, labels: tuple[str, ...]) -> Dataset:
    """The rows with their labels, names or numbers, as numbers of `labels`.

    Raises:
        ValueError: for a label that is none of them.
    """
    feature, known = data.features[LABEL], ClassLabel(names=list(labels))
    if feature == known:
        return data
    values = [feature.int2str(v) if isinstance(feature, ClassLabel) and v >= 0 else v for v in data[LABEL]]
    unknown = {v for v in values if v not in (labels if isinstance(v, str) else range(-1, len(labels)))}
    if unknown:
        raise ValueError(
            f"`label` must be one of {list(labels)}, their numbers, or -1; got {sorted(map(str, unknown))[:5]}."
        )
    numbers = [labels.index(v) if isinstance(v, str) else v for v in values]
    return data.remove_columns(LABEL).add_column(LABEL, numbers).cast_column(LABEL, known)
