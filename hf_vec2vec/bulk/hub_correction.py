"""Translations as rows for an index that corrects hubs: see `hf_vec2vec.metrics.hubness`."""

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


__all__ = ["HubCorrected"]
