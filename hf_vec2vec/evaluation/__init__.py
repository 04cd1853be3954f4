"""How good translations are, and what they give away: tables, baselines, oracles, attacks, the report."""

from .translation import evaluate_translation, fit_methods, score_methods

__all__ = ["evaluate_translation", "fit_methods", "score_methods"]
