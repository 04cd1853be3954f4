"""Figures of translation, hubs, and the tables that they stand in."""

from .hubness import hub_corrected, hub_queries
from .tables import COLUMNS, markdown_table
from .translation import csls_metrics, rank_metrics, translation_metrics

__all__ = [
    "COLUMNS",
    "csls_metrics",
    "hub_corrected",
    "hub_queries",
    "markdown_table",
    "rank_metrics",
    "translation_metrics",
]
