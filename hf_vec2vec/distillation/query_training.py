"""Training of a query encoder: the student and its projection together, towards vectors of the index's space."""

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from datasets import Dataset
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.base.modules import Transformer
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import set_seed

from ..training.finite import TrainingDivergedError
from .query_losses import LOSSES, Loss, some_of

Trained = Literal["lora", "whole"]


class QueryLoss(nn.Module):
    """A loss of `LOSSES` for the trainer of sentence-transformers.

    Args:
        model: the query encoder.
        loss: which.
        seen: `(m, d)`, rows of the index, norm 1.
    """

    seen: Tensor

    def __init__(self, model: SentenceTransformer, loss: Loss, seen: Tensor):
        super().__init__()
        self.model, self.function = model, LOSSES[loss]
        self.register_buffer("seen", seen, persistent=False)

    def forward(self, sentence_features: Iterable[dict[str, Tensor]], labels: Tensor) -> Tensor:
        """Of one column of texts, and targets `(n, d)`, norm 1."""
        (features,) = sentence_features
        loss = self.function(self.model(features)["sentence_embedding"], labels, self.seen)
        if not loss.isfinite():
            raise TrainingDivergedError("the loss is not a finite number. Lower `learning_rate`.")
        return loss


@dataclass(frozen=True)
class QueryTraining:
    """How a query encoder is trained.

    Args:
        trained: `"lora"`: an adapter on all linear layers of the transformer, merged at the end, and the projection;
            `"whole"`: all weights.
        loss: see `LOSSES`.
        steps: updates.
        batch_size: texts of an update.
        learning_rate: of the student, with a linear warmup over a tenth of the updates and a linear decay.
        projection_rate: of the projection, by `learning_rate`: a good start must not be forgotten, a random one must be.
        lora_r: rank of the adapter; its scale is twice that.
        bf16: products in bfloat16, which takes half the time on GPUs and some processors.
        seed: of everything random.

    Raises:
        ValueError: for numbers out of range or an unknown name.
    """

    trained: Trained = "lora"
    loss: Loss = "squared_error"
    steps: int = 2000
    batch_size: int = 32
    learning_rate: float = 1e-3
    projection_rate: float = 0.3
    lora_r: int = 32
    bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        if self.trained not in ("lora", "whole"):
            raise ValueError(f"`trained` must be 'lora' or 'whole', got {self.trained!r}.")
        if self.loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)}, got {self.loss!r}.")
        for name in ("steps", "batch_size", "lora_r"):
            if getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be at least 1, got {getattr(self, name)}.")
        if not self.learning_rate > 0 or not self.projection_rate >= 0:
            raise ValueError(
                f"`learning_rate` must be above 0 and `projection_rate` at least 0, got {self.learning_rate} and "
                f"{self.projection_rate}."
            )


def train_query_encoder(
    encoder: SentenceTransformer,
    texts: list[str],
    targets: Tensor,
    index: Tensor,
    training: QueryTraining,
    *,
    prompt: str = "",
    progress: bool = False,
) -> None:
    """Move a query encoder towards targets, in place.

    Args:
        encoder: made by `query_encoder`.
        texts: queries, without prompt.
        targets: `(len(texts), d)`, in the index's space; only their directions count.
        index: `(m, d)`, rows of the index, for the losses that look at it.
        training: how.
        prompt: put before each text.
        progress: show a bar.

    Raises:
        TrainingDivergedError: if the loss is not finite.
        ValueError: for targets of another number or dimension, or an adapter for a model without a transformer.
    """
    dim = encoder.get_embedding_dimension()
    if targets.shape != (len(texts), dim) or index.shape[1:] != (dim,):
        raise ValueError(
            f"`targets` and `index` have the shapes {tuple(targets.shape)} and {tuple(index.shape)}; for {len(texts)} texts "
            f"and an encoder of dimension {dim} they must be ({len(texts)}, {dim}) and (m, {dim})."
        )
    first: Any = encoder[0]
    if training.trained == "lora" and not isinstance(first, Transformer):
        raise ValueError(
            f"`trained` is 'lora', but the student is a {type(first).__name__}, which has no layers that an adapter could "
            "change. Take 'whole'."
        )
    set_seed(training.seed)
    if training.trained == "lora":
        layers = LoraConfig(r=training.lora_r, lora_alpha=2 * training.lora_r, target_modules="all-linear")
        first.model = get_peft_model(first.model, layers)
    data = Dataset.from_dict({"text": [prompt + text for text in texts], "label": F.normalize(targets, dim=1).numpy()})
    projection = rf"^model\.{len(encoder) - 2}\."  # in front of the normalisation
    with tempfile.TemporaryDirectory() as folder:
        arguments = SentenceTransformerTrainingArguments(
            output_dir=folder,
            max_steps=training.steps,
            per_device_train_batch_size=training.batch_size,
            learning_rate=training.learning_rate,
            learning_rate_mapping={projection: training.learning_rate * training.projection_rate},
            warmup_steps=max(1, training.steps // 10),
            bf16=training.bf16,
            seed=training.seed,
            use_cpu=encoder.device.type == "cpu",
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=not progress,
        )
        loss = QueryLoss(encoder, training.loss, some_of(index, training.seed).to(encoder.device))
        SentenceTransformerTrainer(encoder, arguments, train_dataset=data, loss=loss).train()
    if training.trained == "lora":
        first.model = first.model.merge_and_unload()
    encoder.eval()


__all__ = ["QueryLoss", "QueryTraining", "train_query_encoder"]
