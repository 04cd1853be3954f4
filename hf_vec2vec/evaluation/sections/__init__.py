"""The sections of a report on one translator: what each measures, its tables, pictures and words."""

from .attacks import attributes, inversion, privacy, written
from .base import Encode, Section, Subject, Table
from .summary import summary
from .translation import out_of_domain, pictures, samples, training, translation

__all__ = [
    "Encode",
    "Section",
    "Subject",
    "Table",
    "attributes",
    "inversion",
    "out_of_domain",
    "pictures",
    "privacy",
    "samples",
    "summary",
    "training",
    "translation",
    "written",
]
