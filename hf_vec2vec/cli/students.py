"""Flags that the three commands about students share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .checks import check_input, check_model
from .flags import DeviceFlags, EncoderFlags, Flags, flag
from .trainer_flags import TrainerFlags

if TYPE_CHECKING:
    from ..distillation import DistillationTrainingArguments


@dataclass(kw_only=True)
class StudentFlags(EncoderFlags, DeviceFlags):
    """Who teaches whom. How the student's vectors are made, flags say, else the translator's record, else its own folder."""

    title: ClassVar[str] = "teacher and student"

    translator: str = flag("Folder or Hub id of a translator that knows teacher and student.")
    student: str = flag("The model that the adapter is for: short name, local folder or Hub id.")
    device: str | None = flag("Where the teacher embeds, for instance cpu or cuda; default: a GPU if there is one.", None)
    student_space: str | None = flag("The translator's space in which the student lives; default: the one it made.", None)
    teacher_space: str | None = flag("The translator's space of the teacher; default: the only other one.", None)
    normalize: bool | None = flag("Scale the student's vectors to norm 1.", None)
    mask_first_token: bool | None = flag("Leave the first token out of the pooling, as language models need.", None)
    task: str | None = flag(
        "A task: sst2, cola, bbc, rotten_tomatoes, a file of labelled texts; to check and compare pairs and choices, too.",
        None,
    )
    task_source: str | None = flag("Folder with the task's data; default: Hub or wheel.", None)
    max_texts: int | None = flag("At most so many texts, drawn at random; of a task some of each class.", None, minimum=1)

    def check_student(self) -> None:
        """Raise what can fail without work."""
        check_model("translator", self.translator, ())
        check_model("student", self.student)
        if self.task_source:
            check_input("task_source", self.task_source)


@dataclass(kw_only=True)
class AdapterFlags(Flags):
    """The adapter that is trained (LoRA), on all linear layers of the student."""

    title: ClassVar[str] = "adapter"

    lora_r: int = flag("Rank of the adapter.", 32, minimum=1)
    lora_alpha: int = flag("Its scale.", 64, minimum=1)
    lora_dropout: float = flag("Dropout before it.", 0.0, minimum=0, maximum=1)
    use_dora: bool = flag("Weight-decomposed adaptation (DoRA).", False)
    use_rslora: bool = flag("Rank-stabilised scale (rsLoRA).", False)


@dataclass(kw_only=True)
class StudentTrainerFlags(TrainerFlags):
    """How long and how fast an adapter is trained."""

    title: ClassVar[str] = "training"
    fixed: ClassVar[tuple[str, ...]] = (*TrainerFlags.fixed, "teacher_spaces", "soft_label_weight")

    learning_rate: float = flag("Of the adapter.", 1e-3, minimum=0)
    per_device_train_batch_size: int = flag("Texts in a batch.", 32, minimum=1)
    logging_steps: int = flag("Updates between two lines of the log.", 10, minimum=1)

    @classmethod
    def arguments_class(cls) -> "type[DistillationTrainingArguments]":
        """Arguments of distillation."""
        from ..distillation import DistillationTrainingArguments

        return DistillationTrainingArguments
