"""Distillation: a teacher's vectors, translated, move a student of another family."""

from .arguments import DistillationTrainingArguments
from .recipe import train_student
from .students import StudentEncoder, load_student, save_as_sentence_transformer
from .trainer import DistillationTrainer

__all__ = [
    "DistillationTrainer",
    "DistillationTrainingArguments",
    "StudentEncoder",
    "load_student",
    "save_as_sentence_transformer",
    "train_student",
]
