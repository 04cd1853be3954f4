"""Translators with statistics, some of whose layers are trained."""

import torch
from torch import Tensor, nn

from hf_vec2vec import Alignment, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.model.layers_vec2vec import LinearPlusMLP

DIMS = {"a": 6, "b": 4}


def model_of(trained: tuple[str, ...] = (), **config) -> Vec2VecModel:
    """A model with statistics, some of whose MLPs are no longer zero."""
    torch.manual_seed(0)
    model = Vec2VecModel(Vec2VecConfig(embedding_dims=DIMS, hidden_dim=16, **config)).eval()
    with torch.no_grad():
        for name in DIMS:
            model.normalizers[name].mean.normal_()
            model.normalizers[name].scale.uniform_(0.5, 2)
        for name, weight in model.named_parameters():
            if name.startswith(trained):
                weight.normal_(std=0.5)
    return model


def network(in_dim: int, out_dim: int) -> LinearPlusMLP:
    """As an alignment has them: a linear map and a layer of prototypes."""
    config = Vec2VecConfig(embedding_dims={"x": in_dim, "y": out_dim}, hidden_dim=9, activation="softmax")
    layers = LinearPlusMLP(config, in_dim, out_dim, 1).eval().requires_grad_(False)
    for weight in layers.parameters():
        nn.init.normal_(weight, std=0.4)
    return layers


def alignment_with_networks() -> Alignment:
    """Linear maps, and networks that say something else."""
    torch.manual_seed(1)
    (here, there), (forward, backward) = DIMS.values(), (torch.randn(6, 4), torch.randn(4, 6))
    statistics: list[tuple[Tensor, Tensor]] = [(torch.randn(dim), torch.rand(dim) + 0.5) for dim in (here, there)]
    networks = network(here, there), network(there, here)
    return Alignment("a", "b", forward, backward, *statistics, residuals=networks)


def rows_of(model: Vec2VecModel, rows: int = 50) -> torch.Tensor:
    return torch.randn(rows, 6) * model.normalizers["a"].scale + model.normalizers["a"].mean


def random_translator(old: int, new: int) -> Vec2VecModel:
    """Of spaces `old` and `new`, with a rotation for a map."""
    torch.manual_seed(2)
    forward = torch.linalg.qr(torch.randn(max(old, new), max(old, new)))[0][:old, :new]
    statistics = [(torch.randn(dim), torch.rand(1)[0] + 0.5) for dim in (old, new)]
    return Vec2VecModel.from_alignment(Alignment("old", "new", forward, forward.T, *statistics)).eval()
