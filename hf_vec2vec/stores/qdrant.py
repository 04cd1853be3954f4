"""Qdrant: collections of a server, or of a folder in local mode. The switch is an alias."""

import os
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .base import FORMS, Address, Engine, Found, Id, Rows, VectorStore, needs, old_vectors_gone, plain_json

FORM = FORMS["qdrant"]
END = "end"  # the cursor behind the last point; no id is this


class QdrantEngine(Engine):
    """A server, with the key in the variable QDRANT_API_KEY if it wants one, or a folder in local mode.

    Args:
        address: of a store in it.
    """

    def __init__(self, address: Address):
        with needs("qdrant"):
            from qdrant_client import QdrantClient
        if address.place.startswith(("http://", "https://")):
            self.client = QdrantClient(url=address.place, api_key=os.environ.get("QDRANT_API_KEY"), timeout=60)
            return
        if not os.path.isdir(address.place):
            raise FileNotFoundError(f"{str(address)!r}: there is no folder {address.place!r}. An address is {FORM}.")
        self.parallel = False
        try:
            self.client = QdrantClient(path=address.place, force_disable_check_same_thread=True)
        except RuntimeError as error:  # its lock
            raise FileExistsError(f"{str(address)!r}: {error}") from error

    def _aliases(self) -> dict[str, str]:
        return {found.alias_name: found.collection_name for found in self.client.get_aliases().aliases}

    def resolve(self, address: Address) -> Address:
        """The collection of an alias."""
        return replace(address, name=self._aliases().get(address.name, address.name))

    def exists(self, address: Address) -> bool:
        """See [`Engine`]."""
        return address.name in self._aliases() or self.client.collection_exists(address.name)

    def open(self, address: Address) -> "QdrantCollection":
        """See [`Engine`]."""
        if not self.exists(address):
            raise FileNotFoundError(f"{str(address)!r}: there is no such collection. An address is {FORM}.")
        return QdrantCollection(self.client, address)

    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> "QdrantCollection":
        """See [`Engine`]. Of a collection it takes distance, HNSW settings and the indexes of the payload."""
        from qdrant_client import models

        if not self.exists(address):
            if isinstance(source, QdrantCollection):
                vectors = source.params.model_copy(update={"size": dim})
                settings: dict[str, Any] = {"on_disk_payload": source.on_disk_payload}
            else:
                distance = models.Distance.DOT if source.inner_product else models.Distance.COSINE
                vectors, settings = models.VectorParams(size=dim, distance=distance), {}
            named = {source.vector: vectors} if isinstance(source, QdrantCollection) and source.vector else vectors
            self.client.create_collection(address.name, vectors_config=named, **settings)
        made = QdrantCollection(self.client, address)
        if isinstance(source, QdrantCollection):
            made.index_payload_like(source)
        return made

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        if old == resolved:
            raise ValueError(
                f"`from` names the collection {old.name!r} itself, and Qdrant gives a collection no other name. Both "
                "collections are complete. Let your application ask for an alias (`update_collection_aliases`), point it to "
                f"{old.name!r}, and start again with the alias as `from`; or let your application ask for {new.name!r}."
            )

    def switch(self, old: Address, new: Address, resolved: Address) -> tuple[Address, Address]:
        """The alias of the old collection becomes that of the new one, at once."""
        self._point(old.name, new.name)
        return resolved, new

    def rollback(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]."""
        if not self.client.collection_exists(resolved.name):
            raise old_vectors_gone(str(resolved))
        self._point(old.name, resolved.name)

    def _point(self, alias: str, collection: str) -> None:
        from qdrant_client import models

        self.client.update_collection_aliases(
            change_aliases_operations=[
                models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias)),
                models.CreateAliasOperation(create_alias=models.CreateAlias(collection_name=collection, alias_name=alias)),
            ]
        )

    def close(self) -> None:
        """See [`Engine`]."""
        self.client.close()


class QdrantCollection(VectorStore):
    """One collection with one vector a point.

    Args:
        client: of the engine.
        address: of the collection; its `vector` names one of several.
    """

    unique = True

    def __init__(self, client: Any, address: Address):
        self.client, self.name, self.shown = client, address.name, str(address)
        params = client.get_collection(address.name).config.params
        self.on_disk_payload = params.on_disk_payload
        vectors, self.vector = params.vectors, ""
        if isinstance(vectors, dict):
            if len(vectors) > 1 or params.sparse_vectors:
                several = [*vectors, *(params.sparse_vectors or {})]
                raise ValueError(
                    f"{self.shown!r} holds several vectors a point ({', '.join(several)}), which a new collection would "
                    "lose. Copy the points by your own program, with `translate` for this vector."
                )
            ((self.vector, vectors),) = vectors.items()
        elif params.sparse_vectors:
            raise ValueError(f"{self.shown!r} holds sparse vectors, too, which a new collection would lose.")
        self.params, self.dim = vectors, vectors.size
        distance = vectors.distance.value
        self.unit, self.inner_product = distance == "Cosine", distance == "Dot"
        if vectors.datatype is not None and vectors.datatype.value != "float32":
            self.tolerance = 2e-3 if vectors.datatype.value == "float16" else 2e-2
        if vectors.multivector_config is not None:
            raise ValueError(f"{self.shown!r} holds several vectors a point (multivectors), which cannot be migrated.")

    def count(self) -> int:
        """See [`VectorStore`]."""
        return self.client.count(self.name, exact=True).count

    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """In the order of the ids."""
        first = 0
        while cursor != END:
            points, cursor = self.client.scroll(
                self.name, limit=rows, offset=cursor, with_payload=payload, with_vectors=True
            )
            cursor = END if cursor is None else cursor
            if points:
                vectors = np.stack([self._vector(point) for point in points])
                beside = [point.payload or {} for point in points] if payload else None
                yield Rows([point.id for point in points], vectors, beside, first, cursor)
            first += len(points)

    def _vector(self, point: Any) -> np.ndarray:
        found = point.vector.get(self.vector) if self.vector and point.vector else point.vector
        return np.full(self.dim, np.nan, "f4") if not isinstance(found, list | np.ndarray) else np.asarray(found, "f4")

    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """See [`VectorStore`]."""
        points = self.client.retrieve(self.name, ids=list(ids), with_payload=True, with_vectors=True)
        return {point.id: Found(self._vector(point), point.payload or {}) for point in points}

    def add(self, rows: Rows) -> None:
        """See [`VectorStore`]."""
        from qdrant_client import models

        payload = rows.payload or [{} for _ in rows.ids]
        for id, beside in zip(rows.ids, payload):
            plain_json(beside, self.shown, id)
            _check_id(id, self.shown)
        vectors = rows.vectors.tolist()
        points = [
            models.PointStruct(id=id, vector={self.vector: vector} if self.vector else vector, payload=beside)
            for id, vector, beside in zip(rows.ids, vectors, payload)
        ]
        self.client.upsert(self.name, points, wait=True)

    replace = add

    def delete(self, ids: Sequence[Id]) -> None:
        """See [`VectorStore`]."""
        self.client.delete(self.name, points_selector=list(ids), wait=True)

    def index_payload_like(self, other: "QdrantCollection") -> None:
        """Index the payload's fields that another collection has indexed."""
        there = self.client.get_collection(self.name).payload_schema or {}
        for field, info in (self.client.get_collection(other.name).payload_schema or {}).items():
            if field not in there:
                self.client.create_payload_index(self.name, field, field_schema=info.params or info.data_type, wait=True)


def _check_id(id: Id, shown: str) -> None:
    """Raise for an id that Qdrant has no form for; it would change others."""
    if isinstance(id, int) and id >= 0:
        return
    try:
        if str(uuid.UUID(str(id))) == id:
            return
    except ValueError:
        pass
    raise ValueError(f"`to` {shown!r}: Qdrant takes whole numbers and UUIDs in small letters as ids, got {id!r}.")


__all__ = ["QdrantCollection", "QdrantEngine"]
