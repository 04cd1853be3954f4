"""Bulk translation: stores of any size, in constant memory, by several processes, resumable at any moment."""

from .run import Summary
from .translate import translate_store

__all__ = ["Summary", "translate_store"]
