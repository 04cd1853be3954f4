"""`distill-check`: whether a translated teacher holds something that the student lacks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from .checks import check_folder
from .flags import flag
from .students import StudentFlags

if TYPE_CHECKING:
    from ..distillation.task_check import TaskReport
    from ..distillation.transfer_check import TransferReport
    from ..encoders.text import TextEncoder
    from ..tasks import ClassificationTask, Task
    from .teaching import Teaching

SYNOPSIS = "--translator DIR --student MODEL --task NAME --output_dir OUT [flags]"


@dataclass(kw_only=True)
class CheckFlags(StudentFlags):
    """Where the answer goes."""

    title: ClassVar[str] = "result"

    output_dir: str = flag("Folder for check.json.")
    seed: int = flag("Of the probes' split.", 0, minimum=0, maximum=2**32 - 1)


def run(flags: CheckFlags) -> None:
    """Train nothing: probe teacher, translated teacher and student on a task, and tell whether distillation can pay."""
    flags.check_student()
    check_folder("output_dir", flags.output_dir)
    if flags.task is None:
        raise ValueError("`task` must be given: labelled texts, which the probes are fitted on.")
    from ..data.staging import locked, staged_file
    from ..distillation import load_student
    from ..distillation.students import StudentEncoder
    from ..tasks import load_task
    from ..tasks.parts import check_splits
    from .teaching import Teaching, classes_single_texts

    teaching = Teaching.open(flags)
    task = load_task(flags.task, flags.task_source)
    single = classes_single_texts(task)
    check_splits(task, "train" if single else "validation")
    teacher = teaching.teacher(flags)
    model, tokenizer, _ = load_student(flags.student, trust_remote_code=flags.trust_remote_code)
    student = StudentEncoder(model, tokenizer, teaching.settings(flags.student))
    check = _check_texts if single else _check_task
    report = check(flags, teaching, task, teacher, student)
    with locked(flags.output_dir, argument="output_dir"), staged_file(Path(flags.output_dir) / "check.json") as beside:
        beside.write_text(json.dumps(report.to_dict(), indent=2), encoding="utf-8")
    print(f"\n{report}")


def _check_texts(
    flags: CheckFlags, teaching: "Teaching", task: "Task", teacher: "TextEncoder", student: "TextEncoder"
) -> "TransferReport":
    """Single texts: by folds of the training rows alone, with neighbours and noise beside the probe."""
    from ..data.columns import vectors
    from ..distillation.transfer_check import FOLDS, transfer_report
    from ..encoders.text import embed
    from .teaching import labelled

    part = labelled(cast("ClassificationTask", task), "train", flags.max_texts, each=FOLDS)
    rows = vectors(embed(part.texts, teacher, progress=flags.progress), "teacher")
    translated = teaching.translator.translate(rows, source=teaching.teacher_space, target=teaching.student_space)
    own = student.encode(part.texts, progress=flags.progress)
    return transfer_report(rows, translated, own, part.numbers(), seed=flags.seed)


def _check_task(
    flags: CheckFlags, teaching: "Teaching", task: "Task", teacher: "TextEncoder", student: "TextEncoder"
) -> "TaskReport":
    """Pairs, scores, choices: probes that are fitted on the training split and judged on the validation split."""
    from ..distillation.task_check import task_report

    return task_report(
        task,
        teacher,
        student,
        teaching.translator,
        teacher_space=teaching.teacher_space,
        student_space=teaching.student_space,
        max_rows=flags.max_texts,
        seed=flags.seed,
    )
