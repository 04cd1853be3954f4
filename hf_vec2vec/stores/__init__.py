"""Stores that are in use: vector databases, indexes and files, moved to another encoder's vectors without stopping them."""

from .addresses import parse_address
from .migration import Migration, Sample
from .passes import Migrated

__all__ = ["Migrated", "Migration", "Sample", "parse_address"]
