"""A Hub on the loopback interface, for clients that are the unmodified `huggingface_hub` and `transformers`.

It speaks the part of the protocol that sharing a model needs: repositories, branches, tags, pull requests, uploads by git
LFS, commits, listings, downloads with ranges. Contents lie on disk under their SHA-256; a commit maps paths to them.

    with Hub(folder, tokens={"secret": "org"}) as hub:
        ...  # run clients with HF_ENDPOINT=hub.url

`hub.fail` makes requests go wrong, as networks and servers do.
"""

import hashlib
import json
import re
import secrets
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.hub_cards import card_errors, metadata
from helpers.hub_contents import Contents
from helpers.hub_repository import LARGE, Commit, Refusal, Repository
from helpers.hub_uploads import Uploads


class Hub(ThreadingHTTPServer):
    """The server; its state may be looked at and changed by the test that runs it.

    Args:
        folder: where contents are kept.
        tokens: `{token: namespace that it may write to and read private repositories of}`.
    """

    daemon_threads = True

    def __init__(self, folder: Path, tokens: dict[str, str]):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.tokens, self.repositories, self.moved = tokens, {}, {}
        self.part_size: int | None = None  # larger files are uploaded in parts of so many bytes
        self.log: list[str] = []
        self.faults: list[tuple[re.Pattern, int, str | int, dict]] = []
        self.signatures: set[str] = set()
        self.lock = threading.RLock()
        self.contents = folder / "contents"
        self.contents.mkdir(parents=True)

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""

    def forget(self) -> None:
        """As it was at the start, at the same address."""
        self.repositories, self.moved, self.part_size = {}, {}, None
        self.log.clear()
        self.faults.clear()
        for name in [name for name in self.tokens if name != "secret"]:
            del self.tokens[name]

    def fail(self, request: str, fault: str | int, times: int = 1, **headers: str) -> None:
        """Let the next requests whose `METHOD path` matches go wrong.

        By a status; by `"drop"`: half of the request is read, then the line is dead; or by `"cut"`: half is answered.
        """
        self.faults.append((re.compile(request), times, fault, headers))

    def store(self, content: bytes) -> str:
        oid = hashlib.sha256(content).hexdigest()
        partial = self.contents / secrets.token_hex(8)
        partial.write_bytes(content)
        partial.replace(self.contents / oid)
        return oid

    def read(self, repo: str, path: str, revision: str = "main") -> bytes:
        return (self.contents / self.repositories[repo].find(revision).files[path][0]).read_bytes()

    def files(self, repo: str, revision: str = "main") -> set[str]:
        return set(self.repositories[repo].find(revision).files) - {".gitattributes"}

    def history(self, repo: str, revision: str = "main") -> list[str]:
        """Titles of commits, the newest first."""
        repository, titles = self.repositories[repo], []
        commit = repository.find(revision)
        while commit:
            titles.append(commit.title)
            commit = repository.commits.get(commit.parent)
        return titles


class Handler(Contents, Uploads, BaseHTTPRequestHandler):
    """One request: find the route, check the token, answer."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_) -> None:
        pass

    def answer(self) -> None:
        self.unread, self.cut = True, False
        parts = urlsplit(self.path)
        self.query, path = parse_qs(parts.query), parts.path
        self.server.log.append(f"{self.command} {path}")
        try:
            self.go_wrong(f"{self.command} {path}")
            for method, pattern, function in ROUTES:
                if self.command in method and (found := re.fullmatch(pattern, path)):
                    with self.server.lock:
                        return function(self, **{k: v and unquote(v) for k, v in found.groupdict().items()})
            raise Refusal(404, f"no route {self.command} {path}")
        except Refusal as refusal:
            headers = {"X-Error-Message": refusal.message} | ({"X-Error-Code": refusal.code} if refusal.code else {})
            self.send(refusal.body, refusal.status, **headers)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def go_wrong(self, request: str) -> None:
        for i, (pattern, times, fault, headers) in enumerate(self.server.faults):
            if pattern.search(request):
                self.server.faults[i : i + 1] = [(pattern, times - 1, fault, headers)] if times > 1 else []
                if fault == "cut":
                    self.cut = True
                    return
                if fault == "drop":
                    self.rfile.read(int(self.headers.get("Content-Length", 0)) // 2)
                    self.connection.shutdown(socket.SHUT_RDWR)
                else:
                    self.send({"error": "as asked for"}, fault, Connection="close", **headers)
                raise ConnectionAbortedError

    def body(self) -> bytes:
        if not self.unread:
            return b""
        self.unread = False
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        chunks = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def json(self) -> dict:
        return json.loads(self.body() or b"{}")

    def send(self, body: dict | list | bytes, status: int = 200, **headers: str) -> None:
        self.body()  # whatever the client still says, or the next request would begin with it
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in ({"Content-Type": "application/json", "Content-Length": str(len(content))} | headers).items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if self.cut else content)
        if self.cut:
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)
            raise ConnectionAbortedError

    def namespace(self) -> str | None:
        """Whose token came with the request."""
        kind, _, token = self.headers.get("Authorization", "").partition(" ")
        if kind == "Bearer" and token not in self.server.tokens:
            raise Refusal(401, "Invalid credentials in Authorization header")
        return self.server.tokens.get(token)

    def repository(self, repo: str, *, write: bool = False) -> Repository:
        who, repo = self.namespace(), self.server.moved.get(repo, repo)
        found = self.server.repositories.get(repo)
        if found is None or (found.private and who != found.owner):
            raise Refusal(404 if who else 401, "Repository not found", "RepoNotFound")
        if write and who != found.owner:
            raise Refusal(403 if who else 401, "You don't have the rights to write to this repository")
        if found.gated and who != found.owner and "/resolve/" in self.path:
            raise Refusal(403 if who else 401, "Access to this model is restricted", "GatedRepo")
        return found

    def commit_at(self, repository: Repository, revision: str | None) -> Commit:
        if (commit := repository.find(revision or "main")) is None:
            raise Refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return commit

    # -- account and repositories

    def whoami(self) -> None:
        if (name := self.namespace()) is None:
            raise Refusal(401, "Invalid username or password.")
        self.send({"type": "user", "name": name, "fullname": name, "orgs": [], "auth": {"type": "access_token"}})

    def create(self) -> None:
        asked, who = self.json(), self.namespace()
        owner = asked.get("organization") or who
        repo = f"{owner}/{asked['name']}"
        url = {"url": f"{self.server.url}/{repo}", "name": repo}
        if who is None or owner != who:
            raise Refusal(403 if who else 401, f"You don't have the rights to create a model under the namespace {owner!r}")
        if repo in self.server.repositories:
            raise Refusal(409, "You already created this model repo", body=url)
        made = Repository(owner, asked.get("visibility") == "private" or bool(asked.get("private")))
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE).encode()
        first = {".gitattributes": (self.server.store(attributes), len(attributes), False)}
        made.add("refs/heads/main", None, "initial commit", "", who, first)
        self.server.repositories[repo] = made
        self.send(url)

    def delete(self) -> None:
        asked = self.json()
        repo = f"{asked.get('organization') or self.namespace()}/{asked['name']}"
        self.repository(repo, write=True)
        del self.server.repositories[repo]
        self.send({})

    def move(self) -> None:
        asked = self.json()
        found = self.repository(asked["fromRepo"], write=True)
        self.server.repositories[asked["toRepo"]] = found
        self.server.moved[asked["fromRepo"]] = asked["toRepo"]
        del self.server.repositories[asked["fromRepo"]]
        self.send({})

    def settings(self, repo: str) -> None:
        asked = self.json()
        found = self.repository(repo, write=True)
        if "gated" in asked:
            found.gated = bool(asked["gated"])
        if {"private", "visibility"} & asked.keys():
            found.private = asked.get("visibility") == "private" or bool(asked.get("private"))
        self.send({"private": found.private, "gated": found.gated})

    def validate_yaml(self) -> None:
        errors = card_errors(self.json()["content"])
        if errors:
            raise Refusal(400, "Invalid metadata", body={"errors": [{"message": e} for e in errors], "warnings": []})
        self.send({"errors": [], "warnings": []})

    def models(self) -> None:
        who, wanted = self.namespace(), self.query.get("search", self.query.get("author", [""]))[0]
        found = [n for n, r in self.server.repositories.items() if wanted in n and (not r.private or who == r.owner)]
        self.send([{"id": name, "modelId": name, "private": self.server.repositories[name].private} for name in found])

    def info(self, repo: str, revision: str | None = None) -> None:
        repository = self.repository(repo)
        commit = self.commit_at(repository, revision)
        card = {}
        if "README.md" in commit.files:
            card = metadata((self.server.contents / commit.files["README.md"][0]).read_text()) or {}
        name = self.server.moved.get(repo, repo)
        siblings = [{"rfilename": path} for path in sorted(commit.files)]
        about = {"id": name, "modelId": name, "author": repository.owner, "sha": commit.oid, "private": repository.private}
        known = {
            "lastModified": commit.date,
            "gated": repository.gated,
            "disabled": False,
            "siblings": siblings,
            "cardData": card,
        }
        found = {"tags": card.get("tags") or [], "library_name": card.get("library_name")}
        self.send(about | known | found)


REPO, REVISION = r"(?P<repo>[\w.-]+/[\w.-]+)", r"(?P<revision>[^/]+)"
ROUTES = [
    ("GET", "/api/whoami-v2", Handler.whoami),
    ("POST", "/api/repos/create", Handler.create),
    ("DELETE", "/api/repos/delete", Handler.delete),
    ("POST", "/api/repos/move", Handler.move),
    ("POST", "/api/validate-yaml", Handler.validate_yaml),
    ("GET", "/api/models", Handler.models),
    ("GET", f"/api/models/{REPO}", Handler.info),
    ("GET", f"/api/models/{REPO}/revision/{REVISION}", Handler.info),
    ("GET", f"/api/models/{REPO}/tree/{REVISION}(/(?P<folder>.+))?", Handler.tree),
    ("GET", f"/api/models/{REPO}/refs", Handler.references),
    ("GET", f"/api/models/{REPO}/commits/{REVISION}", Handler.commits),
    ("PUT", f"/api/models/{REPO}/settings", Handler.settings),
    ("POST", f"/api/models/{REPO}/paths-info/{REVISION}", Handler.paths_info),
    ("POST", f"/api/models/{REPO}/preupload/{REVISION}", Handler.preupload),
    ("POST", f"/api/models/{REPO}/commit/{REVISION}", Handler.commit),
    ("POST DELETE", f"/api/models/{REPO}/branch/(?P<name>[^/]+)", Handler.branch),
    ("POST DELETE", f"/api/models/{REPO}/tag/(?P<name>[^/]+)", Handler.tag),
    ("POST", f"/{REPO}\\.git/info/lfs/objects/batch", Handler.lfs_batch),
    ("POST", f"/{REPO}\\.git/info/lfs/verify", Handler.lfs_verify),
    ("PUT POST", "/lfs/(?P<oid>[0-9a-f]{64})", Handler.lfs_upload),
    ("GET", "/cdn/(?P<oid>[0-9a-f]{64})", Handler.cdn),
    ("GET HEAD", f"/{REPO}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
]
