"""What the three commands about students load: the translator, its spaces, the student's settings, a labelled task."""

import json
from dataclasses import dataclass, fields
from typing import Any

from peft import LoraConfig

from ..data.corpora import LabelledTexts
from ..data.staging import staged_entries
from ..distillation import DistillationTrainingArguments
from ..encoders.recorded import recorded_encoder, same_model
from ..encoders.text import EncoderSettings, TextEncoder
from ..model.modeling_vec2vec import Vec2VecModel
from ..tasks import ClassificationTask, Task
from ..training.start import load_translator
from .checks import check_device
from .students import AdapterFlags, StudentFlags

CONTRACT = ("pooling", "layer", "prompt", "max_length", "normalize", "mask_first_token")


@dataclass
class Teaching:
    """A translator between a teacher and a student.

    Args:
        translator: knows both.
        teacher_space: of the teacher's vectors.
        student_space: of the student's.
        contract: how the student's vectors are made, for `CONTRACT`.
    """

    translator: Vec2VecModel
    teacher_space: str
    student_space: str
    contract: dict[str, Any]

    @classmethod
    def open(cls, flags: StudentFlags) -> "Teaching":
        """What the flags name.

        Raises:
            ValueError: if a space must be named and is not, or is not the translator's.
        """
        check_device(flags.device)
        translator = load_translator(flags.translator)
        spaces = translator.config.spaces
        student_space = flags.student_space or _space_of(flags.student, translator)
        others = [space for space in spaces if space != student_space]
        for argument, space in (("student_space", student_space), ("teacher_space", flags.teacher_space)):
            if space is not None and space not in spaces:
                raise ValueError(f"`{argument}` must be one of {spaces}, got {space!r}.")
        if flags.teacher_space is None and len(others) > 1:
            raise ValueError(f"`teacher_space` must be given: the translator knows {others} beside the student's space.")
        teacher_space = flags.teacher_space or others[0]
        made = (translator.config.encoders or {}).get(student_space) or {}
        defaults = {field.name: field.default for field in fields(DistillationTrainingArguments) if field.name in CONTRACT}
        given = {name: getattr(flags, name) for name in CONTRACT if name in flags.given}
        recorded = {name: made[name] for name in CONTRACT if name in made}
        return cls(translator, teacher_space, student_space, defaults | recorded | given)

    def teacher(self, flags: StudentFlags) -> TextEncoder:
        """The encoder that made the teacher's vectors."""
        config = self.translator.config
        return recorded_encoder(config, self.teacher_space, device=flags.device, trust_remote_code=flags.trust_remote_code)

    def settings(self, student: str) -> EncoderSettings:
        """How vectors of the student are made."""
        return EncoderSettings(model=student, **self.contract)


def classes_single_texts(task: Task | None) -> bool:
    """Whether a task classes single texts."""
    return isinstance(task, ClassificationTask) and bool(task.labels) and len(task.columns) == 1


def labelled(task: ClassificationTask, split: str, max_texts: int | None) -> LabelledTexts:
    """At most so many rows of a split, drawn at random; the same for all commands, so that each text is embedded once."""
    rows = task.rows(split).shuffle(seed=0)
    rows = rows.select(range(min(max_texts or len(rows), len(rows))))
    labels = [task.labels[i] for i in rows["label"]]
    return LabelledTexts(task.name, list(rows[task.columns[0]]), labels, {name: name for name in task.labels})


def adapter(flags: AdapterFlags, *, classes: bool = False) -> LoraConfig:
    """The adapter; `classes`: with a new head, which is trained, too."""
    return LoraConfig(
        r=flags.lora_r,
        lora_alpha=flags.lora_alpha,
        lora_dropout=flags.lora_dropout,
        use_dora=flags.use_dora,
        use_rslora=flags.use_rslora,
        target_modules="all-linear",
        task_type="SEQ_CLS" if classes else None,
    )


def save_classifier(model: Any, tokenizer: Any, folder: str, facts: dict[str, dict]) -> None:
    """A model with its head, its tokenizer and JSON files, which appear together."""
    with staged_entries(folder) as beside:
        model.save_pretrained(beside)
        tokenizer.save_pretrained(beside)
        for name, content in facts.items():
            (beside / name).write_text(json.dumps(content, indent=2), encoding="utf-8")


def _space_of(student: str, translator: Vec2VecModel) -> str:
    """The space whose vectors were made by the student."""
    encoders = translator.config.encoders or dict.fromkeys(translator.config.spaces)
    made_by = {name: made and made["model"] for name, made in encoders.items()}
    named = [name for name, model in made_by.items() if model == student]
    named = named or [name for name, model in made_by.items() if model and same_model(student, model)]
    if len(named) != 1:
        raise ValueError(
            f"`student_space` must be given: `student` is {student!r}, the translator's spaces are of {made_by}."
        )
    return named[0]
