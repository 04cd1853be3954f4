"""What the Hub of the tests tells of a repository's contents: listings, history, references, downloads."""

import hashlib
import json
import re
import secrets
from urllib.parse import parse_qs

from helpers.hub_repository import Commit, Refusal


class Contents:
    """Mixin of the handler of requests."""

    def entries(self, commit: Commit, folder: str, recursive: bool) -> list[dict]:
        prefix, found = f"{folder}/" if folder else "", {}
        for path, (oid, size, large) in sorted(commit.files.items()):
            if path.startswith(prefix):
                inner = path[len(prefix) :].split("/")
                for depth in range(1, len(inner) if recursive else min(len(inner), 2)):
                    name = prefix + "/".join(inner[:depth])
                    found[name] = {
                        "type": "directory",
                        "path": name,
                        "size": 0,
                        "oid": hashlib.sha1(name.encode()).hexdigest(),
                    }
                if recursive or len(inner) == 1:
                    found[path] = self.entry(path, oid, size, large)
        return list(found.values())

    def entry(self, path: str, oid: str, size: int, large: bool) -> dict:
        entry = {"type": "file", "path": path, "size": size, "oid": self.git_oid(oid, large)}
        return entry | ({"lfs": {"oid": oid, "size": size, "pointerSize": 134}} if large else {})

    def git_oid(self, oid: str, large: bool) -> str:
        content = oid.encode() if large else (self.server.contents / oid).read_bytes()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def tree(self, repo: str, revision: str, folder: str | None = None) -> None:
        commit = self.commit_at(self.repository(repo), revision)
        entries = self.entries(commit, folder or "", self.query.get("recursive", [""])[0].lower() == "true")
        if folder and not entries:
            raise Refusal(404, f"{folder} does not exist", "EntryNotFound")
        self.send(entries)

    def paths_info(self, repo: str, revision: str) -> None:
        commit, body = self.commit_at(self.repository(repo), revision), self.body()
        paths = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
        self.send([self.entry(path, *commit.files[path]) for path in paths if path in commit.files])

    def commits(self, repo: str, revision: str) -> None:
        repository, listed = self.repository(repo), []
        commit = self.commit_at(repository, revision)
        while commit:
            author = [{"user": commit.author}]
            item = {"id": commit.oid, "title": commit.title, "message": commit.message, "authors": author}
            listed.append(item | {"date": commit.date})
            commit = repository.commits.get(commit.parent)
        self.send(listed)

    def references(self, repo: str) -> None:
        kinds = {"branches": "refs/heads/", "tags": "refs/tags/", "pullRequests": "refs/pr/", "converts": "refs/convert/"}
        refs = self.repository(repo).refs.items()
        self.send(
            {
                kind: [{"name": ref.removeprefix(prefix), "ref": ref, "targetCommit": oid} for ref, oid in refs
                       if ref.startswith(prefix)]
                for kind, prefix in kinds.items()
            }
        )  # fmt: skip

    def branch(self, repo: str, name: str) -> None:
        self.reference(repo, f"refs/heads/{name}", self.json().get("startingPoint") if self.command == "POST" else None)

    def tag(self, repo: str, name: str) -> None:
        asked = self.json()
        self.reference(repo, f"refs/tags/{asked.get('tag', name)}", name)

    def reference(self, repo: str, ref: str, start: str | None) -> None:
        repository = self.repository(repo, write=True)
        if self.command == "DELETE":
            if repository.refs.pop(ref, None) is None:
                raise Refusal(404, f"{ref} does not exist", "RevisionNotFound")
        elif ref in repository.refs:
            raise Refusal(409, f"Reference already exists: {ref}")
        else:
            repository.refs[ref] = self.commit_at(repository, start).oid
        self.send({})

    def resolve(self, repo: str, revision: str, path: str) -> None:
        commit = self.commit_at(self.repository(repo), revision)
        if path not in commit.files:
            raise Refusal(404, "Entry not found", "EntryNotFound")
        oid, size, large = commit.files[path]
        etag = f'"{oid if large else self.git_oid(oid, large)}"'
        headers = {"X-Repo-Commit": commit.oid}
        if not large:
            return self.content(oid, **headers, ETag=etag)
        # Large files lie with another host, which gets no token: the address is signed.
        signature = secrets.token_hex(8)
        self.server.signatures.add(f"{oid}:{signature}")
        place = f"{self.server.url.replace('127.0.0.1', 'localhost')}/cdn/{oid}?signature={signature}"
        headers |= {"X-Linked-ETag": etag, "X-Linked-Size": str(size), "Location": place}
        return self.send(b"", 302, **headers)

    def cdn(self, oid: str) -> None:
        if f"{oid}:{self.query.get('signature', [''])[0]}" not in self.server.signatures or "Authorization" in self.headers:
            raise Refusal(403, "the address is not signed, or a token came with it")
        self.content(oid, ETag=f'"{oid[:32]}"')

    def content(self, oid: str, **headers: str) -> None:
        content = (self.server.contents / oid).read_bytes()
        headers |= {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream"}
        if wanted := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, end = int(wanted[1]), min(int(wanted[2] or len(content) - 1), len(content) - 1)
            if start >= len(content):
                return self.send(b"", 416, **{"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{end}/{len(content)}"
            return self.send(content[start : end + 1], 206, **headers)
        return self.send(content, **headers)
