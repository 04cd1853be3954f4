"""The losses of distillation, as pure functions. Which ones are summed, and how heavily, the arguments say.

All take rows `(n, d)` and return a scalar. Where both sides must be in one space, it is the student's, in normalised
coordinates (see `Vec2VecModel`): raw cosines of a space whose mean is long say little.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

SORTED = 1024


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


__all__ = [
    "contrastive_loss",
    "cosine_loss",
    "effective_rank",
    "gram_loss",
    "language_modelling_loss",
    "squared_error_loss",
    "universal_logit_loss",
]
