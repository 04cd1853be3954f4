"""How well two spaces are aligned, told without a single pair."""

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ..data.devices import in_full_precision
from ..metrics.units import unit_rows
from ..model.modeling_vec2vec import check_embeddings

MOST_ROWS = 1000  # that are matched: half a second, and their number cubed beyond


@in_full_precision
@torch.no_grad()
def matched_cosines(translated: Tensor, target: Tensor, *, max_rows: int = MOST_ROWS) -> Tensor:
    """Cosines of translated rows and the target rows that the best one-to-one matching gives them.

    Args:
        translated: `(n, d)`, centred by the target's mean.
        target: `(m, d)`, centred by the target's mean.
        max_rows: the first so many rows of each are taken; the matching costs their number cubed.

    Returns:
        `(min(n, m, max_rows),)`.

    Raises:
        TypeError, ValueError: for rows that `check_embeddings` refuses, but for zeros.

    Source: the matching is Kuhn's, 1955, as scipy solves it.
    """
    translated = check_embeddings(translated, "translated", only_finite=True)
    target = check_embeddings(target, "target", translated.shape[1], only_finite=True)
    rows = min(len(translated), len(target), max_rows)
    cosines = (unit_rows(translated[:rows]).float() @ unit_rows(target[:rows]).float().T).cpu()
    chosen = linear_sum_assignment(cosines.numpy(), maximize=True)
    return cosines[torch.as_tensor(chosen[0]), torch.as_tensor(chosen[1])]


def alignment_score(translated: Tensor, target: Tensor, *, max_rows: int = MOST_ROWS) -> float:
    """Mean of `matched_cosines`, between -1 and 1; arguments as there.

    The rows need not, and in use do not, belong to the same texts. A right map lays the translated cloud on the real
    one, so that every row finds a near neighbour of its own; a wrong one does not. The score ranks runs and checkpoints
    of one kind of map on one pair of spaces. It is no proof, and its value depends on the pair and on `max_rows`.
    """
    return matched_cosines(translated, target, max_rows=max_rows).mean().item()
