"""Vectors of texts and images, from the encoders that the spaces belong to."""

from .folders import model_folder
from .images import ImageEncoder, embed_images
from .recorded import check_description, check_same_encoder, recorded_encoder
from .text import EncoderSettings, TextEncoder, embed

__all__ = [
    "EncoderSettings",
    "ImageEncoder",
    "TextEncoder",
    "check_description",
    "check_same_encoder",
    "embed",
    "embed_images",
    "model_folder",
    "recorded_encoder",
]
