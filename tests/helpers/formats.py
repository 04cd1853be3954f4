"""Vectors with ids and texts in every format that the reader knows, as other programs write them."""

import csv
import json

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import torch
from datasets import Dataset
from safetensors.torch import save_file

ROWS = np.random.default_rng(3).normal(size=(70, 6)).astype(np.float32)
TEXTS = [f'line {i}, with "quotes"\nand more' for i in range(70)]


def write(path, rows=ROWS, *, column="vec", vector=list, fortran=False, dtype="<f4", delimiter="") -> None:
    """Rows with ids and texts, in the format that the suffix says; no suffix: a saved data set."""
    columns = {"id": list(range(len(rows))), column: [vector(row) for row in rows.tolist()], "text": TEXTS[: len(rows)]}
    if path.suffix == ".npy":
        np.save(path, np.asarray(rows, order="F" if fortran else "C").astype(dtype))
    elif path.suffix in (".fbin", ".f16bin"):
        kind = {".fbin": "<f4", ".f16bin": "<f2"}[path.suffix]
        path.write_bytes(np.array(rows.shape, "<u4").tobytes() + rows.astype(kind).tobytes())
    elif path.suffix == ".safetensors":
        save_file({"vectors": torch.from_numpy(rows)}, path)
    elif path.suffix == ".parquet":
        pq.write_table(pa.table(columns), path, row_group_size=30)
    elif path.suffix == ".feather":
        pyarrow.feather.write_feather(pa.table(columns), path)
    elif path.suffix == ".arrow":
        with pa.ipc.new_stream(path, pa.table(columns).schema) as writer:
            writer.write_table(pa.table(columns), max_chunksize=20)
    elif path.suffix in (".csv", ".tsv"):
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, delimiter=delimiter or {".csv": ",", ".tsv": "\t"}[path.suffix])
            writer.writerows([list(columns), *zip(*columns.values(), strict=True)])
    elif path.suffix in (".jsonl", ".json"):
        items = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        path.write_text(json.dumps(items) if path.suffix == ".json" else "\n".join(map(json.dumps, items)))
    else:
        Dataset.from_dict(columns).save_to_disk(path, num_shards=2)
