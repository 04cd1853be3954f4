"""Whether a new store holds what the old one says: row by row, without pairs of texts."""

import json
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xxhash

from .base import Found, Id, Rows, VectorStore

SAMPLE, ASKED, NEIGHBOURS = 2000, 200, 10
CANONICAL = json.JSONEncoder(sort_keys=True, default=repr)


@dataclass
class Comparison:
    """What a pass over both stores has found.

    Args:
        rows: of the old store that have a vector to translate.
        skipped: rows of it that have none.
        missing: rows that the new store lacked.
        changed: rows that were other ones there.
        deleted: rows there that the old store does not have any more, or not with a vector.
        example: what differs in one of the rows that were other ones.
        checksum: of ids and payload, in the order of the old store.
    """

    rows: int = 0
    skipped: int = 0
    missing: int = 0
    changed: int = 0
    deleted: int = 0
    example: str = ""
    checksum: Any = field(default_factory=xxhash.xxh3_128)

    @property
    def clean(self) -> bool:
        """Whether both stores agreed."""
        return not (self.missing or self.changed or self.deleted)

    def tell_apart(self, rows: Rows, found: dict[Id, Found], target: VectorStore) -> tuple[list[int], list[int]]:
        """Numbers of the rows that are missing, and of those that differ.

        Args:
            rows: as they should be.
            found: what the new store holds of them.
            target: the new store.
        """
        self.rows += len(rows)
        missing = [k for k, id in enumerate(rows.ids) if id not in found or found[id].vector is None]
        lost = set(missing)
        there = [k for k in range(len(rows)) if k not in lost]
        differ: set[int] = set()
        if there:
            stored = np.stack([found[rows.ids[k]].vector for k in there])  # type: ignore[misc]
            close = same_vectors(rows.vectors[there], stored, target)
            differ = {k for k, same in zip(there, close) if not same}
        for k, id in enumerate(rows.ids):
            payload = None if rows.payload is None else target.kept(rows.payload[k])
            text = _canonical(id, payload)
            self.checksum.update(text)
            if payload is not None and k not in lost and _canonical(id, found[id].payload) != text:
                differ.add(k)
                self.example = self.example or _difference(id, payload, found[id].payload)
        if differ and not self.example:
            self.example = f"row {rows.ids[min(differ)]!r} has another vector"
        self.missing += len(missing)
        self.changed += len(differ)
        return missing, sorted(differ)


def same_vectors(wanted: np.ndarray, stored: np.ndarray, target: VectorStore) -> np.ndarray:
    """Which rows are equal, to what the engine keeps of a number."""
    if target.unit:
        wanted, stored = unit(wanted), unit(stored)
    largest = np.abs(wanted).max(1)
    return np.abs(wanted - stored).max(1) <= target.tolerance * np.maximum(largest, np.finfo("f4").tiny)


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows scaled to length 1."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo("f4").tiny)


def _canonical(id: Id, payload: Any) -> bytes:
    return CANONICAL.encode([id, payload]).encode()


def _difference(id: Id, wanted: dict, stored: dict) -> str:
    name = next(
        name
        for name in {**wanted, **stored}
        if (name in wanted) != (name in stored) or _canonical("", wanted[name]) != _canonical("", stored[name])
    )
    there, here = (reprlib.repr(payload[name]) if name in payload else "missing" for payload in (wanted, stored))
    return f"of row {id!r}, {name!r} is {there} in `from`, {here} in `to`"


class SeenIds:
    """Ids that a pass has seen, as numbers of eight bytes, to tell which of them it saw twice."""

    def __init__(self) -> None:
        self.blocks: list[np.ndarray] = []

    def add(self, ids: Sequence[Id]) -> None:
        """Those of a block."""
        self.blocks.append(self._numbers(ids))

    def twice(self) -> np.ndarray:
        """The numbers that were seen more than once."""
        numbers = np.sort(np.concatenate([np.zeros(0, "u8"), *self.blocks]))
        return np.unique(numbers[1:][numbers[1:] == numbers[:-1]])

    def among(self, ids: Sequence[Id], numbers: np.ndarray) -> list[Id]:
        """Those of a block's ids that have one of the numbers."""
        return [ids[k] for k in np.isin(self._numbers(ids), numbers).nonzero()[0].tolist()]

    @staticmethod
    def _numbers(ids: Sequence[Id]) -> np.ndarray:
        # Whole numbers stand for themselves: Python's hash of -1 is that of -2.
        return np.array([(id if isinstance(id, int) else hash(id)) % 2**64 for id in ids], "u8")


class NeighbourSample:
    """A random sample of rows before and after, for the share of neighbours that stay neighbours."""

    def __init__(self) -> None:
        self.draw, self.seen = np.random.default_rng(0), 0
        self.before: list[np.ndarray] = []
        self.after: list[np.ndarray] = []

    def take(self, before: np.ndarray, after: np.ndarray) -> None:
        """Rows of a block, each with the same chance in the end."""
        places = self.draw.integers(0, self.seen + 1 + np.arange(len(before)))
        for old, new, place in zip(before, after, places.tolist()):
            if len(self.before) < SAMPLE:
                self.before.append(old)
                self.after.append(new)
            elif place < SAMPLE:
                self.before[place], self.after[place] = old, new
        self.seen += len(before)

    def kept(self) -> dict[str, float]:
        """Mean share of the ten nearest rows, by centred cosine, that are among the ten nearest afterwards, too."""
        if len(self.before) <= NEIGHBOURS + 1:
            return {}
        nearest = [self._nearest(np.stack(rows)) for rows in (self.before, self.after)]
        shared = [len(set(a) & set(b)) / NEIGHBOURS for a, b in zip(*nearest)]
        chance = NEIGHBOURS / (len(self.before) - 1)
        return {"kept": float(np.mean(shared)), "by_chance": chance, "asked": len(shared), "among": len(self.before)}

    @staticmethod
    def _nearest(rows: np.ndarray) -> list[list[int]]:
        rows = unit(rows - rows.mean(0))
        likeness = rows[:ASKED] @ rows.T
        likeness[np.arange(len(likeness)), np.arange(len(likeness))] = -np.inf
        return np.argpartition(-likeness, NEIGHBOURS, axis=1)[:, :NEIGHBOURS].tolist()


__all__ = ["Comparison", "NeighbourSample", "SeenIds", "same_vectors", "unit"]
