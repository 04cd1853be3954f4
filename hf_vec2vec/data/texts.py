"""Files of texts, and tables with a column of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet
from datasets import load_from_disk

from .columns import TEXT

TEXT_FORMATS = ".txt (one text a line), .jsonl, .csv, .parquet or an Arrow folder, with a column `text`"


def load_texts(path: str | Path) -> list[str]:
    """Read texts from `.txt` (one a line), `.jsonl`, `.csv`, `.parquet` or an Arrow folder; blank ones are left out.

    Raises:
        FileNotFoundError, ValueError: as `load_embeddings`; also if there is no column `text`, or no text.
    """
    path = Path(path)
    if path.suffix == ".txt" and path.is_file():
        texts = path.read_text(encoding="utf-8").split("\n")
    else:
        table = load_table(path)
        if TEXT not in table.column_names:
            raise ValueError(f"`path` {str(path)!r} has the columns {table.column_names}; it needs '{TEXT}'.")
        texts = [str(text) for text in table[TEXT].to_pylist() if text is not None]
    texts = [stripped for text in texts if (stripped := text.strip())]
    if not texts:
        raise ValueError(f"`path` {str(path)!r} holds no text.")
    return texts


def load_table(path: str | Path) -> pa.Table:
    """Read all columns of a `.jsonl`, `.csv`, `.parquet` or Arrow folder.

    Raises:
        FileNotFoundError: if there is nothing at `path`.
        ValueError: for a format that is none of these.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"`path` is {str(path)!r}, where there is nothing. Give {TEXT_FORMATS}.")
    if path.is_dir():
        return load_from_disk(str(path)).with_format("arrow")[:]
    readers = {".jsonl": pa.json.read_json, ".csv": _read_csv, ".parquet": pa.parquet.read_table}
    if path.suffix not in readers:
        raise ValueError(f"`path` is {str(path)!r}, which is no known format. Give {TEXT_FORMATS}.")
    return readers[path.suffix](path)


def _read_csv(path: Path) -> pa.Table:
    return pa.csv.read_csv(path, parse_options=pa.csv.ParseOptions(newlines_in_values=True))
