"""Distillation of translated teacher vectors into an adapted student, with the Hugging Face Trainer."""

import inspect
from collections import defaultdict
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset, IterableDataset
from peft import PeftConfig, PeftModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encoders.pooling import first_layers, token_states
from ..encoders.text import TextEncoder
from ..model.modeling_vec2vec import Vec2VecModel
from ..sharing.translator_card import surroundings
from ..training.base import BaseTrainer
from ..training.fingerprint import adapter_hashes, rows_digest, tensors_digest, weights_digest
from ..training.trainer_checks import check_given
from .adapters import PROJECTION, Student, check_student, freeze_unused, new_projection, set_rate, width, with_adapter
from .arguments import DistillationTrainingArguments
from .callbacks import StopOnCollapse
from .data import LABELS, SOFT_LABELS, DistillationCollator, evenly_spaced, is_ready, label_column, ready
from .losses import (
    TERMS,
    WEIGHTS,
    Sides,
    cosine_loss,
    effective_rank,
    language_modelling_loss,
    soft_label_loss,
    universal_logit_loss,
)
from .spaces import check_teachers, student_and_teachers, teacher_dims, warn_of_wrong_translations
from .spans import pool_spans, span_members, teacher_spans
from .student_card import student_card, teacher_name, write_student_card
from .students import StudentEncoder, padded, pooled, with_decoder_start

LogitTeacher = tuple[PreTrainedModel, PreTrainedTokenizerBase]
CENTRED_ON = 1024  # texts at most: a mean is then off by some 3 % of a centred vector's length


class DistillationTrainer(BaseTrainer):
    """Moves a student's vectors towards a teacher's, translated into the student's own space.

    The target of a text is `translator.translate(teacher_vector)` in the space of the student *before* training. Distances
    are taken in that space's normalised coordinates, each side less its own mean over the training texts (1,024 at most),
    the student's as it was before training: a translator that learned on other texts is off by about the same vector
    everywhere, and needs no pairs to be rid of it. Task and language-modelling losses can be added.

    Args:
        model: the student: an encoder, a language model or a classifier of transformers (see `load_student`).
        args: [`DistillationTrainingArguments`].
        translator: a [`Vec2VecModel`] that knows the teachers' and the student's space. Without one, teacher vectors are
            taken to be in the student's space already, unless `args.learn_projection` is set or `gram_weight` is the only
            weight, which compare across spaces.
        teacher: an encoder, or one for each space, that makes vectors of the texts; default: they are in the column `label`
            (`label_SPACE` where there are several teachers).
        projection: `(d_t, d_s)`, where the learned projection starts, for instance at ridge regression of the teacher's
            vectors on the student's, both centred; default: at random. See `args.projection_rate`.
        logit_teacher: a causal language model and its tokenizer, for `args.logit_weight`.
        peft_config: adapter that is put on the student; default: the student is trained as it is.
        train_dataset: with the column `text`, and `label`, `labels` as needed. A stream (`datasets.IterableDataset`) needs
            `max_steps`, keeps its order, and asks its teacher as the texts come; its first 1,024 texts give the means.
        eval_dataset: the same.
        processing_class: the student's tokenizer.
        kwargs: of `transformers.Trainer`; see `check_given`. `compute_metrics` needs a task.

    Raises:
        TypeError, ValueError: for data, spaces or arguments that do not go together, before anything is trained.
    """

    args: DistillationTrainingArguments
    processing_class: PreTrainedTokenizerBase

    def __init__(
        self,
        model: Student,
        args: DistillationTrainingArguments,
        *,
        translator: Vec2VecModel | None = None,
        teacher: TextEncoder | Mapping[str, TextEncoder] | None = None,
        projection: Tensor | None = None,
        logit_teacher: LogitTeacher | None = None,
        peft_config: PeftConfig | None = None,
        train_dataset: Dataset | IterableDataset | None = None,
        eval_dataset: Dataset | IterableDataset | None = None,
        processing_class: PreTrainedTokenizerBase,
        **kwargs: Any,
    ):
        check_given(args, DistillationTrainingArguments, kwargs)
        if kwargs.get("compute_metrics") is not None and not args.task_weight:
            raise ValueError("`compute_metrics` needs the logits of a task: set `task_weight`, or leave it out.")
        check_student(model, processing_class, peft_config, args)
        spaces, self.student_space = student_and_teachers(translator, teacher, args, width(model))
        self.teachers = dict(teacher) if isinstance(teacher, Mapping) else {s: teacher for s in spaces if teacher}
        check_teachers(model, args, translator, self.teachers, logit_teacher, spaces, projection)
        self.translator, self.logit_teacher, self._start = translator, logit_teacher, projection
        stored = self._stored_spaces(args, spaces, streamed=isinstance(train_dataset, IterableDataset))
        dims = teacher_dims(translator, spaces, self.student_space, width(model), args)
        known: Any = {"args": args, "teachers": self.teachers, "teacher_dims": {space: dims[space] for space in stored}}
        self._ready = cast(Any, partial(ready, tokenizer=processing_class, config=model.config, **known))
        data = {"train_dataset": train_dataset, "eval_dataset": eval_dataset}
        data = {name: rows if rows is None else self._ready(rows, name) for name, rows in data.items()}
        model = with_adapter(model, peft_config, args)
        if args.learn_projection:
            there = self._teacher_width(data["train_dataset"], spaces[0], stored)
            model.add_module(PROJECTION, new_projection(width(model), there, projection))
        collator = DistillationCollator(processing_class, stored, args)
        super().__init__(model, args, processing_class=processing_class, data_collator=collator, **data, **kwargs)
        for frozen in (translator, logit_teacher and logit_teacher[0]):
            if frozen is not None:
                frozen.to(self.args.device).eval().requires_grad_(False)  # type: ignore[arg-type]  # a device will do
        base = model.get_base_model() if isinstance(model, PeftModel) else model
        self._can_skip_logits = "logits_to_keep" in inspect.signature(base.forward).parameters
        self._last_batch: dict[str, Tensor] | None = None
        self.centres = self._centres()
        self.add_callback(StopOnCollapse(args.collapse_threshold))

    def _stored_spaces(self, args: DistillationTrainingArguments, spaces: list[str], *, streamed: bool) -> list[str]:
        """Teachers whose vectors are columns of the data. Those of a stream's texts a teacher is asked for as they come."""
        live = args.span_words > 0 or not args.cache_teacher or streamed
        return spaces if args.distils and not (self.teachers and live) else []

    def _teacher_width(self, data: Dataset | IterableDataset, space: str, stored: list[str]) -> int:
        return len(next(iter(data))[label_column(space, stored)] if stored else self.teachers[space].encode(["a"])[0])

    def held_out(self, argument: str, data: Any) -> Dataset | IterableDataset:
        """A data set to evaluate on, with the columns of `eval_dataset`; raises as the trainer itself."""
        known = id(data) in map(id, (self.train_dataset, self.eval_dataset)) or is_ready(data)
        return data if known else self._ready(data, argument)

    @property
    def student(self) -> Student:
        """The model being trained, unwrapped."""
        return self.accelerator.unwrap_model(self.model)

    def encoder(self) -> StudentEncoder:
        """The student as it is now, as an encoder of texts."""
        settings = self.args.encoder_settings(self.student.config._name_or_path)
        return StudentEncoder(self.student, self.processing_class, settings)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The weighted sum of all losses of a batch."""
        outputs = self._forward(model, inputs)
        losses = {}
        if self.args.distils:
            # Mixed precision is for the student; in bfloat16 cosines would have two or three digits.
            with torch.autocast(self.args.device.type, enabled=False):
                losses = self._distillation_losses(outputs, inputs)
        if self.args.logit_weight:
            losses["logit_loss"] = self._logit_loss(outputs.logits, inputs)
        own = {}
        if self.args.task_weight:
            own["task_loss"] = outputs.loss
        if self.args.soft_label_weight and SOFT_LABELS in inputs:
            losses["soft_label_loss"] = soft_label_loss(outputs.logits, inputs[SOFT_LABELS])
        if self.args.lm_loss_weight:
            batch = inputs["inputs"]
            own["lm_loss"] = language_modelling_loss(outputs.logits, batch["input_ids"], batch["attention_mask"])
        distillation, task = self._weighted(losses), self._weighted(own)
        if model.training:
            self.log_parts(losses | own)
            if losses and own and (self.state.global_step + 1) % self.args.logging_steps == 0:
                self.log_parts({"gradient_ratio": self._gradient_ratio(distillation, task)})
            batch, last = inputs["inputs"], self._last_batch
            if last is None or len(batch["input_ids"]) >= len(last["input_ids"]):  # few rows fill few dimensions anyhow
                self._last_batch = batch
        return (distillation + task, outputs) if return_outputs else distillation + task

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The parent's, in which a learned projection has a rate of its own."""
        optimizer = super().create_optimizer(*args, **kwargs)
        if self.args.learn_projection and self.args.projection_rate != 1:
            set_rate(optimizer, getattr(self.student, PROJECTION).parameters(), self.args.projection_rate)
        return optimizer

    def _forward(self, model: nn.Module, inputs: dict):
        head = {}
        if self.args.task_weight:
            head["labels"] = inputs[LABELS]
        elif not (self.args.lm_loss_weight or self.args.logit_weight) and self._can_skip_logits:
            head["logits_to_keep"] = 1  # nobody looks at the others, and a vocabulary is wide
        with nullcontext() if self.args.uses_head else first_layers(cast(PreTrainedModel, self.student), self.args.layer):
            batch = with_decoder_start(self.student, inputs["inputs"])
            return model(**batch, **head, output_hidden_states=self.args.distils)

    def _weighted(self, losses: dict[str, Tensor]) -> Tensor | float:
        return sum(getattr(self.args, WEIGHTS[name]) * value for name, value in losses.items())

    def _distillation_losses(self, outputs, inputs: dict) -> dict[str, Tensor]:
        """The losses that look at a teacher, each the mean over teachers."""
        args, found = self.args, defaultdict(list)
        for space, sides in self._sides(token_states(outputs), inputs).items():
            ours, target, own = (side - centre for side, centre in zip(sides, self.centres[space], strict=True))
            projected = getattr(self.student, PROJECTION)(ours) if args.learn_projection else ours
            compared = Sides(ours, projected, target, own)
            for name, term in TERMS.items():
                if getattr(args, term.weight):
                    found[name].append(term.value(compared, args))
        return {name: torch.stack(values).mean() for name, values in found.items()}

    def _logit_loss(self, logits: Tensor, inputs: dict) -> Tensor:
        model, tokenizer = cast(LogitTeacher, self.logit_teacher)
        theirs = padded(tokenizer, inputs["texts"], self.args.max_length).to(logits.device)
        with torch.no_grad():
            known = model(**theirs).logits
        return universal_logit_loss(logits, known, inputs["inputs"]["attention_mask"], theirs["attention_mask"])

    def _rows(self, states: tuple[Tensor, ...], inputs: dict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Vectors of texts, or of the spans that both sides have tokens for: the student's and each teacher's."""
        mask = inputs["inputs"]["attention_mask"]
        if not self.args.span_words:
            teacher = inputs["teacher"]
            if self.teachers and not teacher:
                made = {space: encoder.encode(inputs["texts"], progress=False) for space, encoder in self.teachers.items()}
                teacher = {space: rows.to(mask.device) for space, rows in made.items()}
            rows = pooled(states, mask, self.args).float()
            return dict.fromkeys(teacher, rows), teacher
        members, text_of = span_members(inputs["offsets"], mask, inputs["spans"])
        ours, theirs = {}, {}
        for space, encoder in self.teachers.items():
            vectors, known = teacher_spans(encoder, inputs["texts"], self.args.span_words)
            both = members.any(1) & known.to(mask.device)
            rows = pool_spans(states[self.args.layer], members[both], text_of[both]).float()
            ours[space] = F.normalize(rows, dim=1) if self.args.normalize else rows
            theirs[space] = vectors.to(mask.device)[both]
        return ours, theirs

    def _sides(self, states: tuple[Tensor, ...], inputs: dict) -> dict[str, tuple[Tensor, Tensor, Tensor]]:
        """What `_compared` gives, for every teacher."""
        ours, teacher = self._rows(states, inputs)
        return {space: self._compared(ours[space], theirs, space) for space, theirs in teacher.items()}

    def _compared(self, ours: Tensor, theirs: Tensor, space: str) -> tuple[Tensor, Tensor, Tensor]:
        """Student rows `(n, d_s)`, what they shall be, and the teacher's own rows `(n, d_t)`, all normalised."""
        target, student = theirs, self.student_space
        if self.translator is not None and space != student:
            target = self.translator.translate(theirs, source=space, target=student)
        return self._normalized(ours, student), self._normalized(target, student), self._normalized(theirs, space)

    def _normalized(self, rows: Tensor, space: str) -> Tensor:
        """Centred and scaled as the translator does it."""
        return rows if self.translator is None else self.translator.normalizers[space](rows)

    @torch.no_grad()
    def _centres(self) -> dict[str, tuple[Tensor, ...]]:
        """For every teacher the means of what `_compared` gives, over evenly spaced rows of the training data."""
        data = self.train_dataset if self.train_dataset is not None else self.eval_dataset
        if data is None or not self.args.distils:
            return {}
        rows = list(islice(data, CENTRED_ON)) if isinstance(data, IterableDataset) else evenly_spaced(data, CENTRED_ON)
        found: dict[str, list[tuple[Tensor, ...]]] = {}
        model = cast(nn.Module, self.model)
        was_training = model.training
        model.eval()
        for start in range(0, len(rows), self.args.eval_batch_size):
            picked = rows[start : start + self.args.eval_batch_size]
            inputs = self._prepare_inputs(self.data_collator(picked))
            with self.compute_loss_context_manager():
                states = token_states(self._forward(model, inputs))
            for space, sides in self._sides(states, inputs).items():
                found.setdefault(space, []).append(sides)
        model.train(was_training)
        all_rows = {space: tuple(torch.cat(side) for side in zip(*parts, strict=True)) for space, parts in found.items()}
        centres = {space: tuple(side.mean(0) for side in sides) for space, sides in all_rows.items()}
        if not all(mean.isfinite().all() for means in centres.values() for mean in means):
            raise ValueError(
                "`train_dataset`: vectors of the teacher or the student are too large, for their mean is not finite. Look "
                "for rows that are damaged."
            )
        if self.translator is not None:
            warn_of_wrong_translations({s: sides for s, sides in all_rows.items() if s != self.student_space}, self.args)
        return centres

    def _gradient_ratio(self, distillation: Tensor, task: Tensor) -> Tensor:
        """Norm of the gradient of what looks at the teacher by that of the others, over all trained parameters."""
        trained = [p for p in self.student.parameters() if p.requires_grad]
        norms = []
        for loss in (distillation, task):
            found = torch.autograd.grad(loss, trained, retain_graph=True, allow_unused=True, materialize_grads=True)
            norms.append(torch.stack([gradient.norm() for gradient in found]).norm())
        return norms[0] / norms[1].clamp_min(1e-12)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss; how far the last batch has moved, and how many dimensions it fills."""
        if "loss" in logs and self._last_batch is not None:
            self.check_weights()
            logs |= self.movement()
        super().log(logs, start_time)

    @torch.no_grad()
    def movement(self) -> dict[str, float]:
        """How far the last batch that was trained on has moved (1 - cosine), and how many dimensions it fills."""
        model, batch = self.student, cast(dict[str, Tensor], self._last_batch)
        was_training = model.training
        model.eval()
        encoder = self.encoder()
        now = encoder.vectors_of(batch).float()
        found = {"effective_rank": effective_rank(now)}
        if isinstance(model, PeftModel):
            with model.disable_adapter():
                before = encoder.vectors_of(batch).float()
            freeze_unused(model, self.args)  # PEFT leaves all adapters trainable behind it
            found |= {"effective_rank_before": effective_rank(before), "student_drift": cosine_loss(now, before).item()}
        model.train(was_training)
        return found

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Loss; with a task, logits and classes for `compute_metrics`."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
        if prediction_loss_only or not self.args.task_weight:
            return loss.detach(), None, None
        return loss.detach(), outputs.logits.detach(), inputs[LABELS]

    def save_published(self, folder: Path) -> None:
        """Write what is published: the student or its adapter, and the tokenizer."""
        self._save(str(folder))

    def write_card(self, folder: Path) -> None:
        """Write `README.md` and `distillation.json`, from what this run knows of itself."""
        write_student_card(folder, self.facts(), self.args, name=self.model_name)

    def hashes(self) -> dict[str, str]:
        """Of the training rows, the student as it was loaded, the translator and the teachers."""
        student = self.student
        kept = student if isinstance(student, PeftModel) else student.base_model  # a new head comes from a checkpoint
        adapted = isinstance(student, PeftModel)
        weights = ((name, p) for name, p in kept.named_parameters() if not (adapted and p.requires_grad))
        found = {"training rows": rows_digest(self.train_dataset), "student": tensors_digest(weights)}
        if self.logit_teacher is not None:
            found["logit teacher"] = weights_digest(self.logit_teacher[0])
        found |= adapter_hashes(student)
        found |= {} if self._start is None else {"projection": tensors_digest([("weight", self._start)])}
        if not cast(DistillationCollator, self.data_collator).spaces:
            found |= {f"teacher {space!r}": encoder.fingerprint() for space, encoder in self.teachers.items()}
        return found

    def card(self, folder: Path, name: str) -> str:
        """The card of the student as it is now."""
        return str(student_card(self.facts(), self.args, name=name))

    def answers(self) -> dict[str, list[float]]:
        """What the translator makes of one row, the numbers from -1 to 1, of each other space."""
        if self.translator is None:
            return {}
        found = {}
        for space, dim in (self.translator.config.embedding_dims or {}).items():
            if space != self.student_space:
                row = torch.linspace(-1, 1, dim, device=self.args.device)[None]
                there = self.translator.translate(row, source=space, target=self.student_space)
                found[f"translator from {space!r}"] = there[0, :16].tolist()
        return found

    def facts(self) -> dict:
        """What a card says of this run."""
        spaces = list(self.teachers) or self.args.teacher_spaces or ["stored vectors"]
        return {
            "student": self.student.config._name_or_path,
            "adapter": isinstance(self.student, PeftModel),
            "translator": self.translator and self.translator.config.name_or_path,
            "teacher": ", ".join(teacher_name(self.translator, space) for space in spaces),
            "texts": len(self.train_dataset) if isinstance(self.train_dataset, Dataset) else None,
            "steps": self.state.global_step,
            "log": [row for row in self.state.log_history if "loss" in row],
            **self.cost(),
            **surroundings(),
            **self.record,
        }

    def _save(self, output_dir: str | None = None, state_dict=None) -> None:
        super()._save(output_dir, state_dict)
        if self.args.learn_projection and isinstance(self.student, PeftModel):  # else the model's own weights hold it
            weights = {name: p.detach().contiguous() for name, p in getattr(self.student, PROJECTION).named_parameters()}
            save_file(weights, (Path(output_dir) if output_dir else self.output) / f"{PROJECTION}.safetensors")

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_projection(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_projection(self.state.best_model_checkpoint)

    def _load_projection(self, checkpoint: str | None) -> None:
        """The learned projection of a checkpoint, if it stands beside the adapter there."""
        if checkpoint and (file := Path(checkpoint) / f"{PROJECTION}.safetensors").exists():
            getattr(self.student, PROJECTION).load_state_dict(load_file(file))


__all__ = ["DistillationTrainer"]
