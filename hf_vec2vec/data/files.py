"""Files of vectors: read and written whole."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
from datasets import Dataset, DatasetInfo, load_from_disk
from safetensors.torch import load_file, save_file

from ..model.modeling_vec2vec import check_embeddings
from .columns import EMBEDDING, to_dataset, vectors
from .staging import locked, staged_file, staged_folder

MADE_BY = b"hf_vec2vec"  # Parquet metadata that keep a data set's description: how its vectors were made
DATASET_FILES = ("data-*.arrow", "dataset_info.json", "state.json")  # what `Dataset.save_to_disk` makes
VECTOR_FORMATS = "an Arrow folder (`Dataset.save_to_disk`), .parquet, .npy or .safetensors"


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
    with locked(path, argument="path"):
        if path.suffix == "":
            with staged_folder(path, ours=DATASET_FILES) as folder:
                data.save_to_disk(str(folder))
            return
        with staged_file(path) as file:
            _write(data, path.suffix, file)


def _write(data: Dataset, suffix: str, file: Path) -> None:
    if suffix == ".parquet":
        table = data.with_format("arrow")[:]
        metadata = (table.schema.metadata or {}) | {MADE_BY: data.info.description.encode()}
        pa.parquet.write_table(table.replace_schema_metadata(metadata), file)
    elif suffix == ".npy":
        with open(file, "wb") as stream:
            np.save(stream, vectors(data, "data").numpy())
    else:
        save_file({EMBEDDING: vectors(data, "data")}, file)
