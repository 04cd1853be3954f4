import itertools

import torch

from hf_vec2vec.alignment.quadratic_assignment import _linear_swap_gains, _swap_gains, quadratic_assignment
from hf_vec2vec.alignment.start import gram, profiles


def test_swap_gains_are_the_change_of_the_objective():
    generator = torch.Generator().manual_seed(0)
    a, b = (m + m.T for m in torch.randn(2, 6, 6, generator=generator, dtype=torch.float64))
    gains = _swap_gains(a, b)
    for i, j in itertools.combinations(range(6), 2):
        order = list(range(6))
        order[i], order[j] = j, i
        change = (a * b[order][:, order]).sum() - (a * b).sum()
        torch.testing.assert_close(gains[i, j], change)


def test_quadratic_assignment_finds_the_permutation_of_every_problem():
    generator = torch.Generator().manual_seed(0)
    a = torch.stack([gram(torch.randn(12, 8, generator=generator)) for _ in range(3)])
    orders = torch.stack([torch.randperm(12, generator=generator) for _ in range(3)])
    b = torch.stack([m[o][:, o] for m, o in zip(a, orders, strict=True)])
    found, objective = quadratic_assignment(a, b, generator=generator)
    torch.testing.assert_close(objective, torch.ones(3), rtol=0, atol=1e-5)  # gram matrices have norm 1
    assert torch.equal(found, orders.argsort(1))


def test_linear_swap_gains_are_the_change_of_the_trace():
    linear = torch.randn(5, 5, generator=torch.Generator().manual_seed(0))
    gains = _linear_swap_gains(linear)
    for i, j in itertools.combinations(range(5), 2):
        order = list(range(5))
        order[i], order[j] = j, i
        torch.testing.assert_close(gains[i, j], linear[:, order].trace() - linear.trace())


def test_known_pairs_settle_an_assignment_that_shape_leaves_open():
    generator = torch.Generator().manual_seed(0)
    corners, known = torch.eye(12), torch.randn(6, 12, generator=generator)  # all corners look alike
    order = torch.randperm(12, generator=generator)
    shapes = gram(corners)[None], gram(corners[order])[None]
    linear = 2 * profiles(corners, known) @ profiles(corners[order], known).T
    found, _ = quadratic_assignment(*shapes, linear[None], generator=generator)
    assert torch.equal(found[0], order.argsort())
