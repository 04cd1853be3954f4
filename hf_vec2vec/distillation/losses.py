"""The losses of distillation: their weights, pure functions, and the terms that the trainer sums.

A new one that compares vectors is a weight in [`LossArguments`], a function, and a line in `TERMS`.

All take rows `(n, d)` and return a scalar. Where both sides must be in one space, it is the student's, in normalised
coordinates (see `Vec2VecModel`): raw cosines of a space whose mean is long say little.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

SORTED = 1024
TEMPERATURE = 2.0  # by which class logits are divided before they are compared, as published


@dataclass
class LossArguments:
    """Weights of the losses of distillation: a part of `DistillationTrainingArguments`."""

    cosine_weight: float = field(default=1.0, metadata={"help": "Weight of 1 - cosine to the target."})
    mse_weight: float = field(default=0.0, metadata={"help": "Weight of the squared error to the target."})
    gram_weight: float = field(
        default=0.0, metadata={"help": "Weight of the difference of pairwise cosines; needs no translator."}
    )
    contrastive_weight: float = field(default=0.0, metadata={"help": "Weight of the contrast with other targets."})
    contrastive_temperature: float = field(default=0.05, metadata={"help": "By which cosines are divided there."})
    task_weight: float = field(default=0.0, metadata={"help": "Weight of the task's loss, on the column `labels`."})
    soft_label_weight: float = field(
        default=0.0, metadata={"help": "Weight of the divergence from a teacher's logits, in the column `soft_labels`."}
    )
    lm_loss_weight: float = field(default=0.0, metadata={"help": "Weight of next-token cross-entropy, to keep the head."})
    logit_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of the difference of sorted token probabilities (ULD); needs a teacher with a head."},
    )


@dataclass(frozen=True)
class Sides:
    """Vectors of the texts of a batch, centred.

    Args:
        student: `(n, d_s)`, as the student says them.
        projected: `(n, d)`, the same in the space of `target`: another where a projection is learned.
        target: `(n, d)`, the teacher's in that space.
        teacher: `(n, d_t)`, the teacher's in its own.
    """

    student: Tensor
    projected: Tensor
    target: Tensor
    teacher: Tensor


@dataclass(frozen=True)
class Term:
    """A part of the objective that looks at vectors of student and teacher.

    Args:
        weight: name of its field in [`LossArguments`].
        value: from the sides of a batch.
        in_one_space: whether it needs both sides in one space.
    """

    weight: str
    value: Callable[[Sides, LossArguments], Tensor]
    in_one_space: bool = True


def cosine_loss(student: Tensor, target: Tensor) -> Tensor:
    """Mean of `1 - cosine` between matching rows, `(n, d)` each."""
    return 1 - F.cosine_similarity(student, target, dim=1).mean()


def squared_error_loss(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared error by element, `(n, d)` each."""
    return F.mse_loss(student, target)


def gram_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's rows shall lie to each other as the teacher's do: mean squared difference of pairwise cosines.

    Needs no common space.

    Args:
        student: `(n, d_s)`.
        teacher: `(n, d_t)`; matching rows are the same text.

    Source: relational distillation, Park et al., 2019; similarity-preserving distillation, Tung and Mori, 2019.
    """
    if len(student) < 2:  # a row has no others to lie to
        return student.sum() * 0
    ours, theirs = (F.normalize(rows, dim=1) for rows in (student, teacher))
    difference = (ours @ ours.T - theirs @ theirs.T).square()
    return difference.sum() / (len(student) * (len(student) - 1))  # the diagonal is zero


def contrastive_loss(student: Tensor, target: Tensor, temperature: float = 0.05) -> Tensor:
    """Each row shall be nearer to its own target than to the others of the batch: cross-entropy in nats, both ways.

    Args:
        student: `(n, d)`.
        target: `(n, d)`.
        temperature: by which cosines are divided.

    Source: InfoNCE, van den Oord et al., 2018, with in-batch negatives.
    """
    logits = F.normalize(student, dim=1) @ F.normalize(target, dim=1).T / temperature
    own = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def soft_label_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of the student's class probabilities from the teacher's, in nats, both softened by a temperature of 2.

    Args:
        student: `(n, classes)`, logits.
        teacher: `(n, classes)`, logits or log-probabilities of the same classes.

    Source: Hinton et al., "Distilling the knowledge in a neural network", 2015; gradients are scaled by the square of the
    temperature, as there.
    """
    ours, theirs = (F.log_softmax(logits.float() / TEMPERATURE, dim=1) for logits in (student, teacher))
    return TEMPERATURE**2 * F.kl_div(ours, theirs, reduction="batchmean", log_target=True)


def language_modelling_loss(logits: Tensor, input_ids: Tensor, mask: Tensor) -> Tensor:
    """Cross-entropy of the next token in nats: mean over a text's tokens, then over texts.

    The mean over texts, not tokens, makes accumulated batches add up to a large one exactly, whatever their lengths.

    Args:
        logits: `(n, tokens, vocabulary)`.
        input_ids: `(n, tokens)`.
        mask: `(n, tokens)`, 1 for tokens, 0 for padding.
    """
    known = (mask[:, 1:] * mask[:, :-1]).to(logits.dtype)
    each = F.cross_entropy(logits[:, :-1].transpose(1, 2), input_ids[:, 1:], reduction="none")
    return ((each * known).sum(1) / known.sum(1).clamp_min(1)).mean()


def universal_logit_loss(student: Tensor, teacher: Tensor, student_mask: Tensor, teacher_mask: Tensor) -> Tensor:
    """The student's next-token probabilities, sorted by size, shall be the teacher's: vocabularies need not agree.

    The sum of absolute differences at each position that both texts have; mean over a text's positions, then over texts.
    Beyond the 1,024 largest, probabilities count as equal: sorting a vocabulary of 262,000 costs more than the student.

    Args:
        student: `(n, tokens, vocabulary)`, logits.
        teacher: the same of another model; its tokens and its vocabulary may be others.
        student_mask, teacher_mask: `(n, tokens)` each, 1 for tokens, 0 for padding on the right.

    Source: Boizard et al., "Towards cross-tokenizer distillation: the universal logit distillation loss for LLMs", 2024.
    """
    length = min(student.shape[1], teacher.shape[1])
    known = (student_mask[:, :length] * teacher_mask[:, :length]).float()
    top = min(SORTED, max(student.shape[-1], teacher.shape[-1]))
    ours, theirs = (_sorted_probabilities(logits[:, :length], top) for logits in (student, teacher))
    each = (ours - theirs).abs().sum(-1)
    return ((each * known).sum(1) / known.sum(1).clamp_min(1)).mean()


def _sorted_probabilities(logits: Tensor, top: int) -> Tensor:
    found = logits.float().softmax(-1).topk(min(top, logits.shape[-1]), dim=-1).values
    return F.pad(found, (0, top - found.shape[-1]))


def effective_rank(rows: Tensor) -> float:
    """Dimensions that centred rows `(n, d)` fill: the exponential of the entropy of their normalised singular values.

    Source: Roy and Vetterli, "The effective rank", 2007.
    """
    values = torch.linalg.svdvals((rows - rows.mean(0)).float())
    shares = values / values.sum().clamp_min(1e-12)
    return torch.exp(-(shares * shares.clamp_min(1e-12).log()).sum()).item()


# By their names in the log.
TERMS = {
    "gram_loss": Term("gram_weight", lambda sides, args: gram_loss(sides.student, sides.teacher), in_one_space=False),
    "cosine_loss": Term("cosine_weight", lambda sides, args: cosine_loss(sides.projected, sides.target)),
    "mse_loss": Term("mse_weight", lambda sides, args: squared_error_loss(sides.projected, sides.target)),
    "contrastive_loss": Term(
        "contrastive_weight",
        lambda sides, args: contrastive_loss(sides.projected, sides.target, args.contrastive_temperature),
    ),
}
# Losses of the head.
HEAD_WEIGHTS = {"task_loss": "task_weight", "soft_label_loss": "soft_label_weight"}
HEAD_WEIGHTS |= {"lm_loss": "lm_loss_weight", "logit_loss": "logit_weight"}
WEIGHTS = {name: term.weight for name, term in TERMS.items()} | HEAD_WEIGHTS
TRANSLATED_WEIGHTS = tuple(term.weight for term in TERMS.values() if term.in_one_space)


__all__ = [
    "contrastive_loss",
    "cosine_loss",
    "effective_rank",
    "gram_loss",
    "language_modelling_loss",
    "soft_label_loss",
    "squared_error_loss",
    "universal_logit_loss",
]
