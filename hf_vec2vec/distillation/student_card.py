"""The card of a student: what taught it, what that changed, and what it cost."""

from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..encoders.bundled import BUNDLED
from ..model.modeling_vec2vec import Vec2VecModel
from ..sharing.translator_card import HUB_ID, harmless, write_card
from .arguments import DistillationTrainingArguments

TEMPLATE = Path(__file__).parent.parent / "templates" / "student_card.md"
FACTS = "distillation.json"
WEIGHTS = {
    "cosine_weight": "cosine",
    "mse_weight": "squared error",
    "gram_weight": "pairwise cosines",
    "contrastive_weight": "contrastive",
    "task_weight": "task",
    "lm_loss_weight": "language modelling",
}


def write_student_card(folder: Path, facts: dict, args: DistillationTrainingArguments, *, name: str | None = None) -> None:
    """Write `README.md` and `distillation.json` of a student's folder.

    Args:
        folder: with the adapter.
        facts: of [`DistillationTrainer.facts`]; where they are known, `head` (the class that it is loaded with), `classes`
            (of a task), `store` (number of vectors that targets were guessed from), and `perplexity_before`,
            `perplexity_after` of a language model.
        args: of the trainer.
        name: what to load it by; the folder's name by default.
    """
    write_card(folder, FACTS, facts, str(student_card(facts, args, name=name or folder.name)))


def student_card(facts: dict, args: DistillationTrainingArguments, *, name: str) -> ModelCard:
    """The card of a student.

    Args:
        facts: see [`write_student_card`]. What they lack the card does not mention.
        args: of the trainer.
        name: what to load it by.
    """
    facts = facts | {key: _named(facts[key]) for key in ("student", "translator") if facts.get(key)}
    adapter = facts.get("adapter", True)
    data = ModelCardData(
        library_name="peft" if adapter else "transformers",
        base_model=facts["student"] if HUB_ID.fullmatch(facts["student"]) else None,
        base_model_relation="adapter" if adapter else "finetune",
        tags=["vec2vec", "distillation", "sentence-similarity"],
    )
    weights = {title: getattr(args, argument) for argument, title in WEIGHTS.items()}
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        facts=harmless(facts),
        name=harmless(name),
        adapter=adapter,
        args=args,
        prompt=harmless(args.prompt),
        weights={title: weight for title, weight in weights.items() if weight},
        first=facts["log"][0] if facts["log"] else {},
        last=facts["log"][-1] if facts["log"] else {},
    )


def teacher_name(translator: Vec2VecModel | None, space: str) -> str:
    """The model that a space's vectors are recorded to be of, else the name of the space."""
    made = translator and (translator.config.encoders or {}).get(space)
    return _named(made["model"]) if made else space


def _named(model: str) -> str:
    """The Hub id of a bundled model; of a folder the last part, for the rest is of this machine."""
    if model in BUNDLED:
        return BUNDLED[model].hub_id
    return model if HUB_ID.fullmatch(model) and not Path(model).is_dir() else f"./{Path(model).resolve().name}"


__all__ = ["student_card", "teacher_name", "write_student_card"]
