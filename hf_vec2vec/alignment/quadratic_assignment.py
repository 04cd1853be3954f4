"""Which row of one symmetric matrix goes with which row of another: many such problems at once."""

import torch
from torch import Tensor

RESTARTS = 16  # random permutations that a problem's search starts from
KICKS = 40  # times that each is kicked out of its local optimum
KICKED = 4  # rows that a kick moves in a circle: the least that swaps of two cannot simply take back
LEAST_GAIN = 1e-7  # of a swap, in an objective of at most 1: what is below is rounding
SWAPS_A_ROW = 4  # a bound for the local search, which ends long before it


def quadratic_assignment(
    a: Tensor,
    b: Tensor,
    linear: Tensor | None = None,
    *,
    restarts: int = RESTARTS,
    kicks: int = KICKS,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Permutations that make a batch of symmetric matrices alike: maximise `trace(a @ P @ b @ P.T + P.T @ linear)`.

    Best-swap local search from random permutations, with kicks out of local optima, all problems and restarts at once as
    tensor algebra: the gains of all k² swaps come from one product `a @ b_p`.

    Args:
        a: `(problems, k, k)`, symmetric.
        b: `(problems, k, k)`, symmetric.
        linear: `(problems, k, k)`, what is known of the pairs: [i, j] is gained where row i of `a` goes with row j of `b`.
        restarts: random starts for each problem.
        kicks: how often each start is kicked out of its local optimum.
        generator: source of randomness, on the CPU.

    Returns:
        Permutations `(problems, k)`, row i of `a` goes with row `p[i]` of `b`; and their objectives `(problems,)`.

    Source: the objective is Koopmans and Beckmann's, 1957; the search is iterated local search (Lourenço, Martin and
    Stützle, 2003).
    """
    problems, k, _ = a.shape
    linear = torch.zeros_like(a) if linear is None else linear
    batch = _Problems(*(matrix.repeat_interleave(restarts, 0) for matrix in (a, b, linear)))
    order = torch.rand(problems * restarts, k, generator=generator).argsort(1).to(a.device)
    best_order = order = batch.climbed(order)
    best = batch.objective(order)
    for _ in range(kicks):
        order = batch.climbed(_kicked(best_order, generator))
        value = batch.objective(order)
        better = value > best
        best_order, best = torch.where(better[:, None], order, best_order), torch.where(better, value, best)
    winner = best.view(problems, restarts).argmax(1) + torch.arange(problems, device=a.device) * restarts
    return best_order[winner], best[winner]


def _kicked(order: Tensor, generator: torch.Generator | None) -> Tensor:
    """Permutations `(batch, k)` with a few random places of each moved on in a circle."""
    picked = torch.rand(order.shape, generator=generator).argsort(1)[:, :KICKED].to(order.device)
    return order.scatter(1, picked, order.gather(1, picked.roll(1, dims=1)))


class _Problems:
    """A batch of problems, each with one permutation; see `quadratic_assignment`."""

    def __init__(self, a: Tensor, b: Tensor, linear: Tensor):
        self.a, self.b, self.linear = a, b, linear
        self.rows = torch.arange(len(a), device=a.device)

    def permuted(self, order: Tensor) -> Tensor:
        """`b` with rows and columns in that order."""
        return self.b[self.rows[:, None, None], order[:, :, None], order[:, None, :]]

    def objective(self, order: Tensor) -> Tensor:
        """`(batch,)`."""
        return (self.a * self.permuted(order)).sum((1, 2)) + self.linear.gather(2, order[:, :, None]).sum((1, 2))

    def climbed(self, order: Tensor) -> Tensor:
        """Local optima: the best swap of two places in each permutation, until no swap gains."""
        k = order.shape[1]
        for _ in range(SWAPS_A_ROW * k):
            linear = self.linear.gather(2, order[:, None].expand_as(self.linear))
            gains = _swap_gains(self.a, self.permuted(order)) + _linear_swap_gains(linear)
            gain, best = gains.flatten(1).max(1)
            improves = (gain > LEAST_GAIN).nonzero().squeeze(1)
            if not len(improves):
                break
            i, j = (best // k)[improves], (best % k)[improves]
            order = order.clone()
            order[improves, i], order[improves, j] = order[improves, j], order[improves, i]
        return order


def _swap_gains(a: Tensor, b: Tensor) -> Tensor:
    """Change of `sum(a * b)` when rows and columns i and j of `b` trade places, for every (i, j): `(..., k, k)`."""
    product = a @ b
    own = torch.diagonal(product, dim1=-2, dim2=-1)
    a_diagonal, b_diagonal = torch.diagonal(a, dim1=-2, dim2=-1), torch.diagonal(b, dim1=-2, dim2=-1)
    gains = product + product.mT - own[..., :, None] - own[..., None, :]
    # The sum above runs over all rows t; the two rows that take part (t = i, t = j) do not move against themselves.
    gains -= (a_diagonal[..., :, None] - a) * (b - b_diagonal[..., :, None])
    gains -= (a - a_diagonal[..., None, :]) * (b_diagonal[..., None, :] - b)
    return 2 * gains + (a_diagonal[..., :, None] - a_diagonal[..., None, :]) * (
        b_diagonal[..., None, :] - b_diagonal[..., :, None]
    )


def _linear_swap_gains(linear: Tensor) -> Tensor:
    """Change of `linear.diagonal().sum()` when columns i and j trade places, for every (i, j): `(..., k, k)`."""
    own = torch.diagonal(linear, dim1=-2, dim2=-1)
    return linear + linear.mT - own[..., :, None] - own[..., None, :]
