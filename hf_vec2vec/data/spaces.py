"""Data sets of vectors of several spaces: unpaired ones to train on, paired ones to measure with."""

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.utils.data import Sampler

from .columns import TEXT, vectors
from .overlap import NOT_CHECKED, refuse_shared, row_hashes


class UnpairedEmbeddings(torch.utils.data.Dataset):
    """Vectors of several spaces whose rows have nothing to do with each other. Indexed by one row number a space.

    Args:
        spaces: `{name: data set or (n, d) array}`. The spaces may have different numbers of rows.
        strict_unpaired: refuse data sets that share texts. A shared text is a hidden pair, and figures measured with it say
            nothing about unpaired translation. Texts are compared without case, white space and Unicode forms; where they
            are not known and the dimensions agree, vectors are: the same rows are found as they are, scaled, rounded or
            rotated. What was compared, `checked` says: one of `hf_vec2vec.data.overlap.CHECKS`.

    Raises:
        TypeError, ValueError: see `vectors`; also if texts or vectors are shared.
    """

    def __init__(self, spaces: Mapping[str, Dataset | Tensor | np.ndarray], *, strict_unpaired: bool = True):
        if len(spaces) < 2:
            raise ValueError(f"`spaces` must hold at least two spaces, got {list(spaces)}.")
        self.spaces = {name: vectors(data, name) for name, data in spaces.items()}
        known = {n: d for n, d in spaces.items() if isinstance(d, Dataset) and TEXT in d.column_names}
        texts = {name: list(data[TEXT]) for name, data in known.items()}
        self.checked = refuse_shared(self.spaces, texts) if strict_unpaired else NOT_CHECKED

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
        """Take `rows` random rows out of every space: (what is left, what was taken). Neither holds pairs.

        No row is taken twice, and of what is taken no copy is left: a vector that is there many times is one vector.

        Raises:
            ValueError: if a space has fewer different rows, or none would be left.
        """
        generator = torch.Generator().manual_seed(seed)
        left, taken = {}, {}
        for name, data in self.spaces.items():
            left[name], taken[name] = _split_rows(data, rows, name, generator)
        parts = UnpairedEmbeddings(left, strict_unpaired=False), UnpairedEmbeddings(taken, strict_unpaired=False)
        for part in parts:
            part.checked = self.checked
        return parts


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


def _split_rows(data: Tensor, rows: int, name: str, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """The rows `(n, d)` that are left, and `rows` different ones that are taken, both in random orders."""
    order = torch.randperm(len(data), generator=generator)
    hashes = row_hashes(data)[order]
    values, group = hashes.unique(return_inverse=True)
    first = torch.full((len(values),), len(order)).scatter_reduce_(0, group, torch.arange(len(order)), "amin")
    taken = first.sort().values[:rows]
    left = ~torch.isin(hashes, hashes[taken])
    if len(taken) < rows or not left.any():
        raise ValueError(f"`{name}` has {len(values):,} different rows; {rows:,} cannot be set aside.")
    return data[order[left]], data[order[taken]]


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


__all__ = ["PairedEmbeddings", "UnpairedEmbeddings", "UnpairedSampler"]
