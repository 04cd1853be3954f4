"""How far a query lies from its target in an index: what a query encoder is fitted and trained by. Pure functions."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from .losses import cosine_loss

Loss = Literal["squared_error", "cosine", "gram", "contrastive"]
SEEN_ROWS = 2048  # of the index, that a loss compares a query with


def some_of(index: Tensor, seed: int = 0) -> Tensor:
    """Rows of an index `(m, d)`, drawn at random, at most `SEEN_ROWS`, norm 1."""
    chosen = torch.randperm(len(index), generator=torch.Generator().manual_seed(seed))[:SEEN_ROWS]
    return F.normalize(index[chosen].float(), dim=1)


def squared_error(student: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """Mean squared distance of unit rows, `(n, d)` each."""
    return (student - target).square().sum(1).mean()


def gram_to_index(student: Tensor, target: Tensor, seen: Tensor) -> Tensor:
    """The student's queries shall lie to rows of the index as the targets do: mean squared difference of cosines, times d.

    Args:
        student: `(n, d)`, norm 1.
        target: `(n, d)`, norm 1.
        seen: `(m, d)`, norm 1, rows of the index.
    """
    return ((student - target) @ seen.T).square().mean() * student.shape[1]


def contrast_with_index(student: Tensor, target: Tensor, seen: Tensor, temperature: float = 0.05) -> Tensor:
    """Each query shall be nearer to its target than to rows of the index: cross-entropy in nats.

    Rows that lie as near to the target as the target's own neighbours do would be false negatives: the target's nearest
    hundredth is left out.

    Args:
        student: `(n, d)`, norm 1.
        target: `(n, d)`, norm 1.
        seen: `(m, d)`, norm 1, rows of the index.
        temperature: by which cosines are divided.

    Source: InfoNCE, van den Oord et al., 2018.
    """
    own = (student * target).sum(1, keepdim=True)
    near = target @ seen.T
    bound = near.topk(max(1, len(seen) // 100), dim=1).values[:, -1:]
    others = (student @ seen.T).masked_fill(near >= bound, -torch.inf)
    logits = torch.cat([own, others], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(logits), dtype=torch.long, device=logits.device))


def neighbours_to_index(student: Tensor, target: Tensor, seen: Tensor, temperature: float = 0.05) -> Tensor:
    """The student's queries shall find the rows that the targets find: cross-entropy of softmaxes of cosines, in nats.

    Args:
        student: `(n, d)`, norm 1.
        target: `(n, d)`, norm 1.
        seen: `(m, d)`, norm 1, rows of the index.
        temperature: by which cosines are divided.

    Source: SEED, Fang et al., 2021.
    """
    wanted = (target @ seen.T / temperature).softmax(1)
    return F.cross_entropy(student @ seen.T / temperature, wanted)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "squared_error": squared_error,
    "cosine": lambda student, target, seen: cosine_loss(student, target),
    "gram": gram_to_index,
    "contrastive": contrast_with_index,
}


__all__ = ["LOSSES", "Loss", "contrast_with_index", "gram_to_index", "neighbours_to_index", "some_of", "squared_error"]
