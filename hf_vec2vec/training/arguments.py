"""Arguments of adversarial training."""

from dataclasses import dataclass, field

from .base_arguments import BaseTrainingArguments
from .losses import LOSS_WEIGHTS, OF_DISCRIMINATORS, LossArguments


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
    detach_cycle: bool = field(default=False, metadata={"help": "Let the cycle loss train the way back only."})

    # Other defaults than the parent's, for batches of vectors and a two-sided game.
    learning_rate: float = field(default=1e-5, metadata={"help": "Learning rate of the translator."})
    adam_beta1: float = field(default=0.5, metadata={"help": "AdamW beta1; games want less momentum than .9."})
    per_device_train_batch_size: int = field(default=256, metadata={"help": "Rows of each space in a batch."})
    per_device_eval_batch_size: int = field(default=1024, metadata={"help": "Rows in an evaluation batch."})

    def __post_init__(self):
        if self.fp16_full_eval or self.bf16_full_eval:
            raise ValueError("`fp16_full_eval` and `bf16_full_eval` must be False: evaluation is cheap and needs float32.")
        if self.discriminator_steps < 1:
            raise ValueError(f"`discriminator_steps` must be at least 1, got {self.discriminator_steps}.")
        for name in (*LOSS_WEIGHTS, OF_DISCRIMINATORS, "discriminator_learning_rate"):
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if not any(getattr(self, name) for name in LOSS_WEIGHTS):
            raise ValueError(f"all weights of losses are 0: set one of {LOSS_WEIGHTS}.")
        for name, allowed in (("gan_loss", ("least_squares", "vanilla", "hinge")), ("distance", ("mse", "cosine"))):
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}, got {getattr(self, name)!r}.")
        super().__post_init__()


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
    "gan_loss",
    "distance",
    *LOSS_WEIGHTS,
    OF_DISCRIMINATORS,
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
# What the paper writes, and what the code released with it runs (warm-up 2,000 steps, then constant).
PRESETS = {
    "paper": {**_PUBLISHED, "distance": "mse"},
    "public_code": {
        **_PUBLISHED,
        "distance": "cosine",
        "cycle_vsp_weight": 10.0,
        "max_grad_norm": 1000.0,
        "lr_scheduler_type": "constant_with_warmup",
        "warmup_steps": 2000,
    },
}
