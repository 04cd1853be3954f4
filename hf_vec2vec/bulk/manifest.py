"""What a folder of translations is made of, by what, and how far it is: the manifest, a record a shard."""

import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import xxhash
from datasets import Features

from ..data.json_files import read_object
from ..data.staging import PARTIAL, staged_file
from ..version import __version__

# Readers of Parquet folders pass over names that begin with _ or a dot.
MANIFEST, RECORDS, CHECKSUMS = "_manifest.json", ".records", "_checksums.xxh128"
FORMAT = 1
PIECES, PIECE = 64, 1 << 12  # places between the ends, bytes at each
ENDS = 1 << 16  # bytes at both ends of an input file that tell it from another of its name and size


class Manifest:
    """The state of a folder of translations on disk.

    `_manifest.json` says what is translated by what; for each shard that is complete there is a record in `.records`,
    written after the shard is in place. At the end the records move into the manifest.

    Args:
        folder: of the output.
    """

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self) -> dict | None:
        """The manifest, if there is one.

        Raises:
            ValueError: if it is none of ours.
        """
        path = self.folder / MANIFEST
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_text())
            if content["format_version"] > FORMAT:
                raise ValueError("a newer version of hf_vec2vec wrote it")
            return content
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"`output` has a manifest {str(path)!r} that cannot be read: {error}.") from error

    def begin(self, job: dict) -> dict | None:
        """Write the manifest of a job, or find that of an interrupted or finished run of the same one.

        Args:
            job: what is translated by what into what; JSON.

        Returns:
            The manifest of the earlier run, if there is one.

        Raises:
            FileExistsError: if the folder holds anything else, or the manifest of another job.
        """
        found = self.read()
        if found is not None:
            if different := list(_differences(found["job"], json.loads(json.dumps(job)))):
                raise FileExistsError(
                    f"`output` {str(self.folder)!r} is of another job: {'; '.join(different)}. Choose another folder, or "
                    "ask to overwrite it."
                )
            return found
        # A run that was killed before its first manifest leaves these behind.
        if any(path.name != RECORDS and not path.name.startswith(PARTIAL) for path in self.folder.iterdir()):
            raise FileExistsError(
                f"`output` {str(self.folder)!r} exists already, without a manifest. Choose another, or ask to overwrite it."
            )
        (self.folder / RECORDS).mkdir(exist_ok=True)
        self._write(MANIFEST, {"format_version": FORMAT, "hf_vec2vec": __version__, "complete": False, "job": job})
        return None

    def reopen(self, records: dict[str, dict]) -> None:
        """Take a finished folder, of which shards are missing or damaged, for an unfinished one."""
        content = self.read() or {}
        (self.folder / RECORDS).mkdir(exist_ok=True)
        for record in content.pop("shards", []):
            if record["key"] in records:
                self.add(record["key"], record)
            else:
                for file in record["files"]:
                    (self.folder / file["name"]).unlink(missing_ok=True)
        self._write(MANIFEST, content | {"complete": False})

    def add(self, key: str, record: dict) -> None:
        """Record a shard that is in place."""
        self._write(f"{RECORDS}/{key}.json", record)

    def records(self, *, verify: bool = False) -> dict[str, dict]:
        """Records of the shards that are complete, by key.

        Args:
            verify: compare the checksums, too, not the sizes alone.
        """
        content = self.read() or {}
        found = {record["key"]: record for record in content.get("shards", [])}
        for path in (self.folder / RECORDS).glob("[!.]*.json"):
            with suppress(ValueError):  # damaged: the shard is made again
                found[path.stem] = read_object(path)
        return {key: record for key, record in sorted(found.items()) if self._whole(record, verify)}

    def shards(self) -> list[dict]:
        """Records of all complete shards, in the order of the rows."""
        return list(self.records().values())

    def end(self, shards: list[dict], files: dict[str, str]) -> None:
        """Move the records into the manifest, once all shards are there.

        Args:
            shards: all of them, as `shards()` gives them.
            files: others that belong to the folder, by name, and what they hold.
        """
        content = self.read() or {}
        lines = "".join(f"{file['xxh128']}  {file['name']}\n" for shard in shards for file in shard["files"])
        for name, text in {**files, CHECKSUMS: lines}.items():
            self._write(name, text)
        invalid = sum(stop - start for shard in shards for start, stop in shard["invalid"])
        totals = {"rows": sum(shard["rows"] for shard in shards), "invalid_rows": invalid}
        content |= {"complete": True, **totals, "shards": shards}
        self._write(MANIFEST, content)
        shutil.rmtree(self.folder / RECORDS)

    def _whole(self, record: dict, verify: bool) -> bool:
        try:
            return all(self._is_there(file, verify) for file in record["files"])
        except (KeyError, TypeError):  # a damaged record
            return False

    def _is_there(self, file: dict, verify: bool) -> bool:
        path = self.folder / file["name"]
        return path.exists() and path.stat().st_size == file["bytes"] and not (verify and checksum(path) != file["xxh128"])

    def _write(self, name: str, content: dict | str) -> None:
        """Whole or not at all."""
        with staged_file(self.folder / name) as file:
            file.write_text(content if isinstance(content, str) else json.dumps(content, indent=1) + "\n", encoding="utf-8")


def dataset_files(schema: pa.Schema, shards: list[dict]) -> dict[str, str]:
    """What makes a folder of Arrow shards a saved `datasets.Dataset`: `state.json` and `dataset_info.json`, as text.

    Args:
        schema: of the shards.
        shards: their records, in order.
    """
    state = {
        "_data_files": [{"filename": shard["files"][0]["name"]} for shard in shards],
        "_fingerprint": shards[0]["files"][0]["xxh128"][:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    features = Features.from_arrow_schema(schema).to_dict()
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    return {"state.json": json.dumps(state, indent=2), "dataset_info.json": json.dumps(info, indent=2)}


def checksum(path: Path) -> str:
    """XXH3 with 128 bits of a file, as `xxh128sum` prints it."""
    digest = xxhash.xxh3_128()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 24):
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint(path: Path) -> str:
    """Checksum of both ends of a file and of pieces between them.

    Without reading all it is noticed that a file or a part of it is another one, not that a few rows of a long one are.
    """
    between = max(0, path.stat().st_size - ENDS)
    with open(path, "rb") as file:
        digest = xxhash.xxh3_128(file.read(ENDS))
        for place in range(1, PIECES):
            file.seek(between * place // PIECES)
            digest.update(file.read(PIECE))
        file.seek(between)
        digest.update(file.read(ENDS))
    return digest.hexdigest()


def same_job(manifest: dict, job: dict) -> bool:
    """Whether a manifest is that of the job."""
    return not any(_differences(manifest["job"], json.loads(json.dumps(job))))


def _differences(before: dict, now: dict, name: str = "") -> Iterator[str]:
    for key in sorted(before.keys() | now.keys()):
        a, b, path = before.get(key), now.get(key), f"{name}{key}"
        if isinstance(a, dict) and isinstance(b, dict):
            yield from _differences(a, b, f"{path}.")
        elif isinstance(a, list) and isinstance(b, list) and a != b:
            first = next(
                (f"{x} there, {y} here" for x, y in zip(a, b, strict=False) if x != y), f"{len(a)} there, {len(b)} here"
            )
            yield f"{path}: {first}"
        elif a != b:
            yield f"{path} was {a!r}, is {b!r}"
