"""Vectors on disk, read and written whole."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import torch
from datasets import Dataset, DatasetInfo
from safetensors import SafetensorError
from safetensors.torch import save

from .blocks import Block
from .columns import EMBEDDING, ID, check_ids, foreign_columns, tell_foreign, to_table, vectors
from .raw_files import check_no_weights
from .staging import check_apart, locked, staged_file, staged_folder
from .table_files import MADE_BY
from .validity import InvalidRows, check_choice, keep_valid
from .vector_files import Store, open_files

BLOCK = 8_192  # rows that are read and checked at a time
DATASET_FILES = ("data-*.arrow", "dataset_info.json", "state.json")  # what `Dataset.save_to_disk` makes
OUTPUTS = "a folder, .parquet, .npy or .safetensors"


def load_embeddings(
    path: str | Path,
    *,
    column: str | None = None,
    id_column: str | None = None,
    invalid_rows: InvalidRows = "stop",
    argument: str = "path",
) -> Dataset:
    """Read vectors, and what stands beside them, from any of the formats of [`open_files`].

    Args:
        path: see `open_files`.
        column: with the vectors; see `open_files`.
        id_column: with the ids.
        invalid_rows: what to do with rows that hold no vector, only zeros, NaN or infinity: `stop` or `drop` them.
        argument: that named the path, for errors.

    Returns:
        A data set with the column `embedding`, the column `id` if `id_column` names one, and all other columns as they are,
        `text` among them where the file has it.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these, a file that cannot be read as what its name says, a column that is
            not there, or a row that is invalid (it is named).
        TypeError: for integers or objects in place of vectors.
    """
    return load_numbered(path, column=column, id_column=id_column, invalid_rows=invalid_rows, argument=argument)[0]


def load_numbered(
    path: str | Path,
    *,
    column: str | None = None,
    id_column: str | None = None,
    invalid_rows: InvalidRows = "stop",
    argument: str = "path",
) -> tuple[Dataset, np.ndarray]:
    """[`load_embeddings`], and the number of each row among all that stand at `path`, from 0."""
    check_choice(invalid_rows)
    store = open_files(path, column, argument=argument)
    first = store.files[0]
    others = [name for name in first.other_columns() if name != EMBEDDING]
    check_ids(id_column, first.schema, others, f"`{argument}` {str(path)!r}")
    foreign = {} if first.schema is None else foreign_columns(first.schema)
    tell_foreign(foreign, path)
    others = [name for name in others if name not in foreign]
    found = list(_valid_tables(store, others, invalid_rows))
    if not found:
        raise ValueError(f"`{argument}` {str(path)!r} holds no valid row.")
    tables, numbers = zip(*found, strict=True)
    table = pa.concat_tables(tables, promote_options="permissive")
    if id_column is not None:
        table = table.drop_columns(ID) if ID in others and id_column != ID else table
        table = table.rename_columns({id_column: ID})
    return Dataset(table, info=DatasetInfo(description=store.description)), np.concatenate(numbers)


def sample_embeddings(path: str | Path, rows: int, *, seed: int = 0, argument: str = "path") -> tuple[Dataset, int]:
    """Some rows, drawn at random, of files that may be larger than the memory; all are read and checked.

    Args:
        path: see `open_files`.
        rows: how many at most.
        seed: of the draw.
        argument: that named the path, for errors.

    Returns:
        A data set with the column `embedding`, in the order of the files; and how many rows there are.

    Raises:
        FileNotFoundError, TypeError, ValueError: as `load_embeddings`.
    """
    store = open_files(path, argument=argument)
    if not store.rows:
        raise ValueError(f"`{argument}` {str(path)!r} holds no row.")
    drawn = np.random.default_rng(seed).choice(store.rows, min(rows, store.rows), replace=False, shuffle=False)
    numbers, found, before = np.sort(drawn), [], 0
    for file in store.files:
        for block in store.read(file, 0, file.rows, BLOCK):
            valid = keep_valid(block, "stop", store.place(file)).rows
            first, last = np.searchsorted(numbers, [before, before + len(valid)])
            found.append(to_table(valid[torch.from_numpy(numbers[first:last] - before)]))
            before += len(valid)
    return Dataset(pa.concat_tables(found), info=DatasetInfo(description=store.description)), before


def _valid_tables(store: Store, others: list[str], invalid_rows: InvalidRows) -> Iterator[tuple[pa.Table, np.ndarray]]:
    """Blocks as tables, the other columns, then `embedding`; and the numbers of their rows in the store."""
    before = 0
    for file in store.files:
        for block in store.read(file, 0, file.rows, BLOCK, others):
            numbers = np.arange(before, before + len(block.rows))
            before += len(block.rows)
            # Numbers go through as one more column, so that they lose the rows that the others lose.
            beside = block.others
            numbered = pa.table({"number": numbers}) if beside is None else beside.append_column("number", pa.array(numbers))
            kept = keep_valid(Block(block.rows, block.first, numbered), invalid_rows, store.place(file))
            if len(kept.rows):
                assert kept.others is not None
                numbers = kept.others.column(kept.others.num_columns - 1).to_numpy()
                rest = kept.others.remove_column(kept.others.num_columns - 1)
                vectors = to_table(kept.rows.clone())  # the block's memory is used again
                yield vectors if beside is None else rest.append_column(EMBEDDING, vectors[EMBEDDING]), numbers


def check_output(path: str | Path, *, overwrite: bool = False, reads: Sequence[str | Path] = ()) -> Path:
    """Raise, before the work is done, what `save_embeddings` would raise after it.

    Args:
        path: where the vectors will go.
        overwrite: replace what is there.
        reads: files and folders that they are made of, which must not be replaced.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set, is a folder that holds no data set, or a file of other
            tensors.
        ValueError: for an unknown suffix, or if `path` is what is read.
    """
    path = Path(path)
    if path.suffix.lower() not in ("", ".parquet", ".npy", ".safetensors"):
        raise ValueError(f"`path` is {str(path)!r}, which is no known format to write. Give {OUTPUTS}.")
    check_apart(path, reads)
    if path.exists() and not overwrite:
        raise FileExistsError(f"`path` {str(path)!r} exists already. Choose another, or ask to overwrite it.")
    if path.exists() and path.is_dir() != (path.suffix == "" and (path / "dataset_info.json").exists()):
        raise FileExistsError(f"`path` {str(path)!r} is in the way and no data set; it is not overwritten. Choose another.")
    check_no_weights("path", path, [EMBEDDING])
    return path


def save_embeddings(data: Dataset, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a data set of vectors in the format that the name of `path` asks for (no suffix: an Arrow folder).

    `.npy` and `.safetensors` hold the vectors alone. The file appears whole or not at all.

    Raises:
        FileExistsError, ValueError: see `check_output`.
        OSError: if there is no room, or no right to write.
    """
    path = check_output(path, overwrite=overwrite)
    with locked(path, argument="path"):
        check_output(path, overwrite=overwrite)  # another process may have written it meanwhile
        try:
            if path.suffix == "":
                with staged_folder(path, ours=DATASET_FILES) as folder:
                    data.save_to_disk(str(folder))
            else:
                with staged_file(path) as file:
                    _write(data, path.suffix.lower(), file)
        except (OSError, SafetensorError) as error:  # NumPy and safetensors do not say that the disk is full
            free = shutil.disk_usage(path.parent).free
            raise OSError(
                f"`path` {str(path)!r} was not written, and is as it was before: {error} ({free / 1e6:,.1f} MB are free "
                "there)."
            ) from error


def _write(data: Dataset, suffix: str, file: Path) -> None:
    if suffix == ".parquet":
        table = data.with_format("arrow")[:]
        metadata = (table.schema.metadata or {}) | {MADE_BY: data.info.description.encode()}
        pa.parquet.write_table(table.replace_schema_metadata(metadata), file)
    elif suffix == ".npy":
        with open(file, "wb") as stream:
            np.save(stream, vectors(data, "data").numpy())
    else:
        # Not `save_file`, which writes to a file of another name first: if it is killed, that stays.
        file.write_bytes(save({EMBEDDING: vectors(data, "data")}))
