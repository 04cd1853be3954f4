"""`distill-check`: whether a translated teacher holds something that the student lacks."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .checks import check_folder
from .flags import flag
from .students import StudentFlags

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
    from ..data.columns import vectors
    from ..data.staging import staged_file
    from ..distillation import load_student
    from ..distillation.students import StudentEncoder
    from ..distillation.transfer_check import transfer_report
    from ..encoders.text import embed
    from .teaching import Teaching, labelled, single_text_task

    teaching = Teaching.open(flags)
    part = labelled(single_text_task(flags.task, flags.task_source), "train", flags.max_texts)
    teacher = teaching.teacher(flags)
    rows = vectors(embed(part.texts, teacher, progress=flags.progress), "teacher")
    model, tokenizer, _ = load_student(flags.student)
    report = transfer_report(
        rows,
        teaching.translator.translate(rows, source=teaching.teacher_space, target=teaching.student_space),
        StudentEncoder(model, tokenizer, teaching.settings(flags.student)).encode(part.texts, progress=flags.progress),
        part.numbers(),
        seed=flags.seed,
    )
    with staged_file(Path(flags.output_dir) / "check.json") as beside:
        beside.write_text(json.dumps(report.to_dict(), indent=2), encoding="utf-8")
    print(f"\n{report}")
