"""`distill`: a student that follows a translated teacher."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .checks import check_folder, check_input
from .dry_run import DryRunFlags, Plan, seconds_of
from .flags import flag
from .students import AdapterFlags, StudentFlags, StudentTrainerFlags
from .trainer_flags import RunFlags, training_arguments

if TYPE_CHECKING:
    from datasets import Dataset

    from ..distillation import DistillationTrainingArguments
    from ..distillation.students import StudentEncoder
    from ..encoders.text import TextEncoder
    from ..tasks import ClassificationTask
    from .teaching import Teaching

SYNOPSIS = "--translator DIR --student MODEL (--texts FILE | --task NAME | --vectors FILE) --output_dir OUT [flags]"
DEFAULTS = {"save_strategy": "epoch", "save_total_limit": 1, "logging_steps": 10}
HELD_OUT = 200  # texts on which a language model's perplexity is compared


@dataclass(kw_only=True)
class LossFlags(StudentTrainerFlags, RunFlags):
    """How the student learns."""

    title: ClassVar[str] = "distillation"

    span_words: int = flag("Compare runs of so many words instead of whole texts; needs a live teacher.", 0, minimum=0)
    cosine_weight: float = flag("Weight of 1 - cosine to the target.", 1.0, minimum=0)
    mse_weight: float = flag("Weight of the squared error to the target.", 0.0, minimum=0)
    gram_weight: float = flag("Weight of the difference of pairwise cosines; needs no translator.", 0.0, minimum=0)
    contrastive_weight: float = flag("Weight of the contrast with other targets.", 0.0, minimum=0)
    contrastive_temperature: float = flag("By which cosines are divided there.", 0.05, above=0)
    task_weight: float = flag("Weight of the task's loss, on the column `labels`.", 0.0, minimum=0)
    lm_loss_weight: float = flag("Weight of next-token cross-entropy, to keep the head.", 0.0, minimum=0)
    logit_weight: float = flag(
        "Weight of the difference of sorted token probabilities (ULD); needs a teacher with a head.", 0.0, minimum=0
    )
    learn_projection: bool = flag("No translator: learn a linear map to the teacher's space with the student.", False)
    projection_rate: float = flag("Learning rate of that map, by `learning_rate`.", 1.0, minimum=0)
    cache_teacher: bool = flag("Embed all texts by the teacher once, before training, and keep the vectors.", True)
    collapse_threshold: float = flag(
        "Stop where the student's vectors fill less than this share of their dimensions.", 0.2, minimum=0, maximum=1
    )


@dataclass(kw_only=True)
class DistillFlags(StudentFlags, LossFlags, AdapterFlags, DryRunFlags):
    """What the student learns from, and what is left of it."""

    title: ClassVar[str] = "data and result"

    texts: str | None = flag("Unlabelled texts: .txt (one a line), or .jsonl, .csv, .parquet, Arrow with `text`.", None)
    vectors: str | None = flag(
        "Teacher vectors, where the teacher can no longer be asked: with their texts in the column `text`, or without, and "
        "other --texts beside them, whose targets are then guessed from neighbours.",
        None,
    )
    student_head: Literal["encoder", "causal_lm", "classifier"] = flag(
        "causal_lm keeps a language model's head; classifier gets one for the classes of --task, which --task_weight "
        "trains.",
        "encoder",
    )
    export_dir: str | None = flag("Merge the adapter and write a sentence-transformers folder here, too.", None)
    overwrite: bool = flag("Replace the student in `output_dir` if there is one.", False)
    load_in_4bit: bool = flag("Keep the student in four bits (NF4) under its adapter; needs bitsandbytes.", False)

    def __post_init__(self) -> None:
        super().__post_init__()
        given = {name for name in ("texts", "task", "vectors") if getattr(self, name) is not None}
        if len(given) != 1 and given != {"texts", "vectors"}:
            raise ValueError(
                "give one of `texts` (a file), `task` (a name) and `vectors` (teacher vectors with their texts); or "
                "`vectors` without texts, and other `texts`."
            )
        if (self.student_head == "classifier") != bool(self.task_weight) or (self.task_weight and not self.task):
            raise ValueError(
                f"`student_head` classifier, `task_weight` above 0 and a `task` that classes single texts go together, got "
                f"{self.student_head!r}, {self.task_weight} and {self.task!r}."
            )
        if self.task is None and self.task_source is not None:
            raise ValueError("`task_source` is the folder of a `task`, which is not given. Give one, or leave it out.")
        if "projection_rate" in self.given and not self.learn_projection:
            raise ValueError("`projection_rate` is of `learn_projection`, which is not set. Set it, or leave this out.")
        if "contrastive_temperature" in self.given and not self.contrastive_weight:
            raise ValueError("`contrastive_temperature` is of `contrastive_weight`, which is 0. Set it, or leave this out.")
        if self.load_in_4bit and self.export_dir:
            raise ValueError("`export_dir` needs whole weights to merge the adapter into: leave out `load_in_4bit`.")

    def after_interrupt(self) -> str:
        """Checkpoints are whole."""
        return (
            f"Checkpoints that are complete are kept in {self.output_dir}: the same command with "
            "--resume_from_checkpoint true goes on from the last."
        )


def run(flags: DistillFlags) -> None:
    """Move a student towards a translated teacher. `distill-check` and `distill-compare` tell first whether that pays."""
    flags.check_student()
    flags.check_run()
    for argument, path in (("texts", flags.texts), ("vectors", flags.vectors)):
        if path is not None:
            check_input(argument, path)
    if flags.export_dir:
        check_folder("export_dir", flags.export_dir)
    from ..distillation import DistillationTrainingArguments
    from ..distillation.recipe import check_output_dir
    from ..distillation.students import check_export_dir
    from ..tasks import ClassificationTask, load_task
    from ..tasks.parts import check_splits
    from .teaching import Teaching, classes_single_texts

    teaching = Teaching.open(flags)
    defaults = DEFAULTS | teaching.contract | {"student_space": teaching.student_space}
    args = training_arguments(DistillationTrainingArguments, flags, defaults)
    if args.do_eval:  # which `eval_strategy` sets
        raise ValueError("`eval_strategy` must be no: `distill` holds no texts out to evaluate on.")
    check_output_dir(args, overwrite=flags.overwrite)  # before texts are embedded
    if flags.export_dir:
        check_export_dir(flags.export_dir, overwrite=flags.overwrite or flags.resumes)
    task = load_task(flags.task, flags.task_source) if flags.task else None
    if task is not None and not isinstance(task, ClassificationTask):
        raise ValueError(f"`task` must be one whose rows have a class, got {flags.task!r}.")
    if flags.student_head == "classifier" and not classes_single_texts(task):
        raise ValueError(f"`task` must be one that classes single texts, for a classifier, got {flags.task!r}.")
    if task is not None:
        check_splits(task, "train", labels=flags.student_head == "classifier")
    if flags.dry_run:
        print(_plan(flags, args, teaching, task))
        return
    _train(flags, args, teaching, task)
    exported = f"; sentence-transformers folder: {flags.export_dir}" if flags.export_dir else ""
    print(f"\nAdapter and card: {flags.output_dir}{exported}")


def _plan(
    flags: DistillFlags, args: "DistillationTrainingArguments", teaching: "Teaching", task: "ClassificationTask | None"
) -> Plan:
    """What would be done, by the pace at which the student embeds a batch; the way back takes twice as long."""
    from ..data.columns import TEXT
    from ..distillation import load_student
    from ..distillation.students import StudentEncoder

    model, tokenizer, _ = load_student(flags.student, trust_remote_code=flags.trust_remote_code)
    student = StudentEncoder(model, tokenizer, args.encoder_settings(flags.student))
    data, teacher, _ = _data(flags, teaching, task, student)
    texts = min(flags.max_texts or len(data), len(data))
    batch = data[: args.per_device_train_batch_size][TEXT]
    updates = args.max_steps if args.max_steps > 0 else int(args.num_train_epochs * texts / len(batch))
    seconds = 3 * updates * seconds_of(lambda: student.encode(batch))
    if teacher is not None:
        seconds += texts / len(batch) * seconds_of(lambda: teacher.encode(batch, progress=False))
    hidden = model.config.hidden_size
    weights = flags.lora_r * 14 * hidden * model.config.num_hidden_layers  # about 14 sides of matrices a layer
    reads = [f"{flags.texts or flags.vectors or flags.task}: {len(data):,} texts, of which {texts:,} are used"]
    notes = [f"{updates:,} updates of {len(batch):,} texts each."]
    return Plan(reads, {flags.output_dir: 4.0 * weights * 4}, (seconds, seconds), notes)


def _train(
    flags: DistillFlags, args: "DistillationTrainingArguments", teaching: "Teaching", task: "ClassificationTask | None"
) -> None:
    from transformers import BitsAndBytesConfig, set_seed

    from ..data.columns import TEXT
    from ..distillation import load_student, save_as_sentence_transformer
    from ..distillation.recipe import train_student
    from ..distillation.student_card import teacher_name
    from ..distillation.students import HEADS, StudentEncoder
    from .teaching import adapter

    classes = task.labels if flags.student_head == "classifier" and task else None
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4") if flags.load_in_4bit else None
    set_seed(args.seed)  # a new head depends on nothing else
    model, tokenizer, _ = load_student(
        flags.student,
        flags.student_head,
        labels=classes,
        quantization_config=bits,
        trust_remote_code=flags.trust_remote_code,
    )
    settings = args.encoder_settings(flags.student)
    data, teacher, guessed_from = _data(flags, teaching, task, StudentEncoder(model, tokenizer, settings))
    args.teacher_spaces = [teaching.student_space if guessed_from else teaching.teacher_space]
    data = data.shuffle(seed=args.seed)
    data = data.select(range(min(flags.max_texts or len(data), len(data))))
    held_out = data[-HELD_OUT:][TEXT] if flags.student_head == "causal_lm" and len(data) > 2 * HELD_OUT else []
    data = data.select(range(len(data) - len(held_out)))
    facts: dict[str, Any] = {
        "student": flags.student,
        "head": HEADS[flags.student_head].__name__,
        "classes": classes,
        "translator": flags.translator,
        "teacher": teacher_name(teaching.translator, teaching.teacher_space),
        "texts": len(data),
        "store": guessed_from,
    }
    trainer = train_student(
        model,
        args,
        processing_class=tokenizer,
        known=facts,
        held_out=held_out,
        overwrite=flags.overwrite,
        translator=teaching.translator,
        teacher=teacher,
        peft_config=adapter(flags, classes=bool(classes)),
        train_dataset=data,
    )
    if flags.export_dir:
        adapted: Any = trainer.student  # a PeftModel, whose class mypy takes for any module
        merged, replace = adapted.merge_and_unload(), flags.overwrite or flags.resumes
        save_as_sentence_transformer(merged, tokenizer, settings, flags.export_dir, overwrite=replace)


def _data(
    flags: DistillFlags, teaching: "Teaching", task: "ClassificationTask | None", student: "StudentEncoder"
) -> "tuple[Dataset, TextEncoder | None, int]":
    """Texts to learn from; what embeds them, if their targets are not with them; vectors these were guessed from."""
    from datasets import Dataset

    from ..data.columns import TEXT, to_dataset, vectors
    from ..data.files import load_embeddings
    from ..data.texts import load_texts
    from ..distillation.data import LABEL, LABELS
    from ..distillation.store_targets import targets_from_store
    from ..encoders.recorded import check_description
    from .teaching import classes_single_texts, labelled

    config = teaching.translator.config
    if flags.vectors:
        stored = load_embeddings(flags.vectors)
        check_description(config, teaching.teacher_space, stored.info.description or "")
        store = vectors(stored, "vectors", (config.embedding_dims or {})[teaching.teacher_space])
        if flags.texts:  # nobody can ask the teacher about these
            texts = load_texts(flags.texts)
            rows = student.encode(texts, progress=flags.progress)
            source, target = teaching.teacher_space, teaching.student_space
            targets = targets_from_store(teaching.translator, store, rows, source=source, target=target)
            return Dataset.from_dict({TEXT: texts, LABEL: to_dataset(targets)["embedding"]}), None, len(store)
        if TEXT not in stored.column_names:
            raise ValueError(
                f"`vectors` {flags.vectors!r} has {stored.column_names}; the student needs the column '{TEXT}', or "
                "`texts` of its own."
            )
        return Dataset.from_dict({TEXT: stored[TEXT], LABEL: store.numpy()}), None, 0
    teacher = teaching.teacher(flags)
    if flags.texts:
        return Dataset.from_dict({TEXT: load_texts(flags.texts)}), teacher, 0
    assert task is not None
    if flags.max_texts and classes_single_texts(task):
        part = labelled(task, "train", flags.max_texts)
        texts, classes = part.texts, part.numbers()
    else:
        train = task.rows("train")
        texts, classes = [text for column in task.columns for text in train[column]], train["label"][:]
    return Dataset.from_dict({TEXT: texts} | ({LABELS: classes} if flags.student_head == "classifier" else {})), teacher, 0
