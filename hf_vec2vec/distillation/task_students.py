"""A student learns a task from its labels and from what a teacher, fine-tuned on it, makes of the task's own inputs."""

import logging
import tempfile
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
from datasets import DatasetDict
from peft import LoraConfig
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..alignment.aligner import ROWS_A_CLUSTER, align
from ..alignment.options import AlignmentOptions
from ..encoders.pooling import is_decoder
from ..model.modeling_vec2vec import Vec2VecModel
from ..tasks.base import Task, evaluate_task, set_padding
from ..tasks.choice_pairs import as_pairs
from ..tasks.classification import ClassificationTask
from ..tasks.fine_tuning import input_vectors, read_inputs
from ..tasks.multiple_choice import MultipleChoiceTask
from ..tasks.parts import check_splits
from ..tasks.trained import load_trained_model
from .adapters import merged
from .arms import LABELS_ANSWERS, LABELS_LOGITS, LABELS_OURS, LABELS_RIDGE, TASK, Lesson, arm_trainer, make_arms
from .students import check_answers, load_student

logger = logging.getLogger(__name__)
HELD_OUT = 0.1  # of the training rows, by which the student that is kept is chosen
FEWEST_ROWS = 10  # to train on
TEACHER = "teacher"
SomeTask = TypeVar("SomeTask", bound=Task)


@dataclass(frozen=True)
class TaskStudent:
    """The best of the students, and how all of them did.

    Args:
        model: with its head, the adapter merged.
        tokenizer: its own.
        arm: that it was trained in.
        rows: for the teacher and each arm: `arm`, official figures of the validation split, and `held_out`, mean of the same
            figures on training rows that no student was trained on (the teacher may have been).
        verdict: of the translator, which saw no pair.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    arm: str
    rows: list[dict[str, Any]]
    verdict: str


def distill_task(
    task: Task,
    teacher: str,
    student: str,
    peft_config: LoraConfig,
    *,
    seed: int = 0,
    progress: bool = True,
    trust_remote_code: bool = False,
    **arguments: Any,
) -> TaskStudent:
    """Train a student by labels alone, and by labels beside the teacher; keep the one that does best on held-out rows.

    What the teacher makes of the task's inputs reaches the student in three ways: the logits of its head (of scores the mean
    of label and teacher's score is learned); its vectors, over a projection that starts at ridge regression and learns with
    the student; and these translated, by a translator that sees the one half of the inputs by the teacher and the other by
    the student, if its verdict is "aligned". Where it is not, that way is left out, for a wrong translator costs points.
    For training rows without a label the teacher's answer stands, which is a way of its own; labels alone do without them.

    Args:
        task: classes or scores of single texts or pairs; or questions with choices, each of which is a pair (`as_pairs`).
            Training rows may lack labels (`load_task(..., keep_unlabelled=True)`).
        teacher: folder of a model that was fine-tuned on the task, of choices as pairs (see `fine_tune`).
        student: short name of a bundled model, local folder or Hub id.
        peft_config: the student's adapter.
        seed: of everything random.
        progress: show bars.
        trust_remote_code: run the code that teacher and student bring along.
        arguments: of [`DistillationTrainingArguments`], the same for all. Both sides read `max_length` tokens of an input,
            by default the task's, and their vectors are the means of these, whatever the student's folder says.

    Raises:
        ValueError: for spans, a task without training or validation rows that have labels, a teacher without a head for it,
            a student that is the teacher, or one that is an encoder-decoder.
    """
    check_splits(task, "train", "validation")
    trusted: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    opened = open_lesson(task, teacher, student, peft_config, seed=seed, progress=progress, **trusted, **arguments)
    loaded, tokenizer = load_trained_model(teacher, opened.task, **trusted)
    rows: list[dict[str, Any]] = [{"arm": TEACHER} | _figures(loaded, tokenizer, opened, progress)]
    if opened.verdict != "aligned":
        logger.warning("The translator is %s: the teacher's vectors are followed over a projection alone.", opened.verdict)
    if opened.lesson.labelled is not None:
        logger.info("%d training rows have no label: what the teacher says stands for it", (~opened.lesson.labelled).sum())
    best: tuple[float, Any, str] = (-np.inf, None, "")
    tokenizer = load_student(student, **trusted)[1]
    answers = [] if opened.lesson.labelled is None else [LABELS_ANSWERS]
    for name in [TASK, *answers, LABELS_LOGITS, LABELS_RIDGE, *([LABELS_OURS] if opened.verdict == "aligned" else [])]:
        logger.info("%s", name)
        model = train_in_arm(opened, name, seed)
        rows.append({"arm": name} | _figures(model, tokenizer, opened, progress))
        if rows[-1]["held_out"] > best[0]:
            best = rows[-1]["held_out"], model, name
    return TaskStudent(best[1], tokenizer, best[2], rows, opened.verdict)


@dataclass(frozen=True)
class TaskLesson:
    """What all arms on a task share.

    Args:
        task: with a tenth of its training rows in the split `held_out`.
        lesson: the inputs, what the teacher makes of them, and the labels.
        student_vectors: `(n, d_s)`, of the inputs by the student as it is.
        verdict: of the translator.
    """

    task: ClassificationTask
    lesson: Lesson
    student_vectors: Tensor
    verdict: str


def open_lesson(
    task: Task,
    teacher: str,
    student: str,
    peft_config: LoraConfig,
    *,
    seed: int = 0,
    progress: bool = True,
    trust_remote_code: bool = False,
    **arguments: Any,
) -> TaskLesson:
    """Embed a task's inputs by both sides, and make the translator between them. Arguments and errors: `distill_task`."""
    if teacher == student:
        raise ValueError(f"`teacher` and `student` are both {student!r}: there is nothing to learn.")
    check_answers(student, trust_remote_code=trust_remote_code)
    if isinstance(task, ClassificationTask):
        _check_texts(task)
    task = _as_classes(task, seed)
    train, labelled = task.rows("train"), task.labelled("train")
    reading = {"progress": progress, "bf16": bool(arguments.get("bf16"))}
    length = task.length(arguments.get("max_length"))
    loaded, tokenizer = load_trained_model(teacher, task, trust_remote_code=trust_remote_code)
    set_padding(cast(PreTrainedModel, loaded), tokenizer)
    known, said = read_inputs(loaded, tokenizer, task.prepare(tokenizer, "train", length), **reading)
    logits = task.in_task_order(cast(PreTrainedModel, loaded), cast(Tensor, said).numpy())
    model, tokenizer, _ = load_student(student, trust_remote_code=trust_remote_code)
    own = input_vectors(model, tokenizer, task.prepare(tokenizer, "train", length), **reading)
    # The student is trained on the vectors that `read_inputs` made, whatever its own folder says of its vectors.
    read: dict[str, Any] = {"max_length": length, "pooling": "mean", "layer": -1, "normalize": False, "prompt": ""}
    read["mask_first_token"] = is_decoder(model.config.model_type)
    translator, verdict = unpaired_translator(known, own, seed, progress)
    first, *second = (train[column][:] for column in task.columns)
    labels = np.where(labelled, train["label"][:], task.answers(logits))
    lesson = Lesson(
        student=student,
        translators={"ours": translator},
        teacher_space="teacher",
        student_space="student",
        texts=first,
        pairs=second[0] if second else None,
        teacher=known,
        peft_config=peft_config,
        arguments={"logging_steps": 1_000_000} | read | arguments,
        labels=labels if task.labels else labels.astype(float),
        classes=task.labels,
        trust_remote_code=trust_remote_code,
        logits=logits,
        labelled=None if labelled.all() else labelled,
    )
    return TaskLesson(task, lesson, own, verdict)


def train_in_arm(opened: TaskLesson, name: str, seed: int, **arguments: Any) -> PreTrainedModel:
    """The student after one arm, with its head, its adapter merged.

    Args:
        opened: of `open_lesson`.
        name: of an arm.
        seed: of the adapter's start and of the order.
        arguments: of [`DistillationTrainingArguments`], in place of the lesson's.

    Raises:
        ValueError: for an arm that there is not, or one that trains no head.
    """
    arms = make_arms(opened.lesson, opened.student_vectors, seed)
    if not arms.get(name) or not arms[name].arguments.get("task_weight"):
        with_head = [arm for arm, made in arms.items() if made.arguments.get("task_weight")]
        raise ValueError(f"`name` must be one of {with_head}, which train a head, got {name!r}.")
    lesson = replace(opened.lesson, arguments=opened.lesson.arguments | arguments)
    with tempfile.TemporaryDirectory() as folder:
        trainer = arm_trainer(lesson, arms[name], seed, folder)
        trainer.train()
    return merged(trainer.student)


def _check_texts(task: ClassificationTask) -> None:
    """Raise a ValueError, before anything is read, for training rows of which no student could learn."""
    rows = task.rows("train")
    texts = zip(*(rows[column][:] for column in task.columns), strict=True)
    if empty := [i for i, row in enumerate(texts) if not any(text.strip() for text in row)]:
        raise ValueError(
            f"`task` {task.name!r} has {len(empty)} row(s) of 'train' without any text, the first at place {empty[0]}. Drop "
            "these rows."
        )


def _as_classes(task: Task, seed: int) -> ClassificationTask:
    """The task as classes or scores, a tenth of its training rows apart; of choices whole questions."""
    if not isinstance(task, MultipleChoiceTask | ClassificationTask):
        raise ValueError(f"`task` {task.name!r} must have classes, scores or choices. For spans there is `distill_spans`.")
    task = with_held_out(task, seed)
    return as_pairs(task) if isinstance(task, MultipleChoiceTask) else task


def with_held_out(task: SomeTask, seed: int) -> SomeTask:
    """The task with a tenth of its training rows, of those with labels, in the split `held_out`.

    Raises:
        ValueError: for too few rows.
    """
    rows = task.rows("train")
    labelled = np.flatnonzero(task.labelled("train"))
    if len(labelled) < FEWEST_ROWS:
        raise ValueError(
            f"`task` {task.name!r} has {len(labelled)} training rows, of which a tenth is held out: {FEWEST_ROWS} at least, "
            "with labels."
        )
    apart = np.random.default_rng(seed).permutation(labelled)[: max(1, round(HELD_OUT * len(labelled)))]
    kept = np.setdiff1d(np.arange(len(rows)), apart)
    parts = {"train": rows.select(kept), "held_out": rows.select(apart)}
    return replace(task, splits=DatasetDict({**task.splits, **parts}))


def _figures(model: Any, tokenizer: PreTrainedTokenizerBase, opened: TaskLesson, progress: bool) -> dict[str, float]:
    """Official figures of the validation split, and the mean of those of the held-out rows."""
    options: dict[str, Any] = {"max_length": opened.lesson.arguments["max_length"], "progress": progress}
    held_out = evaluate_task(model, tokenizer, opened.task, "held_out", **options)
    found = evaluate_task(model, tokenizer, opened.task, "validation", **options)
    return found | {"held_out": float(np.mean(list(held_out.values())))}


def unpaired_translator(teacher: Tensor, student: Tensor, seed: int, progress: bool) -> tuple[Vec2VecModel, str]:
    """A translator that has seen no input by both, and its verdict.

    A plain rotation: its targets keep the teacher's similarities, where a linear map dampens what the student's space lacks.

    Raises:
        ValueError: for inputs that are too few.
    """
    least = 2 * ROWS_A_CLUSTER * AlignmentOptions().num_anchors
    if len(teacher) < least:
        raise ValueError(
            f"`task` has {len(teacher):,} training inputs beside those that are held out, too few to align the student with "
            f"the teacher: {least} at least. Give more rows, or train the student by its labels alone (`fine_tune`)."
        )
    found = align(
        teacher[::2],
        student[1::2],
        source_name="teacher",
        target_name="student",
        back_translation_rounds=0,
        seed=seed,
        progress=progress,
    )
    assert found.report is not None
    return Vec2VecModel.from_alignment(found, allow_not_aligned=True), found.report.verdict


def students_table(found: TaskStudent) -> str:
    """Markdown: a line for the teacher and each arm; the one that was kept is bold."""
    names = [name for name in found.rows[0] if name != "arm"]
    lines = [f"| | {' | '.join(names)} |", "| --- " + "| ---: " * len(names) + "|"]
    for row in found.rows:
        arm = f"**{row['arm']}**" if row["arm"] == found.arm else row["arm"]
        lines.append(f"| {arm} | " + " | ".join(f"{row[name]:.4f}" for name in names) + " |")
    return "\n".join(lines)


__all__ = [
    "TaskLesson",
    "TaskStudent",
    "distill_task",
    "open_lesson",
    "students_table",
    "train_in_arm",
    "unpaired_translator",
    "with_held_out",
]
