"""Translations as rows of one length, for an index that holds native rows, too: see `hf_vec2vec.metrics.mixed_index`."""

from torch import Tensor, nn


class OfLength(nn.Module):
    """A network whose translations all get one length.

    Args:
        network: translates rows to `(n, d)`.
        length: above 0.
    """

    def __init__(self, network: nn.Module, length: float):
        super().__init__()
        if not 0 < length < float("inf"):
            raise ValueError(f"`length` must be a number above 0, got {length}.")
        self.network, self.length = network, length

    def forward(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """`(n, d)`, in `out` if it is given."""
        translated = self.network(rows, out)
        return translated.div_(translated.norm(dim=1, keepdim=True) / self.length)


__all__ = ["OfLength"]
