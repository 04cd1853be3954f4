"""Adversarial training of a translator with the Hugging Face Trainer."""

import json
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from itertools import chain, combinations
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_utils import EvalLoopOutput

from ..alignment.score import MOST_ROWS, matched_cosines
from ..data.spaces import PairedEmbeddings, UnpairedEmbeddings, UnpairedSampler
from ..data.streaming import StreamedEmbeddings
from ..evaluation.translation import evaluate_translation
from ..metrics.translation import translation_metrics
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel
from ..sharing.translator_card import model_card, surroundings, write_model_card, write_published_facts
from .adversarial import AdversarialOutput, Discriminator, Pair, Phase, Vec2VecForAdversarialTraining
from .arguments import DESCRIBED, OF_GAMES, Vec2VecTrainingArguments
from .averaging import AfterUpdates, WeightAverage
from .base import BaseTrainer
from .data_checks import (
    check_batch,
    check_discriminators,
    check_held_out,
    check_model,
    check_selection,
    check_spaces,
    leaves_out_last_batch,
)
from .fingerprint import rows_digest, tensors_digest
from .losses import OF_DISCRIMINATORS, discriminator_losses, translator_losses
from .trainer_checks import check_given

Spaces = Mapping[str, Dataset | Tensor | np.ndarray]


class Vec2VecTrainer(BaseTrainer):
    """Alternates updates of the discriminators and of the translator.

    What is frozen when the trainer is made stays as it is.

    One optimizer holds both sides as two parameter groups, and the side whose turn it is not is frozen, so that gradient
    accumulation, resuming and several processes work as in every other Trainer. `discriminator_steps` updates of the
    discriminators go before each one of the translator.

    Args:
        model: a [`Vec2VecModel`], around which discriminators are put, or a [`Vec2VecForAdversarialTraining`].
        args: [`Vec2VecTrainingArguments`].
        train_dataset: [`UnpairedEmbeddings`], or `{space: data set or array}` to make them of; or [`StreamedEmbeddings`],
            which have no length, so that `max_steps` must be set.
        eval_dataset: [`UnpairedEmbeddings`] (gives `eval_loss` and `eval_alignment_score`, which may choose a checkpoint)
            or [`PairedEmbeddings`] (gives also figures of translation, which may not).
        kwargs: of `transformers.Trainer`; see `check_given`.

    Raises:
        TypeError, ValueError: for paired training data, spaces that the model does not know, wrong dimensions, half
            precision, or arguments that a stream or the model's own discriminators do not go with.
    """

    args: Vec2VecTrainingArguments
    train_dataset: UnpairedEmbeddings | StreamedEmbeddings | None  # type: ignore[assignment]  # made of datasets of torch
    eval_dataset: UnpairedEmbeddings | PairedEmbeddings | None  # type: ignore[assignment]

    def __init__(
        self,
        model: Vec2VecModel | Vec2VecForAdversarialTraining,
        args: Vec2VecTrainingArguments,
        train_dataset: UnpairedEmbeddings | StreamedEmbeddings | Spaces | None = None,
        eval_dataset: UnpairedEmbeddings | PairedEmbeddings | None = None,
        **kwargs: Any,
    ):
        check_given(args, Vec2VecTrainingArguments, kwargs)
        check_model(model)
        if isinstance(train_dataset, PairedEmbeddings):
            raise TypeError("`train_dataset` is PairedEmbeddings; training rows must not be paired. Use UnpairedEmbeddings.")
        if isinstance(train_dataset, Mapping):
            train_dataset = UnpairedEmbeddings(train_dataset)
        if not isinstance(train_dataset, UnpairedEmbeddings | StreamedEmbeddings | None):
            raise TypeError(
                f"`train_dataset` must be UnpairedEmbeddings or StreamedEmbeddings, got {type(train_dataset).__name__}."
            )
        if isinstance(model, Vec2VecModel):
            model.config.discriminator_norm = args.discriminator_norm
            model.config.discriminator_dim = args.discriminator_dim
            model = Vec2VecForAdversarialTraining.from_translator(model)
        check_discriminators(args, model.config)
        if train_dataset is not None:
            check_spaces("train_dataset", train_dataset, dict(model.config.embedding_dims or {}))
        if eval_dataset is not None:
            check_held_out("eval_dataset", eval_dataset, model.config)
        check_selection(args)
        if model.config.discriminator_dim is not None:
            _show_directions(model, train_dataset)
        if leaves_out_last_batch(args, model.config, train_dataset):
            args.dataloader_drop_last = True
        self._frozen = [parameter for parameter in model.parameters() if not parameter.requires_grad]
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=_as_it_is,
            **kwargs,
        )
        self._average: WeightAverage | None = None
        self._start = deepcopy(self.translator).eval().requires_grad_(False) if args.trust_weight else None
        self.add_callback(AfterUpdates(self._after_update))

    @property
    def translator(self) -> Vec2VecModel:
        """The model being trained, without its discriminators."""
        return self._whole.vec2vec

    @translator.setter
    def translator(self, translator: Vec2VecModel) -> None:
        self._whole.vec2vec = translator

    @property
    def _whole(self) -> Vec2VecForAdversarialTraining:
        return cast(Vec2VecForAdversarialTraining, self.accelerator.unwrap_model(cast(torch.nn.Module, self.model)))

    def _mean(self, space: str) -> Tensor:
        return self.translator.normalizers[space].state_dict()["mean"].cpu()

    def _get_train_sampler(self, train_dataset: Any = None) -> UnpairedSampler:
        data = cast(UnpairedEmbeddings, self.train_dataset if train_dataset is None else train_dataset)
        return UnpairedSampler([len(rows) for rows in data.spaces.values()], seed=self.order_seed)

    def _get_eval_sampler(self, eval_dataset: Any) -> torch.utils.data.Sampler | None:
        if isinstance(eval_dataset, UnpairedEmbeddings):
            return UnpairedSampler([len(rows) for rows in eval_dataset.spaces.values()], seed=self.order_seed)
        return super()._get_eval_sampler(eval_dataset)

    def held_out(self, argument: str, data: Any) -> UnpairedEmbeddings | PairedEmbeddings:
        """Rows to evaluate on; raises as the trainer itself for those that are none of the model's."""
        check_held_out(argument, data, self.translator.config)
        return data

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """One optimizer with the parameter groups `translator` and `discriminator`, each with its learning rate.

        With `optimizer_cls_and_kwargs` the `lr` there is the translator's.
        """
        if self.optimizer is None:
            sides = self._sides()
            chosen = self.optimizer_cls_and_kwargs or self.get_optimizer_cls_and_kwargs(self.args, self._whole)
            optimizer_class, kwargs = chosen
            rate = kwargs.get("lr", self.args.learning_rate)
            rates = {"translator": rate, "discriminator": self.args.discriminator_learning_rate}
            groups = [
                {"params": list(parameters), "lr": rates[side], "name": side, "weight_decay": self.args.weight_decay}
                for side, parameters in sides.items()
            ]
            self.optimizer = optimizer_class(groups, **kwargs)
        self.args.check_optimizer(self.optimizer)
        return self.optimizer

    def _sides(self) -> dict[Phase, list[torch.nn.Parameter]]:
        model, frozen = self._whole, set(map(id, self._frozen))
        translator = list(model.vec2vec.parameters())
        inside = set(map(id, translator))
        sides: dict[Phase, list] = {"translator": translator}
        sides["discriminator"] = [p for p in model.parameters() if id(p) not in inside]
        return {side: [p for p in parameters if id(p) not in frozen] for side, parameters in sides.items()}

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What updates change, by name: without a game no discriminator."""
        found = super().trained_parameters()
        return {name: p for name, p in found.items() if self.args.objective == "game" or name.startswith("vec2vec.")}

    def train(self, *args, **kwargs):
        """The parent's `train`; afterwards only what was frozen is, and with `ema_decay` the translator is the average.

        Raises:
            ValueError: if a batch is larger than the data.
        """
        if isinstance(self.train_dataset, UnpairedEmbeddings):
            check_batch(self.args, self.train_dataset)
        self._average = WeightAverage(self.translator, self.args.ema_decay) if self.args.ema_decay else None
        try:
            return super().train(*args, **kwargs)
        finally:
            for parameter in chain(*self._sides().values()):
                parameter.requires_grad_(True)
            if self._average:
                self._average.put_into(self.translator)
            self._average = None

    def _averaged(self) -> AbstractContextManager[None]:
        """The translator has the averaged weights within, if there are any."""
        return self._average.inside(self.translator) if self._average else nullcontext()

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The parent's, with penalties and beta2 where annealing has brought them."""
        if self.args.adam_beta2_end is not None and self.optimizer is not None:
            beta2 = self._annealed(self.args.adam_beta2, self.args.adam_beta2_end)
            for group in self.optimizer.param_groups:
                group["betas"] = (group["betas"][0], beta2, *group["betas"][2:])  # some have a third one
        return super().training_step(*args, **kwargs)

    def _annealed(self, start: float, end: float) -> float:
        """From `start` to `end` of the run, along half a cosine: of the step alone, so that resuming changes nothing."""
        done = self.state.global_step / max(self.state.max_steps, 1)
        return end + (start - end) * (1 + math.cos(math.pi * min(done, 1.0))) / 2

    def _after_update(self) -> None:
        """Take a translator's update into the average."""
        if self._average and self._phase(self.state.global_step - 1) == "translator":
            self._average.update(self.translator)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        if self._average:
            self._average.load(Path(resume_from_checkpoint))

    def _load_best_model(self) -> None:
        super()._load_best_model()
        if self._average:
            self._average.load(Path(str(self.state.best_model_checkpoint)))

    def _phase(self, step: int) -> Phase:
        if self.args.objective != "game":  # nobody judges
            return "translator"
        turn = step % (self.args.discriminator_steps + 1)
        return "discriminator" if turn < self.args.discriminator_steps else "translator"

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Loss of the side whose turn it is; in evaluation the translator's."""
        phase = self._phase(self.state.global_step) if model.training else "translator"
        if model.training:
            for side, parameters in self._sides().items():
                for parameter in parameters:
                    parameter.requires_grad_(side == phase)
        output = model(
            embeddings=inputs,
            phase=phase,
            detach_cycle=self.args.detach_cycle,
            input_gradients=any(getattr(self.args, name) for name in OF_DISCRIMINATORS),
            judge_real=self.args.gan_loss == "relativistic",
            judged=self.args.objective == "game",
        )
        if phase == "translator" and self._start is not None:
            output["start_translations"] = self._by_the_start(output)
        if phase == "discriminator":
            losses = discriminator_losses(output, self.args, self._annealed(1.0, self.args.penalty_decay))
        else:
            losses = self._translator_losses(output)
        loss = losses.pop("objective")
        if model.training:
            self.log_parts(losses)
        return (loss, output) if return_outputs else loss

    @torch.no_grad()
    def _by_the_start(self, output: AdversarialOutput) -> dict[Pair, Tensor]:
        """Translations of a batch by the translator that training started from."""
        start = cast(Vec2VecModel, self._start)
        latents = {name: start.encode(batch, name) for name, batch in output.rows.items()}
        return {(a, b): start.decode(latents[a], b) for a, b in output.translations}

    def _translator_losses(self, output: AdversarialOutput) -> dict[str, Tensor]:
        return translator_losses(output, self.args, logged=self._whole.training)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save the translator alone. Checkpoints, which the Trainer writes itself, hold the discriminators, too."""
        if _internal_call:
            super().save_model(output_dir, _internal_call)
            if self._average and self.args.should_save:
                self._average.save(Path(str(output_dir)))
            return
        self.check_weights()
        if self.args.should_save:
            self.save_published(Path(output_dir or self.output))
        if self.args.push_to_hub:
            self.push_to_hub(commit_message="Model save")

    def save_published(self, folder: Path) -> None:
        """Write what is published: the translator, without discriminators and optimizer."""
        with self._averaged():
            self.translator.save_pretrained(folder)

    def card(self, folder: Path, name: str) -> str:
        """The card of the translator in a folder that is published, as far as the run is now, and its facts beside it."""
        facts = self.facts()
        text = str(model_card(folder, facts, name=name))
        write_published_facts(folder, facts, text)
        return text

    def write_card(self, folder: Path) -> None:
        """Write `README.md` and `training.json`, from what this run knows of itself."""
        write_model_card(folder, self.facts(), name=self.model_name)

    def hashes(self) -> dict[str, str]:
        """Of the training rows, and of the model's shape: its weights are all in a checkpoint."""
        data = cast(UnpairedEmbeddings | StreamedEmbeddings, self.train_dataset)
        if isinstance(data, StreamedEmbeddings):
            rows = {f"rows of {name!r}": rows_digest(stream) for name, stream in data.spaces.items()}
            rows["held-out share of the rows"] = repr((data.held_out, data.buffer_rows))
        else:
            rows = {f"rows of {name!r}": tensors_digest([(name, values)]) for name, values in data.spaces.items()}
        names = sorted(set(Vec2VecConfig.__annotations__) - {"encoders", "weights_sha256"})
        shape = {name: getattr(self.translator.config, name) for name in names}
        if self._start is not None:
            rows["model that training started from"] = tensors_digest(sorted(self._start.state_dict().items()))
        return rows | {"shape of the model": json.dumps(shape, default=str)}

    def facts(self) -> dict:
        """What a card says of this run: rows, arguments, scores, versions, hardware, time."""
        args, data, held_out = self.args, self.train_dataset, self.eval_dataset
        streamed = isinstance(data, StreamedEmbeddings)
        rows = {name: len(rows) for name, rows in data.spaces.items()} if isinstance(data, UnpairedEmbeddings) else {}
        described = set(DESCRIBED) - (set() if args.objective == "game" else set(OF_GAMES))
        return {
            "rows": rows,
            "streamed_rows": self.state.global_step * self._rows_a_step() if streamed else None,
            "unpaired": data.checked if data else "not recorded",
            "validation_rows": len(held_out) if held_out else 0,
            "encoders": self.translator.config.encoders or {},
            "init": "as given",
            "seed": args.seed,
            "steps": self.state.global_step,
            "arguments": {name: value for name, value in args.to_dict().items() if name in described and value is not None},
            "scores": next((log for log in reversed(self.state.log_history) if "eval_alignment_score" in log), {}),
            "results": self._results(),
            **self.cost(),
            **surroundings(),
            **self.record,
        }

    def _results(self) -> list[dict]:
        """The table of translation, beside baselines and oracles, if there are pairs; not while training goes on."""
        data = self.eval_dataset
        if not isinstance(data, PairedEmbeddings) or self._meter is not None:
            return []
        ends = combinations(data.spaces, 2)
        tables = [evaluate_translation({"translator": self.translator}, data, source=a, target=b) for a, b in ends]
        return [row for table in tables for row in table]

    def _rows_a_step(self) -> int:
        return self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size

    def evaluation_loop(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """The parent's loop, for the loss; then the alignment score and, with pairs, the figures of translation."""
        with self._averaged():
            return self._evaluated(dataloader, *args, **kwargs)

    def _evaluated(self, dataloader: DataLoader, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        output = super().evaluation_loop(dataloader, *args, **kwargs)
        data = cast(UnpairedEmbeddings | PairedEmbeddings, dataloader.dataset)
        prefix, metrics = kwargs.get("metric_key_prefix", "eval"), cast(dict[str, float], output.metrics)
        scores = []
        for source in data.spaces:
            for target in data.spaces:
                if source != target:
                    scores.append(self._matched_cosines(data, source, target))
                    if isinstance(data, PairedEmbeddings):
                        translated = self.translator.translate(data.spaces[source], source=source, target=target)
                        for name, value in translation_metrics(translated, data.spaces[target], self._mean(target)).items():
                            metrics[f"{prefix}_{source}_to_{target}_{name}"] = value
        cosines = torch.cat(scores)
        metrics[f"{prefix}_alignment_score"] = cosines.mean().item()
        metrics[f"{prefix}_alignment_score_error"] = (cosines.std() / len(cosines) ** 0.5).item()
        return output

    def _matched_cosines(self, data: UnpairedEmbeddings | PairedEmbeddings, source: str, target: str) -> Tensor:
        source_rows, target_rows = data.spaces[source], data.spaces[target]
        if isinstance(data, PairedEmbeddings):  # other texts on each side, so that the score never sees a pair
            half = len(data) // 2
            source_rows, target_rows = source_rows[:half], target_rows[half:]
        translated = self.translator.translate(source_rows[:MOST_ROWS], source=source, target=target)
        mean = self._mean(target)
        return matched_cosines(translated - mean, target_rows - mean)


def _as_it_is(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """`__getitems__` gives whole batches. Not a lambda: processes that read data may be started anew, not forked."""
    return batch


def _show_directions(model: Vec2VecForAdversarialTraining, data: UnpairedEmbeddings | StreamedEmbeddings | None) -> None:
    if isinstance(data, StreamedEmbeddings):
        raise ValueError(
            f"`discriminator_dim` is {model.config.discriminator_dim}, but the directions of streams are not known. Leave "
            "it out, or give rows that fit into memory."
        )
    for name, rows in data.spaces.items() if data else ():
        normalizer, discriminator = model.vec2vec.normalizers[name], cast(Discriminator, model.discriminators[name])
        discriminator.look_at(normalizer(rows.to(model.device, model.dtype)))
