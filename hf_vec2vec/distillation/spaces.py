"""Which spaces a student and its teachers live in, and whether a translator knows them."""

import logging
from collections.abc import Mapping, Sequence

import torch
from peft import PeftModel
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ..encoders.text import TextEncoder
from ..model.modeling_vec2vec import Vec2VecModel
from .arguments import DistillationTrainingArguments
from .losses import TRANSLATED_WEIGHTS

logger = logging.getLogger(__name__)
FEWEST_RANKED = 64  # texts: of fewer the mean rank of a wrong translation is often below a quarter
WRONG_FROM = 0.25  # mean share of texts that are nearer: 0 where a translation is right, .5 where it is wrong


def student_and_teachers(
    translator: Vec2VecModel | None,
    teacher: TextEncoder | Mapping[str, TextEncoder] | None,
    args: DistillationTrainingArguments,
    width: int,
) -> tuple[list[str], str]:
    """Names of the teachers' spaces and of the student's, whose vectors have `width` dimensions."""
    dims = (translator.config.embedding_dims or {}) if translator else {}
    known, student = list(dims), args.student_space
    given = args.teacher_spaces or (list(teacher) if isinstance(teacher, Mapping) else [])
    if student is None:
        may_be = [space for space, dim in dims.items() if dim == width and space not in given]
        if dims and len(may_be) != 1:
            raise ValueError(
                f"`student_space` must be given: the student has {width} dimensions, the translator's spaces {dims}."
            )
        student = may_be[0] if dims else "student"
    if not given:
        given = [space for space in known if space != student] or ["teacher"]
        if len(given) > 1:
            raise ValueError(f"`teacher_spaces` must be given: one or more of {given}.")
    if isinstance(teacher, Mapping) and set(teacher) != set(given):
        raise ValueError(f"`teacher` has encoders for {sorted(teacher)}, but `teacher_spaces` are {given}.")
    if isinstance(teacher, TextEncoder) and len(given) > 1:
        raise ValueError(f"`teacher` is one encoder, but `teacher_spaces` are {given}: pass a dictionary of encoders.")
    unknown = [name for name in [*given, student] if translator and name not in known]
    if unknown:
        raise ValueError(
            f"`teacher_spaces` are {given} and `student_space` is {student!r}, but the translator knows {known} only."
        )
    return given, student


def teacher_dims(
    translator: Vec2VecModel | None, spaces: list[str], student_space: str, width: int, args: DistillationTrainingArguments
) -> dict[str, int | None]:
    """Dimension that each teacher's vectors must have, `None` where any will do."""
    if translator is not None:
        known = translator.config.embedding_dims or {}
        if known[student_space] != width:
            raise ValueError(
                f"`translator` knows {student_space!r} with {known[student_space]} dimensions, but the student's vectors "
                f"have {width}."
            )
        return {space: known[space] for space in spaces}
    across = args.learn_projection or not any(getattr(args, name) for name in TRANSLATED_WEIGHTS)
    return dict.fromkeys(spaces, None if across else width)


def check_teachers(
    model: PreTrainedModel | PeftModel,
    args: DistillationTrainingArguments,
    translator: Vec2VecModel | None,
    teachers: Mapping[str, TextEncoder],
    logit_teacher: tuple[PreTrainedModel, PreTrainedTokenizerBase] | None,
    spaces: list[str],
    projection: object | None = None,
) -> None:
    """Raise ValueError for losses whose teacher is missing."""
    if args.span_words and args.distils and not teachers:
        raise ValueError("`span_words` compares parts of texts: pass `teacher`, an encoder that can embed them.")
    if args.logit_weight and (logit_teacher is None or model.get_output_embeddings() is None):
        raise ValueError("`logit_weight` compares two language models: pass `logit_teacher`, and a student with a head.")
    if logit_teacher is not None:
        _check_tokenizer(model, *logit_teacher)
    if projection is not None and not args.learn_projection:
        raise ValueError("`projection` is where a learned projection starts: set `learn_projection`, or leave it out.")
    if args.learn_projection and (translator is not None or len(spaces) > 1):
        raise ValueError("`learn_projection` takes the place of a `translator` and knows one teacher: leave out the others.")


def warn_of_wrong_translations(
    sides: Mapping[str, Sequence[Tensor]], args: DistillationTrainingArguments
) -> dict[str, float]:
    """Warn where translations of a text's vectors lie nowhere near the student's own vector of the same text.

    Teacher and student have read the same texts here, so that a wrong translator can be told, whatever its verdict was. A
    right one need not help for that: see `transfer_report`.

    Args:
        sides: by teacher's space the student's rows `(n, d)` and their translated targets, in one space.
        args: of the trainer; where no loss looks at translations nothing is said.

    Returns:
        By space the mean share of texts whose own vector by the student is nearer to a translation than the right one.
    """
    found = {}
    for space, (ours, target, *_) in sides.items():
        if len(ours) < FEWEST_RANKED or not any(getattr(args, name) for name in TRANSLATED_WEIGHTS):
            continue
        rows, wanted = (F.normalize(side - side.mean(0), dim=1) for side in (ours, target))
        cosines = wanted @ rows.T
        nearer = (cosines > cosines.diagonal()[:, None]).float().sum(1) / (len(rows) - 1)
        found[space] = torch.mean(nearer).item()
        if found[space] >= WRONG_FROM:
            logger.warning(
                "The translator from %r seems wrong for these texts: %.0f %% of the other texts are nearer to a text's "
                "translation than the text itself is to the student (right: 0 %%, by chance: 50 %%). Training would "
                "cost points. Follow the teacher without a translator: by `gram_weight` 1 and `cosine_weight` 0, or by "
                "`learn_projection`.",
                space,
                100 * found[space],
            )
    return found


def _check_tokenizer(
    student: PreTrainedModel | PeftModel, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise ValueError if the teacher was given the student's tokenizer, or another that is not its own."""
    of_teacher, of_student = (int(model.config.get_text_config().vocab_size) for model in (teacher, student))
    if len(tokenizer) > of_teacher:
        owner = ", as the student has" if len(tokenizer) <= of_student else ""
        raise ValueError(
            f"`logit_teacher` has a tokenizer of {len(tokenizer):,} tokens, and its model knows {of_teacher:,}: they do not "
            f"belong together. Pass the teacher's own tokenizer, not one of another vocabulary{owner}."
        )


__all__ = ["check_teachers", "student_and_teachers", "teacher_dims", "warn_of_wrong_translations"]
