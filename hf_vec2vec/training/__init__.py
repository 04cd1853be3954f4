"""Adversarial training of a translator: model, losses, arguments, trainer, the recipe from vectors to a folder."""

from .adversarial import Vec2VecForAdversarialTraining
from .arguments import Vec2VecTrainingArguments
from .recipe import TranslatorArguments, load_translator, train_translator
from .trainer import Vec2VecTrainer

__all__ = [
    "TranslatorArguments",
    "Vec2VecForAdversarialTraining",
    "Vec2VecTrainer",
    "Vec2VecTrainingArguments",
    "load_translator",
    "train_translator",
]
