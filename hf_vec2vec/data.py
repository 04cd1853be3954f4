"""Texts and vectors on disk, and the data sets that the trainer draws from."""

import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
import torch
from datasets import Dataset, DatasetInfo, load_from_disk
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import Sampler

from .modeling_vec2vec import check_embeddings

TEXT, EMBEDDING = "text", "embedding"
MADE_BY = b"hf_vec2vec"  # Parquet metadata that keep a data set's description: how its vectors were made
VECTOR_FORMATS = "an Arrow folder (`Dataset.save_to_disk`), .parquet, .npy or .safetensors"
TEXT_FORMATS = ".txt (one text a line), .jsonl, .csv, .parquet or an Arrow folder, with a column `text`"


def to_table(embeddings: Tensor | np.ndarray, texts: list[str] | None = None) -> pa.Table:
    """A table with the column `embedding` (fixed-size lists) and, where texts are known, `text`.

    Args:
        embeddings: `(n, d)`.
        texts: the n texts that they are made of.
    """
    values = np.ascontiguousarray(embeddings)
    column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), values.shape[1])
    columns = {EMBEDDING: column} if texts is None else {TEXT: pa.array(texts, pa.string()), EMBEDDING: column}
    return pa.table(columns)


def to_dataset(embeddings: Tensor | np.ndarray, texts: list[str] | None = None) -> Dataset:
    """`to_table` as a `datasets.Dataset`."""
    return Dataset(to_table(embeddings, texts))


def vectors(data: Dataset | pa.Table | Tensor | np.ndarray, name: str, dim: int | None = None) -> Tensor:
    """Checked float32 rows `(n, d)` of a data set or an array.

    Args:
        data: a data set or table with a column of vectors, or the vectors.
        name: of the space, for errors.
        dim: expected dimension.

    Raises:
        TypeError, ValueError: see `check_embeddings`; also for rows of unequal length and missing rows.
    """
    if not isinstance(data, Dataset | pa.Table):
        return check_embeddings(data, name, dim).float().cpu()
    table = data if isinstance(data, pa.Table) else data.with_format("arrow")[:]
    column = table[vector_column(data, name)].combine_chunks()
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(is_kind(column.type) for is_kind in kinds):
        raise ValueError(f"`{name}` has vectors of the type {column.type}; it must be a list of numbers a row.")
    if not (pa.types.is_floating(column.type.value_type) or pa.types.is_integer(column.type.value_type)):
        raise ValueError(f"`{name}` has vectors with elements of the type {column.type.value_type}, not numbers.")
    if column.null_count:
        raise ValueError(f"`{name}` has {column.null_count} row(s) without a vector. Drop or re-embed them.")
    lengths = column.value_lengths().unique()
    if len(lengths) > 1:
        raise ValueError(f"`{name}` has rows of unequal lengths {sorted(lengths.to_pylist())[:5]}; all must be alike.")
    values = column.flatten().to_numpy(zero_copy_only=False)
    # A copy, for Arrow's memory is read-only and torch cannot promise to keep it so.
    rows = torch.from_numpy(values.reshape(len(column), lengths[0].as_py() if len(lengths) else 0).copy())
    return check_embeddings(rows, name, dim).float()


def vector_column(data: Dataset | pa.Table, name: str) -> str:
    """Name of the column with the vectors: `embedding`, or the only one that holds lists."""
    if EMBEDDING in data.column_names:
        return EMBEDDING
    schema = data.schema if isinstance(data, pa.Table) else data.features.arrow_schema
    nested = [c for c in data.column_names if pa.types.is_nested(schema.field(c).type)]
    if len(nested) == 1:
        return nested[0]
    raise ValueError(f"`{name}` has the columns {data.column_names}; name the one with the vectors '{EMBEDDING}'.")


def load_embeddings(path: str | Path) -> Dataset:
    """Read vectors, and their texts where the file has them, from an Arrow folder, Parquet, `.npy` or safetensors.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these, or a file that cannot be read as what its name says.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` is {str(path)!r}, where there is nothing. Give {VECTOR_FORMATS}.")
    try:
        if path.is_dir():
            loaded = load_from_disk(str(path))
            if not isinstance(loaded, Dataset):
                raise ValueError(f"it holds the splits {list(loaded)}; give the folder of one, such as {list(loaded)[0]!r}.")
            return loaded
        if path.suffix == ".parquet":
            table = pa.parquet.read_table(path)
            made_by = (table.schema.metadata or {}).get(MADE_BY, b"").decode()
            return Dataset(table, info=DatasetInfo(description=made_by))
        if path.suffix == ".npy":
            return to_dataset(check_embeddings(np.load(path, allow_pickle=False), path.name))
        if path.suffix == ".safetensors":
            tensors = load_file(path)
            if len(tensors) != 1:
                raise ValueError(f"it holds the tensors {sorted(tensors)}; it must hold one.")
            return to_dataset(check_embeddings(next(iter(tensors.values())), path.name))
    except TypeError:
        raise
    except Exception as error:  # every reader has errors of its own; the user needs the file's name beside them
        raise ValueError(f"`path` {str(path)!r} cannot be read: {error} Give {VECTOR_FORMATS}.") from error
    raise ValueError(f"`path` is {str(path)!r}, which is no known format. Give {VECTOR_FORMATS}.")


def check_output(path: str | Path, *, overwrite: bool = False) -> Path:
    """Raise, before the work is done, what `save_embeddings` would raise after it.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set, or is a folder that holds no data set.
        ValueError: for an unknown suffix.
    """
    path = Path(path)
    if path.suffix not in ("", ".parquet", ".npy", ".safetensors"):
        raise ValueError(f"`path` is {str(path)!r}, which is no known format. Give {VECTOR_FORMATS}.")
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` {str(path)!r} exists already. Choose another, or ask to overwrite it.")
    if path.exists() and path.is_dir() != (path.suffix == "" and (path / "dataset_info.json").exists()):
        raise FileExistsError(f"`path` {str(path)!r} is in the way and no data set; it is not overwritten. Choose another.")
    return path


def save_embeddings(data: Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a data set of vectors in the format that the name of `path` asks for (no suffix: an Arrow folder).

    `.npy` and `.safetensors` hold the vectors alone. The file appears whole or not at all.

    Raises:
        FileExistsError, ValueError: see `check_output`.
    """
    path = check_output(path, overwrite=overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    if path.suffix == "":
        shutil.rmtree(partial, ignore_errors=True)
        data.save_to_disk(str(partial))
        replaced = path.with_name(f".replaced-{path.name}")
        if path.exists():  # moved aside first, so that a whole data set is there at any moment
            os.replace(path, replaced)
        os.replace(partial, path)
        shutil.rmtree(replaced, ignore_errors=True)
        return
    if path.suffix == ".parquet":
        table = data.with_format("arrow")[:]
        metadata = (table.schema.metadata or {}) | {MADE_BY: data.info.description.encode()}
        pa.parquet.write_table(table.replace_schema_metadata(metadata), partial)
    elif path.suffix == ".npy":
        with open(partial, "wb") as file:
            np.save(file, vectors(data, path.name).numpy())
    else:
        save_file({EMBEDDING: vectors(data, path.name)}, partial)
    os.replace(partial, path)


def load_texts(path: str | Path) -> list[str]:
    """Read texts from `.txt` (one a line), `.jsonl`, `.csv`, `.parquet` or an Arrow folder; blank ones are left out.

    Raises:
        FileNotFoundError, ValueError: as `load_embeddings`; also if there is no column `text`, or no text.
    """
    path = Path(path)
    if path.suffix == ".txt" and path.is_file():
        texts = path.read_text(encoding="utf-8").split("\n")
    else:
        table = load_table(path)
        if TEXT not in table.column_names:
            raise ValueError(f"`path` {str(path)!r} has the columns {table.column_names}; it needs '{TEXT}'.")
        texts = [str(text) for text in table[TEXT].to_pylist() if text is not None]
    texts = [stripped for text in texts if (stripped := text.strip())]
    if not texts:
        raise ValueError(f"`path` {str(path)!r} holds no text.")
    return texts


def load_table(path: str | Path) -> pa.Table:
    """Read all columns of a `.jsonl`, `.csv`, `.parquet` or Arrow folder.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` is {str(path)!r}, where there is nothing. Give {TEXT_FORMATS}.")
    if path.is_dir():
        return load_from_disk(str(path)).with_format("arrow")[:]
    readers = {".jsonl": pa.json.read_json, ".csv": _read_csv, ".parquet": pa.parquet.read_table}
    if path.suffix not in readers:
        raise ValueError(f"`path` is {str(path)!r}, which is no known format. Give {TEXT_FORMATS}.")
    return readers[path.suffix](path)


def _read_csv(path: Path) -> pa.Table:
    return pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True))


class UnpairedEmbeddings(torch.utils.data.Dataset):
    """Vectors of several spaces whose rows have nothing to do with each other. Indexed by one row number a space.

    Args:
        spaces: `{name: data set or (n, d) array}`. The spaces may have different numbers of rows.
        strict_unpaired: refuse data sets that share texts, where the texts are known. A shared text is a hidden pair,
            and figures measured with it say nothing about unpaired translation.

    Raises:
        TypeError, ValueError: see `vectors`; also if texts are shared.
    """

    def __init__(self, spaces: Mapping[str, Dataset | Tensor | np.ndarray], *, strict_unpaired: bool = True):
        if len(spaces) < 2:
            raise ValueError(f"`spaces` must hold at least two spaces, got {list(spaces)}.")
        self.spaces = {name: vectors(data, name) for name, data in spaces.items()}
        known = {n: d[TEXT] for n, d in spaces.items() if isinstance(d, Dataset) and TEXT in d.column_names}
        # What a card may say of these rows.
        self.checked = "not checked" if not strict_unpaired else "checked" if len(known) == len(spaces) else "texts unknown"
        if strict_unpaired:
            _refuse_shared_texts(known)

    @property
    def dims(self) -> dict[str, int]:
        """Dimension of each space."""
        return {name: rows.shape[1] for name, rows in self.spaces.items()}

    def __len__(self) -> int:
        """Rows of the largest space; one epoch sees each of them once."""
        return max(map(len, self.spaces.values()))

    def __getitems__(self, indices: list[tuple[int, ...]]) -> dict[str, Tensor]:
        """A batch: item j of each index is the row of space j. Gives `{name: (len(indices), d)}`."""
        columns = zip(*indices, strict=True)
        return {name: rows[list(c)] for (name, rows), c in zip(self.spaces.items(), columns, strict=True)}

    def __getitem__(self, index: tuple[int, ...]) -> dict[str, Tensor]:
        return {name: rows[i] for (name, rows), i in zip(self.spaces.items(), index, strict=True)}

    def split(self, rows: int, *, seed: int) -> tuple["UnpairedEmbeddings", "UnpairedEmbeddings"]:
        """Take `rows` random rows out of every space: (what is left, what was taken). Neither holds pairs."""
        generator = torch.Generator().manual_seed(seed)
        left, taken = {}, {}
        for name, data in self.spaces.items():
            order = torch.randperm(len(data), generator=generator)
            left[name], taken[name] = data[order[rows:]], data[order[:rows]]
        return UnpairedEmbeddings(left), UnpairedEmbeddings(taken)


class PairedEmbeddings(torch.utils.data.Dataset):
    """Vectors of the same texts in several spaces, row by row. For evaluation; the trainer refuses to train on them.

    Args:
        spaces: `{name: data set or (n, d) array}`, all with the same number of rows.

    Raises:
        TypeError, ValueError: see `vectors`; also if the numbers of rows or, where known, the texts differ.
    """

    def __init__(self, spaces: Mapping[str, Dataset | Tensor | np.ndarray]):
        self.spaces = {name: vectors(data, name) for name, data in spaces.items()}
        sizes = {name: len(rows) for name, rows in self.spaces.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"`spaces` must have the same texts row by row, but their numbers of rows are {sizes}.")
        texts = [data[TEXT] for data in spaces.values() if isinstance(data, Dataset) and TEXT in data.column_names]
        if any(list(t) != list(texts[0]) for t in texts[1:]):
            raise ValueError("`spaces` must have the same texts row by row, but their `text` columns differ.")

    @property
    def dims(self) -> dict[str, int]:
        """Dimension of each space."""
        return {name: rows.shape[1] for name, rows in self.spaces.items()}

    def __len__(self) -> int:
        return len(next(iter(self.spaces.values())))

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {name: rows[indices] for name, rows in self.spaces.items()}

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {name: rows[index] for name, rows in self.spaces.items()}


def _refuse_shared_texts(texts: dict[str, list[str]]) -> None:
    known = {name: set(column) for name, column in texts.items()}
    names = list(known)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            if shared := known[a] & known[b]:
                raise ValueError(
                    f"`spaces` {a!r} and {b!r} share {len(shared)} text(s), for instance {min(shared)[:80]!r}. Training "
                    "rows must not be paired: drop the shared texts from one side, or set `strict_unpaired=False` if you "
                    "mean it."
                )


class UnpairedSampler(Sampler[tuple[int, ...]]):
    """Draws every space's rows in an order of its own, anew each epoch, and the same again when an epoch is resumed.

    A smaller space starts over, in a new order, when it runs out before the largest one.

    Args:
        sizes: rows of each space.
        seed: of the orders.
    """

    def __init__(self, sizes: list[int], seed: int):
        self.sizes, self.seed, self.epoch = sizes, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return max(self.sizes)

    def __iter__(self) -> Iterator[tuple[int, ...]]:
        generator = torch.Generator().manual_seed(hash((self.seed, self.epoch)))
        orders = []
        for size in self.sizes:
            repeats = -(-len(self) // size)
            order = torch.cat([torch.randperm(size, generator=generator) for _ in range(repeats)])
            orders.append(order[: len(self)].tolist())
        return zip(*orders, strict=True)
