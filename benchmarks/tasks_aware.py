"""The task-aware case of `benchmarks/tasks.py`: a teacher fine-tuned on a task, a student that learns labels and teacher."""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path

import tasks_report
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from hf_vec2vec.distillation.arms import LABELS_ANSWERS, LABELS_FROM_OURS, LABELS_LOGITS, LABELS_OURS, LABELS_RIDGE, TASK
from hf_vec2vec.distillation.span_students import SpanLesson, open_spans, train_spans
from hf_vec2vec.distillation.students import load_student
from hf_vec2vec.distillation.task_students import TaskLesson, open_lesson, train_in_arm
from hf_vec2vec.encoders.folders import model_folder
from hf_vec2vec.tasks import MultipleChoiceTask, QuestionAnsweringTask, Task, load_task
from hf_vec2vec.tasks.choice_pairs import as_pairs
from hf_vec2vec.tasks.fine_tuning import fine_tune
from hf_vec2vec.tasks.judging import judge_head
from hf_vec2vec.tasks.loading import SQUAD
from hf_vec2vec.tasks.parts import part_of, training_split
from hf_vec2vec.tasks.trained import load_trained_model

ARMS = [
    *(TASK, LABELS_OURS, LABELS_RIDGE, LABELS_FROM_OURS, "labels + learned projection", "labels + Gram loss"),
    *(LABELS_ANSWERS, LABELS_LOGITS, "labels + shuffled logits", "labels + logits + ours"),
    *("labels + logits + learned projection from ridge", "labels + logits + Gram loss"),
    *("labels + logits + ours + Gram loss", "labels + shuffled teacher", "labels + random isometry"),
]
SPAN_ARMS = (TASK, LABELS_OURS, LABELS_RIDGE)  # on SQuAD
ADAPTER = {"r": 32, "lora_alpha": 64, "target_modules": "all-linear"}


class TaskWorkshop:
    """A teacher and a student, and for each task a teacher that has learned it."""

    def __init__(self, args, pair: str):
        self.args, self.folder = args, Path(args.output) / "".join(c if c.isalnum() else "-" for c in pair)
        self.teacher, self.student = (self._model(name) for name in pair.split("="))
        self.sources = {name: folder or None for name, _, folder in (entry.partition("=") for entry in args.tasks)}
        self.opened = cache(self._opened)

    def _model(self, name: str) -> str:
        """The model; of a language model with a layer behind its name a folder of so many layers, made once."""
        model, _, layers = name.partition("@")
        if not layers:
            return model
        folder = self.folder / f"{Path(model).name}-{layers}-layers"
        if not (folder / "config.json").exists():
            source = model_folder(model)
            config = AutoConfig.from_pretrained(source)
            config.num_hidden_layers = int(layers)
            if "layer_types" in config.to_dict():  # Gemma and others tell which layers look at how much
                config.layer_types = config.layer_types[: int(layers)]
            AutoTokenizer.from_pretrained(source).save_pretrained(folder)
            AutoModelForCausalLM.from_pretrained(source, config=config).save_pretrained(folder)
        return str(folder)

    def teacher_of(self, name: str) -> str:
        """Folder of the teacher that has learned the task; made once. Choices are pairs to it."""
        rows = self.args.label_rows or self.args.train_rows or "all"
        folder = self.folder / f"teacher-{name}-{self.args.teacher_updates}-{rows}"
        if not (folder / "config.json").exists():
            count = {"max_steps": self.args.teacher_updates, "learning_rate": self.args.learning_rates[0]}
            task = self._task(name)[0]
            learned = as_pairs(task) if isinstance(task, MultipleChoiceTask) else task
            model, tokenizer = fine_tune(self.teacher, learned, LoraConfig(**ADAPTER), **count, **self._training)
            tokenizer.save_pretrained(folder)
            model.save_pretrained(folder)
        return str(folder)

    @property
    def _training(self) -> dict:
        return {"per_device_train_batch_size": self.args.batch_size} | precision(self.args)

    def _task(self, name: str):
        """The task with the rows that are used, and in what they differ from the published ones."""
        task = load_task(name, self.sources[name])
        train = training_split(task, "validation")
        used = {
            split: task.rows(split).shuffle(seed=0).select(range(min(count or 10**9, len(task.rows(split)))))
            for split, count in ((train, self.args.train_rows), ("validation", self.args.judge_rows))
        }
        if train == "validation":
            raise ValueError(f"`tasks` has {name!r}, which has no rows to train on: {list(task.splits)}.")
        if self.args.label_rows:
            used[train] = _without_labels(task, used[train], self.args.label_rows)
        part = part_of(task, train, "validation", {split: len(rows) for split, rows in used.items()})
        if self.args.label_rows:
            part = "; ".join(filter(None, [part, f"labels of {self.args.label_rows:,} training rows"]))
        return replace(task, splits=DatasetDict({"train": used[train], "validation": used["validation"]})), part

    def _opened(self, name: str) -> tuple[TaskLesson | SpanLesson, str]:
        task, part = self._task(name)
        if isinstance(task, QuestionAnsweringTask):
            return open_spans(task, self.teacher_of(name), self.student, bf16=self.args.bf16), part
        opened = open_lesson(
            task,
            self.teacher_of(name),
            self.student,
            LoraConfig(**ADAPTER),
            **self._training,
        )
        return opened, part

    def run(self, cell: dict) -> dict:
        """Train as the cell says, and judge on its task."""
        opened, part = self.opened(cell["task"])
        if cell["arm"] == tasks_report.TEACHER:
            model, tokenizer = load_trained_model(self.teacher_of(cell["task"]), opened.task)
        else:
            model, tokenizer = self._trained(opened, cell)
        with bf16(self.args):
            judged = judge_head(model, tokenizer, opened.task, "validation", held_out="held_out", part=part)
        return {"cell": cell, "judgements": {cell["task"]: asdict(judged)}, "verdict": opened.verdict}

    def _trained(self, opened: TaskLesson | SpanLesson, cell: dict):
        count = {"max_steps": cell["updates"], "learning_rate": cell["learning_rate"]}
        if isinstance(opened, SpanLesson):
            given = self._training | count | {"disable_tqdm": True}
            return train_spans(opened, cell["arm"], LoraConfig(**ADAPTER), cell["seed"], **given)
        return train_in_arm(opened, cell["arm"], cell["seed"], **count), load_student(self.student)[1]


def bf16(args) -> torch.autocast:
    """Models that are not trained run in bfloat16, too, if asked to; what is fitted to their vectors never does."""
    device = torch.accelerator.current_accelerator() or torch.device("cpu")
    return torch.autocast(device.type, torch.bfloat16, enabled=args.bf16)


def precision(args) -> dict:
    """Of training, as trainers take it."""
    return {"bf16": args.bf16, "use_cpu": args.bf16 and not torch.accelerator.is_available()}  # bfloat16 wants to be told


def _without_labels(task: Task, rows: Dataset, kept: int) -> Dataset:
    """The rows, of which the first so many keep their labels."""
    if isinstance(task, QuestionAnsweringTask):
        raise ValueError(f"`label_rows` is for classes, scores and choices, and {task.name!r} has spans.")
    column, hidden = ("answerKey", "") if isinstance(task, MultipleChoiceTask) else ("label", -1)
    values = rows[column][:kept] + [hidden] * (len(rows) - kept)
    return rows.remove_columns(column).add_column(column, values, feature=rows.features[column])


def task_arms(args) -> list[str]:
    """Names of all arms."""
    if args.arms and TASK not in args.arms:
        raise ValueError(f"`arms` must hold {TASK!r}, which the others are compared with, got {args.arms}.")
    return [arm for arm in ARMS if args.label_rows or arm != LABELS_ANSWERS]


def task_cells(args, pair: str, rates: dict[str, list[float]], seeds: list[int]) -> Iterator[dict]:
    """All runs of a pair with these seeds; seed by seed."""
    names = sorted(entry.partition("=")[0] for entry in args.tasks)
    shared = {"regime": "task", "pair": pair, "tasks": names, "teacher_updates": args.teacher_updates}
    shared |= {name: getattr(args, name) for name in ("batch_size", "train_rows", "judge_rows", "label_rows", "bf16")}
    for name in names if args.with_teacher else []:
        yield shared | {"task": name, "arm": tasks_report.TEACHER, "updates": 0, "seed": 0, "learning_rate": 0.0}
    for seed in seeds:
        for name in names:
            for updates in args.updates:
                for arm, tried in rates.items():
                    if name in SQUAD and arm not in SPAN_ARMS:
                        continue
                    for rate in tried:
                        yield shared | {"task": name, "arm": arm, "updates": updates, "seed": seed, "learning_rate": rate}
