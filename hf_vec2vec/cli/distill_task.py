"""`distill-task`: a student learns a task from its labels and from a teacher that was fine-tuned on it."""

from dataclasses import dataclass
from typing import Any, ClassVar

from .checks import check_model
from .finetune import TaskRunFlags
from .flags import flag

SYNOPSIS = "--teacher DIR --student MODEL --task NAME --output_dir OUT [flags]"


@dataclass(kw_only=True)
class DistillTaskFlags(TaskRunFlags):
    """Who teaches whom."""

    title: ClassVar[str] = "teacher and student"
    record: ClassVar[str] = "distill_task.json"
    keep_unlabelled: ClassVar[bool] = True

    teacher: str = flag("Folder or Hub id of a model with a head for the task; `finetune` makes one.")
    student: str = flag("The model that learns: short name, local folder or Hub id.")


def run(flags: DistillTaskFlags) -> None:
    """Train a student by labels alone and beside the teacher, show all, and keep the best by held-out training rows."""
    check_model("teacher", flags.teacher)
    check_model("student", flags.student)
    flags.check_task()
    from ..data.staging import locked
    from ..distillation.span_students import distill_spans
    from ..distillation.task_students import distill_task, students_table
    from ..tasks import QuestionAnsweringTask
    from .teaching import adapter, save_classifier

    with locked(flags.output_dir, argument="output_dir"):
        task = flags.load()
        teach: Any = distill_spans if isinstance(task, QuestionAnsweringTask) else distill_task
        found = teach(
            task,
            flags.teacher,
            flags.student,
            adapter(flags),
            seed=flags.seed,
            progress=flags.progress,
            **flags.training(),
        )
        facts: dict[str, Any] = {"teacher": flags.teacher, "student": flags.student, "task": flags.task, "kept": found.arm}
        facts |= {"verdict": found.verdict, "rows": found.rows}
        save_classifier(found.model, found.tokenizer, flags.output_dir, {flags.record: facts})
    print(
        f"\n{students_table(found)}\n\nFigures of the validation split; held_out: their mean on a tenth of the training "
        f"rows, by which the student was chosen. Translator without pairs: {found.verdict}.\nStudent: {flags.output_dir}"
    )
