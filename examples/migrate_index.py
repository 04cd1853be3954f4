"""An index of one encoder's vectors, used with another encoder, without embedding the documents again.

    pip install faiss-cpu qdrant-client
    python examples/migrate_index.py demo/translator minilm wordllama documents.txt queries.txt

The store holds vectors of the documents by the old encoder (here minilm); queries come from the new one (wordllama). Two
ways, in FAISS and in Qdrant (embedded, no server): translate the store once and ask it with new vectors as they are, or
leave it alone and translate each query. Both are compared with the truth, the ten documents that re-embedding finds.
"""

import sys

import faiss
import numpy as np
from qdrant_client import QdrantClient
from qdrant_client.models import Distance, PointStruct, VectorParams

from hf_vec2vec import Vec2VecModel, embed
from hf_vec2vec.data import load_texts, vectors
from hf_vec2vec.encoders.recorded import recorded_encoder

FOUND = 10


def unit(rows) -> np.ndarray:
    """Rows of norm 1, for indexes that compare by inner product."""
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def faiss_index(store: np.ndarray):
    """Search function of a FAISS index of the store."""
    index = faiss.IndexFlatIP(store.shape[1])
    index.add(unit(store))
    return lambda queries: index.search(unit(queries), FOUND)[1]


def qdrant_index(store: np.ndarray):
    """Search function of an embedded Qdrant collection of the store."""
    client = QdrantClient(":memory:")
    client.create_collection("store", vectors_config=VectorParams(size=store.shape[1], distance=Distance.COSINE))
    client.upsert("store", [PointStruct(id=i, vector=row.tolist()) for i, row in enumerate(np.asarray(store))])

    def search(queries) -> np.ndarray:
        answers = [client.query_points("store", query=row.tolist(), limit=FOUND).points for row in np.asarray(queries)]
        return np.array([[point.id for point in points] for points in answers])

    return search


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    """Share of the true documents that were found."""
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found.tolist(), truth.tolist(), strict=True)]))


def main(translator: str, old: str, new: str, documents: str, queries: str) -> dict[str, float]:
    model = Vec2VecModel.from_pretrained(translator)
    old_encoder, new_encoder = (recorded_encoder(model.config, space) for space in (old, new))
    store = vectors(embed(documents, old_encoder), old)  # what exists
    asked = vectors(embed(queries, new_encoder), new)
    truth = faiss_index(vectors(embed(documents, new_encoder), new))(asked)  # what we want to save

    migrated = model.translate(store, source=old, target=new)
    backward = model.translate(asked, source=new, target=old, queries=True)
    scores = {}
    for name, index in (("FAISS", faiss_index), ("Qdrant", qdrant_index)):
        scores[f"{name}, store translated"] = recall(index(migrated)(asked), truth)
        scores[f"{name}, queries translated"] = recall(index(store)(backward), truth)
    own = vectors(embed(queries, old_encoder), old)
    scores["old encoder on both sides"] = recall(faiss_index(store)(own), truth)
    scores["by chance"] = FOUND / len(store)

    texts = load_texts(documents)
    print(f"Recall of the {FOUND} of {len(texts):,} documents that {new} finds after re-embedding, {len(asked):,} queries:")
    for name, score in scores.items():
        print(f"  {score:.3f}  {name}")
    return scores


if __name__ == "__main__":
    if len(sys.argv) != 6:
        sys.exit(__doc__)
    main(*sys.argv[1:])
