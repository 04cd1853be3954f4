"""Rows of norm 1, made of rows of any length."""

import torch
from torch import Tensor
from torch.nn import functional as F


def unit_rows(rows: Tensor) -> Tensor:
    """Rows `(n, d)` scaled to norm 1; rows of zeros stay as they are.

    torch's own functions square the values as they come, or stop at a least norm: rows longer than 1e19 became zeros, and
    so, nearly, did rows shorter than 1e-12.
    """
    peaks = rows.abs().amax(1, keepdim=True).clamp_min(torch.finfo(rows.dtype).tiny)
    return F.normalize(rows / peaks, dim=1)


__all__ = ["unit_rows"]
