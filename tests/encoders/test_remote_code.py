"""Encoders whose folders bring code: it runs where it is trusted, and nobody is ever asked."""

from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from helpers.encoders import SHAPE, TEXTS, save_model, with_own_code, write_modules
from hf_vec2vec import TextEncoder, Vec2VecConfig
from hf_vec2vec.encoders import recorded_encoder


@pytest.fixture
def with_code(tmp_path, trusting) -> str:
    torch.manual_seed(0)
    folder = Path(save_model(BertModel(BertConfig(**SHAPE)), tmp_path / "own"))
    with_own_code(folder)
    return str(folder)


@pytest.mark.parametrize("modules", [None, [("Transformer", ""), ("Pooling", "1_Pooling")]])
def test_code_runs_where_it_is_trusted_only(modules, with_code, bert):
    if modules:
        write_modules(Path(with_code), modules)
        (Path(with_code) / "1_Pooling").mkdir()
        (Path(with_code) / "1_Pooling" / "config.json").write_text('{"embedding_dimension": 8, "pooling_mode": "mean"}')
    with pytest.raises(ValueError, match="trust_remote_code=True"):
        TextEncoder(with_code)
    encoder = TextEncoder(with_code, trust_remote_code=True)
    torch.testing.assert_close(encoder.encode(TEXTS, progress=False), TextEncoder(bert).encode(TEXTS, progress=False))
    config = Vec2VecConfig(embedding_dims={"a": 8, "b": 4}, encoders={"a": vars(encoder.settings), "b": None})
    with pytest.raises(ValueError, match="which cannot be loaded here.*trust_remote_code"):
        recorded_encoder(config, "a")
    assert recorded_encoder(config, "a", trust_remote_code=True).settings == encoder.settings
