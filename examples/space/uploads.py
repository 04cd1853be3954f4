"""Vectors that strangers upload or paste: read by the library's own readers, within limits, and deleted at once."""

import re
import tempfile
from pathlib import Path

import torch
from torch import Tensor

from hf_vec2vec.data import load_embeddings, vectors
from hf_vec2vec.data.vector_files import open_files

# Formats whose size on disk is what they take in memory. A Parquet file of a few bytes may hold a billion rows.
FORMATS = (".npy", ".safetensors", ".fbin", ".f16bin", ".jsonl", ".csv", ".tsv")
MEGABYTES = 20  # of a file
PASTED = 5_000_000  # characters
ROWS = 5_000  # of a side that are used: what two cores align in about a minute
DIMENSIONS = 4_096
BETWEEN = re.compile(r"\]\s*,\s*\[")  # two vectors of one JSON array
GAPS = re.compile(r"[\s,;]+")


def read(file: str | None, pasted: str, side: str, *, drop_invalid: bool = False) -> tuple[Tensor, str]:
    """Vectors of one side, from a file or from text.

    Args:
        file: path of an upload, which is deleted.
        pasted: one vector a line, or a JSON array of arrays; looked at where there is no file.
        side: `old` or `new`, for errors.
        drop_invalid: leave out rows that hold NaN, infinity or only zeros, in place of an error.

    Returns:
        `(n, d)`, float32, n at most `ROWS`, drawn at random where there are more; and a sentence about them.

    Raises:
        ValueError, TypeError: for what is no file of vectors, a broken one, too large a one, or none. The message is for
            the one who uploaded it.
    """
    if file:
        try:
            return _checked(Path(file), side, drop_invalid)
        finally:
            Path(file).unlink(missing_ok=True)
    if not pasted.strip():
        raise ValueError(f"`{side}`: nothing was given. Upload a file ({', '.join(FORMATS)}), or paste one vector a line.")
    if len(pasted) > PASTED:
        raise ValueError(f"`{side}` has {len(pasted):,} characters; {PASTED:,} can be pasted. Upload a file instead.")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pasted.jsonl"
        path.write_text(as_json_lines(pasted), encoding="utf-8")
        return _checked(path, side, drop_invalid)


def as_json_lines(pasted: str) -> str:
    """`0.1, 0.2` or `[0.1, 0.2]` a line, or `[[0.1, 0.2], ...]`, as what the reader of JSON Lines takes."""
    lines = BETWEEN.sub("\n", pasted.strip()).splitlines()
    values = [GAPS.sub(", ", line.strip().strip("[], ;\t")) for line in lines]
    return "\n".join(f'{{"embedding": [{value}]}}' for value in values if value)


def _checked(path: Path, side: str, drop_invalid: bool) -> tuple[Tensor, str]:
    if path.suffix not in FORMATS:
        raise ValueError(f"`{side}` is {path.name!r}; give one of {', '.join(FORMATS)}. For others: `hf-vec2vec train`.")
    if (size := path.stat().st_size) > MEGABYTES * 10**6:
        raise ValueError(f"`{side}` {path.name!r} has {size / 1e6:,.0f} MB; {MEGABYTES} MB can be read here. Give a sample.")
    try:
        store = open_files(path, argument=side)  # a header that claims more than the file holds ends here
        if store.dim > DIMENSIONS:
            raise ValueError(f"`{side}` {path.name!r} has {store.dim:,} dimensions; {DIMENSIONS:,} can be read here.")
        data = load_embeddings(path, argument=side, invalid_rows="drop" if drop_invalid else "stop")
    except (ValueError, TypeError) as error:  # the folder of an upload is nobody's business
        message = str(error).replace(f"{path.parent}/", "").replace("set `invalid_rows` to 'drop'", "tick the box below")
        raise type(error)(message) from error
    rows = vectors(data, side)
    note = f"`{side}`: {len(rows):,} vectors of {rows.shape[1]} numbers"
    if len(rows) > ROWS:
        rows = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))[:ROWS]]
        note += f", of which {ROWS:,}, drawn at random, are used"
    return rows, note


__all__ = ["DIMENSIONS", "FORMATS", "MEGABYTES", "PASTED", "ROWS", "as_json_lines", "read"]
