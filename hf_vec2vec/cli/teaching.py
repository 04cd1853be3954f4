"""What the three commands about students load: the translator, its spaces, the student's settings, a labelled task."""

import json
from collections import Counter
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from peft import LoraConfig

from ..data.corpora import LabelledTexts
from ..data.staging import staged_entries
from ..distillation import DistillationTrainingArguments
from ..distillation.students import student_settings
from ..encoders.folders import chosen_prompt, folder_prompts, model_folder
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
            ValueError: if a space must be named and is not, or is not the translator's; for a prompt that the student's
                folder does not name.
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
        recorded = {name: made[name] for name in CONTRACT if name in made}
        own: dict[str, Any] = {}
        if len(recorded) < len(CONTRACT):
            own = student_settings(flags.student, trust_remote_code=flags.trust_remote_code)
        given = {name: getattr(flags, name) for name in CONTRACT if name in flags.given}
        if flags.prompt_name:
            known = folder_prompts(model_folder(flags.student, trust_remote_code=flags.trust_remote_code))
            given["prompt"], _ = chosen_prompt(*known, flags.prompt, flags.prompt_name)
        return cls(translator, teacher_space, student_space, defaults | own | recorded | given)

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


def labelled(task: ClassificationTask, split: str, max_texts: int | None, each: int = 1) -> LabelledTexts:
    """At most so many rows of a split, drawn at random; the same for all commands, so that each text is embedded once.

    A class of which fewer than `each` rows were drawn gets its next ones, in place of the last rows of other classes.

    Raises:
        ValueError: if the split has no labels, or too few rows of a class, or `max_texts` is too small for all classes.
    """
    rows = task.rows(split).select(np.flatnonzero(task.labelled(split))).shuffle(seed=0)
    numbers, needed = rows["label"][:], each * len(task.labels)
    there = Counter(numbers)
    if rare := [name for i, name in enumerate(task.labels) if there[i] < each]:
        raise ValueError(
            f"`task` {task.name!r} needs {each} row(s) of each class in {split!r}, which has fewer of {_some(rare)}. Add "
            "rows of these classes, or take them out of all splits."
        )
    if max_texts is not None and max_texts < needed:
        drawn = Counter(numbers[:max_texts])
        lost = [name for i, name in enumerate(task.labels) if drawn[i] < each]
        raise ValueError(
            f"`max_texts` is {max_texts}, too few for {split!r} of {task.name!r}, which needs {each} row(s) of each of "
            f"{len(task.labels)} classes: there are not enough of {_some(lost)}. Give {needed} at least, better some dozens "
            "a class."
        )
    places = _with_all_classes(numbers, max_texts or len(numbers), each)
    labels = [task.labels[numbers[i]] for i in places]
    texts = rows.select(places)[task.columns[0]]
    return LabelledTexts(task.name, list(texts), labels, {name: name for name in task.labels})


def _with_all_classes(numbers: list[int], count: int, each: int) -> list[int]:
    """Places of the first `count`, less the last of them for what classes still need behind these."""
    had = Counter(numbers[:count])
    more: list[int] = []
    fewer: set[int] = set()
    for i in range(count, len(numbers)):
        if had[numbers[i]] < each:
            had[numbers[i]] += 1
            more.append(i)
    for i in range(min(count, len(numbers)) - 1, -1, -1):
        if len(fewer) < len(more) and had[numbers[i]] > each:
            had[numbers[i]] -= 1
            fewer.add(i)
    return [i for i in range(min(count, len(numbers))) if i not in fewer] + more


def _some(names: list[str]) -> str:
    """The first few of many names."""
    return ", ".join(map(repr, names[:5])) + (f" and {len(names) - 5} others" if len(names) > 5 else "")


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
