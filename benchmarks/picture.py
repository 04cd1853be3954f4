"""The picture of the README: vectors of two models, before and after translation, by the translator of the repository.

python benchmarks/picture.py docs/images/before_after.png
"""

import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot
from matplotlib.figure import Figure

from hf_vec2vec import Vec2VecModel

FOLDER = Path(__file__).parent.parent / "model_cards" / "minilm-wordllama"
TEXTS = 40  # more than this cannot be told apart at the size of a README
BRIGHTEST = 0.6  # cosine


def cosines(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Cosine of every row with every column, both sides centred."""
    centred = (side - side.mean(0) for side in (rows, columns))
    a, b = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in centred)
    return a @ b.T


def picture() -> Figure:
    minilm, wordllama = (np.load(FOLDER / f"{name}.npy").astype(np.float32) for name in ("minilm", "wordllama"))
    model = Vec2VecModel.from_pretrained(FOLDER)
    translated = model.translate(minilm, source="minilm", target="wordllama").numpy()
    # Vectors of 384 and 256 numbers have no cosine: the first 256 stand for the shorter side's.
    before, after = cosines(minilm[:, : wordllama.shape[1]], wordllama), cosines(translated, wordllama)
    found = (after.argmax(1) == np.arange(len(after))).mean()
    figure, axes = pyplot.subplots(1, 2, figsize=(8.6, 4.2), layout="constrained")
    titles = "before: MiniLM (cut) and WordLlama", f"after translation: {found:.0%} of {len(after)} found"
    for axis, values, title in zip(axes, (before, after), titles, strict=True):
        image = axis.imshow(values[:TEXTS, :TEXTS], vmin=0, vmax=BRIGHTEST, cmap="magma")
        axis.set(title=title, xlabel="text, by WordLlama", ylabel="the same texts, by MiniLM", xticks=[], yticks=[])
    figure.colorbar(image, ax=axes, shrink=0.85, label="cosine, centred")
    return figure


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    picture().savefig(sys.argv[1], dpi=110)
