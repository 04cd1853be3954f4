"""Ridge regression, from rows or from sums over rows."""

import torch
from torch import Tensor


def ridge(inputs: Tensor, outputs: Tensor, strength: float) -> Tensor:
    """Linear map that takes `inputs` to `outputs` in least squares, `(d_a, d_b)`.

    Args:
        inputs: `(n, d_a)`, centred.
        outputs: `(n, d_b)`, centred, row i belongs to row i of `inputs`.
        strength: penalty, in units of the mean eigenvalue of the inputs' covariance.
    """
    rows, dim = inputs.shape
    if rows >= dim:
        return solve_ridge(inputs.T @ inputs, inputs.T @ outputs, strength)
    # The same map by the kernel of the rows, which costs what they do, not the cube of the dimensions.
    inputs = inputs.double()
    kernel = inputs @ inputs.T
    kernel.diagonal().add_(strength * kernel.trace() / dim)
    return (inputs.T @ torch.linalg.solve(kernel, outputs.double())).to(outputs.dtype)


def solve_ridge(inner: Tensor, cross: Tensor, strength: float) -> Tensor:
    """[`ridge`] from its sums over rows, `inputs.T @ inputs` `(d_a, d_a)` and `inputs.T @ outputs` `(d_a, d_b)`."""
    covariance = inner.double()
    covariance.diagonal().add_(strength * covariance.diagonal().mean())
    return torch.linalg.solve(covariance, cross.double()).to(inner.dtype)
