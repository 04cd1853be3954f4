"""Translate between the embedding spaces of two encoders, learned without a single pair."""

from importlib import import_module

from .registration import register_when_loaded
from .version import __version__

# Public names and where they are: loaded when they are first used, for torch, transformers and datasets take seconds.
NAMES = {
    "Alignment": "alignment",
    "AlignmentReport": "alignment",
    "DistillationTrainer": "distillation",
    "DistillationTrainingArguments": "distillation",
    "ImageEncoder": "image_encoder",
    "PairedEmbeddings": "data",
    "StreamedEmbeddings": "streaming",
    "TextEncoder": "encoders",
    "UnpairedEmbeddings": "data",
    "Vec2VecConfig": "configuration_vec2vec",
    "Vec2VecForAdversarialTraining": "modeling_adversarial",
    "Vec2VecModel": "modeling_vec2vec",
    "Vec2VecOutput": "modeling_vec2vec",
    "Vec2VecTrainer": "trainer",
    "Vec2VecTrainingArguments": "training_args",
    "align": "alignment",
    "alignment_score": "alignment",
    "embed": "encoders",
    "embed_images": "image_encoder",
    "hub_corrected": "hubness",
    "hub_queries": "hubness",
    "open_stream": "stream_files",
    "synchronize": "alignment",
}

register_when_loaded()


def __getattr__(name: str):
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{NAMES[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    return __all__


__all__ = [*NAMES, "__version__"]
