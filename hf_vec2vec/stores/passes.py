"""Passes over a store: copy its rows translated, compare both stores and catch up, add what came late."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch

from ..bulk.block_translation import BlockTranslator
from ..bulk.threads import read_ahead
from ..data.blocks import Block
from ..data.progress import progress_bar
from ..data.validity import invalid_mask
from .base import Found, Id, Rows, VectorStore
from .comparison import Comparison, NeighbourSample, SeenIds, unit
from .record import COMPLETE, COPIED, COPYING, Record

PASSES = 5  # over a store that is written to meanwhile, before it is said that they do not end


@dataclass
class Migrated:
    """What a run has done.

    Args:
        state: of the migration; see `Record`.
        rows: of the new store.
        copied: rows that this run has copied.
        seconds: that copying them took.
        skipped: rows that have no vector to translate.
        caught_up: rows that were added, changed or deleted in the old store meanwhile.
        late: rows that were written to the old store just before the switch, and added after it.
        checksum: of ids and payload, equal in both stores.
        neighbours: share of a sample's neighbours that are kept; see `NeighbourSample.kept`.
        notes: what else to know.
    """

    state: str = COPYING
    rows: int = 0
    copied: int = 0
    seconds: float = 0.0
    skipped: int = 0
    caught_up: int = 0
    late: int = 0
    checksum: str = ""
    neighbours: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass
class RowTranslator:
    """Rows of the old store to rows of the new one.

    Args:
        translator: of blocks.
        dim: of translations.
        invalid_rows: `stop` at rows without a vector that can be translated, or `skip` them.
        normalize: scale translations to length 1.
    """

    translator: BlockTranslator
    dim: int
    invalid_rows: Literal["stop", "skip"]
    normalize: bool

    def translate(self, rows: Rows) -> tuple[Rows, Rows]:
        """The rows that have a vector to translate, and the same with their translations."""
        if len(set(rows.ids)) < len(rows.ids):
            raise stand_twice("`from`", {id for id, count in Counter(rows.ids).items() if count > 1})
        vectors = torch.from_numpy(np.ascontiguousarray(rows.vectors))
        mask = invalid_mask(vectors) if self.invalid_rows == "skip" else None
        if mask is not None:
            rows = rows.only((~mask).nonzero().flatten().tolist())
            vectors = torch.from_numpy(np.ascontiguousarray(rows.vectors))
        if not len(rows):
            return rows, rows.replaced(np.zeros((0, self.dim), "f4"))
        ids = rows.ids
        block = self.translator.translate(
            Block(vectors, 0), torch.empty(len(ids), self.dim), lambda k: f"`from`, the row with id {ids[k]!r}"
        )
        made = block.values.rows.numpy()
        return rows, rows.replaced(unit(made) if self.normalize else made)


@dataclass
class Passes:
    """Passes over the old store.

    Args:
        source: the old store.
        target: the new one.
        rows: translates rows.
        record: how far the migration is.
        save: writes the record.
        parallel: whether a thread may read ahead.
        progress: show bars.
    """

    source: VectorStore
    target: VectorStore
    rows: RowTranslator
    record: Record
    save: Callable[[], None]
    parallel: bool
    progress: bool

    def _blocks(self, cursor: Any, title: str) -> Iterator[tuple[Rows, Rows, Rows]]:
        """Blocks behind a cursor: all rows, those that can be translated, and their translations."""
        files = max(self.source.block_rows, self.target.block_rows)
        number = self.target.block_rows if self.target.live else files  # a live one may have a limit
        read = self.source.read(cursor, number, payload=not self.target.inside)
        made: Iterator[tuple[Rows, Rows, Rows]] = ((block, *self.rows.translate(block)) for block in read)
        with ExitStack() as stack:
            if self.parallel:  # one core multiplies while another one writes
                made = stack.enter_context(read_ahead(made))
            rows = self.source.count()
            bar = progress_bar(total=rows, unit=" rows", unit_scale=True, desc=title, shown=self.progress)
            stack.enter_context(bar)
            for block, valid, translated in made:
                yield block, valid, translated
                bar.update(len(block))

    def copy(self, done: Migrated) -> None:
        """Rows from where an earlier run was. Its last block may be there without a mark in the record."""
        began, perhaps_there, record = time.perf_counter(), True, self.record
        earlier = record.seconds
        for block, _, rows in self._blocks(record.cursor, "copy"):
            if len(rows) < len(block) and self.target.numbered:
                raise ValueError(
                    f"`from` {self.source.shown!r}: a row among the {len(block):,} from number {record.rows:,} on has no "
                    "vector that can be translated, and rows have no ids but their numbers, which would shift. Mend the "
                    "row, or give the rows ids in a column, and name it as `id_column`."
                )
            rows.first, new = record.rows, rows
            if perhaps_there and len(rows):
                there = self.target.find(rows.ids, rows.first)
                new = rows.only([k for k, id in enumerate(rows.ids) if id not in there or there[id].vector is None])
                perhaps_there = len(new) < len(rows)
            if len(new):
                self.target.add(new)
            record.cursor, record.rows = block.cursor, record.rows + len(rows)
            record.skipped += len(block) - len(rows)
            record.seconds = earlier + time.perf_counter() - began
            done.copied += len(rows)
            self.save()
        self.target.finish()
        record.state = COPIED
        record.seconds = earlier + time.perf_counter() - began
        self.save()
        done.seconds += time.perf_counter() - began

    def catch_up(self, done: Migrated) -> None:
        """Compare row by row, and put right what has changed, until both agree."""
        source, target, record = self.source, self.target, self.record
        for passed in range(PASSES):
            found, sample, seen = Comparison(), NeighbourSample(), SeenIds()
            for block, old, rows in self._blocks(None, "compare"):
                if not (source.unique or source.numbered):
                    seen.add(block.ids)
                rows.first = found.rows
                found.skipped += len(block) - len(rows)
                if not len(rows):
                    continue
                missing, changed = found.tell_apart(rows, target.find(rows.ids, rows.first), target)
                for numbers, put in ((missing, target.add), (changed, target.replace)):
                    if numbers:
                        put(rows.only(numbers))
                sample.take(old.vectors, rows.vectors)
            if found.missing:
                target.finish()  # of files: somebody may have deleted what was whole
            if target.count() > found.rows:
                found.deleted = self._delete_gone()
            done.caught_up += found.missing + found.changed + found.deleted
            if found.clean:
                break
            if passed and found.changed and not source.live:  # they were put right by the pass before
                self._check_rows(found, seen)
                raise ValueError(
                    f"`to` {target.shown!r} does not keep {found.changed:,} rows as `from` has them: {found.example}. "
                    "Change such values, or choose another kind of store; or let nobody else write to this one."
                )
        else:
            example = f" ({found.example})" if found.example else ""
            raise OSError(
                f"`from` {source.shown!r} changes faster than its rows can be compared: {PASSES} passes, and the last one "
                f"still found {found.missing:,} new, {found.changed:,} changed and {found.deleted:,} deleted rows{example}. "
                "Start again when less is written; the rows that are in place stay."
            )
        self._check_rows(found, seen)
        done.state, done.rows, done.skipped = COMPLETE, found.rows, found.skipped
        done.checksum, done.neighbours = found.checksum.hexdigest(), sample.kept()
        record.state, record.rows, record.skipped = COMPLETE, found.rows, found.skipped
        record.verified = {"rows": found.rows, "checksum": done.checksum, "neighbours": done.neighbours}
        self.save()

    def _check_rows(self, found: Comparison, seen: SeenIds) -> None:
        if len(numbers := seen.twice()):  # a new store that takes any id, as the old one does, would hold both rows
            read = self.source.read(None, self.source.block_rows, payload=False)
            raise stand_twice(f"`from` {self.source.shown!r}", {id for rows in read for id in seen.among(rows.ids, numbers)})
        if not self.target.inside and (stored := self.target.count()) != found.rows:
            raise ValueError(
                f"`to` {self.target.shown!r} holds {stored:,} rows, and `from` {found.rows:,} that can be translated: ids "
                "stand there twice, or somebody else writes to it."
            )

    def _delete_gone(self) -> int:
        """Delete rows of the new store that the old one does not have any more, or that have no vector there any more."""
        gone = []
        for rows in self.target.read(None, self.target.block_rows, payload=False):
            there = self.source.find(rows.ids, rows.first)
            gone += [id for id in rows.ids if id not in there or _is_invalid(there[id])]
        for first in range(0, len(gone), self.target.block_rows):
            self.target.delete(gone[first : first + self.target.block_rows])
        return len(gone)

    def add_late(self) -> int:
        """Add rows that the new store does not have, and touch no other."""
        added = 0
        for _, _, rows in self._blocks(None, "after the switch"):
            there = self.target.find(rows.ids, 0) if len(rows) else {}
            late = [k for k, id in enumerate(rows.ids) if id not in there or there[id].vector is None]
            if late:
                self.target.add(rows.only(late))
            added += len(late)
        return added


def stand_twice(place: str, ids: Collection[Id]) -> ValueError:
    """The error of ids by which rows cannot be told apart."""
    return ValueError(
        f"{place}: {len(ids):,} ids stand there twice, such as {min(ids)!r}. Mend them, or name a column whose values all "
        "differ as `id_column`."
    )


def _is_invalid(found: Found) -> bool:
    return found.vector is None or invalid_mask(torch.from_numpy(found.vector[None])) is not None


__all__ = ["Migrated", "Passes", "RowTranslator"]
