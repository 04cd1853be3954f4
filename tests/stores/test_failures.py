"""What can go wrong is told in words, and nothing is lost by it."""

import json
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from helpers.accidents import can_mount, fill, small_disk
from helpers.engines import DIM, ENGINES, Chroma, Parquet, Postgres, Qdrant
from helpers.stores import tree
from hf_vec2vec.stores import Migration, parse_address
from hf_vec2vec.stores.base import Address
from hf_vec2vec.stores.passes import Passes
from hf_vec2vec.stores.pgvector import PostgresColumn


def filled(engine, rows: int = 100) -> np.ndarray:
    vectors = engine.vectors(rows)
    engine.fill(engine.ids(rows), vectors, [{"text": f"text {k}"} for k in range(rows)])
    return vectors


def migration(engine, translator, tmp_path, new: str | None = None, **more) -> Migration:
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json", "progress": False} | more
    return Migration(translator, engine.url(engine.old), new or engine.url(engine.new), **ends)


@pytest.fixture
def files(tmp_path):
    (tmp_path / "place").mkdir()
    return Parquet(tmp_path / "place")


@pytest.fixture
def database(tmp_path, postgres):
    Postgres.server = postgres
    return Postgres(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("docs", "must be the address of a store"),
        ("qdrant:folder", "qdrant:FOLDER#COLLECTION"),
        ("redis:x#y", "must be the address"),
        ("faiss:a.index#x", "no parts with names"),
        ("chroma:a#b/c", "one vector a row"),
    ],
)
def test_addresses(text, message):
    with pytest.raises(ValueError, match=message):
        parse_address(text, "from")


def test_a_password_is_not_shown():
    address = parse_address("pgvector:postgresql://me:secret@host:5/db#public.docs/vector", "from")
    assert address == Address("pgvector", "postgresql://me:secret@host:5/db", "public.docs", "vector")
    assert str(address) == "pgvector:postgresql://me@host:5/db#public.docs/vector"


def test_the_wrong_dimension(files, translator, tmp_path):
    files.fill(["a"], np.ones((1, DIM + 1), "f4"), [{"text": "x"}])
    with pytest.raises(ValueError, match=f"dimension {DIM + 1}, but the space 'old' has dimension {DIM}"):
        migration(files, translator, tmp_path).run()
    assert not (tmp_path / "record.json").exists()


def test_a_name_that_is_taken_is_kept(files, translator, tmp_path):
    filled(files)
    (files.folder / files.new).write_bytes(b"mine")
    before = tree(files.folder)
    with pytest.raises(FileExistsError, match="is there already"):
        migration(files, translator, tmp_path).run()
    assert tree(files.folder) == before


def test_the_record_of_another_migration(files, translator, tmp_path):
    filled(files)
    migration(files, translator, tmp_path).run()
    with pytest.raises(FileExistsError, match="normalize was False, is True"):
        migration(files, translator, tmp_path, normalize=True).run()


def test_a_file_that_changes_meanwhile(files, translator, tmp_path):
    filled(files)
    migration(files, translator, tmp_path).run()
    filled(files, 101)
    with pytest.raises(ValueError, match="has changed since the migration began"):
        migration(files, translator, tmp_path).run()


def test_rows_that_cannot_be_translated(files, translator, tmp_path):
    vectors = files.vectors(50)
    vectors[7] = 0
    files.fill(files.ids(50), vectors, [{"text": "x"}] * 50)
    with pytest.raises(ValueError, match="row with id 'text-7': only zeros"):
        migration(files, translator, tmp_path).run()
    done = migration(files, translator, tmp_path, invalid_rows="skip", record=tmp_path / "other.json", new=None)
    (files.folder / ".parts-docs-new.parquet").rmdir()
    assert (found := done.run()).skipped == 1
    assert found.rows == 49
    assert "text-7" not in files.read(files.new)[0]


def test_ids_that_stand_there_twice(files, translator, tmp_path):
    files.fill(["a", "b", "a"], files.vectors(3), [{"text": "x"}] * 3)
    with pytest.raises(ValueError, match="1 ids stand there twice"):
        migration(files, translator, tmp_path).run()


def test_inner_products_are_warned_of(tmp_path, translator):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexFlatIP(DIM)
    index.add(np.random.default_rng(0).normal(size=(50, DIM)).astype("f4"))
    faiss.write_index(index, str(tmp_path / "a.index"))
    ends = {"source": "old", "target": "new", "progress": False}
    done = Migration(
        translator, f"faiss:{tmp_path}/a.index", f"faiss:{tmp_path}/b.index", record=tmp_path / "1", **ends
    ).run()
    assert "inner product" in done.notes[0]
    more = {"normalize": True, "record": tmp_path / "2"}
    done = Migration(translator, f"faiss:{tmp_path}/a.index", f"faiss:{tmp_path}/c.index", **ends, **more).run()
    assert done.notes == []
    made = faiss.read_index(str(tmp_path / "c.index"))
    assert isinstance(made, faiss.IndexFlatIP)
    np.testing.assert_allclose(np.linalg.norm(made.reconstruct_n(0, 50), axis=1), 1, rtol=1e-5)


def test_an_index_that_does_not_hold_its_vectors(tmp_path, translator):
    faiss = pytest.importorskip("faiss")
    index = faiss.IndexScalarQuantizer(DIM, faiss.ScalarQuantizer.QT_8bit)
    rows = np.random.default_rng(0).normal(size=(50, DIM)).astype("f4")
    index.train(rows)
    index.add(rows)
    faiss.write_index(index, str(tmp_path / "a.index"))
    ends = {"source": "old", "target": "new", "progress": False, "record": tmp_path / "record.json"}
    with pytest.raises(ValueError, match="does not hold its vectors as they were"):
        Migration(translator, f"faiss:{tmp_path}/a.index", f"faiss:{tmp_path}/b.index", **ends).run()


def test_a_package_that_is_missing(tmp_path, translator, monkeypatch):
    monkeypatch.setitem(sys.modules, "lancedb", None)
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json"}
    with pytest.raises(ImportError, match=r'lancedb is missing.*pip install "hf-vec2vec\[lancedb\]"'):
        Migration(translator, f"lancedb:{tmp_path}#a", f"lancedb:{tmp_path}#b", **ends).run()


@pytest.mark.skipif(not can_mount(), reason="needs root, and tmpfs")
def test_a_full_disk(tmp_path, translator, monkeypatch):
    with small_disk(tmp_path / "disk", 4096) as disk:
        files = Parquet(disk)
        vectors = filled(files, 3000)
        monkeypatch.setattr("hf_vec2vec.stores.parquet.ParquetFiles.block_rows", 500)
        monkeypatch.setattr("hf_vec2vec.stores.parquet.ParquetParts.block_rows", 500)
        fill(disk, 90)
        with pytest.raises(OSError, match=r"The [\d,]+ rows that are in place stay, and the same command goes on"):
            migration(files, translator, tmp_path).run()
        (disk / "filler").unlink()
        done = migration(files, translator, tmp_path).run()
        assert 0 < done.copied < 3000
        expected = translator.translate(torch.from_numpy(vectors), source="old", target="new").numpy()
        np.testing.assert_allclose(files.read(files.new)[1], expected, atol=1e-5)


def test_a_connection_that_is_lost(database, translator, tmp_path, monkeypatch):
    vectors = filled(database, 120)
    monkeypatch.setattr(PostgresColumn, "block_rows", 50)
    add = PostgresColumn.add

    def lost(self, rows):
        if rows.first:
            with database.connect() as other:
                other.execute("SELECT pg_terminate_backend(%s)", [self.connection.info.backend_pid])
        add(self, rows)

    monkeypatch.setattr(PostgresColumn, "add", lost)
    with pytest.raises(OSError, match="The 50 rows that are in place stay"):
        migration(database, translator, tmp_path).run()
    monkeypatch.setattr(PostgresColumn, "add", add)
    assert migration(database, translator, tmp_path).run().copied == 70
    expected = translator.translate(torch.from_numpy(vectors), source="old", target="new").numpy()
    np.testing.assert_allclose(database.read(database.new)[1], expected, atol=1e-5)


def test_a_database_without_the_extension(database, translator, tmp_path):
    with database.connect() as connection:
        connection.execute("CREATE DATABASE bare")
    place = database.server.replace("/postgres?", "/bare?")
    assert place != database.server
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json"}
    with pytest.raises(ValueError, match="CREATE EXTENSION vector"):
        Migration(translator, f"pgvector:{place}#docs/embedding", f"pgvector:{place}#docs/new", **ends).run()


def test_a_rollback_keeps_a_column_in_its_way(database, translator, tmp_path):
    filled(database)
    made = migration(database, translator, tmp_path)
    made.run(switch=True)
    with database.connect() as connection:
        connection.execute(f"ALTER TABLE {database.table} ADD COLUMN {database.new} text")
    with pytest.raises(FileExistsError, match=f"`to`: the new column would become '{database.new}'"):
        made.rollback()
    with database.connect() as connection:
        connection.execute(f"ALTER TABLE {database.table} DROP COLUMN {database.new}")
    assert made.rollback().state == "complete"


def hide(engine) -> None:
    """Rename or delete what the switch has left of the old vectors."""
    if isinstance(engine, Postgres):
        with engine.connect() as connection:
            connection.execute(f"ALTER TABLE {engine.table} RENAME COLUMN embedding_before TO embedding_kept")
    elif isinstance(engine, Qdrant):
        client = engine._client()
        client.delete_collection("docs")
        client.close()
    elif isinstance(engine, Chroma):
        with engine._client() as client:
            client.get_collection("docs_before", embedding_function=None).modify(name="docs_kept")
    else:
        for path in engine.folder.glob("docs_before*"):
            path.rename(path.with_name(path.name.replace("_before", "_kept")))


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_a_rollback_to_vectors_that_have_gone_is_no_success(engine, translator, tmp_path):
    vectors = filled(engine, 50)
    migration(engine, translator, tmp_path).run(switch=True)
    hide(engine)
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="`from`: the old vectors were left as .* and are not there"):
            migration(engine, translator, tmp_path).rollback()
    now = translator.translate(torch.from_numpy(vectors), source="old", target="new").numpy()
    np.testing.assert_allclose(engine.read(engine.old)[1], now, atol=1e-5)


def test_a_row_written_just_before_the_switch_is_added(database, translator, tmp_path, monkeypatch):
    filled(database)
    late = database.vectors(1, seed=8)[0]
    add_late = Passes.add_late

    def after_all(self):
        with database.connect() as connection:  # by an application that still asks for the old column
            name = f"{database.table} (id, text, facts, embedding_before)"
            connection.execute(f"INSERT INTO {name} VALUES (999, 'late', '{{}}', %s)", [str(late.tolist())])
        return add_late(self)

    monkeypatch.setattr(Passes, "add_late", after_all)
    assert migration(database, translator, tmp_path).run(switch=True).late == 1
    found = dict(zip(*database.read(database.old)[:2]))
    expected = translator.translate(torch.from_numpy(late[None]), source="old", target="new")[0].numpy()
    np.testing.assert_allclose(found[999], expected, atol=1e-5)


@pytest.mark.parametrize(
    ("number", "kept"),
    [("1.25", 1.25), ("0.10000000000000001", 0.1), ("-0.0000123456789012345678901", None), ("1234567890123456789.5", None)],
)
def test_numbers_of_more_digits_than_a_float_has_are_not_rounded(number, kept, database, translator, tmp_path):
    filled(database)
    with database.connect() as connection:
        connection.execute(f"ALTER TABLE {database.table} ADD COLUMN amount numeric, ADD COLUMN big bigint")
        connection.execute(f"UPDATE {database.table} SET amount = {number}, big = 9007199254740993 WHERE id = 7")
    made = migration(database, translator, tmp_path, f"parquet:{tmp_path}/new.parquet")
    if kept is None:
        with pytest.raises(ValueError, match=f"the number {number} .* more digits than a float holds"):
            made.run()
        return
    assert made.run().rows == 100
    found = json.loads(pq.read_table(tmp_path / "new.parquet")["payload"][6].as_py())
    assert (found["amount"], found["big"]) == (kept, 9007199254740993)


def test_from_one_engine_to_another(files, database, translator, tmp_path):
    filled(files)
    new = f"pgvector:{database.server}#{database.table}/embedding"
    assert migration(files, translator, tmp_path, new).run().rows == 100
    with database.connect() as connection:
        found = connection.execute(f"SELECT id, payload FROM {database.table} ORDER BY id").fetchall()
    ids, _, payload = files.read(files.old)
    assert dict(found) == dict(zip(ids, payload))
    with pytest.raises(ValueError, match="lies in another place"):
        migration(files, translator, tmp_path, new).run(switch=True)
