"""Translators where they are used: layers merged, one direction exported."""

from .export import export
from .merging import MergedTranslation, merge

__all__ = ["MergedTranslation", "export", "merge"]
