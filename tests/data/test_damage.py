"""Files that were damaged at random: read, or refused in one line that names them; never anything else, never for long."""

import tempfile
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.damage import DAMAGE, damaged
from helpers.formats import ROWS, write
from hf_vec2vec.data import load_embeddings, load_table, load_texts, open_stream, vectors

pytestmark = pytest.mark.slow
NAMES = ["x.parquet", "x.arrow", "x.feather", "x.npy", "x.fbin", "x.safetensors", "x.csv", "x.tsv", "x.jsonl", "x.json"]
TABLES = ["x.parquet", "x.arrow", "x.csv", "x.tsv", "x.jsonl", "x.json"]
BOUNDED = settings(
    max_examples=60, deadline=5_000, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def read_quietly(read, path: Path) -> None:
    message = path.name
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(path)
        except (ValueError, TypeError, OSError) as error:
            message = str(error)
    assert path.name in message
    assert "\n" not in message


@pytest.mark.parametrize("name", NAMES)
@given(damage=DAMAGE)
@BOUNDED
def test_damaged_vectors(name, damage):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        write(path, ROWS[:20])
        path.write_bytes(damaged(path.read_bytes(), damage))
        read_quietly(lambda path: vectors(load_embeddings(path), name), path)
        read_quietly(lambda path: [vectors(table, name) for table in open_stream(path).with_format("arrow").iter(8)], path)


@pytest.mark.parametrize("name", [*TABLES, "x.txt"])
@given(damage=DAMAGE)
@BOUNDED
def test_damaged_texts(name, damage):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        if name == "x.txt":
            path.write_text("\n".join(f"line {i}" for i in range(30)))
        else:
            write(path, ROWS[:20])
        path.write_bytes(damaged(path.read_bytes(), damage))
        read_quietly(load_texts, path)
        if name != "x.txt":
            read_quietly(load_table, path)


@pytest.mark.parametrize("name", NAMES)
@given(content=st.binary(max_size=300))
@BOUNDED
def test_files_of_anything(name, content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        read_quietly(load_embeddings, path)
        read_quietly(lambda path: list(open_stream(path)), path)
        if name in TABLES:
            read_quietly(load_texts, path)
