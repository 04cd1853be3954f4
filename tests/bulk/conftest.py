import pytest
import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel


@pytest.fixture(scope="module")
def model() -> Vec2VecModel:
    torch.manual_seed(0)
    return Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()
