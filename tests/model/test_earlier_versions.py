"""A translator that was saved by commit 2490ed8, with the code that travelled with it."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel

from hf_vec2vec import Vec2VecModel

FOLDER = Path(__file__).parent / "fixtures" / "translator_2490ed8"
ELSEWHERE = """
import torch
from safetensors.torch import load_file
from transformers import AutoModel

model = AutoModel.from_pretrained({folder!r}, trust_remote_code=True)
known = load_file({folder!r} + "/expected.safetensors")
found = model.translate(known["old"], source="old", target="new")
torch.testing.assert_close(found, known["old_to_new"], rtol=0, atol=2e-6)
"""


@pytest.mark.parametrize("cls", [Vec2VecModel, AutoModel])
def test_its_weights_are_bit_equal_and_its_translations_as_they_were(cls):
    model, known = cls.from_pretrained(FOLDER), load_file(FOLDER / "expected.safetensors")
    weights, saved = model.state_dict(), load_file(FOLDER / "model.safetensors")
    assert weights.keys() == saved.keys()
    assert all(torch.equal(weights[name], saved[name]) for name in saved)
    assert model.config.encoders == {"new": None, "old": {"model": "minilm"}}
    # Other processors multiply in another order.
    for found, expected in (
        (model.translate(known["old"], source="old", target="new"), known["old_to_new"]),
        (model.translate(known["new"], source="new", target="old"), known["new_to_old"]),
        (model.encode_latent(known["old"], source="old"), known["old_latents"]),
    ):
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)


def test_saved_again_it_is_the_same_file(tmp_path):
    Vec2VecModel.from_pretrained(FOLDER).save_pretrained(tmp_path)
    for name in ("model.safetensors", "config.json"):
        assert (tmp_path / name).read_bytes() == (FOLDER / name).read_bytes()


def test_its_own_code_still_runs_without_the_package(stranger):
    done = stranger.run(ELSEWHERE.format(folder=str(FOLDER)))
    assert done.returncode == 0, done.stderr
