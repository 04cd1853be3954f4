"""A student before the judges that others wrote: evaluators of sentence-transformers, and tasks of mteb.

```python
evaluator = EmbeddingSimilarityEvaluator(first, second, scores, name="sts")
trainer.add_callback(EvaluatorCallback(trainer, evaluator))  # `eval_sts_...` at each evaluation
mteb.evaluate(as_sentence_transformer(trainer.encoder()), mteb.get_tasks(tasks=["STSBenchmark"]))  # where a Hub is reached
```
"""

from collections.abc import Sequence
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import InputModule
from transformers import TrainerCallback

from .adapters import width
from .students import StudentEncoder
from .trainer import DistillationTrainer


class StudentModule(InputModule):
    """A student as the only module of a `SentenceTransformer`: its adapter, layer, pooling and prompt are as they are.

    Args:
        encoder: the student; not a copy, so that what is trained later is judged later.
    """

    def __init__(self, encoder: StudentEncoder):
        super().__init__()
        self.encoder, self.tokenizer = encoder, encoder.tokenizer
        self.model: Any = encoder.model

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **kwargs: Any) -> dict[str, Any]:
        """Tokens of texts; a prompt that is given takes the place of the student's own."""
        start = self.encoder.settings.prompt if prompt is None else prompt
        return dict(self.encoder.tokens([start + text for text in inputs]))

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `sentence_embedding`, `(n, d)`."""
        known = {name: features[name] for name in ("input_ids", "attention_mask")}
        return features | {"sentence_embedding": self.encoder.vectors_of(known)}

    def get_embedding_dimension(self) -> int:
        """Dimension of the student's vectors."""
        return width(self.model)

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Refused: this one is for judging.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("a student that is being judged is not saved here: use `save_as_sentence_transformer`.")


def as_sentence_transformer(encoder: StudentEncoder) -> SentenceTransformer:
    """A student as evaluators, and `mteb.evaluate`, ask for it. Its `encode` says what `encoder.encode` says."""
    return SentenceTransformer(modules=[StudentModule(encoder)], device=str(encoder.device))


class EvaluatorCallback(TrainerCallback):
    """Asks an evaluator of sentence-transformers at each evaluation, and logs its figures as `eval_...` beside the others.

    So `metric_for_best_model` may be one of them. Several go into a `SequentialEvaluator`.

    Args:
        trainer: whose student is judged.
        evaluator: of sentence-transformers.
    """

    def __init__(self, trainer: DistillationTrainer, evaluator: Any):
        self.trainer, self.evaluator = trainer, evaluator

    def on_evaluate(self, args, state, control, **kwargs: Any) -> None:
        """Add the figures to the metrics of the evaluation."""
        encoder = self.trainer.encoder()
        training = encoder.model.training
        found = self.evaluator(as_sentence_transformer(encoder), epoch=state.epoch or 0, steps=state.global_step)
        encoder.model.train(training)
        named = found if isinstance(found, dict) else {"evaluator": found}
        figures = {f"eval_{name}": float(value) for name, value in named.items()}
        kwargs["metrics"].update(figures)
        self.trainer.log(figures)


__all__ = ["EvaluatorCallback", "StudentModule", "as_sentence_transformer"]
