"""`distill`: a student that follows a translated teacher; `--check` and `--arms` tell first whether it pays."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from datasets import Dataset
from peft import LoraConfig
from torch import Tensor
from transformers import AutoConfig, BitsAndBytesConfig, set_seed

from ..data.columns import TEXT, to_dataset, vectors
from ..data.corpora import LabelledTexts
from ..data.files import load_embeddings
from ..data.texts import load_texts
from ..distillation import DistillationTrainingArguments, load_student, save_as_sentence_transformer
from ..distillation.data import LABEL, LABELS
from ..distillation.experiment import Experiment, arms_table, run_arms
from ..distillation.recipe import check_output_dir, train_student
from ..distillation.store_targets import targets_from_store
from ..distillation.student_card import teacher_name
from ..distillation.students import HEADS, StudentEncoder
from ..distillation.transfer_check import transfer_report
from ..encoders.folders import model_folder
from ..encoders.pooling import is_decoder
from ..encoders.recorded import recorded_encoder
from ..encoders.text import TextEncoder, embed
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel
from ..tasks import ClassificationTask, Task, load_task
from ..training.recipe import load_translator
from .parsing import as_flags, named_path, parse, peek

HELD_OUT = 200  # texts on which a language model's perplexity is compared


@dataclass
class DistillArguments:
    """Who teaches whom, on what."""

    _argument_group_name = "flags"

    translator: str = field(metadata={"help": "Folder or Hub id of a translator that knows teacher and student."})
    student: str = field(metadata={"help": "The model that the adapter is for: short name, local folder or Hub id."})
    texts: str | None = field(
        default=None, metadata={"help": "Unlabelled texts: .txt (one a line), or .jsonl, .csv, .parquet, Arrow with `text`."}
    )
    vectors: str | None = field(
        default=None,
        metadata={
            "help": "Teacher vectors, where the teacher can no longer be asked: with their texts in the column `text`, or "
            "without, and other --texts beside them, whose targets are then guessed from neighbours."
        },
    )
    task: str | None = field(
        default=None, metadata={"help": "Texts of a classification task: sst2, cola, bbc, rotten_tomatoes, sarcasm, a file."}
    )
    task_source: str | None = field(default=None, metadata={"help": "Folder with the task's data; default: Hub or wheel."})
    max_texts: int | None = field(default=None, metadata={"help": "At most so many texts, drawn at random."})
    check: bool = field(default=False, metadata={"help": "Train nothing: probe whether the teacher has something to give."})
    arms: list[str] | None = field(
        default=None, metadata={"help": "Train these arms of the experiment over seeds (`all`: every one), and compare."}
    )
    seeds: int = field(default=5, metadata={"help": "Seeds of every arm."})
    other_translators: list[str] | None = field(
        default=None, metadata={"help": "NAME=DIR: further translators of both spaces, each an arm of its own."}
    )
    student_head: str = field(
        default="encoder",
        metadata={
            "help": "causal_lm keeps a language model's head; classifier gets one for the classes of --task, which "
            "--task_weight trains.",
            "choices": ["encoder", "causal_lm", "classifier"],
        },
    )
    export_dir: str | None = field(
        default=None, metadata={"help": "Merge the adapter and write a sentence-transformers folder here, too."}
    )
    load_in_4bit: bool = field(
        default=False, metadata={"help": "Keep the student in four bits (NF4) under its adapter; needs bitsandbytes."}
    )
    lora_r: int = field(default=32, metadata={"help": "Rank of the adapter."})
    lora_alpha: int = field(default=64, metadata={"help": "Its scale."})
    lora_dropout: float = field(default=0.0, metadata={"help": "Dropout before it."})
    use_dora: bool = field(default=False, metadata={"help": "Weight-decomposed adaptation (DoRA)."})
    use_rslora: bool = field(default=False, metadata={"help": "Rank-stabilised scale (rsLoRA)."})


def run_distill(argv: list[str]) -> None:
    """Move a student towards a translated teacher, or tell first whether that pays (--check, --arms)."""
    translator = load_translator(folder) if (folder := peek(argv, "--translator")[0]) else None
    defaults = dict(DEFAULTS)
    if translator:  # without one, the parser below tells what is missing
        student_space = _student_space(argv, translator.config)
        made = (translator.config.encoders or {}).get(student_space) or {}
        defaults |= {"student_space": student_space} | {name: made[name] for name in CONTRACT if name in made}
    args, training_args = parse(
        run_distill,
        "--translator DIR --student MODEL (--texts FILE | --task NAME | --vectors FILE) --output_dir OUT [flags]",
        as_flags(defaults) + argv,
        [DistillArguments, DistillationTrainingArguments],
    )
    given = {name for name in ("texts", "task", "vectors") if getattr(args, name) is not None}
    together = {"task", "vectors"} if args.arms else {"texts", "vectors"}
    if len(given) != 1 and given != together:
        raise ValueError(
            "give one of `texts` (a file), `task` (a name) and `vectors` (teacher vectors with their texts); or `vectors` "
            "without texts, and other `texts`; or, for `arms`, `vectors` beside the `task`."
        )
    others = training_args.teacher_spaces or [space for space in translator.config.spaces if space != student_space]
    if len(others) > 1:
        raise ValueError(f"`teacher_spaces` must name one teacher for this command; the translator knows {others}.")
    (teacher_space,) = others
    task = load_task(args.task, args.task_source) if args.task else None
    if args.check or args.arms:
        if not _single_texts(task):
            raise ValueError(f"`check` and `arms` need a `task` that classes single texts, got {args.task!r}.")
        (_check if args.check else _compare)(args, training_args, translator, teacher_space, student_space, task)
        return
    _train(args, training_args, translator, teacher_space, task)


def _single_texts(task: Task | None) -> bool:
    """Whether a task classes single texts."""
    return isinstance(task, ClassificationTask) and bool(task.labels) and len(task.columns) == 1


def _student_space(argv: list[str], config: Vec2VecConfig) -> str:
    """The space whose vectors were made by the student."""
    space, student = peek(argv, "--student_space")[0], peek(argv, "--student")[0]
    encoders = config.encoders or dict.fromkeys(config.spaces)
    made_by = {name: made and made["model"] for name, made in encoders.items()}
    named = [name for name, model in made_by.items() if model == student]
    if space is None and len(named) != 1:
        raise ValueError(
            f"`student_space` must be given: `student` is {student!r}, the translator's spaces are of {made_by}."
        )
    return space or named[0]


def _train(
    args: DistillArguments,
    training_args: DistillationTrainingArguments,
    translator: Vec2VecModel,
    teacher_space: str,
    task: ClassificationTask | None,
) -> None:
    output = Path(training_args.output_dir)
    check_output_dir(training_args)  # before texts are embedded
    classes = args.student_head == "classifier"
    if classes != bool(training_args.task_weight) or (classes and not _single_texts(task)):
        raise ValueError(
            f"`student_head` classifier, `task_weight` above 0 and a `task` that classes single texts go together, got "
            f"{args.student_head!r}, {training_args.task_weight} and {args.task!r}."
        )
    if args.load_in_4bit and args.export_dir:
        raise ValueError("`export_dir` needs whole weights to merge the adapter into: leave out `load_in_4bit`.")
    bits = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4") if args.load_in_4bit else None
    set_seed(training_args.seed)  # a new head depends on nothing else
    model, tokenizer, _ = load_student(
        args.student, args.student_head, len(task.labels) if classes else None, quantization_config=bits
    )
    data, teacher = _data(args, translator, teacher_space, task)
    guessed = 0
    if args.vectors and args.texts:  # nobody can ask the teacher about these texts
        encoder = StudentEncoder(model, tokenizer, training_args.encoder_settings(args.student))
        student_space, rows = training_args.student_space, encoder.encode(data[TEXT][:], progress=True)
        targets = targets_from_store(translator, teacher, rows, source=teacher_space, target=student_space)
        guessed, data, teacher = len(teacher), data.add_column(LABEL, to_dataset(targets)["embedding"]), None
        training_args.teacher_spaces = [student_space]  # which is where the targets are already
    data = data.shuffle(seed=training_args.seed)
    data = data.select(range(min(args.max_texts or len(data), len(data))))
    held_out = data[-HELD_OUT:][TEXT] if args.student_head == "causal_lm" and len(data) > 2 * HELD_OUT else []
    data = data.select(range(len(data) - len(held_out)))
    facts = {"student": args.student, "head": HEADS[args.student_head].__name__, "classes": task.labels if classes else None}
    facts |= {
        "translator": args.translator,
        "teacher": teacher_name(translator, teacher_space),
        "texts": len(data),
        "store": guessed,
    }
    trainer = train_student(
        model,
        training_args,
        processing_class=tokenizer,
        known=facts,
        held_out=held_out,
        translator=translator,
        teacher=teacher,
        peft_config=_adapter(args),
        train_dataset=data,
    )
    if args.export_dir:
        settings = training_args.encoder_settings(args.student)
        merged = trainer.student.merge_and_unload()
        save_as_sentence_transformer(merged, tokenizer, settings, args.export_dir)
    print(
        f"\nAdapter and card: {output}" + (f"; sentence-transformers folder: {args.export_dir}" if args.export_dir else "")
    )


def _data(
    args: DistillArguments, translator: Vec2VecModel, teacher_space: str, task: ClassificationTask | None
) -> tuple[Dataset, TextEncoder | Tensor | None]:
    """Texts, with stored vectors in `label` or with the encoder that makes them, or with vectors of other texts."""
    dim, store = translator.config.embedding_dims.get(teacher_space), None
    if args.vectors:
        stored = load_embeddings(args.vectors)
        store = vectors(stored, "vectors", dim)
        if args.texts is None and TEXT not in stored.column_names:
            raise ValueError(
                f"`vectors` {args.vectors!r} has {stored.column_names}; the student needs the column '{TEXT}', or `texts` "
                "of its own."
            )
        if args.texts is None:
            return Dataset.from_dict({TEXT: stored[TEXT], LABEL: store.numpy()}), None
    texts = load_texts(args.texts) if args.texts else [t for c in task.columns for t in task.splits["train"][c]]
    columns = {TEXT: texts} | ({LABELS: task.splits["train"]["label"][:]} if args.student_head == "classifier" else {})
    return Dataset.from_dict(columns), recorded_encoder(translator.config, teacher_space) if store is None else store


def _labelled(task: ClassificationTask, split: str, max_texts: int | None, seed: int) -> LabelledTexts:
    """At most so many rows of a split, drawn at random."""
    rows = task.rows(split).shuffle(seed=seed)
    rows = rows.select(range(min(max_texts or len(rows), len(rows))))
    labels = [task.labels[i] for i in rows["label"]]
    return LabelledTexts(task.name, list(rows[task.columns[0]]), labels, {name: name for name in task.labels})


def _check(args, training_args, translator, teacher_space, student_space, task) -> None:
    part = _labelled(task, "train", args.max_texts, 0)  # the texts that `--arms` would train on, embedded once
    teacher = embed(part.texts, recorded_encoder(translator.config, teacher_space))
    model, tokenizer, _ = load_student(args.student)
    encoder = StudentEncoder(model, tokenizer, training_args.encoder_settings(args.student))
    rows = vectors(teacher, "teacher")
    report = transfer_report(
        rows,
        translator.translate(rows, source=teacher_space, target=student_space),
        encoder.encode(part.texts, progress=True),
        part.numbers(),
        seed=training_args.seed,
    )
    output = Path(training_args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "check.json").write_text(json.dumps(report.to_dict(), indent=2))
    print(f"\n{report}")


def _compare(args, training_args, translator, teacher_space, student_space, task) -> None:
    parts = {split: _labelled(task, split, args.max_texts, 0) for split in ("train", "validation")}
    teacher = recorded_encoder(translator.config, teacher_space)
    rows = {split: vectors(embed(part.texts, teacher), "teacher") for split, part in parts.items()}
    given = {name: getattr(training_args, name) for name in (*CONTRACT, *SHARED)}
    named = [named_path("other_translators", value) for value in args.other_translators or []]
    others = {name: load_translator(folder) for name, folder in named}
    store = None
    if args.vectors:
        stored, seen = load_embeddings(args.vectors), set(parts["train"].texts)
        if TEXT in stored.column_names:  # a text on both sides would be a pair
            stored = stored.select([i for i, text in enumerate(stored[TEXT]) if text not in seen])
        store = vectors(stored, "vectors", translator.config.embedding_dims[teacher_space])
    experiment = Experiment(
        student=args.student,
        translators={"ours": translator} | others,
        teacher_space=teacher_space,
        student_space=student_space,
        train=parts["train"],
        test=parts["validation"],
        teacher_train=rows["train"],
        teacher_test=rows["validation"],
        peft_config=_adapter(args),
        arguments=given,
        store=store,
        teacher_lm=teacher.settings.model if _are_language_models(teacher, args.student) else None,
    )
    found = run_arms(
        experiment, args.seeds, Path(training_args.output_dir), arms=None if args.arms == ["all"] else args.arms
    )
    print(f"\n{arms_table(found)}\n\n{training_args.output_dir}/arms.md, arms.json")


def _are_language_models(teacher: TextEncoder, student: str) -> bool:
    """Whether both predict tokens."""
    decoder = is_decoder(AutoConfig.from_pretrained(model_folder(student)).model_type)
    return decoder and teacher.is_decoder


def _adapter(args: DistillArguments) -> LoraConfig:
    return LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        use_dora=args.use_dora,
        use_rslora=args.use_rslora,
        target_modules="all-linear",
        task_type="SEQ_CLS" if args.student_head == "classifier" else None,  # trains the new head, too
    )


CONTRACT = ("pooling", "layer", "prompt", "max_length", "normalize", "mask_first_token")
SHARED = (
    *("max_steps", "num_train_epochs", "per_device_train_batch_size", "gradient_accumulation_steps"),
    *("learning_rate", "warmup_steps", "lr_scheduler_type", "train_sampling_strategy", "use_cpu", "bf16"),
    "logging_steps",
)
DEFAULTS = {"save_strategy": "epoch", "save_total_limit": 1, "logging_steps": 10}
