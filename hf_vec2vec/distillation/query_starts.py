"""Where the projection of a query encoder starts: a translator, a regression on pairs, both, or chance."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from ..deployment.merging import merged_linear
from ..model.modeling_vec2vec import Vec2VecModel, check_embeddings
from .query_losses import neighbours_to_index, some_of

# Penalties that are tried, in units of the mean eigenvalue of the pairs' second moments.
STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(-8, 9))
JUDGES = 1000  # pairs that are left out in turn, at most


@dataclass(frozen=True)
class Projection:
    """An affine map from a student's vectors to vectors of an index.

    Args:
        weight: `(d_student, d_index)`.
        bias: `(d_index,)`.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, rows: Tensor) -> Tensor:
        """`(n, d_student)` to `(n, d_index)`; lengths are as they come."""
        return rows @ self.weight + self.bias


def translator_projection(translator: Vec2VecModel, source: str, target: str) -> Projection | None:
    """The map that a translator has for queries, both normalisations folded in: the linear one, where there is one.

    Args:
        translator: knows both spaces.
        source: the student's space.
        target: the index's.

    Returns:
        The map, or `None` where it is not linear. Whatever lengths the index's vectors have, it is to rows of norm 1: all
        that is added to its outputs later, such as the index's mean, is of such rows.

    Raises:
        ValueError: for a space that the translator does not have.
    """
    chosen = translator.chosen_map("auto", source, target, queries=True)
    merged = merged_linear(translator, source, target, chosen)
    if merged is None:
        return None
    return Projection(*(part / translator.normalizer(target).usual_norm() for part in merged))


def off_the_middle(projection: Projection, index: Tensor, length: float = 1.0) -> Projection:
    """The same projection, less the index's mean, which makes hubs count for less.

    What a student does not know of a query pulls its vector to the middle, near which lie the rows that every query finds.

    Args:
        projection: into the index's space.
        index: `(m, d_index)`, vectors of the index.
        length: how long the projection's outputs are, where rows of the index are taken to be of length 1.
    """
    return Projection(projection.weight, projection.bias - length * _middle(index))


def _middle(index: Tensor) -> Tensor:
    """Mean direction of rows `(m, d)`."""
    return F.normalize(index.float(), dim=1).mean(0)


def fitted_projection(student: Tensor, targets: Tensor, index: Tensor, start: Projection | None = None) -> Projection:
    """Ridge regression on pairs; with a start, of what the start leaves over, so that few pairs change it little.

    The penalty is the one of `STRENGTHS` with which pairs that are left out, each in turn, find best the rows of the index
    that they should (`neighbours_to_index`, less the index's mean); the least squared error would let few pairs change too
    much. With a start it is the largest of those that are as good within a standard error, so that pairs change the start
    only where they show a gain. The bias is penalised like a weight.

    Args:
        student: `(p, d_student)`, the student's vectors of p texts.
        targets: `(p, d_index)`, the vectors that the index's encoder made of the same texts.
        index: `(m, d_index)`, rows of the index.
        start: what the penalty pulls to; default: zero.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, or more on one side than on the other.
    """
    rows = check_embeddings(student, "student").double()
    wanted = check_embeddings(targets, "targets").double()
    if len(rows) != len(wanted):
        raise ValueError(f"`student` and `targets` have {len(rows)} and {len(wanted)} rows: row i of both must be one text.")
    constant = rows.square().sum(1).mean().sqrt()  # as long as a row: a bias of its size costs what such a row costs
    inputs = torch.cat([rows, constant.expand(len(rows), 1)], dim=1)
    missing = wanted
    if start is not None:
        missing = wanted - Projection(start.weight.double(), start.bias.double())(rows)
    left, values, right = torch.linalg.svd(inputs, full_matrices=False)
    turned = left.T @ missing
    unit = values.square().sum() / inputs.shape[1]

    judges = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:JUDGES]
    seen, middle = some_of(index), _middle(index)

    def centred(some: Tensor) -> Tensor:
        return F.normalize(some.float() - middle, dim=1)

    def left_out_errors(strength: float) -> Tensor:
        shares = values.square() / (values.square() + strength * unit)
        leverages = (left[judges].square() * shares).sum(1, keepdim=True)
        errors = (missing[judges] - left[judges] @ (shares[:, None] * turned)) / (1 - leverages)
        return neighbours_to_index(centred(wanted[judges] - errors), centred(wanted[judges]), centred(seen))

    found = torch.stack([left_out_errors(strength) for strength in STRENGTHS])
    excess = found - found[found.mean(1).argmin()]
    doubt = excess.std(1, correction=0) / len(judges) ** 0.5 if start is not None else torch.zeros(len(excess))
    strength = max(strength for strength, good in zip(STRENGTHS, excess.mean(1) <= doubt, strict=True) if good)
    solution = right.T @ ((values / (values.square() + strength * unit))[:, None] * turned)
    weight, bias = solution[:-1], solution[-1] * constant
    if start is not None:
        weight, bias = weight + start.weight, bias + start.bias
    return Projection(weight.float(), bias.float())


def random_projection(student_dim: int, index_dim: int, seed: int = 0) -> Projection:
    """A random map, to be trained: normal numbers of variance `1 / d_student`, no bias."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(student_dim, index_dim, generator=generator) / student_dim**0.5
    return Projection(weight, torch.zeros(index_dim))


__all__ = ["Projection", "fitted_projection", "off_the_middle", "random_projection", "translator_projection"]
