"""What `import hf_vec2vec` costs, and that transformers knows the classes all the same."""

import json

import pytest

import hf_vec2vec
from helpers.elsewhere import python

HEAVY = {"datasets", "peft", "scipy", "sklearn", "ot", "matplotlib", "pandas", "evaluate", "accelerate", "pyarrow", "jinja2"}


KNOWN = """
from transformers import AutoConfig, AutoModel, pipeline
assert type(AutoConfig.from_pretrained({folder!r})) is hf_vec2vec.Vec2VecConfig
assert type(AutoModel.from_pretrained({folder!r})) is hf_vec2vec.Vec2VecModel
vector = pipeline("embedding-translation", model={folder!r}, source="a", target="b")([1.0] * 6)
assert vector.shape == (4,)
"""
LOADED = """
import json, sys

def loaded():
    print(json.dumps(sorted(sys.modules)))

import hf_vec2vec; loaded()
from transformers import AutoModel, PreTrainedModel; loaded()
from hf_vec2vec import Vec2VecModel; loaded()
"""


@pytest.fixture
def folder(tmp_path, tiny_model) -> str:
    tiny_model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def test_nothing_heavy_is_loaded_and_transformers_knows_the_classes_all_the_same(tmp_path, folder):
    done = python(LOADED + KNOWN.format(folder=folder), tmp_path)
    assert done.returncode == 0, done.stderr
    package, theirs, ours = ({name.split(".")[0] for name in json.loads(line)} for line in done.stdout.splitlines()[:3])
    assert not package & {*HEAVY, "torch", "transformers", "numpy"}
    assert not (ours - theirs) & HEAVY


def test_transformers_knows_the_classes_where_it_was_imported_first(tmp_path, folder):
    done = python(
        "from transformers import AutoModel, pipeline\nimport hf_vec2vec\n" + KNOWN.format(folder=folder), tmp_path
    )
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for name in hf_vec2vec.__all__:
        assert getattr(hf_vec2vec, name) is not None
    assert set(dir(hf_vec2vec)) == set(hf_vec2vec.__all__)
    with pytest.raises(ImportError, match="Vec3Vec"):
        from hf_vec2vec import Vec3Vec  # noqa: F401
