"""How good an encoder's vectors are for a task, with nothing of the encoder trained: a probe whose form fits the task.

```python
vectors = TaskVectors(TextEncoder("all-MiniLM-L6-v2"))  # computes each text once, however many tasks have it
judge(vectors, load_task("mrpc", "folder")).figures  # {"accuracy": ..., "f1": ...}
```
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from datasets import Dataset
from sklearn.model_selection import GridSearchCV, PredefinedSplit, cross_val_predict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encoders.text import TextEncoder
from .base import Task, evaluate_task
from .classification import ClassificationTask
from .metrics import accuracy, accuracy_and_f1, correlations, matthews, mean_f1
from .multiple_choice import MultipleChoiceTask, one_number_of_choices, right_choices
from .parts import part_of, training_split
from .probes import (
    FOLDS,
    choice_features,
    class_probe,
    cosines,
    folds_of_texts,
    group_probe,
    pair_features,
    place_points,
    score_probe,
)
from .question_answering import QuestionAnsweringTask
from .span_judging import judge_span_head, judge_spans

METRICS: dict[str, Callable[[Any, Any], dict[str, float]]] = {
    metric.__name__: metric for metric in (accuracy, accuracy_and_f1, matthews, correlations, mean_f1)
}
OUTER_FOLDS = 5  # where rows to train on are lacking


@dataclass(frozen=True)
class Judgement:
    """What a probe made of an encoder's vectors.

    Args:
        task: its name.
        figures: official ones; fractions, of SQuAD percent. `cosine_` ones need no training.
        metric: name of what `points` and intervals are made of, see `points_of`.
        points: 0 to 100: mean of the official figures of that metric. Of STS-B it is the cosine's.
        fold_points: the same in folds of the training rows; what settings may be chosen by.
        part: in what the rows differ from the published splits, in words; empty where they are whole.
        train_rows: that the probe was fitted on.
        predictions: an answer for each row that was judged.
        references: the right ones.
    """

    task: str
    figures: dict[str, float]
    metric: str
    points: float
    fold_points: float
    part: str
    train_rows: int
    predictions: list[float] = field(repr=False)
    references: list[float] = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


class TaskVectors:
    """Vectors of texts by an encoder, each text computed once.

    Args:
        encoder: frozen.
    """

    def __init__(self, encoder: TextEncoder):
        self.encoder = encoder
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """`(len(texts), d)`."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        if new:
            self._known.update(zip(new, self.encoder.encode(new, progress=False).numpy(), strict=True))
        return np.stack([self._known[text] for text in texts])


def points_of(metric: str, predictions: Any, references: Any) -> float:
    """Mean of a metric's figures, in points: what GLUE averages over tasks."""
    return 100 * float(np.mean(list(METRICS[metric](np.asarray(predictions), np.asarray(references)).values())))


def judge(
    vectors: TaskVectors,
    task: Task,
    *,
    train: str | None = None,
    split: str = "validation",
    max_train_rows: int | None = None,
    max_rows: int | None = None,
    seed: int = 0,
) -> Judgement:
    """Official figures of a probe on a frozen encoder's vectors.

    Single texts: logistic regression. Pairs: the same on `pair_features`. Scores: ridge regression on these, and the cosine
    of the pair, which is not trained at all. Choices: a softmax over scores of `choice_features`, and the cosine. SQuAD:
    start and end by softmax over the states of the passage's tokens, no answer by the state of the `cls` token.

    Args:
        vectors: of the encoder.
        task: of `load_task`.
        train: split that the probe is fitted on; default: the one whose name begins with `train`, else `split` itself, in
            folds. Rows that share a text (of choices a question, of SQuAD a passage) are in one fold.
        split: that is judged.
        max_train_rows: at most so many, drawn at random.
        max_rows: the same of `split`.
        seed: of draws and folds.

    Raises:
        TypeError: for a task that is answered by a head of its own, such as a language model's.
        ValueError: for a missing split, hidden labels, an empty text, choices of unequal number, too few rows of a class,
            or metrics that are not of `hf_vec2vec.tasks.metrics`.
    """
    _check_metrics(task)
    train = train or training_split(task, split)
    rows = {name: drawn_rows(task, name, count, seed) for name, count in ((split, max_rows), (train, max_train_rows))}
    part = part_of(task, train, split, {name: len(found) for name, found in rows.items()})
    given: dict[str, Any] = {"train_rows": len(rows[train]), "part": part}
    if isinstance(task, QuestionAnsweringTask):
        figures, answers, folds = judge_spans(
            vectors.encoder, task, rows[train], rows[split], in_folds=train == split, seed=seed
        )
        return _judgement(task, "mean_f1", answers, np.ones(len(answers)), figures, folds, given)
    if isinstance(task, MultipleChoiceTask):
        return _judge_choices(vectors, task, rows, train, split, seed, given)
    if isinstance(task, ClassificationTask):
        return _judge_texts(vectors, task, rows, train, split, seed, given)
    raise TypeError(f"`task` {task.name!r} is a {type(task).__name__}, which a probe cannot answer. Load it without a head.")


def judge_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: ClassificationTask | QuestionAnsweringTask,
    split: str,
    held_out: str,
    part: str,
) -> Judgement:
    """The same of a model with a trained head.

    Args:
        model: with the head of the task.
        tokenizer: its own.
        task: of `load_task`.
        split: that is judged.
        held_out: split of training rows that it was not trained on, for `fold_points`.
        part: see [`Judgement`].

    Raises:
        ValueError: for metrics that are not of `hf_vec2vec.tasks.metrics`.
    """
    _check_metrics(task)
    given = {"train_rows": len(task.rows("train")), "part": part}
    if isinstance(task, QuestionAnsweringTask):
        (figures, f1), (_, apart) = (judge_span_head(model, tokenizer, task, name) for name in (split, held_out))
        return _judgement(task, "mean_f1", f1, np.ones(len(f1)), figures, 100 * float(apart.mean()), given)
    said: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for name in (held_out, split):

        def keep(predictions: np.ndarray, references: np.ndarray, name: str = name) -> dict[str, float]:
            said[name] = predictions, references
            return {}

        evaluate_task(model, tokenizer, replace(task, metrics=keep), name, progress=False)
    figures = task.metrics(*said[split])
    metric = task.metrics.__name__
    return _judgement(task, metric, *said[split], figures, points_of(metric, *said[held_out]), given)


def _judge_texts(
    vectors: TaskVectors,
    task: ClassificationTask,
    rows: dict[str, Dataset],
    train: str,
    split: str,
    seed: int,
    given: dict[str, Any],
) -> Judgement:
    """Classes or scores of single texts and pairs."""
    sides = {name: [vectors(_texts(task, found, name, column)) for column in task.columns] for name, found in rows.items()}
    features = {name: pair_features(*found) if len(found) == 2 else found[0] for name, found in sides.items()}
    labels = {name: np.asarray(found["label"][:]) for name, found in rows.items()}
    metric = task.metrics.__name__
    if task.labels:
        _check_classes(task, train, labels[train])
    probe = (class_probe if task.labels else score_probe)(lambda y, found: points_of(metric, found, y), seed)
    texts = list(zip(*(rows[split][column] for column in task.columns), strict=True))
    predictions, folds = _answers(probe, features, labels, train, split, texts)
    figures = METRICS[metric](predictions, labels[split])
    if not task.labels:  # the cosine needs no training, so it is what encoders are compared by
        predictions = cosines(*sides[split])
        figures |= {f"cosine_{name}": value for name, value in METRICS[metric](predictions, labels[split]).items()}
        folds = points_of(metric, cosines(*sides[train]), labels[train])
    return _judgement(task, metric, predictions, labels[split], figures, folds, given)


def _judge_choices(
    vectors: TaskVectors,
    task: MultipleChoiceTask,
    rows: dict[str, Dataset],
    train: str,
    split: str,
    seed: int,
    given: dict[str, Any],
) -> Judgement:
    """Which choice of each question is right."""
    features, labels, nearest = {}, {}, np.empty(0)
    for name, found in rows.items():
        count = one_number_of_choices(task.name, found)
        choices = [text for each in found["choices"] for text in each["text"]]
        _refuse_empty(task, choices, name, "choices")
        asked = vectors(_texts(task, found, name, "question"))
        answers = vectors(choices).reshape(len(found), count, -1)
        features[name], labels[name] = choice_features(asked, answers), np.array(right_choices(found[:]))
        if name == split:
            nearest = cosines(asked[:, None], answers).argmax(1)
    probe = group_probe(place_points, seed)
    predictions, folds = _answers(probe, features, labels, train, split, [(text,) for text in rows[split]["question"]])
    figures = accuracy(predictions, labels[split]) | {"cosine_accuracy": accuracy(nearest, labels[split])["accuracy"]}
    return _judgement(task, "accuracy", predictions, labels[split], figures, folds, given)


def _answers(
    probe: GridSearchCV,
    features: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    train: str,
    split: str,
    texts: Sequence[tuple[str, ...]],
) -> tuple[np.ndarray, float]:
    """The probe's answers to a split of such texts, and its points in folds of the rows that it was fitted on."""
    probe.fit(features[train], labels[train])
    if train != split:
        return probe.predict(features[split]), float(probe.best_score_)
    # The penalty, too, is chosen without the rows that are judged.
    outer = PredefinedSplit(folds_of_texts(texts, OUTER_FOLDS))
    if outer.get_n_splits() < 2:
        raise ValueError(f"`split` {split!r} cannot be judged in folds, for its rows share their texts. Give training rows.")
    return cross_val_predict(probe, features[split], labels[split], cv=outer), float(probe.best_score_)


def _judgement(task, metric, predictions, references, figures, folds, given) -> Judgement:
    known = {"predictions": np.asarray(predictions).tolist(), "references": np.asarray(references).tolist()}
    points = points_of(metric, predictions, references)
    return Judgement(task=task.name, figures=figures, metric=metric, points=points, fold_points=folds, **given, **known)


def drawn_rows(task: Task, split: str, count: int | None = None, seed: int = 0) -> Dataset:
    """The rows with a label that `judge` fits a probe to, or judges it on: at most `count` of a split.

    Raises:
        ValueError: for a missing split, or hidden labels.
    """
    if count is not None and count < 1:
        raise ValueError(f"`max_train_rows` and `max_rows` must be at least 1, got {count}.")
    rows = task.rows(split).select(np.flatnonzero(task.labelled(split)))
    if count is None or count >= len(rows):
        return rows
    return rows.select(sorted(np.random.default_rng(seed).permutation(len(rows))[:count]))


def _texts(task: Task, rows: Dataset, split: str, column: str) -> list[str]:
    texts = rows[column][:]
    _refuse_empty(task, texts, split, column)
    return texts


def _refuse_empty(task: Task, texts: Sequence[str], split: str, column: str) -> None:
    if empty := [i for i, text in enumerate(texts) if not text.strip()]:
        raise ValueError(
            f"`task` {task.name!r} has {len(empty)} empty text(s) in the column {column!r} of {split!r}, the first at place "
            f"{empty[0]}. Drop these rows."
        )


def _check_metrics(task: Task) -> None:
    """Points and intervals are made of predictions that were kept, by the name of the metric."""
    metrics = task.metrics if isinstance(task, ClassificationTask) else accuracy
    name = getattr(metrics, "__name__", repr(metrics))
    if METRICS.get(name) is not metrics:
        raise ValueError(
            f"`metrics` of {task.name!r} is {name!r}, but a probe is judged by one of {', '.join(METRICS)} of "
            "`hf_vec2vec.tasks.metrics`. Take one of these, or score a model with `evaluate_task`."
        )


def _check_classes(task: ClassificationTask, train: str, labels: np.ndarray) -> None:
    counts = np.bincount(labels, minlength=len(task.labels))
    if counts.min() < FOLDS:
        found = dict(zip(task.labels, counts.tolist(), strict=True))
        raise ValueError(
            f"`train` split {train!r} of {task.name!r} has {found} rows a class; a probe needs {FOLDS} of each, for its "
            "penalty is chosen in folds. Take more rows."
        )


__all__ = ["Judgement", "TaskVectors", "drawn_rows", "judge", "judge_head", "points_of"]
