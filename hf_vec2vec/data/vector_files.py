"""The reader of vectors on disk, for all who need any: a file, a folder or a pattern of files, in every format."""

import glob
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
from safetensors import SafetensorError

from . import raw_files, table_files, text_vectors
from .blocks import Block, BufferPool, VectorFile, something_else
from .columns import RowError

OPENERS = {**raw_files.OPENERS, **table_files.OPENERS, **text_vectors.OPENERS}
VECTOR_FORMATS = (
    f"a saved data set (`Dataset.save_to_disk`), {', '.join(OPENERS)}, or a folder or pattern ('store/*.npy') of these"
)


@dataclass
class Store:
    """Files of vectors of one dimension, in order.

    Args:
        files: those that hold rows.
        path: what was asked for.
        argument: that named it, for errors.
        description: of how the vectors were made, where it is known.
        common: fields of columns beside the vectors, as far as they were asked for.
    """

    files: list[VectorFile]
    path: str
    argument: str
    description: str = ""
    common: dict[str, pa.Field] = field(default_factory=dict, repr=False)

    @property
    def dim(self) -> int:
        """Of all vectors."""
        return self.files[0].dim

    @property
    def rows(self) -> int:
        """Of all files."""
        return sum(file.rows for file in self.files)

    def schema(self) -> pa.Schema | None:
        """Of all columns; those beside the vectors have types that hold what all files have in them.

        Raises:
            ValueError: if no type can hold what two files have in a column.
        """
        first = self.files[0]
        if first.schema is None:
            return None
        fields = [f if f.name == first.column else self.column_field(f.name) for f in first.schema]
        return pa.schema(fields, metadata=first.schema.metadata)

    def column_field(self, name: str) -> pa.Field:
        """One of the columns beside the vectors; see `schema`."""
        if name not in self.common:
            self.common[name] = _common_field(self.files, name, self.argument)
        return self.common[name]

    def place(self, file: VectorFile) -> Callable[[int], str]:
        """Names rows of a file, by their numbers, for errors."""
        return lambda row: f"`{self.argument}` {str(file.path)!r}, {file.place(row)}"

    def read(
        self,
        file: VectorFile,
        start: int,
        stop: int,
        batch_size: int,
        others: Sequence[str] = (),
        buffers: BufferPool | None = None,
    ) -> Iterator[Block]:
        """`VectorFile.read` of one of the files, with errors that name it, and columns of the types that all files share."""
        kinds = [self.column_field(name).type for name in others]
        blocks, row = file.read(start, stop, batch_size, others, buffers), start
        while True:
            with naming(self.argument, file.path, row):
                block = next(blocks, None)
                if block is not None and block.others is not None and block.others.schema.types != kinds:
                    columns = [column.cast(kind) for column, kind in zip(block.others.columns, kinds, strict=True)]
                    block.others = pa.table(columns, names=block.others.column_names)
            if block is None:
                return
            yield block
            row = block.first + len(block.rows)


def open_files(path: str | Path, column: str | None = None, *, argument: str = "path") -> Store:
    """The files at `path`: one, those of a folder or pattern in the order of their names, or those of a saved data set.

    Numbers in names are compared as numbers: `part-2` comes before `part-10`.

    Args:
        path: see `VECTOR_FORMATS`.
        column: with the vectors; default: `embedding`, or the only one that can hold vectors. Of safetensors the tensor.
        argument: that named the path, for errors.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: if a file is truncated or cannot be read, formats are mixed, or there is no row or no vector.
        TypeError: if a file holds integers or objects.
    """
    files = []
    for file in _found(str(path), argument):
        if file.suffix.lower() not in OPENERS:
            raise ValueError(f"`{argument}` is {str(file)!r}, which is no known format. Give {VECTOR_FORMATS}.")
        with naming(argument, file):
            files.append(OPENERS[file.suffix.lower()](file, column))
    filled = [file for file in files if file.rows]
    if not filled:
        raise ValueError(f"`{argument}` {str(path)!r} is empty: it has no rows.")
    _check_alike(filled, argument)
    about = Path(path) / "dataset_info.json"
    description = _json(about, argument).get("description", "") if about.exists() else filled[0].description
    return Store(filled, str(path), argument, description)


def _check_alike(files: list[VectorFile], argument: str) -> None:
    """Raise if dimensions or columns differ; give files that hold no vector the dimension of the others."""
    first = next((file for file in files if file.dim), None)
    if first is None:
        raise ValueError(f"`{argument}` {str(files[0].path)!r}: not one of its rows has a vector.")
    for file in files:
        file.dim = file.dim or first.dim
        for what, found, other in (
            ("vectors of dimension", file.dim, first.dim),
            ("the columns", sorted(file.other_columns()), sorted(first.other_columns())),
            ("the vectors in the column", file.column, first.column),
        ):
            if found != other:
                raise ValueError(
                    f"`{argument}` has {what} {found} in {str(file.path)!r}, but {other} in {str(first.path)!r}. "
                    "All must be alike."
                )


def _common_field(files: list[VectorFile], name: str, argument: str) -> pa.Field:
    """A column that holds what all files have in one of theirs. Where they are texts, it can always be text."""
    fields = {file.path: file.schema.field(name) for file in files if file.schema is not None}
    found = next(iter(fields.values()))
    texts = [file for file in files if isinstance(file, text_vectors.TextVectorFile)]
    large = any(name in file.large for file in texts)
    for path, other in fields.items():
        merged = _merged(found, other)
        if merged is None or (large and pa.types.is_floating(merged.type)):
            for file in texts:  # which have no types of their own: they are read again, as they stand there
                file.kinds[name] = pa.string()
            if texts:
                return found.with_type(pa.string())
            against = next((before for before in fields if _merged(fields[before], other) is None), files[0].path)
            raise ValueError(
                f"`{argument}` has {fields[against].type} in the column {name!r} of {str(against)!r}, but {other.type} in "
                f"that of {str(path)!r}, and no type holds both. Rewrite one of them, or leave the column out."
            )
        found = merged
    return found


def _merged(one: pa.Field, other: pa.Field) -> pa.Field | None:
    if one.equals(other):
        return one
    plain = [pa.schema([f if one.type == other.type else f.with_type(_plain(f.type))]) for f in (one, other)]
    try:
        return pa.unify_schemas(plain, promote_options="permissive").field(0)
    except pa.ArrowException:
        return None


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type of the same values in Arrow's usual form, to which those of other forms can be cast."""
    if pa.types.is_dictionary(kind):
        return _plain(kind.value_type)
    return pa.string() if pa.types.is_string_view(kind) else pa.binary() if pa.types.is_binary_view(kind) else kind


@contextmanager
def naming(argument: str, file: Path | str, row: int | None = None) -> Iterator[None]:
    """Put the file's name before what went wrong with it; readers have errors of their own."""
    name = f"`{argument}` {str(file)!r}"
    place = name if row is None else f"{name}, at or after row {row:,},"
    try:
        yield
    except FileNotFoundError:
        raise
    except RowError as error:
        raise ValueError(f"{name}, {error}") from error
    except TypeError as error:
        raise TypeError(f"{place} cannot be used: {error}") from error
    except (OSError, ValueError, EOFError, OverflowError, MemoryError, SafetensorError, pa.ArrowException) as error:
        reason = something_else(Path(file)) or " ".join(str(error).split())
        raise ValueError(f"{place} cannot be read: {reason}") from error


def _found(path: str, argument: str) -> list[Path]:
    if not Path(path).exists():
        files = [Path(file) for file in glob.glob(path, recursive=True) if Path(file).is_file()]
        if not files:
            raise FileNotFoundError(f"`{argument}` is {path!r}, where there is nothing. Give {VECTOR_FORMATS}.")
        return _in_order(files, path, argument)
    folder = Path(path)
    if not folder.is_dir():
        return [folder]
    if (folder / "dataset_dict.json").exists():
        splits = _json(folder / "dataset_dict.json", argument).get("splits", [])
        raise ValueError(
            f"`{argument}` {path!r} holds the splits {splits}; give the folder of one, such as {str(folder / splits[0])!r}."
        )
    if (folder / "_manifest.json").exists() and _json(folder / "_manifest.json", argument).get("complete") is False:
        raise ValueError(f"`{argument}` {path!r} is a translation that is not complete. Let it finish first.")
    if (folder / "state.json").exists():
        state = _json(folder / "state.json", argument)
        if state.get("_indices_data_files"):
            raise ValueError(f"`{argument}` {path!r} is a selection of rows. Save it again with `flatten_indices()`.")
        return [folder / Path(file["filename"]).name for file in state["_data_files"]]
    files = [file for file in folder.iterdir() if file.suffix.lower() in OPENERS and file.name[0] != "."]
    files = [file for file in files if file.suffix.lower() != ".json"]
    # A table of ids or notes beside vectors in a format of their own is no part of the store.
    files = [file for file in files if file.suffix.lower() not in text_vectors.OPENERS] or files
    if not files:
        raise ValueError(f"`{argument}` {path!r} holds no file of vectors. Give {VECTOR_FORMATS}.")
    return _in_order(files, path, argument)


def _in_order(files: list[Path], path: str, argument: str) -> list[Path]:
    if len(kinds := {file.suffix.lower() for file in files}) > 1:
        raise ValueError(f"`{argument}` {path!r} holds files of several kinds {sorted(kinds)}. Give a folder of one kind.")
    return sorted(
        files, key=lambda file: [(p.isdigit(), int(p) if p.isdigit() else p) for p in re.split(r"(\d+)", str(file))]
    )


def _json(file: Path, argument: str) -> dict:
    with naming(argument, file):
        content = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object.")
        return content


__all__ = ["VECTOR_FORMATS", "Store", "naming", "open_files"]
