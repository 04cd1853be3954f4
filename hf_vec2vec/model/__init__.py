"""The translator: what it is made of, how it is saved and loaded. These four files travel with every checkpoint."""

from importlib import import_module
from typing import TYPE_CHECKING

from .configuration_vec2vec import Vec2VecConfig

if TYPE_CHECKING:
    from .modeling_vec2vec import Vec2VecModel, Vec2VecOutput, check_embeddings


def __getattr__(name: str):
    # Loaded when first used: transformers is told of the configuration while it is still loading `AutoModel`.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(".modeling_vec2vec", __name__), name)


__all__ = ["Vec2VecConfig", "Vec2VecModel", "Vec2VecOutput", "check_embeddings"]
