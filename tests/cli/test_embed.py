"""Ids go with the vectors, or it is said that they cannot."""

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
