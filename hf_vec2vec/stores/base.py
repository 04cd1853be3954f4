"""What a migration asks of a store: read in a stable order, look rows up, add rows, exchange names."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

Id = int | str
# What an address looks like, by kind of engine.
FORMS = {
    "pgvector": "pgvector:postgresql://USER@HOST/DATABASE#TABLE/COLUMN",
    "qdrant": "qdrant:FOLDER#COLLECTION or qdrant:http://HOST:6333#COLLECTION",
    "lancedb": "lancedb:FOLDER#TABLE",
    "chroma": "chroma:FOLDER#COLLECTION or chroma:http://HOST:8000#COLLECTION",
    "faiss": "faiss:FILE.index, with ids and payload in FILE.parquet beside it",
    "parquet": "parquet:FILE.parquet or parquet:FOLDER",
}
BEFORE = "_before"  # behind the name that the old vectors have once the new ones took theirs


@dataclass
class Rows:
    """Rows of a store that are read or written at a time.

    Args:
        ids: of the rows.
        vectors: `(n, d)`, float32. A row without a vector is NaN.
        payload: what stands beside each vector, by name; `None` where it was not asked for.
        first: number of the first row in this pass over the store.
        cursor: where the next read begins; JSON.
    """

    ids: list[Id]
    vectors: np.ndarray
    payload: list[dict[str, Any]] | None
    first: int = 0
    cursor: Any = None

    def __len__(self) -> int:
        return len(self.ids)

    def only(self, kept: Sequence[int]) -> "Rows":
        """Some of the rows, by their numbers."""
        payload = None if self.payload is None else [self.payload[k] for k in kept]
        return Rows([self.ids[k] for k in kept], self.vectors[kept], payload, self.first, self.cursor)

    def replaced(self, vectors: np.ndarray) -> "Rows":
        """The same rows with other vectors."""
        return Rows(self.ids, vectors, self.payload, self.first, self.cursor)


@dataclass
class Found:
    """A row that was looked up.

    Args:
        vector: `(d,)`; `None` where the row has none yet.
        payload: what stands beside it.
    """

    vector: np.ndarray | None
    payload: dict[str, Any]


class VectorStore(ABC):
    """Vectors with ids and payload in one engine. Each engine is one file of this room.

    Attributes:
        shown: its address, without a password.
        dim: of the vectors.
        live: whether an application may change rows meanwhile. Files may not change.
        unit: whether the engine scales vectors to length 1.
        inner_product: whether it compares by inner product, so that lengths of vectors count.
        tolerance: by how much a value may differ after a way through the engine, as a share of the row's largest.
        block_rows: rows at a time that suit the engine.
        schema: of the payload, where its columns have types; `None` for documents.
        inside: whether this is a column beside another one in the same rows, which keep their payload.
        numbered: whether rows have no ids but their numbers.
        unique: whether the engine itself lets no id stand there twice. Files and tables without keys may hold any.
    """

    shown: str
    dim: int
    live = True
    unit = False
    inner_product = False
    tolerance = 1e-5
    block_rows = 2048
    schema: pa.Schema | None = None
    inside = False
    numbered = False
    unique = False

    @abstractmethod
    def count(self) -> int:
        """Rows that have a vector."""

    @abstractmethod
    def read(self, cursor: Any, rows: int, *, payload: bool) -> Iterator[Rows]:
        """All rows behind `cursor` (`None`: from the first one on), `rows` at a time, always in the same order."""

    @abstractmethod
    def find(self, ids: Sequence[Id], first: int) -> dict[Id, Found]:
        """Those of the rows that are there.

        Args:
            ids: of the rows.
            first: number of the first of them in the pass over the source; where files keep the order, it stands there.
        """

    @abstractmethod
    def add(self, rows: Rows) -> None:
        """Add rows that are not there. All of them are kept when this returns."""

    @abstractmethod
    def replace(self, rows: Rows) -> None:
        """Put rows into the places of those that have the same ids."""

    @abstractmethod
    def delete(self, ids: Sequence[Id]) -> None:
        """Delete rows."""

    def kept(self, payload: dict[str, Any]) -> dict[str, Any]:
        """What a row still has of its payload once it is in this store."""
        return payload

    def finish(self) -> None:  # noqa: B027 most engines have nothing to do
        """Called once all rows are there."""

    def notes(self, source: "VectorStore") -> list[str]:
        """What somebody has to do by hand."""
        return []

    def fingerprint(self) -> str:
        """What tells this store from another one under its name; of a live one its name alone."""
        return ""


@dataclass(frozen=True)
class Address:
    """The parts of `KIND:PLACE#NAME/VECTOR`.

    Args:
        kind: of engine.
        place: folder, file or server.
        name: of a collection or table.
        vector: name of the vector or column.
    """

    kind: str
    place: str
    name: str = ""
    vector: str = ""

    def __str__(self) -> str:
        """Without a password."""
        scheme, separator, rest = self.place.partition("://")
        if separator and "@" in rest:
            user, _, host = rest.rpartition("@")
            rest = f"{user.partition(':')[0]}@{host}"
        shown = f"{self.kind}:{scheme}{separator}{rest}"
        return shown + (f"#{self.name}" if self.name else "") + (f"/{self.vector}" if self.vector else "")


class Engine(ABC):
    """One place where stores lie: a server, a folder. Stores of it share its connection.

    Attributes:
        parallel: whether a thread may read while another one writes.
    """

    parallel = True

    @abstractmethod
    def exists(self, address: Address) -> bool:
        """Whether the name is taken."""

    def taken(self, address: Address) -> str:
        """What a store that is put there would replace; empty if there is nothing."""
        return str(address) if self.exists(address) else ""

    @abstractmethod
    def open(self, address: Address) -> VectorStore:
        """The store at an address.

        Raises:
            FileNotFoundError: if there is none.
            ValueError: if its vectors or ids are none that can be migrated.
        """

    @abstractmethod
    def create(self, address: Address, source: VectorStore, old: Address, dim: int) -> VectorStore:
        """An empty store of vectors of dimension `dim`, made like the source; or the one that an earlier run has made."""

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:  # noqa: B027 most have nothing to say
        """Raise ValueError or FileExistsError if `switch` cannot be."""

    @abstractmethod
    def switch(self, old: Address, new: Address, resolved: Address) -> tuple[Address, Address]:
        """Let the name of the old vectors lead to the new ones. Once more does nothing more.

        Args:
            old: address of the old vectors.
            new: address of the new ones.
            resolved: what `old` led to when the migration began.

        Returns:
            Where the old and the new vectors are now.

        Raises:
            FileExistsError: if a name that this takes is taken.
        """

    @abstractmethod
    def rollback(self, old: Address, new: Address, resolved: Address) -> None:
        """Undo `switch`, with the same addresses. Once more does nothing more.

        Raises:
            FileExistsError: if a name that this takes is taken.
            FileNotFoundError: if the old vectors have another name than the switch gave them.
        """

    def resolve(self, address: Address) -> Address:
        """The address that a name which may lead elsewhere leads to now."""
        return address

    def close(self) -> None:  # noqa: B027 not all hold something
        """Let go of files and connections."""


class RenamingEngine(Engine):
    """An engine whose stores can be renamed, one after the other: what a kill leaves between is told by the names."""

    @abstractmethod
    def rename(self, old: Address, new: Address) -> None:
        """Give a store another name."""

    def before(self, old: Address) -> Address:
        """Where the old vectors are after the switch."""
        return replace(old, name=old.name + BEFORE)

    def check_switch(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]. What a kill has left half done is no obstacle."""
        if self.exists(new):
            self._check_free(self.before(old) if self.exists(old) else old, "from")
        elif not self.exists(self.before(old)):
            raise FileNotFoundError(f"`to`: {str(new)!r} is not there any more. Nothing was renamed.")

    def switch(self, old: Address, new: Address, resolved: Address) -> tuple[Address, Address]:
        """See [`Engine`]."""
        before, made = self.before(old), self.exists(new)
        if made and not self.exists(before):
            self.rename(old, before)
        if made:
            self.rename(new, old)
        return before, old

    def rollback(self, old: Address, new: Address, resolved: Address) -> None:
        """See [`Engine`]. Where nothing has the old vectors' name, it was done before if both stores are there."""
        before = self.before(old)
        if self.exists(before):
            if self.exists(old):
                self._check_free(new, "to")
                self.rename(old, new)
            else:
                self._check_free(old, "from")
            self.rename(before, old)
        elif not (self.exists(old) and self.exists(new)):
            raise old_vectors_gone(str(before))

    def _check_free(self, place: Address, argument: str) -> None:
        if found := self.taken(place):
            raise FileExistsError(
                f"`{argument}`: vectors would become {str(place)!r}, but {found!r} is there. It is kept. Rename that first."
            )


def old_vectors_gone(place: str) -> FileNotFoundError:
    """The error of a rollback to vectors that are not where the switch left them."""
    return FileNotFoundError(
        f"`from`: the old vectors were left as {place!r}, and are not there. Nothing was renamed. If they have another name "
        "now, give them that one again."
    )


def plain_json(value: dict[str, Any], shown: str, id: Id) -> str:
    """Payload as JSON.

    Raises:
        ValueError: for values that JSON has no form for.
    """
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`to` {shown!r} holds payload as JSON, and that of row {id!r} cannot be written so: {error}. Migrate within "
            "the engine that it comes from."
        ) from error


@contextmanager
def needs(extra: str) -> Iterator[None]:
    """Say which extra brings a package that is missing."""
    try:
        yield
    except ImportError as error:
        name = (error.name or "").partition(".")[0]
        raise ImportError(
            f'{name or "A package"} is missing, which this store needs: pip install "hf-vec2vec[{extra}]"'
        ) from error


__all__ = [
    "BEFORE",
    "FORMS",
    "Address",
    "Engine",
    "Found",
    "Id",
    "RenamingEngine",
    "Rows",
    "VectorStore",
    "needs",
    "old_vectors_gone",
    "plain_json",
]
