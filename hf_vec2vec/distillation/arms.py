"""The arms of an experiment: ways to train a student that differ in what it follows, in nothing else."""

import copy
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import PeftConfig
from sklearn.model_selection import cross_val_predict
from torch import Tensor
from torch.nn import functional as F
from transformers import set_seed

from ..alignment.regression import ridge
from ..alignment.statistics import fit_statistics
from ..data.columns import TEXT, to_dataset
from ..evaluation.attributes import linear_probe_pipeline
from ..evaluation.baselines import paired_procrustes, paired_ridge, random_rotation
from ..model.modeling_vec2vec import Vec2VecModel
from .arguments import DistillationTrainingArguments
from .data import LABEL, LABELS, PAIR, SOFT_LABELS
from .store_targets import targets_from_store
from .students import StudentEncoder, load_student
from .trainer import DistillationTrainer, LogitTeacher

FROZEN, TEACHER = "frozen student", "teacher"  # nothing is trained
TASK, STORE, ULD = "task loss only", "teacher's store only", "sorted logits (ULD)"
LEARNED, FROM_RIDGE, FROM_OURS = "learned projection", "learned projection from ridge", "learned projection from ours"
LABELS_OURS, LABELS_RIDGE = "labels + ours", "labels + learned projection from ridge"
LABELS_ANSWERS = "labels + teacher's answers"  # where rows without a label are, and nothing more of the teacher
LABELS_FROM_OURS, LABELS_LOGITS = "labels + learned projection from ours", "labels + logits"
# Names that a translator cannot have: one of the two arms would be lost.
RESERVED = frozenset(
    {FROZEN, TEACHER, TASK, STORE, ULD, LEARNED, FROM_RIDGE, FROM_OURS}
    | {LABELS_OURS, LABELS_RIDGE, LABELS_ANSWERS, LABELS_FROM_OURS, LABELS_LOGITS}
    | {"shuffled teacher", "random isometry", "student + noise", "self", "paired Procrustes", "paired ridge"}
    | {"Gram loss", "ours + Gram loss", "ours, contrast", "labels + learned projection", "labels + Gram loss"}
    | {"labels + shuffled teacher", "labels + random isometry", "labels + shuffled logits", "labels + logits + ours"}
    | {"labels + logits + learned projection from ridge", "labels + logits + Gram loss"}
    | {"labels + logits + ours + Gram loss"}
)
START_RATE = 0.1  # of a projection that starts where it should end: its learning rate by that of the adapter
ALMOST_EXACT = 1e-6  # penalty of a fit that shall repeat a linear map
FOLDS = 5  # in which the teacher's logits are made: a probe is too sure of the rows that it was fitted on


@dataclass(frozen=True)
class Lesson:
    """What all arms share: texts, what the teacher says of them, steps, order, adapter.

    Args:
        student: model that is adapted.
        translators: by name, each with both spaces; the first is the one that others are compared with.
        teacher_space: name in the translators.
        student_space: the same.
        texts: n that the student is trained on.
        teacher: `(n, d_t)`, the teacher's vectors of them.
        peft_config: adapter of the student.
        arguments: of `DistillationTrainingArguments`, but for `output_dir`, `seed` and the losses.
        labels: `(n,)`, classes, or scores if they are fractions, for the arms that look at them.
        classes: names of the classes, in the order of their numbers, which the student's head records.
        pairs: n second texts, of a task with two.
        store: `(k, d_t)`, teacher vectors of other texts, for the arm whose teacher cannot be asked.
        teacher_lm: the teacher's name, where both are causal language models: for the arm that compares their logits.
        trust_remote_code: run the code that models bring along.
        logits: `(n, outputs)`, what the head of a teacher that has learned the task says, classes in the order of `classes`;
            none: a probe on its vectors stands for it.
        labelled: `(n,)`, whether the label of a row is known; none: of all. The others are what the teacher makes of them.

    Raises:
        ValueError: for a translator with the name of another arm.
    """

    student: str
    translators: dict[str, Vec2VecModel]
    teacher_space: str
    student_space: str
    texts: list[str]
    teacher: Tensor
    peft_config: PeftConfig
    arguments: dict = field(default_factory=dict)
    labels: np.ndarray | None = None
    classes: Sequence[str] = ()
    pairs: list[str] | None = None
    store: Tensor | None = None
    teacher_lm: str | None = None
    trust_remote_code: bool = False
    logits: np.ndarray | None = None
    labelled: np.ndarray | None = None

    def __post_init__(self) -> None:
        check_names(self.translators)

    @property
    def translator(self) -> Vec2VecModel:
        """The one that others are compared with."""
        return next(iter(self.translators.values()))

    @property
    def outputs(self) -> int:
        """Of a head that learns the labels: one for scores."""
        if self.labels is None:
            return 0
        return 1 if _are_scores(self.labels) else len(self.classes) or int(self.labels.max()) + 1

    @cached_property
    def soft_labels(self) -> np.ndarray | None:
        """`(n, classes)`: the head's, or log-probabilities by probes on the teacher's vectors that have not seen the row."""
        if self.labels is None or _are_scores(self.labels):
            return None
        if self.logits is not None:
            return self.logits
        folds = min(FOLDS, int(np.bincount(self.labels).min()))
        if folds < 2:
            return None
        rows = _centred(self.teacher).numpy()
        return cross_val_predict(linear_probe_pipeline(), rows, self.labels, cv=folds, method="predict_log_proba")


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Args:
        targets: `(n, d)`, a vector for every training text; none where the teacher is not looked at.
        space: of the targets.
        arguments: losses, and whether a projection is learned.
        projection: `(d, d_s)`, where a learned projection starts; none: at random.
        soft_labels: `(n, classes)`, logits of the teacher.
        labels: `(n,)`, in place of the lesson's.
        rows: places of the texts that are trained on; none: all.
    """

    targets: Tensor | None
    space: str
    arguments: dict = field(default_factory=dict)
    projection: Tensor | None = None
    soft_labels: np.ndarray | None = None
    labels: np.ndarray | None = None
    rows: np.ndarray | None = None


def check_names(translators: Iterable[str], taken: Iterable[str] = (), argument: str = "translators") -> None:
    """Refuse names of translators that another arm has.

    Args:
        translators: their names.
        taken: names of other translators.
        argument: that gave the names.

    Raises:
        ValueError: for a name that is there twice, or is that of an arm without a translator of its own.
    """
    seen = set(taken)
    for name in translators:
        if name in seen or name in RESERVED:
            kind = "another translator" if name in seen else "another arm"
            raise ValueError(
                f"`{argument}` has the name {name!r}, which is that of {kind}: results of one would be lost. Choose another."
            )
        seen.add(name)


def make_arms(lesson: Lesson, student: Tensor, seed: int) -> dict[str, Arm]:
    """All arms but the untrained ones.

    Args:
        lesson: what they share.
        student: `(n, d_s)`, of the training texts by the student as it is.
        seed: of permutation, isometry and noise.

    Returns:
        Arms by name: every translator; the *store* alone (see `targets_from_store`), if there is one; a *shuffled* teacher
        (its translations, each given to another text); a *random isometry* of the teacher into the student's space (of its
        leading principal axes, where the student has fewer dimensions: what a random subspace loses would weaken the
        control); the *student with noise*, as far from itself as the translation is; *itself*; paired Procrustes and ridge,
        fitted on the training texts themselves; a projection that is learned with the student, from random weights, from
        ridge on the training texts, and from the first translator, which has seen no pair; the Gram loss, which needs no
        translation, alone and beside the first translator; the contrast of each translation with those of other texts;
        with labels the task loss alone, beside the first translator, beside the projections with a start, beside the Gram
        loss, beside the logits of a probe on the teacher's vectors (of classes), and most of them together;
        universal logit distillation with the language-modelling loss, as published, between language models.
    """
    space, teacher = lesson.teacher_space, lesson.teacher
    # As a translator sees them: in raw states of language models a few dimensions drown all others.
    own = lesson.translator.normalizers[space](teacher)
    targets = _translations(lesson, student) | _controls(lesson, student, seed)
    ours = next(iter(targets.values()))
    back = lesson.translator.translate(student, source=lesson.student_space, target=space)
    starts = {
        FROM_RIDGE: matrix_of(paired_ridge(student, own), student.shape[1]),
        FROM_OURS: ridge(_centred(student), _centred(lesson.translator.normalizers[space](back)), ALMOST_EXACT).T,
    }
    learn = {"learn_projection": True}
    logits = {"cosine_weight": 0.0, "logit_weight": 1.0, "lm_loss_weight": 1.0}
    return (
        {name: Arm(rows, lesson.student_space) for name, rows in targets.items()}
        | {LEARNED: Arm(own, space, learn)}
        | {name: Arm(own, space, learn | {"projection_rate": START_RATE}, start) for name, start in starts.items()}
        | {
            "Gram loss": Arm(teacher, space, {"cosine_weight": 0.0, "gram_weight": 1.0}),
            "ours + Gram loss": Arm(teacher, space, {"gram_weight": 1.0}),
            "ours, contrast": Arm(ours, lesson.student_space, {"cosine_weight": 0.0, "contrastive_weight": 1.0}),
        }
        | (_with_labels(lesson, targets, own, starts, seed) if lesson.labels is not None else {})
        | ({ULD: Arm(None, space, logits)} if lesson.teacher_lm else {})
    )


def _translations(lesson: Lesson, student: Tensor) -> dict[str, Tensor]:
    ways: dict[str, Any] = {"source": lesson.teacher_space, "target": lesson.student_space}
    found = {name: model.translate(lesson.teacher, **ways) for name, model in lesson.translators.items()}
    if lesson.store is not None:
        found[STORE] = targets_from_store(lesson.translator, lesson.store, student, **ways)
    return found


def _controls(lesson: Lesson, student: Tensor, seed: int) -> dict[str, Tensor]:
    """Targets of those arms that a translation must beat, and of the two that have seen pairs."""
    generator = torch.Generator().manual_seed(seed)
    teacher, mean = lesson.teacher, student.mean(0)
    ours = lesson.translator.translate(teacher, source=lesson.teacher_space, target=lesson.student_space)
    cosine = F.cosine_similarity(ours - ours.mean(0), student - mean, dim=1).mean().clamp(0.05, 0.999)
    noise = torch.randn(student.shape, generator=generator) * (student - mean).norm(dim=1, keepdim=True)
    noise = noise / student.shape[1] ** 0.5 * (1 / cosine.square() - 1).sqrt()
    teacher_mean, teacher_scale = fit_statistics(teacher)
    axes = principal_axes((teacher - teacher_mean) / teacher_scale, student.shape[1])
    isometry = random_rotation(fit_statistics(axes, False), fit_statistics(student), seed)
    return {
        "shuffled teacher": ours[torch.randperm(len(ours), generator=generator)],
        "random isometry": isometry(axes),
        "student + noise": student + noise,
        "self": student,
        "paired Procrustes": paired_procrustes(teacher, student)(teacher),
        "paired ridge": paired_ridge(teacher, student)(teacher),
    }


def _with_labels(
    lesson: Lesson, targets: dict[str, Tensor], own: Tensor, starts: dict[str, Tensor], seed: int
) -> dict[str, Arm]:
    task: dict[str, Any] = {"task_weight": 1.0}
    alone = task | {"cosine_weight": 0.0}
    learn = task | {"learn_projection": True, "projection_rate": START_RATE}
    teacher, space = lesson.teacher, lesson.teacher_space
    ours, labels = next(iter(targets.values())), lesson.labels
    assert labels is not None
    rows = None if lesson.labelled is None else np.flatnonzero(lesson.labelled)
    arms = {
        TASK: Arm(None, space, alone, rows=rows),
        LABELS_OURS: Arm(ours, lesson.student_space, task),
        LABELS_RIDGE: Arm(own, space, learn, starts[FROM_RIDGE]),
        LABELS_FROM_OURS: Arm(own, space, learn, starts[FROM_OURS]),
        "labels + learned projection": Arm(own, space, task | {"learn_projection": True}),
        "labels + Gram loss": Arm(teacher, space, alone | {"gram_weight": 1.0}),
    }
    if rows is not None:
        arms[LABELS_ANSWERS] = Arm(None, space, alone)
    for control in ("shuffled teacher", "random isometry"):
        arms[f"labels + {control}"] = Arm(targets[control], lesson.student_space, task)
    both = {"soft_label_weight": 1.0} if lesson.soft_labels is not None else {}
    if both or (_are_scores(labels) and lesson.logits is not None):
        known = _with_logits(lesson)
        shuffled = np.random.default_rng(seed).permutation(len(labels))
        arms[LABELS_LOGITS] = Arm(None, space, alone | both, **known)
        arms["labels + shuffled logits"] = Arm(None, space, alone | both, **_with_logits(lesson, shuffled))
        arms["labels + logits + ours"] = Arm(ours, lesson.student_space, task | both, **known)
        arms["labels + logits + learned projection from ridge"] = Arm(own, space, learn | both, starts[FROM_RIDGE], **known)
        arms["labels + logits + Gram loss"] = Arm(teacher, space, alone | both | {"gram_weight": 1.0}, **known)
        arms["labels + logits + ours + Gram loss"] = Arm(teacher, space, task | both | {"gram_weight": 1.0}, **known)
    return arms


def _with_logits(lesson: Lesson, order: np.ndarray | slice = slice(None)) -> dict[str, Any]:
    """What arms learn of labels and logits, the logits in another order, if one is given."""
    assert lesson.labels is not None
    soft = lesson.soft_labels
    if soft is not None:
        return {"soft_labels": soft[order]}
    assert lesson.logits is not None
    # The squared error to both is that to their mean, but for a constant.
    return {"labels": (lesson.labels + lesson.logits[order, 0]) / 2}


def _are_scores(labels: np.ndarray) -> bool:
    return labels.dtype.kind == "f"


def matrix_of(affine: Callable[[Tensor], Tensor], dim: int) -> Tensor:
    """The matrix `(d_out, dim)` of an affine map of rows."""
    return (affine(torch.eye(dim)) - affine(torch.zeros(1, dim))).T


def _centred(rows: Tensor) -> Tensor:
    return rows - rows.mean(0)


def principal_axes(rows: Tensor, count: int) -> Tensor:
    """Centred rows `(n, d)` in their leading principal axes, `(n, min(count, d))`; the rows as they are if these are all."""
    if rows.shape[1] <= count:
        return rows
    centred = _centred(rows)
    return centred @ torch.linalg.eigh(centred.T @ centred).eigenvectors[:, -count:]


def untrained(student: str, arguments: dict, *, trust_remote_code: bool = False) -> StudentEncoder:
    """The student as it is, with the settings that `arguments` of a [`Lesson`] give it."""
    model, tokenizer, known = load_student(student, trust_remote_code=trust_remote_code)
    with tempfile.TemporaryDirectory() as folder:
        made = DistillationTrainingArguments(folder, **(known | arguments)).encoder_settings(student)
    return StudentEncoder(model, tokenizer, made)


def arm_trainer(lesson: Lesson, arm: Arm, seed: int, folder: str) -> DistillationTrainer:
    """The trainer of one arm: start of the adapter, order of the data and number of updates are those of all arms.

    Args:
        lesson: what arms share.
        arm: of `make_arms`.
        seed: of the adapter's start and of the order.
        folder: that the trainer may write to.
    """
    supervised, logits = bool(arm.arguments.get("task_weight")), bool(arm.arguments.get("logit_weight"))
    set_seed(seed)  # a new head depends on nothing else
    model, tokenizer, known = load_student(
        lesson.student,
        "classifier" if supervised else "causal_lm" if logits else "encoder",
        num_labels=lesson.outputs if supervised else None,
        labels=lesson.classes or None if supervised else None,
        trust_remote_code=lesson.trust_remote_code,
    )
    data = Dataset.from_dict({TEXT: lesson.texts} | ({PAIR: lesson.pairs} if lesson.pairs else {}))
    if arm.targets is not None:
        data = data.add_column(LABEL, to_dataset(arm.targets)["embedding"])
    if supervised and lesson.labels is not None:
        data = data.add_column(LABELS, (lesson.labels if arm.labels is None else arm.labels).tolist())
    if arm.soft_labels is not None:
        data = data.add_column(SOFT_LABELS, arm.soft_labels.tolist())
    if arm.rows is not None:
        data = data.select(arm.rows)
    given = {
        "teacher_spaces": [arm.space],
        "student_space": lesson.student_space,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }
    arguments = DistillationTrainingArguments(
        folder, **(known | given | lesson.arguments | arm.arguments), seed=seed, data_seed=seed
    )
    adapter = copy.deepcopy(lesson.peft_config)
    adapter.task_type = "SEQ_CLS" if supervised else None  # trains the new head, too
    return DistillationTrainer(
        model,
        arguments,
        translator=None if arguments.learn_projection else lesson.translator,
        projection=arm.projection,
        logit_teacher=_logit_teacher(lesson) if logits else None,
        peft_config=adapter,
        train_dataset=data,
        processing_class=tokenizer,
    )


def _logit_teacher(lesson: Lesson) -> LogitTeacher | None:
    if lesson.teacher_lm is None:
        return None
    return load_student(lesson.teacher_lm, "causal_lm", trust_remote_code=lesson.trust_remote_code)[:2]


__all__ = ["Arm", "Lesson", "arm_trainer", "check_names", "make_arms", "matrix_of", "principal_axes", "untrained"]
