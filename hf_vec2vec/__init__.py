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
    "ImageEncoder": "encoders",
    "PairedEmbeddings": "data",
    "StreamedEmbeddings": "data",
    "TextEncoder": "encoders",
    "UnpairedEmbeddings": "data",
    "Vec2VecConfig": "model",
    "Vec2VecForAdversarialTraining": "training",
    "Vec2VecModel": "model",
    "Vec2VecOutput": "model",
    "Vec2VecTrainer": "training",
    "Vec2VecTrainingArguments": "training",
    "align": "alignment",
    "alignment_score": "alignment",
    "embed": "encoders",
    "embed_images": "encoders",
    "hub_corrected": "metrics",
    "hub_queries": "metrics",
    "open_stream": "data",
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
