"""Adversarial training of a translator: model, losses, arguments, trainer, the recipe from vectors to a folder."""

from .adversarial import Vec2VecForAdversarialTraining
from .arguments import Vec2VecTrainingArguments
from .base import BaseTrainer
from .finite import TrainingDivergedError
from .recipe import Selection, TrainedTranslator, train_translator
from .start import load_translator
from .trainer import Vec2VecTrainer
from .translator_arguments import TranslatorArguments

__all__ = [
    "BaseTrainer",
    "Selection",
    "TrainedTranslator",
    "TrainingDivergedError",
    "TranslatorArguments",
    "Vec2VecForAdversarialTraining",
    "Vec2VecTrainer",
    "Vec2VecTrainingArguments",
    "load_translator",
    "train_translator",
]
