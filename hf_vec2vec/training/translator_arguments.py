"""How a translator starts and what it looks like."""

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..alignment.options import EFFORTS, PROTOTYPES, AlignmentOptions
from ..model.configuration_vec2vec import Vec2VecConfig

CHOICES = {
    "init": ("alignment", "random"),
    "effort": EFFORTS,
    "standardize": ("auto", "true", "false"),
    "architecture": ("default", "paper"),
}
SHAPE = ("hidden_dim", "adapter_layers", "backbone_layers", "dropout")  # fields of `Vec2VecConfig`
LEAST = {"align_starts": 1, "align_steps": 1, "back_translation_rounds": 0, "validation_rows": 0, "align_rows": 1}
NOT_SHAPING = ("allow_not_aligned", "texts", "overwrite")  # change no number of the result


@dataclass
class TranslatorArguments:
    """How the translator starts and what it looks like."""

    _argument_group_name = "start and shape"

    init: str = field(
        default="alignment",
        metadata={
            "help": "Start from the geometry of the two spaces, or at random.",
            "choices": list(CHOICES["init"]),
        },
    )
    effort: Literal["quick", "default", "thorough"] = field(
        default="default",
        metadata={
            "help": "How long the alignment looks on where it is not settled early; thorough also tries halves of the rows.",
            "choices": list(EFFORTS),
        },
    )
    align_starts: int = field(default=24, metadata={"help": "First guesses that the alignment tries at most."})
    align_steps: int = field(default=20, metadata={"help": "Fine steps that refine the best guesses, at a time."})
    back_translation_rounds: int = field(
        default=2, metadata={"help": "Rounds that free the map from being a rotation; 0 keeps the rotation."}
    )
    allow_not_aligned: bool = field(
        default=False, metadata={"help": "Go on where the alignment's verdict is 'not aligned'."}
    )
    standardize: str = field(
        default="auto",
        metadata={
            "help": "Scale each dimension by itself, as language models need.",
            "choices": list(CHOICES["standardize"]),
        },
    )
    architecture: str = field(
        default="default", metadata={"help": "Of the network.", "choices": list(CHOICES["architecture"])}
    )
    hidden_dim: int | None = field(default=None, metadata={"help": "Width of hidden layers; an alignment's: prototypes."})
    adapter_layers: int | None = field(default=None, metadata={"help": "Hidden layers of each adapter."})
    backbone_layers: int | None = field(default=None, metadata={"help": "Hidden layers of the backbone."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout after hidden layers."})
    validation_rows: int = field(
        default=1000,
        metadata={
            "help": "Unpaired rows of each space, at most a fifth, that neither alignment nor training sees: they choose a "
            "checkpoint and score the result. Of few rows 2 leave nearly all to the alignment."
        },
    )
    align_rows: int = field(
        default=50_000, metadata={"help": "Rows of each stream that the alignment sees, drawn from all over it."}
    )
    texts: str | None = field(default=None, metadata={"help": "What the texts were, in a few words: for the card."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the model in `output_dir` if there is one."})

    def __post_init__(self):
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"`{name}` must be one of {allowed}, got {getattr(self, name)!r}.")
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise ValueError(f"`{name}` must be at least {least}, got {getattr(self, name)}.")
        if self.dropout is not None and not math.isfinite(self.dropout):
            raise ValueError(f"`dropout` must be a finite number, got {self.dropout}.")
        if self.init == "alignment" and self.architecture == "paper":
            raise ValueError("`architecture` 'paper' starts at random: set `init` to 'random', too.")
        self.config({"source": 2, "target": 2})  # bad shapes fail here, not after the texts have been embedded

    @property
    def standardizes(self) -> bool | Literal["auto"]:
        """`standardize` as `fit_statistics` takes it."""
        return "auto" if self.standardize == "auto" else self.standardize == "true"

    def shape(self) -> dict[str, Any]:
        """The fields of `Vec2VecConfig` that were set."""
        return {name: value for name in SHAPE if (value := getattr(self, name)) is not None}

    def config(self, dims: dict[str, int]) -> Vec2VecConfig:
        """The network between spaces of these dimensions."""
        build = Vec2VecConfig.paper if self.architecture == "paper" else Vec2VecConfig
        return build(embedding_dims=dims, **self.shape())

    def alignment_options(self, seed: int) -> AlignmentOptions:
        """How the alignment runs."""
        one_layer = self.config({"source": 2, "target": 2}).adapter_layers == 1
        return AlignmentOptions(
            standardize=self.standardizes,
            effort=self.effort,
            num_starts=self.align_starts,
            steps=self.align_steps,
            back_translation_rounds=self.back_translation_rounds,
            # The alignment's networks become the hidden layer of the adapters: with none or several it stays linear.
            hidden_dim=(self.hidden_dim or PROTOTYPES) if one_layer else 0,
            seed=seed,
        )

    def shaping(self) -> dict[str, Any]:
        """What decides the result."""
        return {name: value for name, value in asdict(self).items() if name not in NOT_SHAPING}


__all__ = ["TranslatorArguments"]
