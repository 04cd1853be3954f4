"""Bulk translation: stores of any size, in constant memory, by several processes, resumable at any moment."""

from .outputs import Summary
from .translate import translate_store

__all__ = ["Summary", "translate_store"]
