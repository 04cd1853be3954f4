"""Vectors that are computed once: cached by everything that changes them, kept when the work is interrupted."""

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, load_from_disk
from huggingface_hub import constants
from torch import Tensor, nn

from ..data.staging import locked
from ..model.checkpoint_vec2vec import weights_sha256

CACHE_VERSION = 2  # raise it when the same settings begin to give other vectors

logger = logging.getLogger(__name__)


def model_digest(folder: Path, model: nn.Module, settings: list[Any]) -> str:
    """SHA-256 over settings, a model's weights, and the other files of its folder, in the order of their names.

    Weights are those in memory, which may have been trained, or merged with an adapter, since they were loaded.
    """
    digest = hashlib.sha256(json.dumps([CACHE_VERSION, *settings, weights_sha256(model.state_dict())]).encode())
    for file in sorted(p for p in folder.rglob("*") if p.suffix in (".json", ".txt", ".model", ".py")):
        digest.update(str(file.relative_to(folder)).encode())
        with open(file, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()


def computed_once(
    key: str,
    count: int,
    chunk: int,
    encode: Callable[[int, int], Tensor],
    finish: Callable[[np.ndarray], Dataset],
    settings: dict,
    cache_dir: str | Path | None,
) -> Dataset:
    """The data set with this key from the cache, or made, chunk by chunk, and put there.

    Args:
        key: of everything that changes the vectors.
        count: how many vectors there are.
        chunk: how many are made between two saves.
        encode: gives the vectors from one number to another.
        finish: makes the data set of all vectors, `(count, d)`.
        settings: of the encoder, for the data set's description.
        cache_dir: defaults to `hf_vec2vec/embeddings` in the Hugging Face cache.

    Raises:
        NotADirectoryError: if a file is where the cache would be.
    """
    cache = Path(cache_dir or Path(constants.HF_HOME) / "hf_vec2vec" / "embeddings").absolute()
    if file := next((place for place in (cache, *cache.parents) if place.exists() and not place.is_dir()), None):
        raise NotADirectoryError(
            f"`cache_dir` is {str(cache)!r}, but {str(file)!r} is a file. Choose another folder; the default is in HF_HOME."
        )
    folder = cache / key
    partial = folder.with_name(f"{folder.name}.partial")
    if partial.exists() or not folder.exists():
        with locked(folder, wait=True):  # two processes that want the same vectors make them once
            if not folder.exists():
                _compute(folder, partial, count, chunk, encode, finish, settings)
            shutil.rmtree(partial, ignore_errors=True)  # of this process, or of one that was stopped just here
    if (data := _load(folder)) is None:
        with locked(folder, wait=True):
            if (data := _load(folder)) is None:  # no other process has mended it meanwhile
                logger.warning("%s is damaged: its vectors are computed again.", folder)
                shutil.rmtree(folder)
                _compute(folder, partial, count, chunk, encode, finish, settings)
                shutil.rmtree(partial, ignore_errors=True)
                data = load_from_disk(str(folder))
    data.info.description = json.dumps(settings)  # the same model may have lain elsewhere
    return data


def _load(folder: Path) -> Dataset | None:
    """The data set that was kept; `None` if it is damaged."""
    try:
        return load_from_disk(str(folder))
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError):  # ValueError: JSON that is none, too
        return None


def _compute(
    folder: Path,
    partial: Path,
    count: int,
    chunk: int,
    encode: Callable[[int, int], Tensor],
    finish: Callable[[np.ndarray], Dataset],
    settings: dict,
) -> None:
    """Make the data set, going on where an earlier process left `partial`; the rest as for `computed_once`."""
    partial.mkdir(parents=True, exist_ok=True)
    chunks = []
    for start in range(0, count, chunk):
        file = partial / f"{start:012d}.npy"
        if not file.exists():
            rows = encode(start, min(start + chunk, count))
            with open(partial / "writing", "wb") as stream:
                np.save(stream, rows.numpy())
            os.replace(partial / "writing", file)
        chunks.append(np.load(file, allow_pickle=False))
    dataset = finish(np.concatenate(chunks))
    dataset.info.description = json.dumps(settings)
    dataset.save_to_disk(str(partial / "dataset"))
    os.replace(partial / "dataset", folder)
