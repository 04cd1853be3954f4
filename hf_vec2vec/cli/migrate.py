"""`migrate`: a store that is in use into a new one beside it, by way of a translator."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from .checks import check_file, check_verdict
from .dry_run import DryRunFlags, Plan
from .flags import TranslatorFlags, flag

if TYPE_CHECKING:
    from ..model.modeling_vec2vec import Vec2VecModel
    from ..stores import Migrated, Migration

SYNOPSIS = "DIR --from URL --to URL --source NAME [--target NAME] [--switch | --rollback | --dry_run] [flags]"
# Beside reading and translating, which a dry run measures, rows are written, read again and compared.
LEAST, MOST = 2, 8


@dataclass(kw_only=True)
class MigrateFlags(TranslatorFlags, DryRunFlags):
    """Which store, and where to."""

    title: ClassVar[str] = "flags"

    from_: str = flag("The store: KIND:PLACE#NAME. Kinds: pgvector, qdrant, lancedb, chroma, faiss, parquet.")
    to: str = flag("The new one, which must not be there; of pgvector a new column: pgvector:postgresql://...#TABLE/COLUMN.")
    source: str | None = flag("Space that the vectors come from; with two spaces, this or `target` is enough.", None)
    target: str | None = flag("Space to translate into.", None)
    record: str = flag("File that says how far the migration is.", "migration.json")
    map: Literal["auto", "linear", "full"] = flag("Which of the translator's two maps; auto: full.", "auto")
    normalize: bool = flag("Scale translations to length 1, for search by inner product.", False)
    invalid_rows: Literal["stop", "skip"] = flag("Rows without a vector, or zero, NaN or infinite ones.", "stop")
    id_column: str | None = flag("Column with the ids, of tables and files; default: `id`.", None)
    allow_not_aligned: bool = flag("Use a translator whose alignment's verdict is 'not aligned'.", False)
    switch: bool = flag("Catch up once more, then give the name of the old vectors to the new ones.", False)
    rollback: bool = flag("Give the names back.", False)

    def __post_init__(self) -> None:
        if self.switch + self.rollback + self.dry_run > 1:
            raise ValueError("`switch`, `rollback` and `dry_run` exclude each other; give one of them.")

    def after_interrupt(self) -> str:
        """Rows that are in place are in the record."""
        return f"The rows that are in place stay ({self.record} counts them); the same command goes on from there."


def run(flags: MigrateFlags) -> None:
    """Translate a store that is in use: ids, payload and order are kept, the old vectors stay. Run it again to go on."""
    flags.check_folder()
    check_file("record", flags.record)
    from ..stores import Migration
    from ..training.start import load_translator

    model = load_translator(flags.folder)
    source, target = _direction(flags, model)
    verdict = check_verdict(flags.folder, allowed=flags.allow_not_aligned or flags.rollback)
    migration = Migration(
        model,
        flags.from_,
        flags.to,
        source=source,
        target=target,
        record=flags.record,
        map=flags.map,
        normalize=flags.normalize,
        invalid_rows=flags.invalid_rows,
        id_column=flags.id_column,
        progress=flags.progress,
    )
    if flags.dry_run:
        print(_plan(migration))
    elif flags.rollback:
        migration.rollback()
        print(f"Rolled back: {migration.old} has the old vectors again. The new ones are kept in {migration.new}.")
    else:
        print(_report(migration.run(switch=flags.switch), migration, verdict))


def _direction(flags: MigrateFlags, model: "Vec2VecModel") -> tuple[str, str]:
    """Both spaces, as given or as the only ones that can be meant."""
    spaces = list(model.config.embedding_dims or {})
    for argument, given in (("source", flags.source), ("target", flags.target)):
        if given is not None and given not in spaces:
            raise ValueError(f"`{argument}` is {given!r}; the translator has the spaces {', '.join(spaces)}.")
    if flags.source and flags.target:
        if flags.source == flags.target:
            raise ValueError(f"`source` and `target` are both {flags.source!r}; name two spaces of the translator.")
        return flags.source, flags.target
    if len(spaces) != 2 or not (flags.source or flags.target):
        raise ValueError(f"`source` and `target` must be given; the translator has the spaces {', '.join(spaces)}.")
    (other,) = [space for space in spaces if space not in (flags.source, flags.target)]
    return flags.source or other, flags.target or other


def _plan(migration: "Migration") -> Plan:
    found = migration.measure()
    read = f"{migration.old}: {found.rows:,} vectors of dimension {found.old_dim}"
    written = {str(migration.new): 4.0 * found.rows * found.new_dim}
    notes = [
        "Reading and translating were measured on a first block; writing and comparing depend on the engine.",
        "Bytes are those of the vectors; an engine's index comes on top.",
    ]
    return Plan([read], written, (LEAST * found.seconds, MOST * found.seconds), notes)


def _report(done: "Migrated", migration: "Migration", verdict: str | None) -> str:
    lines = []
    if done.copied:
        lines.append(f"{done.copied:,} rows copied, {done.copied / max(done.seconds, 1e-9):,.0f} a second.")
    if done.skipped:
        lines.append(f"{done.skipped:,} rows have no vector that can be translated, and were left out.")
    if done.caught_up:
        lines.append(f"{done.caught_up:,} rows had been written meanwhile, and were caught up.")
    if done.late:
        lines.append(f"{done.late:,} rows had been written just before the switch, and were added.")
    if done.checksum:
        lines.append(
            f"{done.rows:,} rows in both stores. Ids and payload agree: {done.checksum}. Vectors are the translations."
        )
    if done.neighbours:
        lines.append(
            f"Of the ten nearest rows among {done.neighbours['among']:,}, {done.neighbours['kept']:.0%} stay the nearest "
            f"(by chance {done.neighbours['by_chance']:.1%})."
        )
    lines.append(f"Verdict on the translator's alignment: {verdict or 'none is known'}.")
    lines += done.notes
    if done.state == "switched":
        lines.append(f"Switched: {migration.old} has the new vectors. --rollback gives the name back.")
    else:
        lines.append(
            f"Complete: {migration.new}. {migration.old} is as it was; --switch lets its name lead to the new vectors."
        )
    return "\n".join(lines)
