"""Targets from a teacher that can no longer be asked: its vectors are there, their texts are not."""

import torch
from torch import Tensor
from torch.nn import functional as F

from ..alignment.neighbours import nearest_means
from ..model.modeling_vec2vec import Vec2VecModel

NEIGHBOURS = 5  # rows nearest to a guess, whose mean is taken


def targets_from_store(
    translator: Vec2VecModel,
    store: Tensor,
    student: Tensor,
    *,
    source: str,
    target: str,
    neighbours: int = NEIGHBOURS,
) -> Tensor:
    """What a teacher might have said of texts that it never saw, in the student's space.

    The student's vector of each text is translated into the teacher's space; the mean of its nearest neighbours among the
    teacher's vectors (cosine, less of hubs) takes the place of the vector that nobody can ask for, and is translated back.

    Args:
        translator: knows both spaces.
        store: `(m, d_t)`, the teacher's vectors, of whatever texts.
        student: `(n, d_s)`, of the student's texts, by the student as it is.
        source: the teacher's space.
        target: the student's.
        neighbours: how many are averaged.

    Returns:
        `(n, d_s)`.

    Raises:
        ValueError: for no neighbours, or fewer vectors in the store.
    """
    if neighbours < 1:
        raise ValueError(f"`neighbours` must be at least 1, got {neighbours}.")
    if len(store) < neighbours:
        raise ValueError(f"`store` has {len(store)} vectors, fewer than {neighbours} neighbours.")
    normalizer = translator.normalizers[source]
    guesses = F.normalize(normalizer(translator.translate(student, source=target, target=source)), dim=1)
    rows = F.normalize(normalizer(store), dim=1)
    means = nearest_means(guesses, rows, store, neighbours)
    return translator.translate(means, source=source, target=target)


def confident_targets(guesses: Tensor, index: Tensor, *, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Targets for queries from an index alone: means of each guess's nearest rows, where these agree best.

    Rows count by cosine to the guess, less what every query finds (hubs): both are taken to norm 1, then centred by the
    index's mean. A query is believed the more, the longer the mean of its neighbours' directions is: then they are of one
    kind.

    Args:
        guesses: `(n, d)`, where the queries are taken to lie in the index's space.
        index: `(m, d)`, vectors of the index.
        share: of the queries, the most confident ones, that get a target.

    Returns:
        targets `(k, d)`, of norm 1, and the k numbers of their queries.

    Raises:
        ValueError: for fewer rows in the index than neighbours, or a share that leaves no query.
    """
    if len(index) < NEIGHBOURS:
        raise ValueError(f"`index` has {len(index)} vectors, fewer than {NEIGHBOURS} neighbours.")
    if not 0 < share <= 1 or int(share * len(guesses)) < 1:
        raise ValueError(f"`share` of {len(guesses)} queries must be above 0, at most 1, and leave one, got {share}.")
    units = F.normalize(index, dim=1)
    middle = units.mean(0)
    queries, rows = (F.normalize(side - middle, dim=1) for side in (F.normalize(guesses, dim=1), units))
    means = nearest_means(queries, rows, torch.cat([units, rows], dim=1), NEIGHBOURS)
    targets, directions = means.split(units.shape[1], dim=1)
    chosen = directions.norm(dim=1).topk(int(share * len(guesses))).indices
    return F.normalize(targets[chosen], dim=1), chosen


__all__ = ["confident_targets", "targets_from_store"]
