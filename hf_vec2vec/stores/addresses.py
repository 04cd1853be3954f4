"""Addresses of stores, and the engine that each belongs to."""

import re

from .base import FORMS, Address, Engine

IN_FILES = ("faiss", "parquet")
PARTS = re.compile(r"(?P<kind>\w+):(?P<place>[^#]+)(#(?P<name>[^/]+)(/(?P<vector>.+))?)?")


def parse_address(text: str, argument: str) -> Address:
    """The parts of an address.

    Raises:
        ValueError: if it is none.
    """
    found = PARTS.fullmatch(text)
    kind = found["kind"] if found else ""
    if found is None or kind not in FORMS or (kind not in IN_FILES and not found["name"]):
        forms = FORMS.get(text.partition(":")[0]) or "; ".join(FORMS.values())
        raise ValueError(f"`{argument}` must be the address of a store ({forms}), got {text!r}.")
    address = Address(kind, found["place"], found["name"] or "", found["vector"] or "")
    if address.vector and kind not in ("pgvector", "qdrant", "lancedb"):
        raise ValueError(f"`{argument}` is {text!r}, but such a store has one vector a row: {FORMS[kind]}.")
    if kind == "faiss" and address.name:
        raise ValueError(f"`{argument}` is {text!r}, but an index has no parts with names: {FORMS[kind]}.")
    return address


def engine_of(address: Address, id_column: str | None) -> Engine:
    """A connection to the place where a store lies.

    Raises:
        ConnectionError, FileNotFoundError, FileExistsError: if the place cannot be reached, is not there, or is in use.
        ImportError: if the package of the engine is missing.
    """
    match address.kind:
        case "pgvector":
            from .pgvector import PostgresEngine

            return PostgresEngine(address)
        case "qdrant":
            from .qdrant import QdrantEngine

            return QdrantEngine(address)
        case "lancedb":
            from .lance import LanceEngine

            return LanceEngine(address, id_column)
        case "chroma":
            from .chroma import ChromaEngine

            return ChromaEngine(address)
        case "faiss":
            from .faiss_files import FaissEngine

            return FaissEngine(id_column)
        case _:
            from .parquet import ParquetEngine

            return ParquetEngine(id_column)


__all__ = ["engine_of", "parse_address"]
