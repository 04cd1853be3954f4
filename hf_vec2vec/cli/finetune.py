"""`finetune`: a model with the head of a task, trained on its labels."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from .checks import check_folder, check_input, check_model
from .flags import flag
from .students import AdapterFlags

if TYPE_CHECKING:
    from ..tasks import Task

SYNOPSIS = "--model MODEL --task NAME --output_dir OUT [flags]"


@dataclass(kw_only=True)
class TaskRunFlags(AdapterFlags):
    """The task, and how long and how fast it is learned."""

    title: ClassVar[str] = "task and training"
    record: ClassVar[str] = "finetune.json"  # figures beside the model, by which such a run knows its own
    keep_unlabelled: ClassVar[bool] = False  # whether training rows without a label are of use

    task: str = flag("A GLUE task (sst2, mrpc, ...), boolq, squad, commonsense_qa, or a file of labelled texts.")
    task_source: str | None = flag("Folder with the task's data; default: Hub or wheel.", None)
    output_dir: str = flag("Folder for the model and its figures.")
    overwrite: bool = flag("Replace the model in `output_dir` if there is one.", False)
    max_rows: int | None = flag("At most so many rows of each split, drawn at random with seed 0.", None, minimum=1)
    num_train_epochs: float = flag("Passes over the data.", 3.0, above=0)
    max_steps: int = flag("Updates, instead of epochs; -1: epochs decide.", -1, minimum=-1)
    learning_rate: float = flag("Step size of the optimizer.", 1e-3, above=0)
    per_device_train_batch_size: int = flag("Rows in a batch.", 32, minimum=1)
    bf16: bool = flag("Train in bfloat16.", False)
    seed: int = flag("Of everything random.", 42, minimum=0, maximum=2**32 - 1)
    trust_remote_code: bool = flag("Run the code that a model's repository brings along.", False)

    def __post_init__(self) -> None:
        if self.max_steps == 0:
            raise ValueError("`max_steps` must be at least 1, or -1 for epochs, got 0.")

    def check_task(self) -> None:
        """Raise what can fail without work."""
        check_folder("output_dir", self.output_dir)
        if self.task_source:
            check_input("task_source", self.task_source)

    def training(self) -> dict[str, Any]:
        """Arguments of a trainer, and whether a model's own code may run."""
        names = ("num_train_epochs", "max_steps", "learning_rate", "per_device_train_batch_size", "bf16")
        given = {name: getattr(self, name) for name in names} | {"disable_tqdm": not self.progress}
        if self.bf16:
            from torch import accelerator

            given["use_cpu"] = not accelerator.is_available()  # which the trainer wants to be told, for bfloat16
        return given | {"trust_remote_code": self.trust_remote_code}

    def load(self) -> "Task":
        """The task, with the rows that are asked for."""
        from dataclasses import replace

        from datasets import DatasetDict

        from ..distillation.students import check_export_dir
        from ..tasks import load_task

        check_export_dir(self.output_dir, overwrite=self.overwrite, argument="output_dir", record=self.record)
        task = load_task(self.task, self.task_source, keep_unlabelled=self.keep_unlabelled)
        if self.max_rows is None:
            return task
        drawn = {
            name: rows.shuffle(seed=0).select(range(min(self.max_rows, len(rows)))) for name, rows in task.splits.items()
        }
        return replace(task, splits=DatasetDict(drawn))


@dataclass(kw_only=True)
class FineTuneFlags(TaskRunFlags):
    """The model that learns."""

    title: ClassVar[str] = "model"

    model: str = flag("Short name, local folder or Hub id.")


def run(flags: FineTuneFlags) -> None:
    """Train a model on a task by an adapter, merge that, and say how good it is: a teacher for `distill-task`."""
    check_model("model", flags.model)
    flags.check_task()
    from ..data.staging import locked
    from ..tasks import MultipleChoiceTask, evaluate_task
    from ..tasks.choice_pairs import as_pairs
    from ..tasks.fine_tuning import fine_tune
    from ..tasks.parts import check_splits
    from .teaching import adapter, save_classifier

    with locked(flags.output_dir, argument="output_dir"):
        given = task = flags.load()
        check_splits(task, "train", "validation")
        if isinstance(given, MultipleChoiceTask):
            task = as_pairs(given)  # so that a student of any family can learn from it
        model, tokenizer = fine_tune(flags.model, task, adapter(flags), seed=flags.seed, **flags.training())
        found = evaluate_task(model, tokenizer, task, progress=flags.progress)
        facts = {"model": flags.model, "task": task.name, "train_rows": len(given.rows("train")), "figures": found}
        save_classifier(model, tokenizer, flags.output_dir, {flags.record: facts})
    figures = ", ".join(f"{name} {value:.4g}" for name, value in found.items())
    print(f"\n{task.name}, validation, {len(given.rows('validation')):,} rows: {figures}\nModel: {flags.output_dir}")
