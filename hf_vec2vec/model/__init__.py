"""The translator: what it is made of, how it is saved and loaded. These four files travel with every checkpoint."""

from .configuration_vec2vec import Vec2VecConfig
from .modeling_vec2vec import Vec2VecModel, Vec2VecOutput, check_embeddings

__all__ = ["Vec2VecConfig", "Vec2VecModel", "Vec2VecOutput", "check_embeddings"]
