"""Arguments of adversarial training."""

from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from transformers.training_args import OptimizerNames

from .base_arguments import BaseTrainingArguments
from .distances import Objective
from .losses import LOSS_WEIGHTS, OF_DISCRIMINATORS, Distance, GanLoss, LossArguments

Normalisation = Literal["layer", "none"]
OF_GAMES = (
    *("gan_loss", "r1_penalty_weight", "r2_penalty_weight", "penalty_decay"),
    *("discriminator_learning_rate", "discriminator_steps", "discriminator_norm", "discriminator_dim"),
)
OF_LANGUAGE_MODELS = ("gradient_checkpointing", "activation_checkpointing", "use_liger_kernel", "neftune_noise_alpha")


@dataclass
class Vec2VecTrainingArguments(LossArguments, BaseTrainingArguments):
    """`transformers.TrainingArguments` with the weights and switches of adversarial training.

    Losses and their weights are explained in `hf_vec2vec.training.losses`. Defaults start from an alignment; `PRESETS` hold
    the published settings, which start at random.
    """

    _argument_group_name = "adversarial training"

    discriminator_learning_rate: float = field(
        default=5e-4, metadata={"help": "Learning rate of the discriminators; `learning_rate` is the translator's."}
    )
    discriminator_steps: int = field(default=1, metadata={"help": "Discriminator updates for each translator update."})
    discriminator_norm: Normalisation = field(
        default="layer",
        metadata={"help": "Of hidden layers; penalties on gradients want none.", "choices": list(get_args(Normalisation))},
    )
    discriminator_dim: int | None = field(
        default=None, metadata={"help": "Widest directions, whitened, that discriminators of outputs see; default: all."}
    )
    detach_cycle: bool = field(default=False, metadata={"help": "Let the cycle loss train the way back only."})
    penalty_decay: float = field(
        default=1.0, metadata={"help": "Share of both penalties that is left at the end, along half a cosine."}
    )
    adam_beta2_end: float | None = field(
        default=None, metadata={"help": "AdamW beta2 at the end, along half a cosine; default: it stays."}
    )
    ema_decay: float = field(
        default=0.0, metadata={"help": "Keep a moving average of the translator's weights; 0: its last weights."}
    )

    # Other defaults than the parent's, for batches of vectors and a two-sided game.
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the translator."})
    adam_beta1: float = field(default=0.5, metadata={"help": "AdamW beta1; games want less momentum than .9."})
    per_device_train_batch_size: int = field(default=256, metadata={"help": "Rows of each space in a batch."})
    per_device_eval_batch_size: int = field(default=1024, metadata={"help": "Rows in an evaluation batch."})

    def __post_init__(self):
        self._check_of_others()
        if self.discriminator_steps < 1:
            raise ValueError(f"`discriminator_steps` must be at least 1, got {self.discriminator_steps}.")
        if self.discriminator_dim is not None and self.discriminator_dim < 1:
            raise ValueError(f"`discriminator_dim` must be at least 1, got {self.discriminator_dim}.")
        # Written so that NaN is refused, too.
        for name in (*LOSS_WEIGHTS, *OF_DISCRIMINATORS, "discriminator_learning_rate", "penalty_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        for name in ("ema_decay", "adam_beta2_end"):
            if (value := getattr(self, name)) is not None and not 0 <= value < 1:
                raise ValueError(f"`{name}` must be at least 0 and below 1, got {value}.")
        if not any(getattr(self, name) for name in LOSS_WEIGHTS):
            raise ValueError(f"all weights of losses are 0: set one of {LOSS_WEIGHTS}.")
        choices = {"objective": Objective, "gan_loss": GanLoss, "distance": Distance, "discriminator_norm": Normalisation}
        for name, kind in choices.items():
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"`{name}` must be one of {get_args(kind)}, got {getattr(self, name)!r}.")
        self._check_objective()
        super().__post_init__()

    def check_optimizer(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise ValueError if `adam_beta2_end` would change a beta2 that the optimizer does not have."""
        if self.adam_beta2_end is not None and "betas" not in optimizer.param_groups[0]:
            raise ValueError(
                f"`adam_beta2_end` is {self.adam_beta2_end}, but the optimizer has no beta2 that could change: `optim` is "
                f"{OptimizerNames(self.optim).value!r}. Leave out one of them; the preset r3gan goes with AdamW only."
            )

    def _check_of_others(self) -> None:
        for name in OF_LANGUAGE_MODELS:
            if getattr(self, name):
                raise ValueError(
                    f"`{name}` is {getattr(self, name)}, which changes layers of language models; a translator has none. "
                    "Leave it out."
                )
        if self.train_sampling_strategy != "random":
            raise ValueError(
                f"`train_sampling_strategy` is {self.train_sampling_strategy!r}, but rows of the spaces meet at random, for "
                "none belongs to another. Leave it out."
            )

    def _check_objective(self) -> None:
        changed = [name for name in OF_GAMES if getattr(self, name) != type(self).__dataclass_fields__[name].default]
        if self.objective != "game" and changed:
            raise ValueError(
                f"`{changed[0]}` is of discriminators, and with `objective` {self.objective!r} there are none. Leave one of "
                "them out."
            )


# What a card says of a run: arguments that change the result, and nothing of the machine.
DESCRIBED = (
    "learning_rate",
    "discriminator_learning_rate",
    "discriminator_steps",
    "lr_scheduler_type",
    "warmup_steps",
    "adam_beta1",
    "adam_beta2",
    "weight_decay",
    "max_grad_norm",
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "bf16",
    "objective",
    "gan_loss",
    "distance",
    *LOSS_WEIGHTS,
    *OF_DISCRIMINATORS,
    "penalty_decay",
    "adam_beta2_end",
    "ema_decay",
    "discriminator_norm",
    "discriminator_dim",
    "detach_cycle",
)

_PUBLISHED = {
    "learning_rate": 2e-5,
    "discriminator_learning_rate": 1e-5,
    "adam_beta1": 0.5,
    "adam_beta2": 0.999,
    "per_device_train_batch_size": 256,
    "adversarial_weight": 1.0,
    "latent_adversarial_weight": 1.0,
    "reconstruction_weight": 1.0,
    "cycle_weight": 10.0,
    "vsp_weight": 1.0,
}
# `paper`: what the paper writes. `public_code`: what the code released with it runs (warm-up 2,000 steps, then constant;
# losses on outputs are summed over both directions, cycles train the way back, structure is kept in the own space alone).
# `r3gan`: a game that is known to converge (arXiv 2501.05441: both penalties, no normalisation, no momentum, one update
# each; learning rate, penalties and beta2 annealed). Penalties suit rows of variance 1 a coordinate.
PRESETS = {
    "paper": {**_PUBLISHED, "distance": "mse"},
    "public_code": {
        **_PUBLISHED,
        "distance": "cosine",
        "adversarial_weight": 2.0,
        "detach_cycle": True,
        "vsp_weight": 0.0,
        "reconstruction_vsp_weight": 1.0,
        "cycle_vsp_weight": 10.0,
        "max_grad_norm": 1000.0,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2000,
    },
    "r3gan": {
        "gan_loss": "relativistic",
        "discriminator_norm": "none",
        "r1_penalty_weight": 0.05,
        "r2_penalty_weight": 0.05,
        "penalty_decay": 0.1,
        "learning_rate": 2e-4,
        "discriminator_learning_rate": 2e-4,
        "lr_scheduler_type": "cosine_with_min_lr",
        "lr_scheduler_kwargs": {"min_lr_rate": 0.25},
        "adam_beta1": 0.0,
        "adam_beta2": 0.9,
        "adam_beta2_end": 0.99,
        "ema_decay": 0.999,
        "max_grad_norm": 0.0,
        "per_device_train_batch_size": 1024,
    },
}
