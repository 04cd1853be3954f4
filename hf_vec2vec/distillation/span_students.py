"""A student learns to find answers in passages, from labels and from what a fine-tuned teacher makes of each word."""

import logging
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from ..encoders.folders import model_folder
from ..encoders.pooling import token_states
from ..evaluation.baselines import paired_ridge
from ..model.modeling_vec2vec import Vec2VecModel
from ..tasks.base import INPUTS, TaskCollator, check_lengths, evaluate_task, map_batches, set_padding
from ..tasks.fine_tuning import adapter_for
from ..tasks.parts import check_splits
from ..tasks.question_answering import QuestionAnsweringTask
from ..tasks.trained import load_trained_model
from .adapters import PROJECTION, merged, new_projection, set_rate
from .arms import LABELS_OURS, LABELS_RIDGE, START_RATE, TASK, matrix_of
from .data import pad_offsets
from .losses import cosine_loss
from .spans import pool_spans, span_members, word_spans
from .students import check_answers
from .task_students import TEACHER, TaskStudent, unpaired_translator, with_held_out

logger = logging.getLogger(__name__)
CHUNK = 64  # windows whose states are held at once
FITTED_WORDS = 20_000  # that maps between the two sides are fitted to, at most
HELD_OUT_FIGURE = "f1"


@dataclass(frozen=True)
class SpanLesson:
    """What all arms share.

    Args:
        task: with a tenth of its training rows in the split `held_out`.
        student: its name.
        windows: of the student, of the training rows that both sides read in one window.
        spans: for each window the places of its words in the passage, as characters.
        teacher: for each window `(words, d_t)`, by the teacher, normalised as the translator does it.
        targets: the same translated into the student's space, and normalised.
        student_mean: `(d_s,)`, of the words by the student as it is.
        projection: `(d_t, d_s)`, where a learned one starts: ridge regression on words that both have read.
        verdict: of the translator, which saw no word by both.
        translator: it.
    """

    task: QuestionAnsweringTask
    student: str
    windows: Dataset
    spans: list[list[tuple[int, int]]]
    teacher: list[Tensor]
    targets: list[Tensor]
    student_mean: Tensor
    projection: Tensor
    verdict: str
    translator: Vec2VecModel


def distill_spans(
    task: QuestionAnsweringTask,
    teacher: str,
    student: str,
    peft_config: LoraConfig,
    *,
    seed: int = 0,
    progress: bool = True,
    trust_remote_code: bool = False,
    **arguments: Any,
) -> TaskStudent:
    """As `distill_task`, for tasks that are answered by spans: every word of a passage has a target of its own.

    Tokens of both sides are carried over words, as `hf_vec2vec.distillation.spans` does: the two need not cut text alike.
    Rows that do not fit into one window of either side are left out.

    Args:
        task: `squad`, `squad_v2` or their kind.
        teacher: folder of a model that was fine-tuned on it.
        student: short name of a bundled model, local folder or Hub id.
        peft_config: the student's adapter.
        seed: of everything random.
        progress: show bars.
        trust_remote_code: run the code that teacher and student bring along.
        arguments: of `transformers.TrainingArguments`, the same for all arms.

    Raises:
        ValueError: for a task without training or validation rows, a teacher without a head for it, passages that all are
            too long, or a student that is the teacher or an encoder-decoder.
    """
    check_splits(task, "train", "validation")
    trusted: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    bf16 = bool(arguments.get("bf16"))
    lesson = open_spans(task, teacher, student, seed=seed, progress=progress, bf16=bf16, **trusted)
    loaded = load_trained_model(teacher, task, **trusted)
    rows: list[dict[str, Any]] = [{"arm": TEACHER} | _figures(*loaded, lesson.task, progress)]
    best: tuple[float, Any, Any, str] = (-np.inf, None, None, "")
    for name in [TASK, LABELS_RIDGE, *([LABELS_OURS] if lesson.verdict == "aligned" else [])]:
        logger.info("%s", name)
        model, tokenizer = train_spans(lesson, name, peft_config, seed, **trusted, **arguments)
        rows.append({"arm": name} | _figures(model, tokenizer, lesson.task, progress))
        if rows[-1]["held_out"] > best[0]:
            best = rows[-1]["held_out"], model, tokenizer, name
    return TaskStudent(best[1], best[2], best[3], rows, lesson.verdict)


def open_spans(
    task: QuestionAnsweringTask,
    teacher: str,
    student: str,
    *,
    seed: int = 0,
    progress: bool = True,
    trust_remote_code: bool = False,
    bf16: bool = False,
) -> SpanLesson:
    """Read the passages by both sides, and fit the maps between their words. Arguments and errors: `distill_spans`."""
    if teacher == student:
        raise ValueError(f"`teacher` and `student` are both {student!r}: there is nothing to learn.")
    check_answers(student, trust_remote_code=trust_remote_code)
    task = with_held_out(task, seed)
    sides = [load_trained_model(teacher, task, trust_remote_code=trust_remote_code), _new(task, student, trust_remote_code)]
    windows, places = zip(*(_whole_windows(task, *side) for side in sides), strict=True)
    shared = sorted(set(places[0]) & set(places[1]))
    if not shared:
        raise ValueError(f"`task` {task.name!r}: no passage of 'train' fits into one window of teacher and student.")
    logger.info("%d of %d training rows fit into one window of both sides", len(shared), len(task.rows("train")))
    contexts = task.rows("train")["context"][:]
    spans = [word_spans(contexts[i], 1) for i in shared]
    read = [rows.select([at[i] for i in shared]) for rows, at in zip(windows, places, strict=True)]
    reading: dict[str, Any] = {"progress": progress, "bf16": bf16}
    found = [word_vectors(*side, rows, spans, **reading) for side, rows in zip(sides, read, strict=True)]
    known = [a.isfinite().all(1) & b.isfinite().all(1) for a, b in zip(*found, strict=True)]
    theirs, ours = ([rows[kept] for rows, kept in zip(side, known, strict=True)] for side in found)
    spans = [[span for span, k in zip(each, kept, strict=True) if k] for each, kept in zip(spans, known, strict=True)]
    a, b, paired = _drawn(theirs, ours, seed)
    translator, verdict = unpaired_translator(a, b, seed, progress)
    normal, own_normal = translator.normalizers["teacher"], translator.normalizers["student"]
    ways: dict[str, Any] = {"source": "teacher", "target": "student"}
    return SpanLesson(
        task=task,
        student=student,
        windows=read[1],
        spans=spans,
        teacher=[normal(rows) for rows in theirs],
        targets=[own_normal(translator.translate(rows, **ways)) for rows in theirs],
        student_mean=torch.cat(ours).mean(0),
        projection=matrix_of(paired_ridge(paired[1], normal(paired[0])), paired[1].shape[1]),
        verdict=verdict,
        translator=translator,
    )


def train_spans(
    lesson: SpanLesson,
    name: str,
    peft_config: LoraConfig,
    seed: int,
    *,
    trust_remote_code: bool = False,
    **arguments: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The student after one arm, its adapter merged, and its tokenizer.

    Args:
        lesson: of `open_spans`.
        name: `task loss only`, `labels + ours` or `labels + learned projection from ridge`.
        peft_config: the student's adapter.
        seed: of head, adapter and order.
        trust_remote_code: run the code that the student brings along.
        arguments: of `transformers.TrainingArguments`, but for `output_dir`.
    """
    if name not in (TASK, LABELS_OURS, LABELS_RIDGE):
        raise ValueError(f"`name` must be one of {[TASK, LABELS_OURS, LABELS_RIDGE]}, got {name!r}.")
    set_seed(seed)
    model, tokenizer = _new(lesson.task, lesson.student, trust_remote_code)
    adapted: Any = get_peft_model(model, adapter_for(model, lesson.task, peft_config))
    targets, seen = {
        TASK: (None, nn.Identity()),
        LABELS_OURS: (lesson.targets, lesson.translator.normalizers["student"]),
        LABELS_RIDGE: (lesson.teacher, nn.Identity()),
    }[name]
    if name == LABELS_RIDGE:
        there, here = lesson.projection.shape
        adapted.add_module(PROJECTION, new_projection(here, there, lesson.projection))
    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "remove_unused_columns": False}
        given |= {"dataloader_pin_memory": torch.cuda.is_available(), "label_names": ["start_positions", "end_positions"]}
        trainer = SpanTrainer(
            adapted,
            TrainingArguments(folder, **(given | arguments), seed=seed),
            data_collator=SpanCollator(tokenizer),
            train_dataset=lesson.windows.add_column("window", list(range(len(lesson.windows)))),
            spans=lesson.spans,
            targets=targets,
            seen=seen,
            mean=lesson.student_mean,
        )
        trainer.train()
    return merged(adapted), tokenizer


class SpanCollator(TaskCollator):
    """Adds to a batch the places of its tokens, and which windows they are."""

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """As the parent's, with `offsets` `(n, tokens, 2)` and `window` `(n,)`."""
        offsets = pad_offsets([torch.tensor(row["offsets"]) for row in rows])
        return super().__call__(rows) | {"offsets": offsets, "window": torch.tensor([row["window"] for row in rows])}


class SpanTrainer(Trainer):
    """Adds to the loss of a span head `1 - cosine` of each word to its target, both less their means.

    Args:
        spans: places of words, for each window.
        targets: `(words, d)` for each window; none: labels alone.
        seen: how the student's vectors of words are normalised before they are compared; affine.
        mean: `(d_s,)`, of the student's vectors of words before training.
    """

    def __init__(
        self,
        *args: Any,
        spans: list[list[tuple[int, int]]],
        targets: list[Tensor] | None,
        seen: nn.Module,
        mean: Tensor,
        **kwargs: Any,
    ):
        super().__init__(*args, **kwargs)
        self.spans, self.targets, self.seen = spans, targets, seen.to(self.args.device)
        self.mean = mean.to(self.args.device)
        self.target_mean = None if targets is None else torch.cat(targets).mean(0)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The parent's, in which a learned projection has a lower rate."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if (projection := self._projection()) is not None:
            set_rate(optimizer, projection.parameters(), START_RATE)
        return optimizer

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The head's loss, and the words'."""
        offsets, windows = inputs.pop("offsets"), inputs.pop("window").tolist()
        outputs = model(**inputs, output_hidden_states=self.targets is not None)
        loss = outputs.loss
        if self.targets is not None:
            members, owners = span_members(offsets, inputs["attention_mask"], [self.spans[i] for i in windows])
            rows = pool_spans(outputs.hidden_states[-1], members, owners).float()
            rows = self.seen(rows) - self.seen(self.mean[None])
            projection = self._projection()
            wanted = torch.cat([self.targets[i] for i in windows]) - self.target_mean
            loss = loss + cosine_loss(rows if projection is None else projection(rows), wanted.to(rows.device))
        return (loss, outputs) if return_outputs else loss

    def _projection(self) -> nn.Module | None:
        return dict(self.accelerator.unwrap_model(self.model).named_children()).get(PROJECTION)


def word_vectors(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    windows: Dataset,
    spans: Sequence[list[tuple[int, int]]],
    *,
    progress: bool = True,
    bf16: bool = False,
) -> list[Tensor]:
    """For each window `(words, d)`: means of the last layer's states over the tokens of a word; NaN where it has none."""

    def step(batch: dict[str, Tensor]) -> Iterable[np.ndarray]:
        mask = batch["attention_mask"]
        inputs = {name: values for name, values in batch.items() if name in INPUTS}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            states = token_states(model(**inputs, output_hidden_states=True))[-1].float().cpu()
        return [rows[: int(length)].numpy() for rows, length in zip(states, mask.sum(1), strict=True)]

    found, training = [], model.training
    model.eval()
    try:
        for start in range(0, len(windows), CHUNK):
            part = windows.select(range(start, min(start + CHUNK, len(windows))))
            with torch.inference_mode():
                states = map_batches(step, part, TaskCollator(tokenizer), 16, model.device, progress)
            for rows, window, words in zip(states, part, spans[start : start + CHUNK], strict=True):
                offsets, mask = torch.tensor(window["offsets"])[None], torch.ones(1, len(rows), dtype=torch.long)
                found.append(pool_spans(torch.from_numpy(rows)[None], *span_members(offsets, mask, [words])))
    finally:
        model.train(training)
    return found


def _new(
    task: QuestionAnsweringTask, student: str, trust_remote_code: bool
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A student with a new head."""
    tokenizer = AutoTokenizer.from_pretrained(
        model_folder(student, trust_remote_code=trust_remote_code), trust_remote_code=trust_remote_code
    )
    model = task.load_model(student, trust_remote_code=trust_remote_code)
    set_padding(model, tokenizer)
    return model, tokenizer


def _whole_windows(
    task: QuestionAnsweringTask, model: Any, tokenizer: PreTrainedTokenizerBase
) -> tuple[Dataset, dict[int, int]]:
    """All windows of the training rows, and the places of those whose row has no other, by row."""
    windows = task.prepare(tokenizer, "train")
    check_lengths(model, windows)
    owners = np.array(windows["example"][:])
    rows, first, counts = np.unique(owners, return_index=True, return_counts=True)
    return windows, {int(row): int(i) for row, i, count in zip(rows, first, counts, strict=True) if count == 1}


def _drawn(theirs: list[Tensor], ours: list[Tensor], seed: int) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
    """Words of the one half of the windows by the teacher, of the other by the student, and words by both."""
    generator = torch.Generator().manual_seed(seed)

    def some(rows: int) -> Tensor:
        return torch.randperm(rows, generator=generator)[:FITTED_WORDS]

    halves = torch.cat(theirs[::2]), torch.cat(ours[1::2])
    a, b = (rows[some(len(rows))] for rows in halves)
    both = torch.cat(theirs), torch.cat(ours)
    picked = some(len(both[0]))
    return a, b, (both[0][picked], both[1][picked])


def _figures(
    model: Any, tokenizer: PreTrainedTokenizerBase, task: QuestionAnsweringTask, progress: bool
) -> dict[str, float]:
    held_out = evaluate_task(model, tokenizer, task, "held_out", progress=progress)
    return evaluate_task(model, tokenizer, task, "validation", progress=progress) | {"held_out": held_out[HELD_OUT_FIGURE]}


__all__ = ["SpanLesson", "distill_spans", "open_spans", "train_spans"]
