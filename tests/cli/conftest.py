"""A translator that the tests of several commands share. It is only read: tests that change it copy it first."""

import sys

import numpy as np
import pytest

from helpers.clouds import make_cloud, random_rotation
from helpers.commands import train


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """Unpaired vectors, held-out pairs, and a translator trained on them."""
    folder = tmp_path_factory.mktemp("cli")
    rotation = random_rotation(8, 10)
    np.save(folder / "a.npy", make_cloud(600, 8, seed=1).numpy())
    np.save(folder / "b.npy", (make_cloud(500, 8, seed=2) @ rotation).numpy())
    held_out = make_cloud(120, 8, seed=3)
    np.save(folder / "held_a.npy", held_out.numpy())
    np.save(folder / "held_b.npy", (held_out @ rotation).numpy())
    assert train(folder) == 0
    return folder


@pytest.fixture(autouse=True)
def no_umap(monkeypatch):
    """Reports do without it where it is missing. Where it is there, it takes half a minute to compile."""
    monkeypatch.setitem(sys.modules, "umap", None)
