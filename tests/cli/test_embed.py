"""Ids go with the vectors, or it is said that they cannot."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.commands import run
from hf_vec2vec.data import load_embeddings


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "texts.csv").write_text("key,text\nk1,the dog\nk2,a cat\n")
    return tmp_path / "texts.csv"


@pytest.mark.usefixtures("own_cache")
def test_ids_are_kept(static, texts, tmp_path):
    call = ["embed", "--texts", texts, "--id_column", "key", "--model", static, "--output", tmp_path / "rows.parquet"]
    assert run(*call) == 0
    assert list(load_embeddings(tmp_path / "rows.parquet")["id"]) == ["k1", "k2"]


KINDS = {
    "large numbers": ([2**64 - 1, 7], pa.uint64()),
    "nanoseconds": ([1, 2], pa.timestamp("ns")),
    "names from a list": (["k1", "k2"], pa.dictionary(pa.int8(), pa.string())),
    "UUIDs": ([b"0" * 16, b"1" * 16], pa.uuid()),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("own_cache")
def test_ids_of_any_type_stay_as_they_are_or_are_refused(static, tmp_path, capsys, kind):
    ids = pa.array(*KINDS[kind])
    pq.write_table(pa.table({"key": ids, "text": ["the dog", "a cat"]}), tmp_path / "texts.parquet")
    call = ["embed", "--texts", tmp_path / "texts.parquet", "--id_column", "key", "--model", static]
    status = run(*call, "--output", tmp_path / "rows")
    if kind == "UUIDs":
        assert status == 2
        assert "`id_column`, values of type extension<arrow.uuid>" in capsys.readouterr().err
    else:
        assert status == 0
        table = load_embeddings(tmp_path / "rows").with_format("arrow")[:]
        assert table["id"].to_pylist() == ids.to_pylist()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--id_column", "Key"], "`id_column` is 'Key', but"),
        (["--id_column", "key", "--output", "rows.npy"], "`output` 'rows.npy' holds vectors alone"),
        (["--images", "folder", "--id_column", "key"], "`id_column` is for texts"),
    ],
)
@pytest.mark.usefixtures("own_cache")
def test_ids_that_would_be_lost_are_told(static, texts, tmp_path, capsys, words, message):
    given = [] if "--images" in words else ["--texts", texts]
    output = [] if "--output" in words else ["--output", tmp_path / "rows"]
    assert run("embed", *given, "--model", static, *output, *words) == 2
    assert message in capsys.readouterr().err
