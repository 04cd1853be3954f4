"""Does a student that followed a teacher's translated vectors serve better? Pairs × tasks × arms × seeds, on real tasks.

    python benchmarks/tasks.py --pairs all-mpnet-base-v2=paraphrase-MiniLM-L3-v2 --texts texts.txt --output tasks \
        --tasks cola=glue/cola mrpc=glue/mrpc stsb=glue/stsb commonsense_qa=csqa --arms ours self --seeds 0 1 2
    python benchmarks/tasks.py --output tasks --report

The general case: a student follows vectors of unlabelled text, and is then judged on all tasks at once, by probes on its
frozen vectors (`hf_vec2vec.tasks.judging`). A task is a name that `load_task` knows and a folder with a file a split;
without the folder it comes from the Hub. No text that a task judges on is trained on. The texts are shuffled: the first
`--rows` are the teacher's side of the alignment, the next as many the student's, and what is left is what students are
trained on. With `--translators FOLDER`, made before with the spaces `teacher` and `student`, all texts are for that.
Every arm has the same start of its adapter, the same texts in the same order and the same number of updates. Where
several learning rates are given, each arm tries all of them with the first seed, and the one that does best in folds of
the tasks' training rows is used for the other seeds.

`--regime task` is the other case: for each task of classes, scores or choices the teacher learns it first, and the student
learns its labels and what the teacher makes of the same inputs (`hf_vec2vec.distillation.task_students`). There all is
compared with labels alone, and rates are chosen by training rows that nobody was trained on. On SQuAD words are followed,
in three arms (`hf_vec2vec.distillation.span_students`); arms that miss a task are left out of the table, so give SQuAD a
folder of its own. With `--label_rows` so many training rows have a label, for teacher and student alike; of the others
what the teacher says stands for it.

A language model's layer stands behind its name: SmolLM2-135M-Instruct-Q4_1@6. With `--regime task` the model is cut
behind it. Results go to `runs.jsonl` one by one: a run
that is there is not done again. At the end there are a table, `table.md`, and two pictures, `by_task.png` and
`by_updates.png`.
"""

import json
import logging
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import tasks_report
import torch
from peft import LoraConfig
from tasks_aware import TaskWorkshop, bf16, precision, task_arms, task_cells
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from hf_vec2vec import TextEncoder, Vec2VecModel, align
from hf_vec2vec.data import load_embeddings, load_texts, vectors
from hf_vec2vec.data.staging import locked
from hf_vec2vec.distillation.arms import Lesson, arm_trainer, make_arms, untrained
from hf_vec2vec.encoders.text import embed
from hf_vec2vec.tasks import Task, TaskVectors, judge, load_task

FROZEN, TEACHER = tasks_report.FROZEN, tasks_report.TEACHER
TRANSLATORS = {"rotation": {"back_translation_rounds": 0, "hidden_dim": 0}, "linear": {"hidden_dim": 0}, "full": {}}
ADAPTER = {"r": 32, "lora_alpha": 64, "target_modules": "all-linear"}


@dataclass
class TasksArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    regime: str = field(default="general", metadata={"help": "Of the student.", "choices": ["general", "task"]})
    teacher_updates: int = field(default=200, metadata={"help": "Of a teacher that learns a task."})
    pairs: list[str] = field(default_factory=list, metadata={"help": "TEACHER=STUDENT: names or folders of encoders."})
    texts: str | None = field(default=None, metadata={"help": "Unlabelled texts: a file that `load_texts` reads."})
    teacher_vectors: str | None = field(
        default=None, metadata={"help": "The teacher's vectors of the texts, row by row, if they were made before."}
    )
    tasks: list[str] = field(default_factory=list, metadata={"help": "NAME=FOLDER, or NAME for one of the Hub."})
    arms: list[str] | None = field(default=None, metadata={"help": "Names of arms; default: all without labels."})
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4])
    updates: list[int] = field(default_factory=lambda: [100], metadata={"help": "Of a student's training."})
    learning_rates: list[float] = field(default_factory=lambda: [1e-3], metadata={"help": "That every arm tries."})
    batch_size: int = field(default=32, metadata={"help": "Texts of an update."})
    rows: int = field(default=10_000, metadata={"help": "Texts a side of the alignment."})
    translators: list[str] = field(
        default_factory=lambda: ["rotation"],
        metadata={"help": "rotation, linear, full, with pairs linear+50; or a translator's folder. The first is `ours`."},
    )
    train_rows: int | None = field(default=None, metadata={"help": "Of a task that a probe is fitted on, at most."})
    judge_rows: int | None = field(default=None, metadata={"help": "Of a task that are judged, at most."})
    label_rows: int | None = field(
        default=None, metadata={"help": "Of the training rows that keep their labels, in the regime `task`; default: all."}
    )
    bf16: bool = field(default=False, metadata={"help": "Models run in bfloat16."})
    with_teacher: bool = field(default=True, metadata={"help": "Judge the teacher, too."})
    at_once: int = field(default=1, metadata={"help": "Processes, of one thread each."})
    report: bool = field(default=False, metadata={"help": "Run nothing; write the table and the pictures anew."})

    def __post_init__(self):
        if self.report:
            return
        for name in ("pairs", "texts", "tasks", "seeds", "updates", "learning_rates", "translators"):
            if not getattr(self, name) and (name, self.regime) != ("texts", "task"):
                raise ValueError(f"`{name}` must be given.")
        if wrong := [pair for pair in self.pairs if len(list(filter(None, pair.split("=")))) != 2]:
            raise ValueError(f"`pairs` must be TEACHER=STUDENT, got {wrong[0]!r}.")
        made = [kind for kind in self.translators if not Path(kind).is_dir()]
        if wrong := [kind for kind in made if kind.partition("+")[0] not in TRANSLATORS]:
            raise ValueError(f"`translators` must be of {', '.join(TRANSLATORS)}, linear+50, or a folder, got {wrong[0]!r}.")
        if not made:
            self.rows = 0  # no text is needed to align
        if made and self.rows < 1:
            raise ValueError(f"`rows` must be at least 1, got {self.rows}.")
        for name in ("batch_size", "at_once", "train_rows", "judge_rows", "label_rows"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if self.teacher_vectors and (len(self.pairs) > 1 or self.with_teacher):
            raise ValueError("`teacher_vectors` is for one pair, whose teacher is not run: set `with_teacher` to false.")
        if self.regime == "general" and self.label_rows:
            raise ValueError("`label_rows` is for the regime 'task'.")
        if min(self.updates) < 1:
            raise ValueError(f"`updates` must be at least 1, got {min(self.updates)}.")


class Workshop:
    """A teacher and a student, the texts, the translators between them, and the tasks that judge."""

    def __init__(self, args: TasksArguments, pair: str):
        self.args, self.folder = args, Path(args.output) / "".join(c if c.isalnum() else "-" for c in pair)
        (self.teacher, self.teacher_layer), (self.student, self.student_layer) = map(_layer, pair.split("="))
        if self.teacher == self.student:
            raise ValueError(f"`pairs` has {pair!r}, where a model would teach itself: the arm `self` does that.")

    @cached_property
    def tasks(self) -> list[Task]:
        named = [entry.partition("=") for entry in self.args.tasks]
        return [load_task(name, folder or None) for name, _, folder in named]

    @cached_property
    def texts(self) -> dict[str, list[str]]:
        """Of the teacher's side, of the student's, and to learn from."""
        judged = {text for task in self.tasks for text in _strings(task.rows("validation").to_list())}
        texts = sorted({text.strip() for text in load_texts(self.args.texts)} - judged)
        np.random.default_rng(0).shuffle(texts)
        rows, needed = self.args.rows, max(self.args.updates) * self.args.batch_size
        if len(texts) < 2 * rows + self.args.batch_size:
            raise ValueError(
                f"`texts` has {len(texts):,} texts that no task judges on; `rows` {rows:,} a side and one batch need "
                f"{2 * rows + self.args.batch_size:,}. Give more texts, or fewer `rows`."
            )
        return {"teacher": texts[:rows], "student": texts[rows : 2 * rows], "lesson": texts[2 * rows :][:needed]}

    @cached_property
    def settings(self) -> dict:
        """Of the student."""
        return precision(self.args) | {"per_device_train_batch_size": self.args.batch_size, "layer": self.student_layer}

    @cached_property
    def known_vectors(self) -> dict[str, torch.Tensor]:
        """Of texts that the teacher has read before."""
        texts, rows = load_texts(self.args.texts), vectors(load_embeddings(self.args.teacher_vectors), "teacher_vectors")
        if len(texts) != len(rows):
            raise ValueError(f"`teacher_vectors` has {len(rows):,} rows for {len(texts):,} `texts`: they go row by row.")
        return {text.strip(): row for text, row in zip(texts, rows, strict=True)}

    def by_teacher(self, side: str) -> torch.Tensor:
        if self.args.teacher_vectors:
            return torch.stack([self.known_vectors[text] for text in self.texts[side]])
        encoder = TextEncoder(self.teacher, layer=self.teacher_layer)
        with bf16(self.args):
            return vectors(embed(self.texts[side], encoder), "teacher")

    def by_student(self, side: str) -> torch.Tensor:
        return self.untrained_vectors(self.texts[side])

    def untrained_vectors(self, texts: list[str]) -> torch.Tensor:
        """Of texts by the student as it is."""
        with bf16(self.args):
            return untrained(self.student, self.settings).encode(texts, progress=True)

    @cached_property
    def translators(self) -> dict[str, Vec2VecModel]:
        """By name; made once and kept in the folder."""
        return {("ours" if i == 0 else kind): self._translator(kind) for i, kind in enumerate(self.args.translators)}

    def _translator(self, kind: str) -> Vec2VecModel:
        folder = Path(kind) if Path(kind).is_dir() else self.folder / f"{kind}-{self.args.rows}"
        if not (folder / "model.safetensors").exists():
            options, _, anchors = kind.partition("+")
            teacher, pairs = self.by_teacher("teacher"), None
            if anchors:
                shared = self.untrained_vectors(self.texts["teacher"][: int(anchors)])
                pairs = teacher[: int(anchors)], shared
            names = {"source_name": "teacher", "target_name": "student"}
            found = align(teacher, self.by_student("student"), anchors=pairs, seed=0, **names, **TRANSLATORS[options])
            verdict = {"verdict": found.report.verdict} | found.report.to_dict()
            Vec2VecModel.from_alignment(found, allow_not_aligned=True).save_pretrained(folder)
            (folder / "report.json").write_text(json.dumps(verdict, indent=2))
        return Vec2VecModel.from_pretrained(folder)

    @cached_property
    def lesson(self) -> Lesson:
        return Lesson(
            student=self.student,
            translators=self.translators,
            teacher_space="teacher",
            student_space="student",
            texts=self.texts["lesson"],
            teacher=self.by_teacher("lesson"),
            peft_config=LoraConfig(**ADAPTER),
            arguments=self.settings,
        )

    @cached_property
    def student_vectors(self) -> torch.Tensor:
        return self.by_student("lesson")

    def run(self, cell: dict) -> dict:
        """Train as the cell says, and judge on all tasks."""
        started = time.perf_counter()
        if cell["arm"] in (FROZEN, TEACHER):
            frozen = cell["arm"] == FROZEN
            encoder = (
                untrained(self.student, self.settings) if frozen else TextEncoder(self.teacher, layer=self.teacher_layer)
            )
            return {"cell": cell, "judgements": self._judgements(encoder), "seconds": time.perf_counter() - started}
        arms = make_arms(self.lesson, self.student_vectors, cell["seed"])
        if cell["arm"] not in arms:
            raise ValueError(f"`arms` has {cell['arm']!r}; there are {list(arms)}.")
        count = {"max_steps": cell["updates"], "learning_rate": cell["learning_rate"]}
        lesson = replace(self.lesson, arguments=self.lesson.arguments | count)
        with tempfile.TemporaryDirectory() as folder:
            trainer = arm_trainer(lesson, arms[cell["arm"]], cell["seed"], folder)
            trainer.train()
            trained, moved = time.perf_counter() - started, trainer.movement()
            trainer.student.merge_adapter()  # the same vectors, in less time
            judgements = self._judgements(trainer.encoder())
        seconds = {"seconds": time.perf_counter() - started, "training_seconds": trained}
        return {"cell": cell, "judgements": judgements, **moved, **seconds}

    def _judgements(self, encoder: TextEncoder) -> dict:
        found, rows = TaskVectors(encoder), {"max_train_rows": self.args.train_rows, "max_rows": self.args.judge_rows}
        with bf16(self.args):
            return {task.name: judge(found, task, **rows).to_dict() for task in self.tasks}


WORKSHOPS: dict[str, Workshop | TaskWorkshop] = {}  # of this process


def run_cell(args: TasksArguments, cell: dict) -> dict:
    """One run, in a process that keeps what it has loaded for the next."""
    if args.at_once > 1:
        torch.set_num_threads(1)
    if cell["pair"] not in WORKSHOPS:
        WORKSHOPS.clear()
        WORKSHOPS[cell["pair"]] = (TaskWorkshop if args.regime == "task" else Workshop)(args, cell["pair"])
    return WORKSHOPS[cell["pair"]].run(cell)


def cells(args: TasksArguments, pair: str, rates: dict[str, list[float]], seeds: list[int]) -> Iterator[dict]:
    """All runs of a pair with these seeds; seed by seed, so that one that is stopped has whole seeds."""
    shared = {"pair": pair, "tasks": sorted(entry.partition("=")[0] for entry in args.tasks)}
    shared |= {name: getattr(args, name) for name in ("rows", "batch_size", "train_rows", "judge_rows", "bf16")}
    shared |= {"translators": args.translators, "texts": Path(args.texts).name}
    yield shared | {"arm": FROZEN, "updates": 0, "seed": 0, "learning_rate": 0.0}
    for seed in seeds:
        for updates in args.updates:
            for arm, tried in rates.items():
                for rate in tried:
                    yield shared | {"arm": arm, "updates": updates, "seed": seed, "learning_rate": rate}
    if args.with_teacher:
        yield shared | {"arm": TEACHER, "updates": 0, "seed": 0, "learning_rate": 0.0}


def run_all(args: TasksArguments) -> int:
    """Every run that is not there yet; how many failed."""
    failed = 0
    for pair in args.pairs:
        if args.regime == "task":
            arms, cells_of = task_arms(args), task_cells
        else:
            workshop = WORKSHOPS[pair] = Workshop(args, pair)
            arms = list(make_arms(workshop.lesson, workshop.student_vectors, 0))  # all that is shared is on disk now
            cells_of = cells
        if unknown := sorted(set(args.arms or []) - set(arms)):
            raise ValueError(f"`arms` has {unknown[0]!r}; there are {arms}.")
        rates = {arm: args.learning_rates for arm in arms if args.arms is None or arm in args.arms}
        several = len(args.learning_rates) > 1
        failed += _run(args, cells_of(args, pair, rates, args.seeds[:1] if several else args.seeds))
        if several:
            runs = tasks_report.read(Path(args.output) / "runs.jsonl")
            best = {arm: [tasks_report.best_rate(runs, pair, arm, args.seeds[0])] for arm in rates}
            failed += _run(args, cells_of(args, pair, best, args.seeds[1:]))
    return failed


def _run(args: TasksArguments, wanted: Iterator[dict]) -> int:
    file, failed = Path(args.output) / "runs.jsonl", 0
    done = [run["cell"] for run in tasks_report.read(file)]
    todo = [cell for cell in wanted if cell not in done]
    with file.open("a", encoding="utf-8") as results, tqdm(total=len(todo), desc="runs", unit="run") as bar:
        for cell, run in _finished(args, todo):
            bar.update()
            if isinstance(run, Exception):
                failed += 1
                logging.error("failed: %s", cell, exc_info=run)
                continue
            results.write(json.dumps(run) + "\n")
            results.flush()
            mean = np.mean([found["points"] for found in run["judgements"].values()])
            bar.write(f"{cell['arm']}, {cell['updates']} updates, seed {cell['seed']}: {mean:.2f} points")
    return failed


def _finished(args: TasksArguments, todo: list[dict]) -> Iterator[tuple[dict, dict | Exception]]:
    """Runs with what came of them, as they come."""
    if args.at_once == 1:
        for cell in todo:
            try:
                yield cell, run_cell(args, cell)
            except Exception as error:  # the other runs go on
                yield cell, error
        return
    with ProcessPoolExecutor(args.at_once, mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = {pool.submit(run_cell, args, cell): cell for cell in todo}
        for future in as_completed(futures):
            yield futures[future], future.exception() or future.result()


def _layer(name: str) -> tuple[str, int]:
    model, _, layer = name.partition("@")
    return model, int(layer or -1)


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value.strip()
    elif isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _strings(part)


def main() -> None:
    (args,) = HfArgumentParser(TasksArguments).parse_args_into_dataclasses()
    folder = Path(args.output)
    failed = 0
    if not args.report:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder, argument="output"):
            (folder / "arguments.json").write_text(json.dumps(asdict(args), indent=2))
            failed = run_all(args)
    print(tasks_report.write(folder))
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
