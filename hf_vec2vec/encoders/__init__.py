"""Vectors of texts and images, from the encoders that the spaces belong to."""

from .images import ImageEncoder, embed_images
from .text import EncoderSettings, TextEncoder, embed, model_folder, recorded_encoder

__all__ = ["EncoderSettings", "ImageEncoder", "TextEncoder", "embed", "embed_images", "model_folder", "recorded_encoder"]
