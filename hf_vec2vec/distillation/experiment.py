"""The experiment that tells when translated targets pay: arms that differ in the target alone, over seeds.

An arm is what it is in a clinical trial: a group that is treated alike in everything but one thing.
"""

import hashlib
import json
import tempfile
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from peft import PeftConfig
from scipy.stats import permutation_test
from torch import Tensor

from ..data.corpora import LabelledTexts
from ..data.file_names import file_names
from ..data.json_files import read_object, write_object
from ..data.progress import progress_bar
from ..data.staging import locked, staged_file
from ..evaluation.attributes import linear_probe
from ..model.modeling_vec2vec import Vec2VecModel
from ..training.fingerprint import Fingerprint, tensors_digest, weights_digest
from .arms import FROZEN, LEARNED, TEACHER, Arm, Lesson, arm_trainer, check_names, make_arms, untrained
from .students import StudentEncoder, padded
from .trainer import DistillationTrainer

BATCH = 64
DRAWS = 2000  # of the bootstrap and of the permutation test
AVERAGED = ("student_drift", "effective_rank", "effective_rank_before", "head_accuracy", "loose_probe_accuracy")


@dataclass(frozen=True)
class Experiment:
    """What all arms share: data, steps, order, adapter.

    Args:
        student: model that is adapted.
        translators: by name, each with both spaces; the first is the one that others are compared with.
        teacher_space: name in the translators.
        student_space: the same.
        train: texts that the student is trained on; only the arm with a task loss sees their labels. The linear probe that
            judges every arm is fitted on them.
        test: texts that probes are judged on.
        teacher_train: `(n, d_t)`, teacher vectors of the training texts.
        teacher_test: `(m, d_t)`, of the test texts.
        peft_config: adapter of the student.
        arguments: of `DistillationTrainingArguments`, but for `output_dir`, `seed` and the losses.
        store: `(k, d_t)`, teacher vectors of other texts, for the arm whose teacher cannot be asked.
        teacher_lm: the teacher's name, where both are causal language models: for the arm that compares their logits.
        trust_remote_code: run the code that models bring along.

    Raises:
        ValueError: for a translator with the name of another arm.
    """

    student: str
    translators: dict[str, Vec2VecModel]
    teacher_space: str
    student_space: str
    train: LabelledTexts
    test: LabelledTexts
    teacher_train: Tensor
    teacher_test: Tensor
    peft_config: PeftConfig
    arguments: dict = field(default_factory=dict)
    store: Tensor | None = None
    teacher_lm: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        check_names(self.translators)

    @cached_property
    def lesson(self) -> Lesson:
        """What students are trained with."""
        return Lesson(
            student=self.student,
            translators=self.translators,
            teacher_space=self.teacher_space,
            student_space=self.student_space,
            texts=self.train.texts,
            teacher=self.teacher_train,
            peft_config=self.peft_config,
            arguments=self.arguments,
            labels=self.train.numbers(),
            classes=list(self.train.descriptions),
            store=self.store,
            teacher_lm=self.teacher_lm,
            trust_remote_code=self.trust_remote_code,
        )

    @cached_property
    def untrained(self) -> tuple[Tensor, Tensor]:
        """Training and test vectors of the student as it is."""
        trusted = {"trust_remote_code": self.trust_remote_code}
        return _encode(self, untrained(self.student, self.arguments, **trusted))

    @property
    def student_vectors(self) -> Tensor:
        """`(n, d_s)`, the training texts by the student as it is."""
        return self.untrained[0]

    @property
    def references(self) -> np.ndarray:
        """`(m,)`, the true classes of the test texts."""
        return self.test.numbers()

    def baselines(self) -> dict[str, dict]:
        """What a probe predicts on the student as it is, and on the teacher."""
        labels = self.train.numbers()
        rows = {FROZEN: self.untrained, TEACHER: (self.teacher_train, self.teacher_test)}
        return {name: _judge(self, *pair, labels) for name, pair in rows.items()}

    def judged(self, trainer: DistillationTrainer) -> dict:
        """The same of a student that was trained, by its own head, too, if it has one."""
        rows = _encode(self, trainer.encoder())
        own = {"head_accuracy": _head_accuracy(trainer, self.test)} if trainer.args.task_weight else {}
        return _judge(self, *rows, self.train.numbers()) | own

    def made_of(self) -> Fingerprint:
        """What all runs are made of."""
        parts = {"training texts": self.train, "test texts": self.test}
        return fingerprint(self, {name: repr((part.texts, part.labels)) for name, part in parts.items()})


class Judged(Protocol):
    """What `run_arms` asks of an experiment."""

    @property
    def lesson(self) -> Lesson:
        """What students are trained with."""

    @property
    def student_vectors(self) -> Tensor:
        """`(n, d_s)`, the lesson's texts by the student as it is."""

    @property
    def references(self) -> np.ndarray:
        """`(m,)`, right answers."""

    def baselines(self) -> dict[str, dict]:
        """By name, `predicted`: answers for students that nothing was done to, and for the teacher."""

    def judged(self, trainer: DistillationTrainer) -> dict:
        """`predicted` of a student that was trained."""

    def made_of(self) -> Fingerprint:
        """What all runs are made of."""


def run_arms(experiment: Judged, seeds: int, output: Path, *, arms: list[str] | None = None) -> list[dict]:
    """Train every arm with every seed, fit a linear probe on each, and compare.

    Every run leaves one JSON file under `runs/`; what was interrupted goes on where it stopped.

    Args:
        experiment: what the arms share.
        seeds: 0 to this, not included. They set the adapter's start, the order of the data, and the arms' chances.
        output: folder for runs, table and JSON.
        arms: only these, by name.

    Returns:
        One dictionary an arm, see `compare`.

    Raises:
        FileExistsError: if another experiment runs in this folder.
        ValueError: if there is no seed, an arm is unknown, or a run in the folder is of another experiment or another arm.
    """
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1, got {seeds}.")
    found = {name: [run] for name, run in experiment.baselines().items()}
    known = list(make_arms(experiment.lesson, experiment.student_vectors, 0))
    if unknown := sorted(set(arms or []) - set(known)):
        raise ValueError(f"`arms` has {unknown[0]!r}; there are {known}.")
    names = [name for name in known if arms is None or name in arms]
    ours = next((name for name in experiment.lesson.translators if name in names), None)
    files = file_names(known)
    made_of = experiment.made_of()
    with locked(output, argument="output_dir"):
        for name, seed in progress_bar([(name, seed) for seed in range(seeds) for name in names], desc="arms"):
            file = output / "runs" / f"{files[name]}-{seed}.json"
            if not file.exists():
                arm = make_arms(experiment.lesson, experiment.student_vectors, seed)[name]
                write_object(file, {"arm": name, "seed": seed, **asdict(made_of)} | _run(experiment, arm, seed))
            made = read_object(file)
            if differing := made_of.differences(made):
                raise ValueError(
                    f"`output_dir`: {file} is of an experiment that differs from this one: {', '.join(differing)}. Delete "
                    "it, or take another folder."
                )
            if (made.get("arm"), made.get("seed")) != (name, seed):
                raise ValueError(
                    f"`output_dir`: {file} is of the arm {made.get('arm')!r} with seed {made.get('seed')}, not of {name!r} "
                    f"with seed {seed}. Delete it, or take another folder."
                )
            found.setdefault(name, []).append(made)
        rows = compare(found, experiment.references, ours)
        write_object(output / "arms.json", rows)
        with staged_file(output / "arms.md") as partial:
            partial.write_text(arms_table(rows) + "\n")
    return rows


def fingerprint(experiment: Judged, rows: dict[str, str]) -> Fingerprint:
    """What all runs of an experiment are made of; `rows`: texts and labels, in words, by what they are."""
    lesson = experiment.lesson
    tensors = {"teacher's vectors of the training texts": lesson.teacher, "store": lesson.store}
    hashes = {name: tensors_digest([(name, values)]) for name, values in tensors.items() if values is not None}
    hashes |= {f"translator {name!r}": weights_digest(model) for name, model in lesson.translators.items()}
    hashes |= {name: hashlib.blake2b(text.encode(), digest_size=16).hexdigest() for name, text in rows.items()}
    settings = {"student": lesson.student, "arguments": lesson.arguments, "teacher_lm": lesson.teacher_lm}
    adapter = {name: sorted(v) if isinstance(v, set) else v for name, v in lesson.peft_config.to_dict().items()}
    settings["adapter"] = json.loads(json.dumps(adapter, default=str))
    return Fingerprint(hashes, settings, {"student": experiment.student_vectors[0, :16].tolist()})


def _encode(experiment: Experiment, encoder: StudentEncoder) -> tuple[Tensor, Tensor]:
    """Training and test vectors, in the precision that students are trained in."""
    with torch.autocast(encoder.device.type, torch.bfloat16, enabled=bool(experiment.arguments.get("bf16"))):
        return encoder.encode(experiment.train.texts), encoder.encode(experiment.test.texts)


def _run(experiment: Judged, arm: Arm, seed: int) -> dict:
    """Train one arm and judge it."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = arm_trainer(experiment.lesson, arm, seed, folder)
        trainer.train()
        return experiment.judged(trainer) | trainer.movement()


@torch.no_grad()
def _head_accuracy(trainer: DistillationTrainer, test: LabelledTexts) -> float:
    model, tokenizer = trainer.student, trainer.processing_class
    model.eval()
    predicted = []
    for start in range(0, len(test), BATCH):
        texts = test.texts[start : start + BATCH]
        prompted = [trainer.args.prompt + text for text in texts]
        batch = padded(tokenizer, prompted, trainer.args.max_length).to(trainer.args.device)
        predicted.append(model(**batch).logits.argmax(1).cpu())
    return float((torch.cat(predicted).numpy() == test.numbers()).mean())


def _judge(experiment: Experiment, train: Tensor, test: Tensor, labels: np.ndarray) -> dict:
    """Classes of the test texts by a linear probe that was fitted on the training texts.

    How strongly it is regularised suits some arms better than others: a second one, with a tenth of the penalty, tells by
    how much.
    """
    mean = train.mean(0)
    probe = linear_probe(train - mean, labels)
    predicted = probe.predict((test - mean).numpy())
    loose = probe.set_params(logisticregression__C=10).fit((train - mean).numpy(), labels)
    accuracy = loose.score((test - mean).numpy(), experiment.test.numbers())
    return {"predicted": predicted.tolist(), "loose_probe_accuracy": accuracy}


def compare(found: dict[str, list[dict]], labels: np.ndarray, ours: str | None = None) -> list[dict]:
    """Accuracy of every arm, and how it differs from the frozen student and from ours.

    Args:
        found: for every arm its runs, each with the classes `predicted` of the test texts; `frozen student` and `teacher`
            have one run.
        labels: `(m,)`, the true ones.
        ours: the arm that all are compared with; none where no translator was followed.

    Returns:
        One dictionary an arm: `arm`, `seeds`, `accuracy`; `gain` over the frozen student with its 95 % interval (bootstrap
        over seeds and texts at once) and `p` of a paired permutation test over texts; with `ours`, its name, and the same of
        `behind`, ours minus this arm; `agreement`, the share of texts that it classes as the teacher does, and
        `shared_errors`, the share of the teacher's errors that are also its own; means over seeds of what was logged last.
    """
    predicted = {name: np.array([run["predicted"] for run in runs]) for name, runs in found.items()}
    right = {name: (rows == labels).astype(float) for name, rows in predicted.items()}
    wrong = right[TEACHER][0] == 0
    rows = []
    for name, runs in found.items():
        row = {"arm": name, "seeds": len(runs), "accuracy": float(right[name].mean())}
        row |= {"gain": _difference(right[name], right[FROZEN])}
        row |= {} if ours is None else {"ours": ours, "behind": _difference(right[ours], right[name])}
        row["agreement"] = float((predicted[name] == predicted[TEACHER]).mean())
        row["shared_errors"] = float((right[name][:, wrong] == 0).mean()) if wrong.any() else None
        row |= {key: float(np.mean([run[key] for run in runs])) for key in runs[0] if key in AVERAGED}
        rows.append(row)
    return rows


def _difference(one: np.ndarray, other: np.ndarray) -> dict:
    """Mean difference of right answers, `(seeds, texts)` each (a single row stands for all seeds), interval and p."""
    difference = one - other if len(one) >= len(other) else one.mean(0, keepdims=True) - other
    if not difference.any():
        return {"mean": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    generator = np.random.default_rng(0)
    seeds, texts = difference.shape
    means = [
        difference[generator.integers(seeds, size=seeds)][:, generator.integers(texts, size=texts)].mean()
        for _ in range(DRAWS)
    ]
    low, high = np.percentile(means, [2.5, 97.5])
    test = permutation_test(
        (difference.mean(0),), np.mean, permutation_type="samples", n_resamples=DRAWS, batch=100, rng=generator
    )
    return {"mean": float(difference.mean()), "interval": [float(low), float(high)], "p": float(test.pvalue)}


def arms_table(rows: list[dict]) -> str:
    """Markdown: a line an arm; differences in points, with 95 % intervals and p."""
    ours = next((row["ours"] for row in rows if "ours" in row), None)
    columns = ["seeds", "accuracy", "over frozen", "of learned", *([f"{ours} over it"] if ours is not None else [])]
    columns += ["as the teacher", "its errors", "drift"]
    lines = [f"| arm | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    learned = next((row["gain"]["mean"] for row in rows if row["arm"] == LEARNED), 0)
    for row in rows:
        share = f"{100 * row['gain']['mean'] / learned:.0f} %" if learned > 0 else "–"
        cells = [f"{row['accuracy']:.3f}", _points(row["gain"]), share]
        cells += [_points(row["behind"])] if ours is not None else []
        cells.append(f"{row['agreement']:.3f}")
        cells.append("–" if row["shared_errors"] is None else f"{row['shared_errors']:.3f}")
        cells.append(f"{row['student_drift']:.3f}" if "student_drift" in row else "–")
        lines.append(f"| {row['arm']} | {row['seeds']} | " + " | ".join(cells) + " |")
    lines += [f"\n{row['arm']}, by its own head: {row['head_accuracy']:.3f}." for row in rows if "head_accuracy" in row]
    return "\n".join(lines)


def _points(difference: dict) -> str:
    low, high = difference["interval"]
    return f"{100 * difference['mean']:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}] p {difference['p']:.3f}"


__all__ = ["FROZEN", "TEACHER", "Experiment", "Judged", "arms_table", "compare", "fingerprint", "run_arms"]
