"""Each engine, really: ids, payload and order kept, killed and gone on with, caught up, switched and rolled back."""

import numpy as np
import pytest
import torch

from helpers.engines import ENGINES, LIVE, Parquet
from hf_vec2vec.stores import Migration, base, record
from hf_vec2vec.stores.pgvector import PostgresColumn

EVERY = pytest.mark.parametrize("engine", list(ENGINES), indirect=True)
ALIVE = pytest.mark.parametrize("engine", LIVE, indirect=True)


def payload_of(rows: int) -> list[dict]:
    return [{"text": f"text {k}", "page": k % 7, "ratio": k / 8} for k in range(rows)]


def filled(engine, rows: int) -> np.ndarray:
    vectors = engine.vectors(rows)
    engine.fill(engine.ids(rows), vectors, payload_of(rows))
    return vectors


def migration(engine, translator, tmp_path, **more) -> Migration:
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json", "progress": False}
    return Migration(translator, engine.url(engine.old), engine.url(engine.new), **ends, **more)


def expected(translator, rows: np.ndarray) -> np.ndarray:
    return translator.translate(torch.from_numpy(rows), source="old", target="new").numpy()


def check(engine, translator, vectors: np.ndarray, name: str | None = None) -> None:
    before, after = engine.read(engine.old), engine.read(name or engine.new)
    assert after[0] == before[0]
    assert after[2] == before[2]
    np.testing.assert_allclose(before[1], vectors, atol=1e-6)
    np.testing.assert_allclose(after[1], expected(translator, vectors), atol=1e-5)


@EVERY
def test_a_store_migrates_and_a_second_run_writes_nothing(engine, translator, tmp_path, monkeypatch):
    vectors = filled(engine, engine.rows)
    done = migration(engine, translator, tmp_path).run()
    assert (done.state, done.rows, done.copied, done.caught_up) == ("complete", engine.rows, engine.rows, 0)
    assert done.neighbours["kept"] > 0.99  # a rotation keeps them all
    check(engine, translator, vectors)
    again = migration(engine, translator, tmp_path).run()
    assert (again.copied, again.caught_up, again.checksum) == (0, 0, done.checksum)


@EVERY
def test_it_goes_on_wherever_it_was_stopped(engine, translator, tmp_path, monkeypatch):
    vectors = filled(engine, 150)
    calls, draw = 0, np.random.default_rng(5)

    def stopping(method):
        def work(self, *args):
            nonlocal calls
            calls += 1
            early = draw.random() < 0.5
            if calls < 12 and early:
                raise RuntimeError("stopped before")
            result = method(self, *args)
            if calls < 12:
                raise RuntimeError("stopped behind")
            return result

        return work

    kinds = [kind for kind in subclasses(base.VectorStore) if "add" in vars(kind)]
    for kind in kinds:
        monkeypatch.setattr(kind, "block_rows", 37)
        monkeypatch.setattr(kind, "add", stopping(kind.add))
    monkeypatch.setattr(record.Record, "save", stopping(record.Record.save))
    for _ in range(40):
        try:
            done = migration(engine, translator, tmp_path).run()
            break
        except (OSError, RuntimeError) as error:
            assert "stopped" in str(error)  # noqa: PT017
    assert done.rows == 150
    check(engine, translator, vectors)


def subclasses(kind: type) -> list[type]:
    return [found for below in kind.__subclasses__() for found in (below, *subclasses(below))]


@ALIVE
def test_rows_that_are_written_meanwhile_are_caught_up(engine, translator, tmp_path):
    vectors = filled(engine, 60)
    migration(engine, translator, tmp_path).run()
    ids, new = engine.ids(61), engine.vectors(2, seed=9)
    engine.write(ids[60], new[0], {"text": "new", "page": 1, "ratio": 0.5})
    engine.write(ids[17], new[1], {"text": "changed", "page": 2, "ratio": 0.25})
    engine.delete(ids[5])
    done = migration(engine, translator, tmp_path).run()
    wanted = dict(zip(ids[:60], vectors)) | {ids[60]: new[0], ids[17]: new[1]}
    del wanted[ids[5]]
    assert (done.rows, done.caught_up) == (60, 2 if engine.old == "embedding" else 3)
    found = engine.read(engine.new)
    assert sorted(found[0]) == sorted(wanted)
    np.testing.assert_allclose(found[1], expected(translator, np.stack([wanted[id] for id in found[0]])), atol=1e-5)
    old = dict(zip(*engine.read(engine.old)[::2]))
    assert dict(zip(*found[::2])) == old


@ALIVE
def test_a_row_that_loses_its_vector_is_left_out_again(engine, translator, tmp_path):
    vectors = filled(engine, 60)
    assert migration(engine, translator, tmp_path, invalid_rows="skip").run().rows == 60
    ids = engine.ids(60)
    engine.write(ids[17], np.zeros_like(vectors[0]), {"text": "emptied", "page": 2, "ratio": 0.25})
    done = migration(engine, translator, tmp_path, invalid_rows="skip").run()
    assert (done.state, done.rows, done.skipped, done.caught_up) == ("complete", 59, 1, 1)
    found = engine.read(engine.new)
    assert sorted(found[0]) == sorted(set(ids) - {ids[17]})
    again = migration(engine, translator, tmp_path, invalid_rows="skip").run(switch=True)
    assert (again.state, again.caught_up) == ("switched", 0)


@pytest.mark.parametrize("engine", ["pgvector"], indirect=True)
def test_a_vector_that_becomes_null_becomes_so_in_the_new_column(engine, translator, tmp_path):
    filled(engine, 60)
    assert migration(engine, translator, tmp_path).run().rows == 60
    with engine.connect() as connection:
        connection.execute(f"ALTER TABLE {engine.table} ALTER COLUMN embedding DROP NOT NULL")
        connection.execute(f"UPDATE {engine.table} SET embedding = NULL WHERE id = 7")
    done = migration(engine, translator, tmp_path).run()
    assert (done.state, done.rows, done.caught_up) == ("complete", 59, 1)
    with engine.connect() as connection:
        asked = f"SELECT id FROM {engine.table} WHERE embedding_new IS NULL"
        assert connection.execute(asked).fetchall() == [(7,)]


@EVERY
def test_switch_and_rollback(engine, translator, tmp_path):
    vectors = filled(engine, 60)
    done = migration(engine, translator, tmp_path).run(switch=True)
    assert (done.state, done.rows) == ("switched", 60)
    np.testing.assert_allclose(engine.read(engine.old)[1], expected(translator, vectors), atol=1e-5)
    assert migration(engine, translator, tmp_path).run().state == "switched"
    migration(engine, translator, tmp_path).rollback()
    check(engine, translator, vectors)
    assert migration(engine, translator, tmp_path).run(switch=True).state == "switched"


@pytest.mark.parametrize("engine", ["pgvector"], indirect=True)
def test_a_block_reads_no_more_than_its_rows_of_the_table(engine, translator, tmp_path, monkeypatch):
    """Else a copy takes time that grows with the square of the rows."""
    rows = 1000
    filled(engine, rows)
    monkeypatch.setattr(PostgresColumn, "block_rows", 100)
    migration(engine, translator, tmp_path).run()
    with engine.connect() as connection:
        connection.execute("SELECT pg_stat_force_next_flush()")
        asked = f"SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = '{engine.table}'"
        ((read,),) = connection.execute(asked).fetchall()
    assert read <= 6 * rows  # they are counted; ten blocks would read them ten times more


KEYS = {
    "smallint": [-3, 2, 300],
    "integer": [-70_000, 4, 70_000],
    "text": ["", "it's é", "日本"],
    "varchar(9)": ["a", "b\tc", "ü"],
    "uuid": [f"{k:08x}-0000-4000-8000-0123456789ab" for k in (1, 2, 3)],
}


@pytest.mark.parametrize("engine", ["pgvector"], indirect=True)
def test_keys_of_every_type_and_half_precision(engine, translator, tmp_path):
    vectors = engine.vectors(3)
    with engine.connect() as connection:
        for number, (kind, keys) in enumerate(KEYS.items()):
            column = "halfvec" if kind == "integer" else "vector"
            engine.table = f"keys_{number}"
            connection.execute(f"DROP TABLE IF EXISTS {engine.table}")
            connection.execute(
                f"CREATE TABLE {engine.table} (id {kind} PRIMARY KEY, embedding {column}({vectors.shape[1]}))"
            )
            for key, row in zip(keys, vectors):
                connection.execute(f"INSERT INTO {engine.table} VALUES (%s, %s)", [key, str(row.tolist())])
            (tmp_path / kind).mkdir()
            assert migration(engine, translator, tmp_path / kind).run().rows == 3
            found = dict(connection.execute(f"SELECT id::text, embedding_new::real[] FROM {engine.table}").fetchall())
            stored = np.array([found[str(key)] for key in keys], "f4")
            exact = 1e-5 if column == "vector" else 1e-2
            np.testing.assert_allclose(stored, expected(translator, vectors), atol=exact)


@pytest.mark.parametrize("engine", ["pgvector"], indirect=True)
@pytest.mark.parametrize("ids", [[5, -1, 2**40], ["ä", "", "日本 's"]])
def test_rows_of_files_become_a_table(engine, translator, tmp_path, ids):
    files = Parquet(engine.folder)
    payload = [{"text": 'é "quoted"\n', "page": -1}, {"text": None, "page": 2**50}, {"text": "", "page": 0}]
    vectors = engine.vectors(3)
    files.fill(ids, vectors, payload)
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json", "progress": False}
    new = f"pgvector:{engine.server}#{engine.table}"
    done = Migration(translator, files.url(files.old), new, **ends).run()
    assert (done.rows, done.caught_up) == (3, 0)
    with engine.connect() as connection:
        found = connection.execute(f"SELECT id, embedding::real[], payload FROM {engine.table}").fetchall()
    order = [[row[0] for row in found].index(id) for id in ids]
    np.testing.assert_allclose(np.array([found[k][1] for k in order], "f4"), expected(translator, vectors), atol=1e-5)
    assert [found[k][2] for k in order] == payload
