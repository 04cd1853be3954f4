"""Targets from a teacher that can no longer be asked: its vectors are there, their texts are not."""

from torch import Tensor
from torch.nn import functional as F

from ..alignment.neighbours import nearest_means
from ..model.modeling_vec2vec import Vec2VecModel


def targets_from_store(
    translator: Vec2VecModel,
    store: Tensor,
    student: Tensor,
    *,
    source: str,
    target: str,
    neighbours: int = 5,
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
        ValueError: for fewer vectors in the store than neighbours.
    """
    if len(store) < neighbours:
        raise ValueError(f"`store` has {len(store)} vectors, fewer than {neighbours} neighbours.")
    normalizer = translator.normalizers[source]
    guesses = F.normalize(normalizer(translator.translate(student, source=target, target=source)), dim=1)
    rows = F.normalize(normalizer(store), dim=1)
    means = nearest_means(guesses, rows, store, neighbours)
    return translator.translate(means, source=source, target=target)


__all__ = ["targets_from_store"]
