"""Translations as rows for an index: corrected for hubs, or of one length beside native rows.

See `hf_vec2vec.metrics.hubness` and `hf_vec2vec.metrics.mixed_index`.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..metrics.hubness import NEIGHBOURS, penalties
from ..model.modeling_vec2vec import check_embeddings


class HubCorrected(nn.Module):
    """A network whose translations get norm 1 and their penalty as one more coordinate.

    Args:
        network: translates rows to `(n, d)`.
        sample: `(m, d)`, queries like those to come, in the target space; at least `NEIGHBOURS`.
    """

    queries: Tensor

    def __init__(self, network: nn.Module, sample: Tensor):
        super().__init__()
        sample = check_embeddings(sample, "hub_sample")
        if len(sample) < NEIGHBOURS:
            raise ValueError(f"`hub_sample` must hold at least {NEIGHBOURS} queries, better 1,000, got {len(sample)}.")
        self.network = network
        self.register_buffer("queries", F.normalize(sample, dim=1).T)

    def forward(self, rows: Tensor, out: Tensor | None = None) -> Tensor:
        """`(n, d + 1)`, in `out` if it is given."""
        units = F.normalize(self.network(rows, None), dim=1)
        taken_off = penalties(units @ self.queries.to(units.device))
        return torch.cat([units, -taken_off[:, None]], dim=1, out=out)


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


__all__ = ["HubCorrected", "OfLength"]
