"""Shared fixtures: tiny models, a Hub, machines."""

import builtins
import gc
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"  # no test may reach the network
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # one worker a core; torch reads this when it is imported


import pytest
import torch
from safetensors.torch import save_file
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM, LlamaModel

from helpers.elsewhere import WITHOUT_PACKAGE, Machine
from helpers.encoders import SHAPE, save_model, tokenizer, write_modules
from helpers.hub_server import Hub
from helpers.searches import FEW_MOMENTS, SHORT, set_search
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.evaluation.generation import PrefixInverter

# By folder, what alignments leave out. Tests of commands and of training begin with one, right or wrong.
SEARCHES = {"alignment": FEW_MOMENTS, "evaluation": FEW_MOMENTS}
SEARCHES |= dict.fromkeys(("cli", "data", "docs", "examples", "model", "sharing", "training"), SHORT)


@pytest.hookimpl(tryfirst=True)  # before fixtures
def pytest_runtest_setup(item):
    """Most of the time that a small alignment takes goes into its search."""
    if item.get_closest_marker("slow") or item.get_closest_marker("whole_search"):
        set_search({})
    else:
        set_search(SHORT if item.get_closest_marker("short_search") else SEARCHES.get(item.path.parent.name, {}))


def pytest_collection_finish():
    """Each training collects garbage. What was imported is none, and to look at all of it takes half a second."""
    gc.freeze()


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


@pytest.fixture
def bert(tmp_path) -> str:
    torch.manual_seed(0)
    return save_model(BertModel(BertConfig(**SHAPE)), tmp_path / "bert")


@pytest.fixture
def llama(tmp_path) -> str:
    torch.manual_seed(0)
    return save_model(LlamaModel(LlamaConfig(**SHAPE, num_key_value_heads=2)), tmp_path / "llama")


@pytest.fixture
def static(tmp_path) -> str:
    folder = tmp_path / "static"
    folder.mkdir()
    write_modules(folder, [("StaticEmbedding", ""), ("Normalize", "1_Normalize")])
    tokenizer().save(str(folder / "tokenizer.json"))
    weight = torch.randn(11, 6, generator=torch.Generator().manual_seed(0))
    save_file({"embedding.weight": weight}, folder / "model.safetensors")
    return str(folder)


@pytest.fixture
def inverter(tmp_path):
    torch.manual_seed(0)
    # Embeddings that are long enough to speak: only adapters are trained, and the head is tied to them.
    wide = SHAPE | {"hidden_size": 32, "intermediate_size": 64}
    config = LlamaConfig(**wide, num_key_value_heads=2, tie_word_embeddings=True, initializer_range=0.3)
    folder = save_model(LlamaForCausalLM(config), tmp_path / "lm")
    return PrefixInverter(folder, 12, torch.zeros(12), prefix_length=2, rank=8, max_tokens=8)


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    bert = BertModel(BertConfig(**SHAPE | {"hidden_size": 6}))
    llama = LlamaForCausalLM(LlamaConfig(**SHAPE, num_key_value_heads=2, initializer_range=0.5))
    return {"bert": save_model(bert, folder / "bert"), "llama": save_model(llama, folder / "llama")}


@pytest.fixture
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))


@pytest.fixture
def trusting(monkeypatch, tmp_path):
    """Code of models is copied below the test's folder and forgotten behind it; nobody is asked whether to trust it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))

    def asked(*_):
        raise AssertionError("somebody was asked")

    monkeypatch.setattr(builtins, "input", asked)
    path = list(sys.path)
    yield
    sys.path[:] = path
    for name in [name for name in sys.modules if name.split(".")[0] == "transformers_modules"]:
        del sys.modules[name]
