"""From texts and a teacher to a student on disk: train, save, write the card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from ..training.before_work import check_before_work
from ..training.checkpoints import STATE
from ..training.run_folder import CHECKPOINTS, RunFolder
from .adapters import PROJECTION, Student
from .arguments import DistillationTrainingArguments
from .student_card import FACTS
from .students import perplexity
from .trainer import DistillationTrainer

MADE = (
    *("config.json", "model*.safetensors*", "generation_config.json", "adapter_config.json", "adapter_model.safetensors"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja"),
    *("vocab.*", "merges.txt", "*.model", f"{PROJECTION}.safetensors", "training_args.bin", FACTS, STATE, CHECKPOINTS),
)


def train_student(
    model: Student,
    args: DistillationTrainingArguments,
    *,
    processing_class: PreTrainedTokenizerBase,
    known: dict[str, Any] | None = None,
    held_out: Sequence[str] = (),
    overwrite: bool = False,
    **kwargs: Any,
) -> DistillationTrainer:
    """Train a student and leave it, its tokenizer and its card in `args.output_dir`.

    What was in the folder stays until all is complete, and what no run made stays for good. A run that was stopped is
    resumed with `args.resume_from_checkpoint`.

    Args:
        model: the student.
        args: of the trainer.
        processing_class: its tokenizer.
        known: what the card should say that the trainer cannot know.
        held_out: texts on which a language model's perplexity is compared, before and after.
        overwrite: replace the student in `output_dir` if there is one.
        kwargs: of [`DistillationTrainer`].

    Returns:
        The trainer, with the student.

    Raises:
        FileExistsError, FileNotFoundError: see `check_output_dir`.
        ValueError: see [`DistillationTrainer`]; also for a checkpoint of another run.
        TrainingDivergedError: if a loss is not finite; checkpoints before that are kept.
    """
    resume = check_output_dir(args, overwrite=overwrite)
    folder, facts = student_folder(args), dict(known or {})
    texts = list(held_out)
    with folder.working(args, resume):
        if texts:
            facts["perplexity_before"] = perplexity(model, processing_class, texts, args.max_length)
        trainer = DistillationTrainer(model, folder.arguments(args), processing_class=processing_class, **kwargs)
        trainer.record = facts
        trainer.train(resume_from_checkpoint=str(resume) if resume else None)
        if texts:
            facts["perplexity_after"] = perplexity(trainer.student, processing_class, texts, args.max_length)
        if args.should_save:
            trainer.save_published(folder.work)
            trainer.state.save_to_json(str(folder.work / STATE))
            trainer.write_card(folder.work)
            folder.finish(resume)
    if args.push_to_hub and args.should_save:
        trainer.publish("End of training")
    return trainer


def check_output_dir(args: DistillationTrainingArguments, *, overwrite: bool = False) -> Path | None:
    """Raise, before any work, whatever can fail without it; give the checkpoint to resume from, if any.

    Raises:
        FileExistsError, FileNotFoundError, OSError: see [`RunFolder.check`].
        ImportError, ValueError: see `check_before_work`.
    """
    resume = student_folder(args).check(overwrite=overwrite, resume=args.resume_from_checkpoint)
    check_before_work(args)
    return resume


def student_folder(args: DistillationTrainingArguments) -> RunFolder:
    """The folder of a student."""
    return RunFolder(Path(str(args.output_dir)), FACTS, MADE)


__all__ = ["check_output_dir", "train_student"]
