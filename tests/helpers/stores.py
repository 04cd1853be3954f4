"""Stores of vectors in every format."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, and what it holds."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def vectors_of(rows: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(rows, 6)).astype(np.float32)


def table(rows: np.ndarray, first: int = 0, *, fixed: bool = True) -> pa.Table:
    flat = pa.array(rows.reshape(-1))
    if fixed:
        column = pa.FixedSizeListArray.from_arrays(flat, rows.shape[1])
    else:
        column = pa.ListArray.from_arrays(pa.array(np.arange(0, len(flat) + 1, rows.shape[1]), pa.int32()), flat)
    ids = pa.array(range(first, first + len(rows)))
    return pa.table({"id": ids, "vector": column, "text": [f"text {i}" for i in range(first, first + len(rows))]})


def write_store(path, rows: np.ndarray) -> None:
    """One file of each format, as other programs write it."""
    if path.suffix == ".npy":
        np.save(path, rows)
    elif path.suffix == ".fbin":
        path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.tobytes())
    elif path.suffix == ".f16bin":
        path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.astype(np.float16).tobytes())
    elif path.suffix == ".safetensors":
        save_file({"x": torch.from_numpy(rows).bfloat16()}, path)
    elif path.suffix == ".parquet":
        pq.write_table(table(rows, fixed=False), path, row_group_size=20)
    elif path.suffix == ".arrow":
        with pa.ipc.new_file(path, table(rows).schema) as writer:
            writer.write_table(table(rows), max_chunksize=7)
    else:
        Dataset(table(rows)).save_to_disk(path, num_shards=3)


def read_output(folder) -> np.ndarray:
    """All shards, whatever their format, as float32."""
    parts = []
    for path in sorted(folder.glob("data-*")):
        if path.name.endswith(".scale.npy"):
            continue
        if path.suffix.lower() == ".npy":
            rows = np.load(path)
            if rows.dtype == np.int8:
                rows = rows * np.load(path.with_name(f"{path.stem}.scale.npy"))[:, None]
        elif path.suffix.lower() == ".safetensors":
            tensors = load_file(path)
            scale = tensors["scale"].unsqueeze(1) if "scale" in tensors else 1
            rows = (tensors["embedding"].float() * scale).numpy()
        elif path.suffix.lower() in (".fbin", ".f16bin", ".i8bin"):
            kind = {".fbin": "<f4", ".f16bin": "<f2", ".i8bin": "i1"}[path.suffix.lower()]
            count, dim = np.fromfile(path, "<u4", 2)
            rows = np.fromfile(path, kind, offset=8).reshape(count, dim)
            if kind == "i1":
                rows = rows * np.load(path.with_name(f"{path.stem}.scale.npy"))[:, None]
        elif path.suffix.lower() == ".parquet":
            found = pq.read_table(path).to_pydict()
            rows = np.array(found["embedding"], dtype=np.float32) * np.array(found.get("scale", 1))[..., None]
        parts.append(np.asarray(rows, dtype=np.float32))
    parts = [rows for rows in parts if len(rows)]  # a shard of which every row was left out
    return np.concatenate(parts)


def contents(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}
