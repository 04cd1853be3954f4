"""Chroma: collections of a folder, or of a server."""

import os
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlparse

import numpy as np

from .base import FORMS, Address, Found, Id, RenamingEngine, Rows, VectorStore, needs

FORM = FORMS["chroma"]
DOCUMENT, URI = "chroma:document", "chroma:uri"  # what stands beside the metadata, among the payload
EVERYTHING = ["embeddings", "metadatas", "documents", "uris"]


class ChromaEngine(RenamingEngine):
    """A server or a folder.

    Args:
        address: of a store in it.
    """

    def __init__(self, address: Address):
        with needs("chroma"):
            import chromadb
        settings = chromadb.Settings(anonymized_telemetry=False)
        url = urlparse(address.place)
        self.client: Any
        if url.scheme in ("http", "https"):
            self.client = chromadb.HttpClient(
                host=url.hostname or "", port=url.port or 8000, ssl=url.scheme == "https", settings=settings
            )
        else:
            if not os.path.exists(os.path.join(address.place, "chroma.sqlite3")):
                raise FileNotFoundError(f"{str(address)!r}: {address.place!r} is no folder of Chroma. An address is {FORM}.")
            self.client = chromadb.PersistentClient(address.place, settings=settings)

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        from chromadb.errors import NotFoundError

        try:
            self.client.get_collection(address.name, embedding_function=None)
        except NotFoundError:
            return False
        return True

    def open(self, address: Address) -> "ChromaCollection":
        """See [`Engine`]."""
        if not self.exists(address):
            raise FileNotFoundError(f"{str(address)!r}: there is no such collection. An address is {FORM}.")
        return ChromaCollection(self.client, address)

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> "ChromaCollection":
        """See [`Engine`]. Of a collection it takes the metadata and the settings of HNSW, but no embedding function."""
        if not self.exists(address):
            space, metadata = "ip" if source.inner_product else "cosine", None
            settings: dict[str, Any] = {"hnsw": {"space": space}}
            if isinstance(source, ChromaCollection):
                metadata = source.collection.metadata
                settings = {"hnsw": source.hnsw} if source.hnsw else {}
            self.client.create_collection(address.name, metadata=metadata, configuration=settings, embedding_function=None)
        made = ChromaCollection(self.client, address)
        made.dim = dim
        return made

    def rename(self, old: Address, new: Address) -> None:
        """See [`RenamingEngine`]."""
        self.client.get_collection(old.name, embedding_function=None).modify(name=new.name)

    def close(self) -> None:
        """See [`Engine`]."""
        self.client.close()


class ChromaCollection(VectorStore):
    """One collection.

    Args:
        client: of the engine.
        address: of the collection.
    """

    unique = True

    def __init__(self, client: Any, address: Address):
        self.shown = str(address)
        self.collection = client.get_collection(address.name, embedding_function=None)
        self.block_rows = min(self.block_rows, client.get_max_batch_size())
        self.hnsw = self.collection.configuration_json.get("hnsw")
        self.inner_product = (self.hnsw or {}).get("space") == "ip"
        found = self.collection.get(limit=1, include=["embeddings"])["embeddings"]
        self.dim = len(found[0]) if found is not None and len(found) else 0

    def count(self) -> int:
        """See [`VectorStore`]."""
        return self.collection.count()

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order in which rows were added. The cursor is a number of rows."""
        first = cursor or 0
        while True:
            found = self.collection.get(limit=rows, offset=first, include=EVERYTHING if payload else ["embeddings"])
            if not found["ids"]:
                return
            number = len(found["ids"])
            beside = [row.payload for row in _rows(found)] if payload else None
            yield Rows(found["ids"], np.asarray(found["embeddings"], "f4"), beside, first, first + number)
            first += number

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """See [`VectorStore`]."""
        found = self.collection.get(ids=list(ids), include=EVERYTHING)
        return dict(zip(found["ids"], _rows(found)))

    def add(self, rows: Rows) -> None:
        """See [`VectorStore`]."""
        if not all(isinstance(id, str) for id in rows.ids):
            wrong = next(id for id in rows.ids if not isinstance(id, str))
            raise ValueError(f"`to` {self.shown!r}: Chroma takes texts as ids, got the number {wrong!r}.")
        payload = [self.kept(row) for row in rows.payload or [{} for _ in rows.ids]]
        bare = [{name: value for name, value in row.items() if name not in (DOCUMENT, URI)} or None for row in payload]
        more: dict[str, Any] = {"metadatas": bare} if any(bare) else {}
        for name, key in (("documents", DOCUMENT), ("uris", URI)):
            if any(key in row for row in payload):
                more[name] = [row.get(key) for row in payload]
        try:
            self.collection.upsert(ids=rows.ids, embeddings=rows.vectors, **more)
        except (TypeError, ValueError) as error:
            raise ValueError(f"`to` {self.shown!r} takes no such payload: {error}") from error

    def kept(self, payload: dict[str, Any]) -> dict[str, Any]:
        """See [`VectorStore`]. Chroma knows no value that is missing, no NaN (which equals nothing), and one zero."""
        there = {name: value for name, value in payload.items() if value is not None and value == value}
        return {name: value + 0.0 if isinstance(value, float) else value for name, value in there.items()}

    def replace(self, rows: Rows) -> None:
        """Deleted and added: an update would keep what the row has lost."""
        self.delete(rows.ids)
        self.add(rows)

    def delete(self, ids: Sequence[Id]) -> None:
        """See [`VectorStore`]."""
        self.collection.delete(ids=list(ids))


def _rows(found: Any) -> list[Found]:
    rows = []
    for k, vector in enumerate(found["embeddings"]):
        payload = dict(found["metadatas"][k] or {})
        if found["documents"][k] is not None:
            payload[DOCUMENT] = found["documents"][k]
        if found["uris"][k] is not None:
            payload[URI] = found["uris"][k]
        rows.append(Found(np.asarray(vector, "f4"), payload))
    return rows


__all__ = ["ChromaCollection", "ChromaEngine"]
