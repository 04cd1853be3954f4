"""The way to the Hub, and the card that goes along."""

from .hub import publish, publish_folder, short_card
from .translator_card import model_card, write_model_card

__all__ = ["model_card", "publish", "publish_folder", "short_card", "write_model_card"]
