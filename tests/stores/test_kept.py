"""What lies beside a new store of files, or is whole, is kept; and kinds of index, of ids and of rows that are rare."""

import os
import shutil

import faiss
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset

from helpers.engines import DIM, Lance
from helpers.stores import tree
from hf_vec2vec.stores import Migration, parse_address
from hf_vec2vec.stores.addresses import engine_of
from hf_vec2vec.stores.chroma import ChromaCollection
from hf_vec2vec.stores.faiss_files import FaissIndex, FaissParts
from hf_vec2vec.stores.lance import LanceTable
from hf_vec2vec.stores.parquet import ParquetFiles, ParquetParts

ROWS = 60


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(ROWS, DIM)).astype("f4")


@pytest.fixture
def migrate(translator, tmp_path):
    def work(old: str, new: str, *, switch: bool = False, **more):
        ends = {"source": "old", "target": "new", "record": tmp_path / "record.json", "progress": False} | more
        return Migration(translator, old, new, **ends).run(switch=switch)

    return work


@pytest.fixture
def translated(translator, vectors) -> np.ndarray:
    return translator.translate(torch.from_numpy(vectors), source="old", target="new").numpy()


def write_table(path, vectors: np.ndarray | None, **columns) -> None:
    if vectors is not None:
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), DIM)
    pq.write_table(pa.table(columns), path)


def write_index(path, vectors: np.ndarray, index=None) -> None:
    index = index or faiss.IndexFlatL2(DIM)
    if not index.ntotal:
        index.add(vectors)
    faiss.write_index(index, str(path))


@pytest.mark.parametrize("case", ["the source", "of somebody else", "of another index"])
def test_a_table_beside_a_new_index_is_not_replaced(case, migrate, vectors, tmp_path):
    old, new = f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index"
    if case == "the source":
        write_table(tmp_path / "new.parquet", vectors, id=range(ROWS))
        old = f"parquet:{tmp_path}/new.parquet"
    else:
        write_index(tmp_path / "docs.index", vectors)
        write_table(tmp_path / "docs.parquet", None, id=range(ROWS))
    if case == "of somebody else":
        (tmp_path / "new.parquet").write_text("mine")
    if case == "of another index":
        new = f"faiss:{tmp_path}/docs.faiss"
    before = tree(tmp_path)
    with pytest.raises(FileExistsError, match="is there already"):
        migrate(old, new)
    assert {name: content for name, content in tree(tmp_path).items() if "lock" not in str(name)} == before


PAIR = ("docs.index", "docs.parquet")


@pytest.fixture
def switching(translator, vectors, tmp_path):
    """A migration of an index with a table beside it, which is complete; files of both stores lie in a folder."""
    folder = tmp_path / "stores"
    folder.mkdir()
    write_index(folder / "docs.index", vectors)
    write_table(folder / "docs.parquet", None, id=range(ROWS))
    ends = {"source": "old", "target": "new", "record": tmp_path / "record.json", "progress": False}
    made = Migration(translator, f"faiss:{folder}/docs.index", f"faiss:{folder}/new.index", **ends)
    made.run()
    return made, folder


def test_a_switch_of_an_index_keeps_a_table_in_its_way(switching):
    """Such as the old vectors of an earlier switch of Parquet files."""
    made, folder = switching
    (folder / "docs_before.parquet").write_text("mine")
    before = tree(folder)
    with pytest.raises(FileExistsError, match=r"`from`: vectors would become .* but .*docs_before.parquet' is there"):
        made.run(switch=True)
    assert tree(folder) == before
    (folder / "docs_before.parquet").unlink()
    assert made.run(switch=True).state == "switched"


def test_an_index_without_a_table_takes_none_of_somebody_else(migrate, vectors, tmp_path):
    write_index(tmp_path / "docs.index", vectors)
    (tmp_path / "docs_before.parquet").write_text("mine")
    old, new = f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index"
    with pytest.raises(FileExistsError, match="docs_before.parquet' is there"):
        migrate(old, new, switch=True)
    assert migrate(old, new).state == "complete"
    assert (tmp_path / "docs_before.parquet").read_text() == "mine"


@pytest.mark.parametrize("mine", ["new.parquet", "new.index"])
def test_a_rollback_of_an_index_keeps_a_file_in_its_way(mine, switching):
    made, folder = switching
    made.run(switch=True)
    (folder / mine).write_text("mine")
    before = tree(folder)
    with pytest.raises(FileExistsError, match=f"`to`: vectors would become .* but .*{mine}' is there"):
        made.rollback()
    assert tree(folder) == before
    (folder / mine).unlink()
    assert made.rollback().state == "complete"


@pytest.mark.parametrize("renames", range(4))
@pytest.mark.parametrize("way", ["switch", "rollback", "switch, then rollback"])
def test_an_index_and_its_table_find_each_other_after_a_kill(way, renames, switching, monkeypatch):
    made, folder = switching
    began = tree(folder)
    wanted = {("docs_before" if name in PAIR else "docs") + name[name.index(".") :]: held for name, held in began.items()}
    if way == "rollback":
        made.run(switch=True)
        assert tree(folder) == wanted
    calls, rename = [], os.rename

    def killed(*places) -> None:
        calls.append(places)
        if len(calls) > renames:
            raise KeyboardInterrupt
        rename(*places)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            made.rollback() if way == "rollback" else made.run(switch=True)
    made.run(switch=True) if way == "switch" else made.rollback()
    assert tree(folder) == (wanted if way == "switch" else began)


def test_a_folder_that_is_whole_is_not_written_into_again(migrate, tmp_path):
    engine = Lance(tmp_path / "place")
    rows = engine.vectors(ROWS)
    engine.fill(engine.ids(ROWS), rows, [{"text": "a"}] * ROWS)
    old, new = engine.url(engine.old), f"parquet:{tmp_path}/new"
    assert migrate(old, new).rows == ROWS
    engine.write("late", rows[0], {"text": "b"})
    before = tree(tmp_path / "new")
    with pytest.raises(ValueError, match="is complete, and lacks row 'late'"):
        migrate(old, new)
    assert tree(tmp_path / "new") == before


@pytest.mark.parametrize("name", ["new", "new.parquet", "new.index"])
def test_a_new_store_that_was_deleted_is_made_again_before_the_switch(name, migrate, vectors, translated, tmp_path):
    kind = "faiss" if name == "new.index" else "parquet"
    write_table(tmp_path / "docs.parquet", vectors, id=range(ROWS))
    ends = f"parquet:{tmp_path}/docs.parquet", f"{kind}:{tmp_path}/{name}"
    assert migrate(*ends).state == "complete"
    whole = tree(tmp_path)
    for path in tmp_path.glob("new*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert migrate(*ends).caught_up == ROWS
    assert tree(tmp_path).keys() == whole.keys()


@pytest.mark.parametrize("engine", ["parquet", "lancedb"], indirect=True)
def test_a_switch_to_a_store_that_has_gone_renames_nothing(engine, translator, tmp_path):
    engine.fill(engine.ids(ROWS), engine.vectors(ROWS), [{"text": "x"}] * ROWS)
    old, new = parse_address(engine.url(engine.old), "from"), parse_address(engine.url(engine.new), "to")
    with pytest.raises(FileNotFoundError, match="`to`: .* is not there any more"):
        engine_of(old, None).check_switch(old, new, old)


@pytest.mark.parametrize("kind", ["IVF", "IDMap over IVF", "IDMap"])
def test_other_kinds_of_index_are_read(kind, migrate, vectors, translated, tmp_path):
    flat = faiss.IndexFlatL2(DIM)
    inner = faiss.IndexIVFFlat(flat, DIM, 4) if "IVF" in kind else flat
    if "IVF" in kind:
        inner.train(vectors)
    index = faiss.IndexIDMap2(inner) if "IDMap" in kind else inner
    ids = np.arange(1000, 1000 + ROWS)
    index.add_with_ids(vectors, ids) if "IDMap" in kind else index.add(vectors)
    write_index(tmp_path / "docs.index", vectors, index)
    if "IDMap" in kind:  # ids of the index stay its ids, whatever the table beside it calls so
        write_table(tmp_path / "docs.parquet", None, id=[f"row {k}" for k in range(ROWS)])
    assert migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index").rows == ROWS
    made = faiss.read_index(str(tmp_path / "new.index"))
    if "IDMap" in kind:
        np.testing.assert_array_equal(faiss.vector_to_array(made.id_map), ids)
        assert pq.read_table(tmp_path / "new.parquet")["id"][3].as_py() == "row 3"
    inner = faiss.downcast_index(made.index) if "IDMap" in kind else made
    np.testing.assert_allclose(inner.reconstruct_n(0, ROWS), translated, atol=1e-5)


METRICS = ["METRIC_L2", "METRIC_INNER_PRODUCT", "METRIC_L1", "METRIC_Linf", "METRIC_Lp", "METRIC_Canberra"]


@pytest.mark.parametrize("own_ids", [False, True])
@pytest.mark.parametrize("metric", METRICS)
def test_a_new_index_has_the_metric_of_the_old_one(metric, own_ids, migrate, vectors, tmp_path):
    flat = faiss.IndexFlat(DIM, getattr(faiss, metric))
    flat.metric_arg = 3.0 if metric == "METRIC_Lp" else 0.0
    index = faiss.IndexIDMap2(flat) if own_ids else flat
    index.add_with_ids(vectors, np.arange(ROWS)) if own_ids else index.add(vectors)
    write_index(tmp_path / "docs.index", vectors, index)
    migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index")
    made = faiss.read_index(str(tmp_path / "new.index"))
    inner = faiss.downcast_index(made.index) if own_ids else made
    assert (made.metric_type, inner.metric_type, inner.metric_arg) == (flat.metric_type, flat.metric_type, flat.metric_arg)


def test_an_index_by_a_metric_that_nobody_knows_is_refused(migrate, vectors, tmp_path):
    write_index(tmp_path / "docs.index", vectors, faiss.IndexFlat(DIM, 99))
    with pytest.raises(ValueError, match="is no index that FAISS can read"):
        migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index")
    assert not (tmp_path / "record.json").exists()


def test_an_index_whose_vectors_have_no_numbers_is_refused(migrate, vectors, tmp_path):
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(DIM), DIM, 4)
    index.train(vectors)
    index.add_with_ids(vectors, np.arange(1000, 1000 + ROWS))
    write_index(tmp_path / "docs.index", vectors, index)
    with pytest.raises(ValueError, match="IndexIVFFlat with ids of its own"):
        migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index")


def test_a_new_index_is_opened_no_more_often_for_more_blocks(migrate, vectors, tmp_path, monkeypatch):
    """Else a comparison takes time that grows with the square of the rows."""
    opened, read = [], faiss.read_index
    monkeypatch.setattr(faiss, "read_index", lambda *given: opened.append(given) or read(*given))
    for store in (FaissIndex, FaissParts):
        monkeypatch.setattr(store, "block_rows", 5)
    write_index(tmp_path / "docs.index", vectors)
    assert migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index").rows == ROWS
    assert len(opened) == 2  # the old one and the new one


@pytest.mark.parametrize("name", ["docs", "docs.parquet"])
def test_an_index_file_has_a_name_of_its_own(name, migrate, vectors, tmp_path):
    write_index(tmp_path / "old.index", vectors)
    with pytest.raises(ValueError, match="must end as in docs.index"):
        migrate(f"faiss:{tmp_path}/old.index", f"faiss:{tmp_path}/{name}")


def test_a_table_may_have_vectors_of_its_own(migrate, vectors, translated, tmp_path):
    write_index(tmp_path / "docs.index", vectors)
    write_table(tmp_path / "docs.parquet", vectors, id=range(ROWS))
    migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index")
    assert pq.read_table(tmp_path / "new.parquet").column_names == ["id", "embedding"]


def test_an_index_without_rows_becomes_another(migrate, vectors, tmp_path):
    write_index(tmp_path / "docs.index", vectors[:0])
    write_table(tmp_path / "docs.parquet", None, id=pa.array([], pa.int64()))
    assert migrate(f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index").rows == 0
    assert faiss.read_index(str(tmp_path / "new.index")).ntotal == 0


def test_documents_become_an_index(migrate, tmp_path):
    pytest.importorskip("qdrant_client")
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.EUCLID))
    rows = np.random.default_rng(0).normal(size=(20, DIM))
    points = [models.PointStruct(id=k, vector=row.tolist(), payload={"page": {"number": k}}) for k, row in enumerate(rows)]
    client.upsert("docs", points)
    client.close()
    old, new = f"qdrant:{tmp_path}/q#docs", f"faiss:{tmp_path}/new.index"
    assert migrate(old, new).rows == 20
    assert migrate(old, new).caught_up == 0
    assert pq.read_table(tmp_path / "new.parquet")["payload"][3].as_py() == '{"page": {"number": 3}}'


@pytest.mark.parametrize("kind", ["parquet", "index"])
def test_rows_without_ids_are_not_skipped(kind, migrate, vectors, tmp_path):
    vectors[10] = 0
    old, new = f"parquet:{tmp_path}/docs.parquet", f"parquet:{tmp_path}/new.parquet"
    if kind == "parquet":
        write_table(tmp_path / "docs.parquet", vectors, text=["a"] * ROWS)
    else:
        old, new = f"faiss:{tmp_path}/docs.index", f"faiss:{tmp_path}/new.index"
        write_index(tmp_path / "docs.index", vectors)
    with pytest.raises(ValueError, match="no ids but their numbers, which would shift"):
        migrate(old, new, invalid_rows="skip")


def test_a_folder_and_a_file_do_not_exchange_their_names(migrate, vectors, tmp_path):
    (tmp_path / "docs").mkdir()
    write_table(tmp_path / "docs" / "a.parquet", vectors, id=range(ROWS))
    old, new = f"parquet:{tmp_path}/docs", f"parquet:{tmp_path}/docs-new.parquet"
    with pytest.raises(ValueError, match="a folder and a file"):
        migrate(old, new, switch=True)
    assert migrate(old, new).state == "complete"
    with pytest.raises(ValueError, match="a file must end in .parquet"):
        migrate(old, f"parquet:{tmp_path}/docs-v1.5", record=tmp_path / "another.json")


@pytest.mark.parametrize("name", ["docs.jsonl", "docs.arrow", "a saved data set", "a folder of Arrow files"])
def test_what_is_not_parquet_gives_its_name_to_no_parquet(name, migrate, vectors, tmp_path):
    (tmp_path / "stores").mkdir()
    old = tmp_path / "stores" / name
    data = Dataset.from_dict({"id": list(range(ROWS)), "embedding": vectors.tolist()})
    if name.startswith("a "):
        data.save_to_disk(old)
    if name == "a folder of Arrow files":
        for file in old.glob("*.json"):
            file.unlink()
    if name == "docs.jsonl":
        data.to_json(old)
    if name == "docs.arrow":
        with pa.ipc.new_file(old, data.data.table.schema) as writer:
            writer.write_table(data.data.table)
    new = tmp_path / "stores" / ("new" if name.startswith("a ") else "new.parquet")
    assert migrate(f"parquet:{old}", f"parquet:{new}").state == "complete"
    before = tree(tmp_path / "stores")
    with pytest.raises(ValueError, match="`from` .* is not Parquet, and the new vectors are"):
        migrate(f"parquet:{old}", f"parquet:{new}", switch=True)
    assert tree(tmp_path / "stores") == before
    assert migrate(f"parquet:{old}", f"parquet:{new}").state == "complete"


def test_a_collection_without_an_alias_stays_complete(migrate, tmp_path):
    pytest.importorskip("qdrant_client")
    from qdrant_client import QdrantClient, models

    client = QdrantClient(path=str(tmp_path / "q"))
    client.create_collection("docs", vectors_config=models.VectorParams(size=DIM, distance=models.Distance.EUCLID))
    client.upsert("docs", [models.PointStruct(id=1, vector=[0.5] * DIM, payload={})])
    client.close()
    old, new = f"qdrant:{tmp_path}/q#docs", f"qdrant:{tmp_path}/q#new"
    with pytest.raises(ValueError, match="gives a collection no other name"):
        migrate(old, new, switch=True)
    assert migrate(old, new).state == "complete"


@pytest.fixture
def collection(tmp_path):
    """An address in a folder of Chroma, and what the collection there holds."""
    chromadb = pytest.importorskip("chromadb")
    settings = chromadb.Settings(anonymized_telemetry=False)
    chromadb.PersistentClient(str(tmp_path / "chroma"), settings=settings).close()

    def rows() -> dict[str, dict]:
        with chromadb.PersistentClient(str(tmp_path / "chroma"), settings=settings) as client:
            found = client.get_collection("docs", embedding_function=None).get()
        return dict(zip(found["ids"], found["metadatas"]))

    return f"chroma:{tmp_path}/chroma#docs", rows


def test_a_live_store_takes_no_more_rows_at_a_time_than_it_says(collection, migrate, vectors, tmp_path, monkeypatch):
    write_table(tmp_path / "docs.parquet", vectors, id=[f"row {k}" for k in range(ROWS)])
    monkeypatch.setattr(ChromaCollection, "block_rows", 25)
    numbers, add = [], ChromaCollection.add
    monkeypatch.setattr(ChromaCollection, "add", lambda self, rows: numbers.append(len(rows)) or add(self, rows))
    assert migrate(f"parquet:{tmp_path}/docs.parquet", collection[0]).rows == ROWS
    assert numbers == [25, 25, 10]


def test_values_that_a_store_has_no_place_for_are_left_out(collection, migrate, vectors, tmp_path):
    new, rows = collection
    titles, ratios = [None, "a", "b"] * 20, [0.5, float("nan"), -0.0, None] * 15
    write_table(tmp_path / "docs.parquet", vectors, id=[f"row {k}" for k in range(ROWS)], title=titles, ratio=ratios)
    assert migrate(f"parquet:{tmp_path}/docs.parquet", new).caught_up == 0
    found = rows()
    assert [found[f"row {k}"] for k in range(4)] == [{"ratio": 0.5}, {"title": "a"}, {"title": "b", "ratio": 0.0}, None]
    assert migrate(f"parquet:{tmp_path}/docs.parquet", new).caught_up == 0


def test_payload_that_a_store_changes_is_named(collection, migrate, vectors, tmp_path, monkeypatch):
    write_table(tmp_path / "docs.parquet", vectors, id=[f"row {k}" for k in range(ROWS)], title=["A"] * 30 + ["b"] * 30)
    add = ChromaCollection.add

    def lower(self, rows):
        rows.payload = [{"title": row["title"].lower()} for row in rows.payload]
        add(self, rows)

    monkeypatch.setattr(ChromaCollection, "add", lower)
    with pytest.raises(ValueError, match=r"`to` .* does not keep 30 rows .* 'row 0', 'title' is 'A' in `from`, 'a' in `to`"):
        migrate(f"parquet:{tmp_path}/docs.parquet", collection[0])


@pytest.mark.parametrize("new", ["chroma:{}/chroma#docs", "lancedb:{}#new", "parquet:{}/new", "parquet:{}/new.parquet"])
def test_ids_that_stand_in_two_blocks_are_refused_as_in_one(new, collection, migrate, vectors, tmp_path, monkeypatch):
    for store in (ChromaCollection, LanceTable, ParquetFiles, ParquetParts):
        monkeypatch.setattr(store, "block_rows", 25)
    write_table(tmp_path / "docs.parquet", vectors, id=[*(f"row {k}" for k in range(ROWS - 1)), "row 0"])
    with pytest.raises(ValueError, match=r"`from` .*docs.parquet': 1 ids stand there twice, such as 'row 0'.* `id_column`"):
        migrate(f"parquet:{tmp_path}/docs.parquet", new.format(tmp_path))


def test_numbers_that_python_cannot_tell_apart_by_their_hashes_are_two_ids(migrate, vectors, tmp_path):
    write_table(tmp_path / "docs.parquet", vectors, id=[-2, -1, 2**61 - 1, *range(ROWS - 3)])
    assert migrate(f"parquet:{tmp_path}/docs.parquet", f"parquet:{tmp_path}/new").rows == ROWS


@pytest.mark.parametrize("new", ["new", "new.parquet"])
def test_files_whose_columns_differ_in_type_become_a_store(new, migrate, vectors, translated, tmp_path):
    (tmp_path / "docs").mkdir()
    write_table(tmp_path / "docs" / "a.parquet", vectors[:30], id=range(30), page=[1] * 30, title=pa.nulls(30))
    write_table(tmp_path / "docs" / "b.parquet", vectors[30:], id=range(30, ROWS), page=[0.5] * 30, title=["x"] * 30)
    assert migrate(f"parquet:{tmp_path}/docs", f"parquet:{tmp_path}/{new}").caught_up == 0
    made = pq.read_table(tmp_path / new)
    assert made["page"].to_pylist() == [1.0] * 30 + [0.5] * 30
    assert made["title"].to_pylist() == [None] * 30 + ["x"] * 30


@pytest.mark.parametrize(("new", "each"), [("new", 5), ("new.parquet", 2)])
def test_a_comparison_opens_each_part_a_few_times_however_many_there_are(new, each, migrate, vectors, tmp_path, monkeypatch):
    parts = 12
    monkeypatch.setattr(ParquetParts, "block_rows", ROWS // parts)
    monkeypatch.setattr(ParquetFiles, "block_rows", ROWS // parts)
    write_table(tmp_path / "old.parquet", vectors, id=range(ROWS))
    opened = []
    for name in ("ParquetFile", "read_table"):
        real = getattr(pq, name)
        monkeypatch.setattr(pq, name, lambda *args, real=real, **kwargs: opened.append(1) or real(*args, **kwargs))
    migrate(f"parquet:{tmp_path / 'old.parquet'}", f"parquet:{tmp_path / new}")
    assert len(opened) <= each * parts
