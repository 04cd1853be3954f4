"""`distill-compare`: the arms of the experiment that tells whether distillation pays, over seeds."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .checks import check_folder, check_input, check_model, did_you_mean, named_path
from .distill import DEFAULTS
from .flags import flag
from .students import AdapterFlags, StudentFlags, StudentTrainerFlags
from .trainer_flags import training_arguments

if TYPE_CHECKING:
    from torch import Tensor

    from ..distillation.experiment import Judged
    from ..encoders.text import TextEncoder
    from .teaching import Teaching

SYNOPSIS = "--translator DIR --student MODEL --task NAME --output_dir OUT [flags]"
# Arguments of the trainer that every arm shares.
SHARED = (
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "warmup_steps", "lr_scheduler_type", "train_sampling_strategy", "use_cpu", "bf16"),
    "logging_steps",
)


@dataclass(kw_only=True)
class CompareFlags(StudentFlags, StudentTrainerFlags, AdapterFlags):
    """Which arms, and how often."""

    title: ClassVar[str] = "experiment"

    arms: list[str] | None = flag("Names of arms; default: all.", None)
    seeds: int = flag("Seeds of every arm.", 5, minimum=1)
    other_translators: list[str] | None = flag("NAME=DIR: further translators of both spaces, each an arm of its own.", None)
    vectors: str | None = flag("Teacher vectors of other texts, for the arm that knows nothing else.", None)

    def after_interrupt(self) -> str:
        """Whole runs are kept."""
        return f"The runs that are complete are kept in {self.output_dir}; the same command goes on after them."


def run(flags: CompareFlags) -> None:
    """Train a student in every arm of the experiment, over seeds, and compare: does the translated teacher pay?"""
    flags.check_student()
    check_folder("output_dir", flags.output_dir)
    for word in flags.others:
        if word.startswith("--") and (name := word[2:].partition("=")[0]) not in SHARED:
            raise ValueError(f"`{name}` is nothing that all arms share{did_you_mean(name, SHARED)}")
    if flags.task is None:
        raise ValueError("`task` must be given: labelled texts that the arms are measured on.")
    if flags.vectors:
        check_input("vectors", flags.vectors)
    named = [named_path("other_translators", value, exists=False) for value in flags.other_translators or []]
    for _, folder in named:
        check_model("other_translators", folder, ())
    from ..distillation import DistillationTrainingArguments
    from ..distillation.arms import check_names
    from ..distillation.experiment import Judged, arms_table, run_arms
    from ..tasks import load_task
    from ..tasks.parts import check_splits
    from ..training.start import load_translator
    from .teaching import Teaching, adapter, classes_single_texts

    check_names([name for name, _ in named], ["ours"], "other_translators")
    teaching = Teaching.open(flags)
    defaults = DEFAULTS | teaching.contract | {"student_space": teaching.student_space}
    args = training_arguments(DistillationTrainingArguments, flags, defaults)
    task = load_task(flags.task, flags.task_source)
    check_splits(task, "train", "validation")
    teacher = teaching.teacher(flags)
    shared: dict[str, Any] = {
        "student": flags.student,
        "translators": {"ours": teaching.translator} | {name: load_translator(folder) for name, folder in named},
        "teacher_space": teaching.teacher_space,
        "student_space": teaching.student_space,
        "peft_config": adapter(flags),
        "arguments": teaching.contract | {name: getattr(args, name) for name in SHARED},
        "teacher_lm": teacher.settings.model if _are_language_models(teacher, flags) else None,
        "trust_remote_code": flags.trust_remote_code,
    }
    make = _on_single_texts if classes_single_texts(task) else _on_task
    experiment: Judged = make(flags, teaching, task, teacher, shared)
    arms = None if flags.arms in (None, ["all"]) else flags.arms
    found = run_arms(experiment, flags.seeds, Path(flags.output_dir), arms=arms)
    print(f"\n{arms_table(found)}\n\n{flags.output_dir}/arms.md, arms.json")


def _on_single_texts(flags: CompareFlags, teaching: "Teaching", task: Any, teacher: "TextEncoder", shared: dict) -> "Judged":
    """Classes of single texts: some arms see the labels."""
    from ..data.columns import vectors
    from ..distillation.experiment import Experiment
    from ..encoders.text import embed
    from .teaching import labelled

    parts = {split: labelled(task, split, flags.max_texts) for split in ("train", "validation")}
    rows = {split: vectors(embed(part.texts, teacher, progress=flags.progress), "teacher") for split, part in parts.items()}
    return Experiment(
        train=parts["train"],
        test=parts["validation"],
        teacher_train=rows["train"],
        teacher_test=rows["validation"],
        store=_store(flags.vectors, teaching, set(parts["train"].texts)) if flags.vectors else None,
        **shared,
    )


def _on_task(flags: CompareFlags, teaching: "Teaching", task: Any, teacher: "TextEncoder", shared: dict) -> "Judged":
    """Pairs and choices: each text is followed by itself, and a probe that fits the task judges."""
    from ..data.columns import vectors
    from ..distillation.arms import Lesson
    from ..distillation.task_experiment import TaskExperiment, training_texts
    from ..encoders.text import embed

    texts = training_texts(task, flags.max_texts)
    lesson = Lesson(
        texts=texts,
        teacher=vectors(embed(texts, teacher, progress=flags.progress), "teacher"),
        store=_store(flags.vectors, teaching, set(texts)) if flags.vectors else None,
        **shared,
    )
    return TaskExperiment(task, lesson, teacher, flags.max_texts)


def _store(path: str, teaching: "Teaching", seen: set[str]) -> "Tensor":
    """Teacher vectors of texts that are not `seen`: a text on both sides would be a pair."""
    from ..data.columns import TEXT, vectors
    from ..data.files import load_embeddings
    from ..encoders.recorded import check_description

    stored: Any = load_embeddings(path)
    check_description(teaching.translator.config, teaching.teacher_space, stored.info.description or "")
    if TEXT in stored.column_names:
        stored = stored.select([i for i, text in enumerate(stored[TEXT]) if text not in seen])
    return vectors(stored, "vectors", (teaching.translator.config.embedding_dims or {})[teaching.teacher_space])


def _are_language_models(teacher: "TextEncoder", flags: CompareFlags) -> bool:
    """Whether both predict tokens."""
    from transformers import AutoConfig

    from ..encoders.folders import model_folder
    from ..encoders.pooling import is_decoder

    trusted = {"trust_remote_code": flags.trust_remote_code}
    config = AutoConfig.from_pretrained(model_folder(flags.student, **trusted), **trusted)
    return is_decoder(config.model_type) and teacher.is_decoder
