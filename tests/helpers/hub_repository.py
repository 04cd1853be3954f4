"""A repository of the loopback Hub: commits, and names that point to them."""

import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".npy", ".parquet", ".arrow")  # go through LFS


class Refusal(Exception):
    """An error that the client is told: status, code in `X-Error-Code`, words."""

    def __init__(self, status: int, message: str, code: str | None = None, body: dict | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.body = status, message, code, body or {"error": message}


@dataclass
class Commit:
    """A state of a repository: `{path: (sha256, size, through LFS)}`, and the commit before it."""

    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    files: dict[str, tuple[str, int, bool]]


@dataclass
class Repository:
    """Commits, and the names that point to them: `refs/heads/main`, `refs/tags/v1`, `refs/pr/1`."""

    owner: str
    private: bool
    gated: bool = False
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)

    def find(self, revision: str) -> Commit | None:
        names = (f"refs/heads/{revision}", f"refs/tags/{revision}", revision)
        oid = next((self.refs[name] for name in names if name in self.refs), revision)
        return self.commits.get(oid)

    def add(self, ref: str, parent: Commit | None, title: str, message: str, author: str, files: dict) -> Commit:
        date = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        before = parent.oid if parent else None
        oid = hashlib.sha1(json.dumps([before, title, message, author, date, files]).encode()).hexdigest()
        self.commits[oid] = Commit(oid, before, title, message, author, date, files)
        self.refs[ref] = oid
        return self.commits[oid]
