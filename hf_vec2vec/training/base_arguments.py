"""Arguments that both trainers have, and what no run of either can use."""

import math
import re
from dataclasses import dataclass, field, fields

import torch
from transformers import TrainingArguments

# Names of `transformers.TrainingArguments` that change what a run computes. How long it trains is not among them: going on
# for longer is what resuming is for.
COMMON = (
    *("learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args", "weight_decay"),
    *("adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm", "per_device_train_batch_size"),
    *("gradient_accumulation_steps", "bf16", "data_seed", "train_sampling_strategy", "neftune_noise_alpha"),
)
NOT_NEGATIVE = (
    *("num_train_epochs", "learning_rate", "weight_decay", "max_grad_norm", "warmup_steps", "adam_beta1", "adam_beta2"),
    *("dataloader_num_workers", "data_seed", "eval_delay", "neftune_noise_alpha"),
)
AT_LEAST_ONE = (
    *("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"),
    *("logging_steps", "save_steps", "eval_steps", "save_total_limit", "eval_accumulation_steps", "ddp_timeout"),
)


@dataclass
class BaseTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` whose numbers are checked before anything is done."""

    # Another default than the parent's.
    remove_unused_columns: bool = field(
        default=False, metadata={"help": "Must stay off: vectors are columns that no model names."}
    )

    def __post_init__(self):
        if not self.output_dir:
            raise ValueError("`output_dir` must be given: the folder for the model, its card and its checkpoints.")
        if self.fp16:
            raise ValueError(
                "`fp16` is True, which neither trainer can use: hidden states of language models exceed its largest number, "
                "65,504, and the two sides of adversarial training would share one loss scaler. Use `bf16`."
            )
        if self.remove_unused_columns:
            raise ValueError("`remove_unused_columns` must be False: vectors are columns of the data that no model names.")
        if self.fp16_full_eval or self.bf16_full_eval:
            raise ValueError(
                "`fp16_full_eval` and `bf16_full_eval` must be False: an evaluation would round the weights for good. "
                "`bf16` computes in bfloat16 there, too."
            )
        if "inputs" in self.include_for_metrics:
            raise ValueError(
                "`include_for_metrics` must not have 'inputs', which are more than one tensor here. Leave it out."
            )
        self._check_numbers()
        # Without a GPU there is nothing to pin for, and torch would warn at every epoch.
        self.dataloader_pin_memory = self.dataloader_pin_memory and torch.cuda.is_available()
        try:
            super().__post_init__()
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            raise ValueError(_of_the_parent(error)) from error

    def _check_numbers(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"`{each.name}` must be a finite number, got {value}.")
        for name in NOT_NEGATIVE:
            if getattr(self, name) is not None and getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        for name in AT_LEAST_ONE:
            value = getattr(self, name)
            if value is None:
                continue
            # Steps between 0 and 1 are a share of the run.
            if value <= 0 or (value < 1 and not name.endswith("_steps")):
                raise ValueError(f"`{name}` must be at least 1, got {value}.")
        for name in ("adam_beta1", "adam_beta2"):
            if getattr(self, name) >= 1:
                raise ValueError(f"`{name}` must be below 1, got {getattr(self, name)}.")
        if self.adam_epsilon <= 0:  # weights whose gradient is 0 would become NaN
            raise ValueError(f"`adam_epsilon` must be above 0, got {self.adam_epsilon}.")
        if self.label_smoothing_factor:
            raise ValueError(
                f"`label_smoothing_factor` is {self.label_smoothing_factor}, but no loss of this trainer smooths labels. "
                "Leave it out."
            )
        if self.max_steps != -1 and self.max_steps < 1:
            raise ValueError(
                f"`max_steps` must be at least 1, got {self.max_steps}. Leave it out to train for `num_train_epochs`."
            )

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise ValueError if arguments of a subclass ask an optimizer for what it does not have."""

    def shaping(self) -> dict:
        """What decides a run's result, length and machine apart: its own arguments and those in `COMMON`."""
        own = {each.name for each in fields(self)} - {each.name for each in fields(TrainingArguments)}
        values = self.to_dict()
        return {name: values[name] for name in sorted({*COMMON, *own}) if name in values}


def _of_the_parent(error: Exception) -> str:
    """What transformers says of arguments, which it writes as flags, or does not name."""
    said = re.sub(r"--(\w+)", r"`\1`", str(error))
    return said if "`" in said else f"`transformers.TrainingArguments` cannot be made of these arguments: {said}"
