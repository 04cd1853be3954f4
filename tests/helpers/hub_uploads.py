"""How contents come to the Hub of the tests: git LFS, in parts or whole, and commits."""

import base64
import hashlib
import json
import re
import secrets

from helpers.hub_repository import LARGE, Refusal

SAFE_PATH = re.compile(r"(?!.*(^|/)\.\.?(/|$))(?!/)[^\0\\]+")


class Uploads:
    """Mixin of the handler of requests."""

    def preupload(self, repo: str, revision: str) -> None:
        repository = self.repository(repo, write=True)
        commit = self.commit_at(repository, revision)
        files = []
        for file in self.json()["files"]:
            large = file["path"].endswith(LARGE) or file["size"] > 10_000_000
            known = commit.files.get(file["path"])
            oid = known and (known[0] if known[2] else self.git_oid(known[0], False))
            mode = "lfs" if large else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.send({"files": files, "commitOid": commit.oid})

    def lfs_batch(self, repo: str) -> None:
        self.repository(repo, write=True)
        objects = []
        for asked in self.json()["objects"]:
            if not (self.server.contents / asked["oid"]).exists():
                signature = secrets.token_hex(8)
                self.server.signatures.add(f"{asked['oid']}:{signature}")
                upload = {"href": f"{self.server.url}/lfs/{asked['oid']}?signature={signature}"}
                if self.server.part_size and asked["size"] > self.server.part_size:
                    count = -(-asked["size"] // self.server.part_size)
                    parts = {str(i): f"{upload['href']}&part={i}" for i in range(1, count + 1)}
                    upload["header"] = {"chunk_size": str(self.server.part_size), **parts}
                verify = {"href": f"{self.server.url}/{repo}.git/info/lfs/verify"}
                asked = asked | {"authenticated": True, "actions": {"upload": upload, "verify": verify}}
            objects.append(asked)
        self.send({"transfer": "basic", "objects": objects})

    def lfs_upload(self, oid: str) -> None:
        if f"{oid}:{self.query.get('signature', [''])[0]}" not in self.server.signatures:
            raise Refusal(403, "the upload was not signed")
        content = self.body()
        if part := self.query.get("part"):
            etag = self.server.store(content)
            return self.send({}, ETag=f'"{part[0]}-{etag}"')
        if self.command == "POST":  # the parts, by what each upload was answered with
            sent = [part["etag"].strip('"').split("-") for part in json.loads(content)["parts"]]
            content = b"".join(
                (self.server.contents / etag).read_bytes() for _, etag in sorted(sent, key=lambda s: int(s[0]))
            )
        if hashlib.sha256(content).hexdigest() != oid:
            raise Refusal(400, "the content is not what its hash says")
        self.server.store(content)
        return self.send({})

    def lfs_verify(self, repo: str) -> None:
        self.repository(repo, write=True)
        asked = self.json()
        stored = self.server.contents / asked["oid"]
        if not stored.exists() or stored.stat().st_size != asked["size"]:
            raise Refusal(404, "the object was not uploaded")
        self.send({})

    def commit(self, repo: str, revision: str) -> None:
        repository = self.repository(repo, write=True)
        before = self.commit_at(repository, revision)
        lines = [json.loads(line) for line in self.body().splitlines()]
        header, files = lines[0]["value"], dict(before.files)
        if header.get("parentCommit") not in (None, before.oid):
            raise Refusal(412, "A commit has happened since. Please refresh and try again.")
        for line in lines[1:]:
            kind, value = line["key"], line["value"]
            if not SAFE_PATH.fullmatch(value["path"]):
                raise Refusal(400, f"invalid path {value['path']!r}")
            if kind == "file":
                content = base64.b64decode(value["content"])
                files[value["path"]] = (self.server.store(content), len(content), False)
            elif kind == "lfsFile":
                stored = self.server.contents / value["oid"]
                if not stored.exists():
                    raise Refusal(400, f"LFS object {value['oid']} was not uploaded")
                files[value["path"]] = (value["oid"], stored.stat().st_size, True)
            elif kind == "deletedFile":
                files.pop(value["path"])
            elif kind == "deletedFolder":
                files = {p: f for p, f in files.items() if not p.startswith(value["path"].rstrip("/") + "/")}
        ref = next((r for r in (f"refs/heads/{revision}", revision) if r in repository.refs), None)
        answer = {"success": True}
        if self.query.get("create_pr"):
            number = 1 + sum(r.startswith("refs/pr/") for r in repository.refs)
            ref, answer["pullRequestUrl"] = f"refs/pr/{number}", f"{self.server.url}/{repo}/discussions/{number}"
        if ref is None:
            raise Refusal(400, f"{revision} is no branch")
        made = repository.add(ref, before, header["summary"], header.get("description", ""), self.namespace(), files)
        self.send(answer | {"commitOid": made.oid, "commitUrl": f"{self.server.url}/{repo}/commit/{made.oid}"})
