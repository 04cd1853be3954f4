"""The sections of a report on one translator: what each measures, its tables, pictures and words."""

from . import attacks, translation
from .base import Contents, Encode, Makers, Section, Subject, Table
from .summary import summary

FILES = (translation, attacks)  # in the order of the page; `makers` of each tells its sections

__all__ = ["FILES", "Contents", "Encode", "Makers", "Section", "Subject", "Table", "summary"]
