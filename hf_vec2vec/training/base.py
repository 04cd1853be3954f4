"""What both trainers have in common: whole checkpoints, exact resuming, finite numbers, streams, cost."""

import json
import os
import shutil
from collections import defaultdict
from contextlib import nullcontext
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, cast

import torch
from datasets import IterableDataset
from torch import Tensor
from torch.utils.data import DataLoader
from transformers.trainer_pt_utils import AcceleratorConfig
from transformers.trainer_utils import TrainOutput, rotate_checkpoints

from ..data.json_files import read_object
from ..data.staging import locked
from ..data.streaming import EndlessRows, StreamedBatches, StreamedEmbeddings
from .base_arguments import BaseTrainingArguments
from .checkpoints import STATE, check_checkpoint, newest_checkpoint, seal_checkpoint
from .energy import EnergyMeter
from .fingerprint import Fingerprint
from .finite import TrainingDivergedError
from .hub_trainer import HubTrainer
from .trainer_checks import check_given_optimizer

STAGING = ".partial-checkpoint"


class BaseTrainer(HubTrainer):
    """A [`HubTrainer`] that loses nothing and says what it did.

    - A checkpoint is written aside and appears under its name once it is whole; older ones are deleted only then.
    - A run that is resumed ends bit by bit where one that never stopped would. It is refused with other data, another seed,
      other arguments or another model.
    - The first loss that is not a finite number stops training; nothing that is not finite is saved.
    - Training rows may be streams.
    - Parts of the loss are logged by name, and `cost` knows time and energy.

    A subclass gives `save_published`, `card`, `write_card`, `hashes` and `held_out`.

    Args:
        model: what is trained.
        args: of the subclass.
        train_dataset: a data set, or a stream: [`StreamedEmbeddings`] or `datasets.IterableDataset`.
        kwargs: of `transformers.Trainer`; see `check_given`.

    Raises:
        ValueError: for fp16, arguments that streams do not go with, or an optimizer without what is trained.
    """

    args: BaseTrainingArguments
    _staging = False  # whether a checkpoint is being written

    def __init__(self, model: torch.nn.Module, args: BaseTrainingArguments, *, train_dataset: Any = None, **kwargs: Any):
        if isinstance(train_dataset, StreamedEmbeddings | IterableDataset):
            self.check_streaming(args)
        if isinstance(train_dataset, IterableDataset):
            # Each process reads the stream and takes its rows: batches with texts in them cannot be sent around.
            cast(AcceleratorConfig, args.accelerator_config).dispatch_batches = False  # which the arguments have made
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        if self.accelerator.mixed_precision == "fp16":  # as `accelerate launch` may set it
            raise ValueError("`mixed_precision` is 'fp16', which this trainer cannot use. Use 'bf16' or 'no'.")
        self.can_return_loss, self.label_names, self.loss_is_scaled_for_ga = True, [], False
        if self.optimizer is not None:
            check_given_optimizer(self.optimizer, self.trained_parameters())
        self._loss_parts: dict[str, list[Any]] = defaultdict(lambda: [0.0, 0])  # sum and count since the last log
        self._spent = (0.0, 0.0)  # seconds, watt-hours of earlier calls of `train`
        self._meter: EnergyMeter | None = None
        self._fingerprint: Fingerprint | None = None

    @property
    def order_seed(self) -> int:
        """Of the order of rows."""
        return self.args.seed if self.args.data_seed is None else self.args.data_seed

    def trained_parameters(self) -> dict[str, torch.nn.Parameter]:
        """What updates change, by name."""
        model = cast(torch.nn.Module, self.model)
        return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}

    def hashes(self) -> dict[str, str]:
        """Of the data and the models that the run is made of, before it begins."""
        raise NotImplementedError

    def answers(self) -> dict[str, list[float]]:
        """What models that the run leans on say of a fixed input; see [`Fingerprint`]."""
        return {}

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """The parent's `train`.

        Args:
            resume_from_checkpoint: a checkpoint's folder; `True` or `"true"`: the newest in `output_dir` that is whole.
            args, kwargs: of the parent.

        Raises:
            FileExistsError: if another run saves in `output_dir`.
            FileNotFoundError: if there is no such checkpoint.
            ValueError: if it is truncated, holds more than numbers, or is of a run that was made of something else.
            TrainingDivergedError: if a loss or a weight is not finite.
        """
        resume = self._checkpoint_to_resume(resume_from_checkpoint)
        # Once, for a later call starts from a model that has been trained.
        if not self._fingerprint and (resume or self.args.save_strategy != "no"):
            settings = {"seed": self.args.seed, "processes": self.args.world_size} | self.args.shaping()
            self._fingerprint = Fingerprint(self.hashes(), settings, self.answers())
        if resume and self._fingerprint:
            self._fingerprint.check(resume)
        self._meter = EnergyMeter.start()
        saves = self.args.should_save and self.args.save_strategy != "no"
        try:
            with locked(self.output, argument="output_dir") if saves else nullcontext():
                done = super().train(str(resume) if resume else None, *args, **kwargs)
            self.check_weights()
            return done
        except UnpicklingError as error:
            raise ValueError(
                "`resume_from_checkpoint` has a file that is damaged or could run code, for it holds more than numbers. It "
                "was not read: take another checkpoint."
            ) from error
        finally:
            cost = self.cost()
            self._spent, self._meter = (float(cost["seconds"]), float(cost["watt_hours"])), None

    def _checkpoint_to_resume(self, asked: str | bool | None) -> Path | None:
        if asked is None or str(asked).lower() == "false":
            return None
        if str(asked).lower() != "true":
            check_checkpoint(Path(str(asked)))
            return Path(str(asked))
        if newest := newest_checkpoint(self.output):
            return newest
        raise FileNotFoundError(
            f"`resume_from_checkpoint` is true, but {str(self.output)!r} holds no checkpoint. Leave it out to start anew."
        )

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """The parent's, which ends the run where the loss is not finite."""
        loss = super().training_step(*args, **kwargs)
        if not loss.isfinite():
            raise self._diverged(f"the loss is {loss.item()}")
        return loss

    def check_weights(self) -> None:
        """Raise TrainingDivergedError if a weight that has been trained is not finite."""
        trained = {id(p) for group in (self.optimizer.param_groups if self.optimizer else []) for p in group["params"]}
        for name, parameter in self.accelerator.unwrap_model(self.model).named_parameters():
            if id(parameter) in trained and not parameter.isfinite().all():
                raise self._diverged(f"the weight {name!r} is no longer finite")

    def _diverged(self, what: str) -> TrainingDivergedError:
        kept = [Path(path).name for path in sorted(self.output.glob("checkpoint-*"), key=os.path.getmtime)]
        return TrainingDivergedError(
            f"training stopped at update {self.state.global_step + 1}: {what}. Lower `learning_rate`, which is "
            f"{self.args.learning_rate}. " + (f"Kept as it was: {kept[-1]}." if kept else "No checkpoint had been saved.")
        )

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The parent's; raises TrainingDivergedError if a weight is not finite, of which figures would say other things."""
        self.check_weights()
        return super().evaluate(*args, **kwargs)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """The parent's; raises TrainingDivergedError, and writes nothing, if a weight is not finite."""
        self.check_weights()
        super().save_model(output_dir, _internal_call)

    def held_out(self, argument: str, data: Any) -> Any:
        """A data set to evaluate on, as the data loader takes it; raises for one that the model cannot be evaluated on."""
        raise NotImplementedError

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader:
        """The parent's; of a data set that is given see `held_out`.

        With persistent workers the parent would read its own once more in place of that.
        """
        if eval_dataset is None:
            return super().get_eval_dataloader()
        rows = self.held_out("eval_dataset", eval_dataset)
        return self._get_dataloader(rows, "Evaluation", self.args.eval_batch_size, sampler_fn=self._get_eval_sampler)

    def get_test_dataloader(self, test_dataset: Any) -> DataLoader:
        """The parent's; see `held_out`."""
        return super().get_test_dataloader(self.held_out("test_dataset", test_dataset))

    def _get_dataloader(self, *args: Any, **kwargs: Any) -> DataLoader:
        """The parent's; `dataloader_drop_last` is for training alone: an evaluation would lose rows, or all of them."""
        drops = self.args.dataloader_drop_last
        self.args.dataloader_drop_last = drops and kwargs.get("is_training", False)
        try:
            return super()._get_dataloader(*args, **kwargs)
        finally:
            self.args.dataloader_drop_last = drops

    def cost(self) -> dict[str, float | str]:
        """Of all training so far, as [`EnergyMeter.cost`] gives it. Processes other than this one are not counted."""
        cost = (self._meter or EnergyMeter.start()).cost()
        seconds, watt_hours = self._spent
        return cost | {"seconds": seconds + float(cost["seconds"]), "watt_hours": watt_hours + float(cost["watt_hours"])}

    def log_parts(self, losses: dict[str, Tensor]) -> None:
        """Add the scalars of one step to what the next line of the log will give the mean of."""
        for name, value in losses.items():
            total = self._loss_parts[name]
            total[0] += value.detach()
            total[1] += 1

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the means of the parts of the loss, over all processes."""
        if "loss" in logs:
            for name in sorted(self._loss_parts):  # the same order everywhere, for the processes exchange values
                total, count = self._loss_parts[name]
                sums = torch.stack([total, torch.tensor(float(count), device=total.device)])
                total, count = self.accelerator.reduce(sums, reduction="sum").tolist()
                logs[name] = total / count
            self._loss_parts.clear()
        super().log(logs, start_time)

    # Checkpoints

    def _get_output_dir(self, trial: Any) -> str:
        folder = super()._get_output_dir(trial)
        return os.path.join(folder, STAGING) if self._staging else folder

    def _save_checkpoint(self, model: torch.nn.Module, trial: Any) -> None:
        self.check_weights()
        output, name = Path(self._get_output_dir(trial)), f"checkpoint-{self.state.global_step}"
        staging = output / STAGING
        if self.args.should_save:
            shutil.rmtree(staging, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._staging = True
        try:
            super()._save_checkpoint(model, trial)
            self.accelerator.wait_for_everyone()  # each process adds files of its own
            if self.args.should_save:
                self._publish_checkpoint(staging / name, output / name)
        except (OSError, RuntimeError) as error:  # torch says RuntimeError where the disk is full, and not why
            free = shutil.disk_usage(output if output.exists() else Path()).free
            shutil.rmtree(staging, ignore_errors=True)
            raise OSError(
                f"{name!r} was not written to {str(output)!r}; earlier ones are as they were: {error} ({free / 1e6:,.1f} MB "
                "were free there)."
            ) from error
        finally:
            self._staging = False
        if self.args.should_save:
            rotate_checkpoints(
                str(output), self.args.save_total_limit, best_model_checkpoint=self.state.best_model_checkpoint
            )
        self.accelerator.wait_for_everyone()

    def _publish_checkpoint(self, staged: Path, final: Path) -> None:
        """Give a checkpoint its name, now that all is in it."""
        if Path(self.state.best_model_checkpoint or "") == staged:
            self.state.best_model_checkpoint = str(final)
        self.state.save_to_json(str(staged / STATE))  # again, with the final path of the best one
        if self._fingerprint:
            self._fingerprint.save(staged)
        seal_checkpoint(staged)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(staged, final)
        staged.parent.rmdir()

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: torch.nn.Module | None = None) -> None:
        if not list(Path(resume_from_checkpoint).glob("*.safetensors")):
            raise OSError(f"`resume_from_checkpoint` {resume_from_checkpoint!r} has no weights in safetensors.")
        super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _init_training_state(self, *args: Any) -> tuple[int, int]:
        found = super()._init_training_state(*args)
        resume = args[3]
        if resume and self.state.best_model_checkpoint is None:
            # The whole folder has been moved since: the best checkpoint lies beside this one.
            best = read_object(Path(resume) / STATE).get("best_model_checkpoint")
            if best and (beside := Path(resume).parent / Path(best).name).is_dir():
                self.state.best_model_checkpoint = str(beside)
        return found

    # Streams. Each process reads its part, and every checkpoint holds the place of each.

    @staticmethod
    def check_streaming(args: BaseTrainingArguments) -> None:
        """Raise ValueError for arguments that streams do not go with."""
        if args.max_steps <= 0:
            raise ValueError(f"`max_steps` is {args.max_steps}, but streams have no length. Set how many updates to make.")
        if args.dataloader_num_workers:
            raise ValueError(
                f"`dataloader_num_workers` is {args.dataloader_num_workers}, but streams are read by a thread of each "
                "process. Leave it at 0."
            )
        if args.train_sampling_strategy in ("group_by_length", "batch_rebalance"):
            raise ValueError(
                f"`train_sampling_strategy` is {args.train_sampling_strategy!r}, but a stream does not tell the lengths of "
                "its rows. Leave it out."
            )

    def get_train_dataloader(self) -> DataLoader:
        """The parent's; of [`StreamedEmbeddings`] one that knows the place where it is, of other streams one without end."""
        if isinstance(self.train_dataset, IterableDataset):
            return self._get_dataloader(
                EndlessRows(self.train_dataset), "Training", self._train_batch_size, is_training=True
            )
        if not isinstance(self.train_dataset, StreamedEmbeddings):
            return super().get_train_dataloader()
        args = self.args
        self._batches = StreamedBatches(
            self.train_dataset,
            self._train_batch_size,
            args.max_steps * args.gradient_accumulation_steps,
            seed=self.order_seed,
            rank=args.process_index,
            world_size=args.world_size,
        )
        # Not prepared by accelerate, which would read a batch ahead of the place, or in one process for all.
        return DataLoader(self._batches, batch_size=None, pin_memory=args.dataloader_pin_memory)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if isinstance(self.train_dataset, StreamedEmbeddings):
            place = {"world_size": self.args.world_size, "spaces": self._batches.state_dict()}
            self._place_file(output_dir).write_text(json.dumps(place))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None or not isinstance(self.train_dataset, StreamedEmbeddings):
            return
        file = self._place_file(checkpoint)
        place: dict[str, Any] = read_object(file) if file.exists() else {"world_size": None}
        if place["world_size"] != self.args.world_size:
            found = f"of {place['world_size']}" if place["world_size"] else "without streams, or of another number"
            raise ValueError(
                f"`resume_from_checkpoint` {checkpoint!r} is of a run {found}; this one has streams and "
                f"{self.args.world_size} process(es). Resume with as many as before."
            )
        self._batches.load_state_dict(place["spaces"], self.state.global_step * self.args.gradient_accumulation_steps)

    def _place_file(self, checkpoint: str) -> Path:
        return Path(checkpoint) / f"stream_{self.args.process_index}.json"


__all__ = ["BaseTrainer"]
