"""Arguments of distillation."""

from dataclasses import dataclass, field

from ..encoders.pooling import POOLINGS
from ..encoders.text import EncoderSettings
from ..training.base_arguments import BaseTrainingArguments
from .losses import HEAD_WEIGHTS, TERMS, WEIGHTS, LossArguments


@dataclass
class DistillationTrainingArguments(LossArguments, BaseTrainingArguments):
    """`transformers.TrainingArguments` with the weights of distillation and what a student's vector is.

    The student's vectors must be made as the translator's student space was: the same pooling, layer, prompt, length and
    normalisation. Losses are explained in `hf_vec2vec.distillation.losses`.
    """

    _argument_group_name = "distillation"

    teacher_spaces: list[str] | None = field(
        default=None,
        metadata={
            "help": "Of the teachers' vectors, the student's own where they are translated; default: the only other one."
        },
    )
    student_space: str | None = field(
        default=None, metadata={"help": "The translator's space in which the student lives; default: by dimension."}
    )
    pooling: str = field(default="mean", metadata={"help": "How token vectors become one.", "choices": list(POOLINGS)})
    layer: int = field(default=-1, metadata={"help": "Hidden layer of the student, 0 the embeddings, -1 the last."})
    prompt: str = field(default="", metadata={"help": "Text put before each text."})
    max_length: int = field(default=128, metadata={"help": "Tokens of a text; the rest is cut."})
    normalize: bool = field(default=False, metadata={"help": "Scale the student's vectors to norm 1."})
    mask_first_token: bool = field(
        default=False, metadata={"help": "Leave the first token out of the pooling, as language models need."}
    )
    span_words: int = field(
        default=0, metadata={"help": "Compare runs of so many words instead of whole texts; needs a live teacher."}
    )
    learn_projection: bool = field(
        default=False, metadata={"help": "No translator: learn a linear map to the teacher's space with the student."}
    )
    projection_rate: float = field(
        default=1.0,
        metadata={"help": "Learning rate of the learned projection, by `learning_rate`; below 1 for one with a start."},
    )
    cache_teacher: bool = field(
        default=True, metadata={"help": "Embed all texts by the teacher once, before training, and keep the vectors."}
    )
    collapse_threshold: float = field(
        default=0.2, metadata={"help": "Stop where the student's vectors fill less than this share of their dimensions."}
    )

    # Other defaults than the parent's.
    learning_rate: float = field(default=1e-3, metadata={"help": "Of the adapter."})
    per_device_train_batch_size: int = field(default=32, metadata={"help": "Texts in a batch."})

    def __post_init__(self):
        for name in WEIGHTS.values():
            if getattr(self, name) < 0:
                raise ValueError(f"`{name}` must be at least 0, got {getattr(self, name)}.")
        if not any(getattr(self, name) for name in WEIGHTS.values()):
            raise ValueError("all weights of losses are 0: set `cosine_weight` or another.")
        if self.pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {POOLINGS}, got {self.pooling!r}.")
        if self.contrastive_temperature <= 0:
            raise ValueError(f"`contrastive_temperature` must be above 0, got {self.contrastive_temperature}.")
        if self.projection_rate < 0:
            raise ValueError(f"`projection_rate` must be at least 0, got {self.projection_rate}.")
        if self.soft_label_weight and not self.task_weight:
            raise ValueError("`soft_label_weight` needs a classifier, which is trained with `task_weight` above 0 alone.")
        if not 0 <= self.collapse_threshold <= 1:
            raise ValueError(f"`collapse_threshold` must be between 0 and 1, got {self.collapse_threshold}.")
        for name in ("span_words", "max_length"):
            if getattr(self, name) < (name == "max_length"):
                raise ValueError(f"`{name}` must be a number of words or tokens, got {getattr(self, name)}.")
        super().__post_init__()

    def encoder_settings(self, model: str) -> EncoderSettings:
        """How vectors of the student, a model of that name, are made."""
        names = ("pooling", "layer", "prompt", "max_length", "normalize", "mask_first_token")
        return EncoderSettings(model=model, **{name: getattr(self, name) for name in names})

    @property
    def uses_head(self) -> bool:
        """Whether any loss looks at what a head says."""
        return any(getattr(self, name) for name in HEAD_WEIGHTS.values())

    @property
    def distils(self) -> bool:
        """Whether any loss looks at the teacher's vectors."""
        return any(getattr(self, term.weight) for term in TERMS.values())


__all__ = ["DistillationTrainingArguments"]
