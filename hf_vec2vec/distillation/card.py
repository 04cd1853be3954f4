"""The card of a student: an adapter, what taught it, and what that changed."""

import json
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData

from ..bundled import BUNDLED
from ..model_card import HUB_ID, surroundings
from .arguments import DistillationTrainingArguments

TEMPLATE = Path(__file__).parent.parent / "templates" / "student_card.md"
FACTS = "distillation.json"


def write_student_card(folder: Path, facts: dict, args: DistillationTrainingArguments) -> None:
    """Write `README.md` and `distillation.json` of an adapter's folder.

    Args:
        folder: with the adapter.
        facts: `student`, `head` (the class that it is loaded with), `classes` (of a task; none without), `translator`,
            `teacher` (its space), `texts`, `store` (vectors that targets were guessed from; 0 if none were), `steps`, `log`
            (lines of the trainer's log), and `perplexity_before`, `perplexity_after` of a language model.
        args: of the trainer.
    """
    student = BUNDLED[facts["student"]].hub_id if facts["student"] in BUNDLED else facts["student"]
    data = ModelCardData(
        library_name="peft",
        base_model=student if HUB_ID.fullmatch(student) and not Path(student).is_dir() else None,
        base_model_relation="adapter",
        tags=["vec2vec", "distillation", "sentence-similarity"],
    )
    facts = facts | surroundings()
    card = ModelCard.from_template(
        data,
        template_path=TEMPLATE,
        facts=facts,
        name=folder.name,
        args=args,
        first=facts["log"][0] if facts["log"] else {},
        last=facts["log"][-1] if facts["log"] else {},
    )
    (folder / FACTS).write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")
    card.save(folder / "README.md")


__all__ = ["write_student_card"]
