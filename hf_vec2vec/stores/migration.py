"""Translate a store that is in use into a new one beside it, which then can take its name."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..bulk.block_translation import BlockTranslator
from ..bulk.processes import Processes
from ..data.staging import locked
from ..deployment.merging import merge
from ..model.checkpoint_vec2vec import weights_sha256
from ..model.modeling_vec2vec import Map, Vec2VecModel
from .addresses import IN_FILES, engine_of, parse_address
from .base import Address, Engine, VectorStore
from .passes import Migrated, Passes, RowTranslator
from .record import COMPLETE, COPYING, SWITCHED, SWITCHING, Record

SHARED = ("qdrant", "chroma")  # engines whose folder one connection holds


@dataclass
class Sample:
    """What a dry run measures.

    Args:
        rows: of the old store.
        old_dim: dimension of its vectors.
        new_dim: of the new ones.
        seconds: that reading and translating all of them would take, by a first block.
    """

    rows: int
    old_dim: int
    new_dim: int
    seconds: float


class Migration:
    """From one store to another.

    Args:
        model: the translator.
        old: address of the store.
        new: address of the one to make.
        source: name of the space that its vectors come from.
        target: name of the space to translate into.
        record: file that says how far it is.
        map: see `Vec2VecModel.translate`.
        normalize: scale translations to length 1.
        invalid_rows: what to do with rows that are zero, NaN, infinite or missing: `stop`, or `skip` them.
        id_column: with the ids, of tables and files.
        progress: show a bar.
    """

    def __init__(
        self,
        model: Vec2VecModel,
        old: str,
        new: str,
        *,
        source: str,
        target: str,
        record: str | Path = "migration.json",
        map: Map = "auto",
        normalize: bool = False,
        invalid_rows: Literal["stop", "skip"] = "stop",
        id_column: str | None = None,
        progress: bool = True,
    ):
        self.old, self.new, self.id_column = parse_address(old, "from"), parse_address(new, "to"), id_column
        if str(self.old) == str(self.new):
            raise ValueError(f"`from` and `to` are both {str(self.old)!r}. Name a new store, column or file.")
        self.path, self.progress, self.normalize = Path(record), progress, normalize
        dims = dict(model.config.embedding_dims or {})
        chosen = model.chosen_map(map, source, target)
        self.space, self.old_dim, self.new_dim, self.invalid_rows = source, dims[source], dims[target], invalid_rows
        self.job: dict[str, Any] = {
            "translator": weights_sha256(model.state_dict()),
            "source": source,
            "target": target,
            "map": chosen,
            "normalize": normalize,
            "invalid_rows": invalid_rows,
            "from": str(self.old),
            "to": str(self.new),
            "id_column": id_column,
        }
        device = Processes().device
        blocks = BlockTranslator(
            network=merge(model, source, target, chosen).to(device),
            warn=lambda rows: model.warn_of_foreign(rows, source),
            dtype="float32",
            device=device,
            batch_size=2048,
            invalid_rows="stop",
        )
        self.rows = RowTranslator(blocks, self.new_dim, invalid_rows, normalize)
        self.engines: dict[Address, Engine] = {}

    def run(self, *, switch: bool = False) -> Migrated:
        """Copy, catch up and compare; then switch, if that is asked for.

        Raises:
            FileNotFoundError, FileExistsError, ConnectionError, OSError: if a store is missing, a name is taken, another run
                is at work, or an engine fails midway. What is in place stays, and the same call goes on from there.
            ValueError: for vectors of another dimension, rows that cannot be translated, or files that have changed.
        """
        with self._opened() as (source, record):
            done = Migrated(record.state, record.rows)
            if source is not None:
                with self._failing(record):
                    target = self._engine(self.new).create(self.new, source, self.old, self.new_dim)
                    self._check_target(target)
                    passes = self._passes(source, target, record)
                    if record.state == COPYING:
                        passes.copy(done)
                    passes.catch_up(done)
                done.notes = self._notes(source, target)
            if (switch and record.state == COMPLETE) or record.state == SWITCHING:
                self._switch(record, done)
            return done

    def rollback(self) -> Migrated:
        """Give the names back: the old vectors are again where they were. Both stores stay.

        Raises:
            FileExistsError, FileNotFoundError: if a name is taken, or the old vectors have another one than the switch gave.
            ValueError: if there was no switch.
        """
        with locked(self.path, argument="record"):
            record = self._known_record()
            if record is None or record.state not in (SWITCHING, SWITCHED):
                raise ValueError(f"`record` {str(self.path)!r} knows of no switch, so that there is nothing to roll back.")
            with self._closing():
                self._engine(self.old).rollback(self.old, self.new, self._resolved(record))
            record.state = COMPLETE
            record.save(self.path)
            return Migrated(COMPLETE, record.rows)

    def measure(self) -> Sample:
        """What would be done. Nothing is written."""
        with self._closing():
            source = self._open_source()
            record = self._known_record()
            if record is None:
                self._check_free()
            began = time.perf_counter()
            rows = next(source.read(None, source.block_rows, payload=True), None)
            if rows is not None:
                self.rows.translate(rows)
            seconds, count = time.perf_counter() - began, source.count()
            return Sample(count, source.dim, self.new_dim, seconds * count / max(1, len(rows or [])))

    def _engine(self, address: Address) -> Engine:
        for known, engine in self.engines.items():
            if known == address or (known.kind in SHARED and (known.kind, known.place) == (address.kind, address.place)):
                return engine
        self.engines[address] = engine_of(address, self.id_column)
        return self.engines[address]

    @contextmanager
    def _closing(self) -> Iterator[None]:
        try:
            yield
        finally:
            for engine in self.engines.values():
                engine.close()
            self.engines.clear()

    def _open_source(self, address: Address | None = None) -> VectorStore:
        source = self._engine(self.old).open(address or self.old)
        if source.dim != self.old_dim:
            raise ValueError(
                f"`from` {source.shown!r} has vectors of dimension {source.dim}, but the space {self.space!r} has dimension "
                f"{self.old_dim}."
            )
        return source

    @contextmanager
    def _opened(self) -> Iterator[tuple[VectorStore | None, Record]]:
        """The old store, unless its name leads to the new one; and the record, which is begun if there is none."""
        with ExitStack() as stack:
            stack.enter_context(self._closing())
            record = self._known_record()  # a wrong one is told before anything is locked or connected to
            stack.enter_context(locked(self.path, argument="record"))
            record = self._known_record()
            if record is not None and record.state in (SWITCHING, SWITCHED):
                yield None, record
                return
            known = self.old if record is None else replace(self.old, vector=record.resolved["vector"])
            resolved = self._engine(self.old).resolve(known)
            if record is not None and resolved != self._resolved(record):
                raise ValueError(
                    f"`from` {str(self.old)!r} led to {record.resolved['name']!r} when the migration began, and leads to "
                    f"{resolved.name!r} now. Point it back, or begin anew with another `record`."
                )
            source = self._open_source(resolved)
            if record is None:
                self._check_free()
                where = {"name": resolved.name, "vector": resolved.vector}
                record = Record(self.job | {"fingerprint": source.fingerprint()}, where)
                record.save(self.path)
            elif record.job.get("fingerprint") != source.fingerprint():
                raise ValueError(
                    f"`from` {source.shown!r} has changed since the migration began. Remove {str(self.path)!r} and what "
                    f"there is of {str(self.new)!r}, and start again."
                )
            yield source, record

    def _known_record(self) -> Record | None:
        record = Record.load(self.path)
        if record is not None:
            record.check(self.job, self.path)
        return record

    def _check_free(self) -> None:
        if found := self._engine(self.new).taken(self.new):
            raise FileExistsError(
                f"`to` is {str(self.new)!r}, but {found!r} is there already, and {str(self.path)!r} does not say that this "
                "migration made it. It is kept. Choose another name."
            )

    def _check_target(self, target: VectorStore) -> None:
        if target.dim not in (0, self.new_dim):
            raise ValueError(f"`to` {target.shown!r} has vectors of dimension {target.dim}, not {self.new_dim}.")

    @contextmanager
    def _failing(self, record: Record) -> Iterator[None]:
        """What an engine fails of is no fault of ours, and no reason to begin again."""
        try:
            yield
        except (ImportError, FileExistsError, FileNotFoundError, ConnectionError):
            raise
        except (ValueError, TypeError) as error:
            if "`" in str(error):
                raise
            raise self._stopped(error, record) from error
        except Exception as error:
            raise self._stopped(error, record) from error

    def _stopped(self, error: Exception, record: Record) -> OSError:
        said = " ".join(str(error).split())
        return OSError(
            f"The migration stopped: {type(error).__name__}: {said}. The {record.rows:,} rows that are in place stay, and "
            "the same command goes on from there."
        )

    def _passes(self, source: VectorStore, target: VectorStore, record: Record) -> Passes:
        parallel = all(engine.parallel for engine in self.engines.values())
        return Passes(source, target, self.rows, record, lambda: record.save(self.path), parallel, self.progress)

    def _notes(self, source: VectorStore, target: VectorStore) -> list[str]:
        notes = target.notes(source)
        if target.inner_product and not self.normalize:
            notes.append(
                "The new store compares by inner product, and translations have many lengths. Unless that is wanted, begin "
                "again with `normalize`."
            )
        return notes

    def _switch(self, record: Record, done: Migrated) -> None:
        """Exchange the names, then add what was written to the old vectors just before."""
        if self.old.kind != self.new.kind or (self.old.place != self.new.place and self.old.kind not in IN_FILES):
            raise ValueError(
                f"`to` {str(self.new)!r} lies in another place than `from`, so that no name can lead to it. It is "
                "complete: let your application ask there."
            )
        engine = self._engine(self.old)
        resolved = self._resolved(record)
        engine.check_switch(self.old, self.new, resolved)
        with self._failing(record):
            record.state = SWITCHING
            record.save(self.path)
            before, now = engine.switch(self.old, self.new, resolved)
            source, target = self._open_source(before), engine.open(now)
            target.inside = before.kind == "pgvector"
            done.late = self._passes(source, target, record).add_late() if source.live else 0
        done.rows, record.state, done.state = target.count(), SWITCHED, SWITCHED
        record.save(self.path)

    def _resolved(self, record: Record) -> Address:
        return replace(self.old, **record.resolved)


__all__ = ["Migration", "Sample"]
