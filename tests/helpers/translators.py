"""Translators with statistics, some of whose layers are trained."""

import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

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


def rows_of(model: Vec2VecModel, rows: int = 50) -> torch.Tensor:
    return torch.randn(rows, 6) * model.normalizers["a"].scale + model.normalizers["a"].mean
