"""Classes or scores of single sentences and pairs: GLUE, and any labelled texts."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from datasets import ClassLabel, Dataset
from transformers import AutoModelForSequenceClassification, EvalPrediction, PretrainedConfig, PreTrainedModel

from ..data.corpora import LABEL
from .base import Task, first_of_pair, refuse_without_tokens
from .labels import classes_of_outputs, folded, output_names
from .metrics import accuracy

HEAD = "ForSequenceClassification"  # how `architectures` of a checkpoint with such a head end


@dataclass(frozen=True)
class ClassificationTask(Task):
    """Sequence classification, or regression, by an encoder or a causal language model with such a head.

    A model whose head is trained keeps its own classes and their order: `evaluate_task` goes by their names.

    Args:
        name, splits: see [`Task`]; rows have the text columns and `label`, -1 where it is hidden.
        columns: one or two columns of text.
        labels: names of the classes, in the order of their numbers; none for regression.
        metrics: of `hf_vec2vec.tasks.metrics`.
        label_map: `{name of the model: name of the data}` for models that name the classes otherwise; several names of the
            model may stand for one class.

    Raises:
        ValueError: if a split numbers its classes in another order than `labels`.
    """

    columns: tuple[str, ...]
    labels: tuple[str, ...]
    metrics: Callable[[np.ndarray, np.ndarray], dict[str, float]] = accuracy
    label_map: Mapping[str, str] | None = None

    head: ClassVar[Any] = AutoModelForSequenceClassification
    default_length: ClassVar[int] = 128

    def __post_init__(self) -> None:
        for split, rows in self.splits.items():
            feature = rows.features.get(LABEL)
            names = feature.names if self.labels and isinstance(feature, ClassLabel) else list(self.labels)
            own, wanted = [folded(name) for name in names], [folded(name) for name in self.labels]
            if own != wanted and sorted(own) == sorted(wanted):
                raise ValueError(
                    f"`labels` of {self.name!r} are {list(self.labels)}, but the split {split!r} numbers its classes as "
                    f"{names}: give `labels` in that order."
                )

    @property
    def num_labels(self) -> int:
        """Outputs of the head: one for regression."""
        return len(self.labels) or 1

    def head_arguments(self, config: PretrainedConfig | None = None) -> dict[str, Any]:
        """Number, names and kind of the labels. A checkpoint that has a head already keeps its own.

        Args:
            config: of the checkpoint.

        Raises:
            ValueError: if the checkpoint's classes are not those of the task.
        """
        if config is not None and any(name.endswith(HEAD) for name in config.architectures or ()):
            self.classes(config)
            return {}
        if not self.labels:
            return {"num_labels": 1, "problem_type": "regression"}
        return {
            "num_labels": len(self.labels),
            "id2label": dict(enumerate(self.labels)),
            "label2id": {name: i for i, name in enumerate(self.labels)},
            "problem_type": "single_label_classification",
        }

    def classes(self, config: PretrainedConfig) -> np.ndarray:
        """Which class each output of a model stands for, `(outputs,)`; of regression the one output.

        Raises:
            ValueError: if the model's classes are not those of the task (see `classes_of_outputs`).
        """
        outputs = output_names(config)
        if self.labels:
            return classes_of_outputs(outputs, self.labels, self.label_map)
        if len(outputs) != 1:
            raise ValueError(
                f"`model` has the classes {outputs}; {self.name!r} wants one score: take a model of one output."
            )
        return np.zeros(1, dtype=int)

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. Rows with `labels`; of pairs the longer text is cut first.

        Raises:
            ValueError: also for an empty text of which the tokenizer makes no token.
        """
        rows, columns, max_length = self.rows(split), self.columns, self.length(max_length)
        name = self.name

        def encode(batch: dict[str, list], numbers: list[int]) -> dict[str, list]:
            first, *second = (batch[column] for column in columns)
            texts = [first_of_pair(tokenizer, first), *second] if second else [first]
            encoded = tokenizer(*texts, truncation=True, max_length=max_length)
            refuse_without_tokens(encoded["input_ids"], numbers, name, split)
            return dict(encoded) | {"labels": batch[LABEL]}

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names)

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]]:
        """See [`Task`]. Predictions are `(n, num_labels)`, in the order of `labels`."""
        references = np.asarray(features["labels"][:])
        known = self.known(split, references >= 0)

        def compute(found: EvalPrediction) -> dict[str, float]:
            logits = np.asarray(found.predictions)
            if logits.shape != (len(references), self.num_labels):
                raise ValueError(
                    f"`predictions` must be {(len(references), self.num_labels)} for {self.name!r}, got {logits.shape}."
                )
            answers = self.answers(logits)
            return self.metrics(answers[known], references[known]) | self.unlabelled_rows(split, known)

        return compute

    def has_label(self, split: str) -> np.ndarray:
        """See [`Task`]."""
        return np.asarray(self.rows(split)[LABEL][:]) >= 0

    def answers(self, logits: np.ndarray) -> np.ndarray:
        """`(n,)` labels, classes or scores, that logits `(n, num_labels)` stand for."""
        return logits.argmax(1) if self.labels else logits[:, 0]

    def in_task_order(self, model: PreTrainedModel, logits: np.ndarray) -> np.ndarray:
        """See [`Task`]. Where several outputs of the model stand for one class, the greatest counts."""
        classes = self.classes(model.config)
        if logits.shape[1] != len(classes):
            raise ValueError(
                f"`model` has {logits.shape[1]} outputs, and its config names {len(classes)}: {output_names(model.config)}."
            )
        return np.stack([logits[:, classes == i].max(1) for i in range(self.num_labels)], 1)

    def evaluate(self, model, tokenizer, split: str, **options) -> dict[str, float]:
        """See [`Task`]."""
        self.classes(model.config)  # raises before the model runs
        return super().evaluate(model, tokenizer, split, **options)
