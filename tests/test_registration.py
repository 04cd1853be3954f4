"""What `import hf_vec2vec` costs, and that transformers knows the classes all the same."""

import json

import pytest
from elsewhere import python

import hf_vec2vec

HEAVY = {"datasets", "peft", "scipy", "sklearn", "ot", "matplotlib", "pandas", "evaluate", "accelerate", "pyarrow", "jinja2"}


def loaded(code: str, tmp_path) -> set[str]:
    """Top-level packages that are loaded after some code."""
    done = python(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))", tmp_path)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_import_loads_nothing_heavy(tmp_path):
    assert not loaded("import hf_vec2vec", tmp_path) & {*HEAVY, "torch", "transformers", "numpy"}


def test_a_model_loads_no_more_than_transformers_does(tmp_path):
    own = loaded("from hf_vec2vec import Vec2VecModel", tmp_path)
    theirs = loaded("from transformers import AutoModel, PreTrainedModel", tmp_path)
    assert not (own - theirs) & HEAVY


@pytest.mark.parametrize(
    "code",
    ["import hf_vec2vec", "from transformers import AutoModel, pipeline\nimport hf_vec2vec"],
)
def test_transformers_knows_the_classes_whatever_is_imported_first(tmp_path, tiny_model, code):
    tiny_model.save_pretrained(tmp_path / "model")
    folder = str(tmp_path / "model")
    code += f"""
from transformers import AutoConfig, AutoModel, pipeline
assert type(AutoConfig.from_pretrained({folder!r})) is hf_vec2vec.Vec2VecConfig
assert type(AutoModel.from_pretrained({folder!r})) is hf_vec2vec.Vec2VecModel
vector = pipeline("embedding-translation", model={folder!r}, source="a", target="b")([1.0] * 6)
assert vector.shape == (4,)
"""
    done = python(code, tmp_path / "home")
    assert done.returncode == 0, done.stderr


def test_every_public_name_is_there():
    for name in hf_vec2vec.__all__:
        assert getattr(hf_vec2vec, name) is not None
    assert set(dir(hf_vec2vec)) == set(hf_vec2vec.__all__)
    with pytest.raises(ImportError, match="Vec3Vec"):
        from hf_vec2vec import Vec3Vec  # noqa: F401
