"""Shared data: clouds with the shape of text embeddings (clustered, unequal axes), and tiny models."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach the network

import pytest
import torch
from elsewhere import WITHOUT_PACKAGE, Machine
from hub_server import Hub

from hf_vec2vec import Vec2VecConfig, Vec2VecModel


def make_cloud(rows: int, dim: int = 24, seed: int = 0) -> torch.Tensor:
    """Rows drawn around 30 centres of unequal weight, on axes of unequal width, off the origin."""
    world = torch.Generator().manual_seed(1)  # the same centres for every seed
    centres = torch.randn(30, dim, generator=world)
    weights = torch.rand(30, generator=world) + 0.1
    axes = torch.linspace(1.5, 0.5, dim)
    shift = torch.randn(dim, generator=world)
    draws = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(weights, rows, replacement=True, generator=draws)
    return (centres[labels] + 0.8 * torch.randn(rows, dim, generator=draws)) * axes + shift


def random_rotation(in_dim: int, out_dim: int, seed: int = 5) -> torch.Tensor:
    """Semi-orthogonal `(in_dim, out_dim)` with `in_dim <= out_dim`: lengths are kept."""
    square = torch.randn(out_dim, out_dim, generator=torch.Generator().manual_seed(seed))
    return torch.linalg.qr(square)[0][:in_dim]


def top1(translated: torch.Tensor, truth: torch.Tensor) -> float:
    """Share of rows whose nearest true vector, by cosine, is their own."""
    normalize = torch.nn.functional.normalize
    nearest = (normalize(translated, dim=1) @ normalize(truth, dim=1).T).argmax(1)
    return (nearest == torch.arange(len(truth))).float().mean().item()


@pytest.fixture
def tiny_config() -> Vec2VecConfig:
    return Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, discriminator_hidden_dim=16, discriminator_layers=1)


@pytest.fixture
def tiny_model(tiny_config) -> Vec2VecModel:
    torch.manual_seed(0)
    return Vec2VecModel(tiny_config).eval()


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """One Hub for all tests, so that its clients, who read its address when they start, can be shared."""
    with Hub(tmp_path_factory.mktemp("hub"), tokens={"secret": "org"}) as server:
        yield server


@pytest.fixture
def hub(server) -> Hub:
    """The Hub, empty."""
    server.forget()
    return server


def online(server: Hub, **variables: str) -> dict[str, str]:
    """Environment of a client of this Hub."""
    on = {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return {"HF_ENDPOINT": server.url, **on, **variables}


@pytest.fixture(scope="session")
def publisher(server, tmp_path_factory):
    """A machine whose owner is logged in."""
    machine = Machine(tmp_path_factory.mktemp("publisher"), **online(server, HF_TOKEN="secret"))
    yield machine
    machine.close()


@pytest.fixture(scope="session")
def stranger(server, tmp_path_factory):
    """Another machine, without the package and without a token."""
    machine = Machine(tmp_path_factory.mktemp("stranger"), **online(server))
    assert machine.run(WITHOUT_PACKAGE).returncode == 0
    yield machine
    machine.close()
