"""Texts and vectors on disk, and the data sets that training draws from."""

from .columns import EMBEDDING, TEXT, to_dataset, to_table, vector_column, vectors
from .corpora import LabelledTexts, load_labelled
from .files import check_output, load_embeddings, save_embeddings
from .spaces import PairedEmbeddings, UnpairedEmbeddings, UnpairedSampler
from .stream_files import open_stream
from .streaming import StreamedEmbeddings
from .texts import load_table, load_texts

__all__ = [
    "EMBEDDING",
    "TEXT",
    "LabelledTexts",
    "PairedEmbeddings",
    "StreamedEmbeddings",
    "UnpairedEmbeddings",
    "UnpairedSampler",
    "check_output",
    "load_embeddings",
    "load_labelled",
    "load_table",
    "load_texts",
    "open_stream",
    "save_embeddings",
    "to_dataset",
    "to_table",
    "vector_column",
    "vectors",
]
