"""How far a migration is: a small file that is written after every block of rows that is in place."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..data.json_files import read_object
from ..data.staging import staged_file
from ..version import __version__

FORMAT = 1
COPYING, COPIED, COMPLETE, SWITCHING, SWITCHED = "copying", "copied", "complete", "switching", "switched"


@dataclass
class Record:
    """State of a migration.

    Args:
        job: what is translated by what into what; JSON.
        resolved: `name` and `vector` that the old vectors' address led to when the migration began.
        state: `copying`, `copied` (not yet compared), `complete`, `switching` or `switched`.
        cursor: behind the last row that is in place; see `VectorStore.read`.
        rows: that are in place.
        skipped: rows that had no vector to translate.
        seconds: that copying them took.
        verified: what the last comparison found.
    """

    job: dict[str, Any]
    resolved: dict[str, str]
    state: str = COPYING
    cursor: Any = None
    rows: int = 0
    skipped: int = 0
    seconds: float = 0.0
    verified: dict[str, Any] = field(default_factory=dict)

    def save(self, path: Path) -> None:
        """Write it, whole."""
        content = {"format_version": FORMAT, "hf_vec2vec": __version__, **asdict(self)}
        with staged_file(path) as partial:
            partial.write_text(json.dumps(content, indent=2), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Record | None":
        """That of an earlier run, if there is one.

        Raises:
            ValueError: if it is damaged, or a newer version wrote it.
        """
        if not path.exists():
            return None
        content = read_object(path)
        if content.pop("format_version", None) != FORMAT:
            raise ValueError(f"`record` {str(path)!r} is no record of a migration, or one of a newer version of hf_vec2vec.")
        content.pop("hf_vec2vec", None)
        try:
            return cls(**content)
        except TypeError as error:
            raise ValueError(f"`record` {str(path)!r} is damaged: {error}.") from error

    def check(self, job: dict[str, Any], path: Path) -> None:
        """Raise FileExistsError if this is the record of another job."""
        now = json.loads(json.dumps(job))
        different = [
            f"{name} was {self.job.get(name)!r}, is {now.get(name)!r}" for name in now if self.job.get(name) != now[name]
        ]
        if different:
            raise FileExistsError(
                f"`record` {str(path)!r} is of another migration: {'; '.join(different)}. Name another file for this one."
            )


__all__ = ["COMPLETE", "COPIED", "COPYING", "SWITCHED", "SWITCHING", "Record"]
