"""Checkpoints on other people's machines, without a Hub; with one see test_hub.py."""

import pytest
import torch
from transformers import AutoModel

from helpers.elsewhere import translate_elsewhere
from helpers.training import build
from hf_vec2vec import Vec2VecModel


@pytest.fixture
def trained(tmp_path):
    """A trainer after two updates of each side, whose translator is no longer what it was at the start."""
    trainer = build(tmp_path / "run", learning_rate=0.01)
    trainer.train()
    return trainer


def test_checkpoints_load_without_the_package(tmp_path, trained, stranger):
    trained.save_model(str(tmp_path / "trainer"))
    Vec2VecModel.from_pretrained(tmp_path / "trainer").save_pretrained(tmp_path / "model")
    rows = torch.randn(9, 6)
    expected = trained.translator.translate(rows, source="a", target="b")
    calls = [(str(tmp_path / name), {}) for name in ("trainer", "model")]
    for translated in translate_elsewhere(stranger, tmp_path / "elsewhere", rows, calls):
        assert torch.equal(translated, expected)


def test_with_the_package_no_code_of_a_checkpoint_runs(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path)
    for name in ("configuration_vec2vec.py", "modeling_vec2vec.py", "layers_vec2vec.py", "modes_vec2vec.py"):
        (tmp_path / name).write_text("raise SystemExit('ran code of a checkpoint')")
    for choice in ({}, {"trust_remote_code": True}):
        assert type(AutoModel.from_pretrained(tmp_path, **choice)) is Vec2VecModel
