"""A stream that comes out of local files: these are the input, which is never written to."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, concatenate_datasets, load_dataset, load_dataset_builder, load_from_disk

from helpers.stores import vectors_of
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.bulk.streams import open_dataset
from hf_vec2vec.data import open_stream

SMALL = {"source": "a", "target": "a", "shard_rows": 32, "batch_size": 16, "progress": False, "overwrite": True}


@pytest.fixture
def store(tmp_path):
    """Files of several formats in a folder each, and another name for one."""
    rows = vectors_of(40).tolist()
    for name in ("one", "many"):
        (tmp_path / name).mkdir()
    pq.write_table(pa.table({"embedding": rows}), tmp_path / "one" / "x.parquet")
    for k in (1, 2):
        pq.write_table(pa.table({"embedding": rows}), tmp_path / "many" / f"part-{k}.parquet")
    Dataset.from_dict({"embedding": rows}).save_to_disk(tmp_path / "saved")
    (tmp_path / "one" / "x.jsonl").write_text("\n".join(json.dumps({"embedding": row}) for row in rows))
    (tmp_path / "link.parquet").symlink_to(tmp_path / "one" / "x.parquet")
    return tmp_path


def streamed(kind, files, store):
    files = [str(store / name) for name in files]
    return load_dataset(kind, data_files=files, split="train", streaming=True)


CASES = {
    "a file": (lambda s: streamed("parquet", ["one/x.parquet"], s), "one/x.parquet"),
    "a link to it": (lambda s: streamed("parquet", ["one/x.parquet"], s), "link.parquet"),
    "its folder": (lambda s: streamed("json", ["one/x.jsonl"], s), "one"),
    "the second of a pattern": (lambda s: streamed("parquet", ["many/part-*.parquet"], s), "many/part-2.parquet"),
    "mapped and filtered": (
        lambda s: streamed("parquet", ["one/x.parquet"], s).map(lambda row: row).filter(lambda row: True),
        "one/x.parquet",
    ),
    "several together": (
        lambda s: concatenate_datasets([streamed("parquet", [f"many/part-{k}.parquet"], s) for k in (1, 2)]),
        "many/part-2.parquet",
    ),
    "opened by name": (lambda s: open_dataset("parquet", None, "train", str(s / "many" / "*.parquet"))[0], "many"),
    "a saved data set": (lambda s: load_from_disk(str(s / "saved")).to_iterable_dataset(), "saved"),
    "a store of ours": (lambda s: open_stream(s / "one" / "x.parquet"), "one/x.parquet"),
    "a folder as a data set": (lambda s: open_dataset(str(s / "many"), None, "train", None)[0], "many/part-1.parquet"),
}


@pytest.mark.parametrize("case", CASES)
def test_an_output_that_is_what_a_stream_reads_is_refused(model, store, case):
    opened, output = CASES[case]
    before = {path: path.read_bytes() for path in store.rglob("*.*") if path.is_file()}
    with pytest.raises(
        ValueError, match="`output` .* (is what is read|holds .* which is read|lies inside .* which is read)"
    ):
        translate_store(model, opened(store), store / output, **SMALL)
    assert {path: path.read_bytes() for path in store.rglob("*.*") if path.is_file()} == before


def test_a_place_beside_what_a_stream_reads_is_fine(model, store):
    translate_store(model, streamed("parquet", ["one/x.parquet"], store), store / "one" / "y.npy", **SMALL)
    assert np.load(store / "one" / "y.npy").shape == (40, 6)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"id": ["007", "8"]}, r"int64 in the column 'id' of its first file, but texts in that of '.*b.parquet'"),
        ({"id": [1, 2], "title": ["x", "y"]}, "columns of other names or types than the first: Couldn't cast"),
        ({"id": [[1], [2]]}, "columns of other names or types than the first: Couldn't cast"),
    ],
)
def test_files_whose_columns_do_not_fit_the_first_are_refused_in_words(columns, message, model, tmp_path):
    rows = {"embedding": vectors_of(2).tolist()}
    pq.write_table(pa.table({"id": [1, 2], **rows}), tmp_path / "a.parquet")
    pq.write_table(pa.table({**columns, **rows}), tmp_path / "b.parquet")

    def translate() -> None:
        data, facts = open_dataset("parquet", None, "train", str(tmp_path / "*.parquet"))
        translate_store(model, data, tmp_path / "out", facts=facts, **SMALL)

    with pytest.raises(ValueError, match=f"`dataset` 'parquet.* {message}.* as `input`"):
        translate()


@pytest.mark.parametrize("files", [1, 2])
def test_texts_that_would_become_numbers_are_told(model, tmp_path, files):
    """The types of a data set of JSON are those of its first rows, to which `datasets` casts all others."""
    rows = [{"id": id, "embedding": row} for id, row in zip([1, 2, "007", "008"], vectors_of(4).tolist(), strict=True)]
    parts = [rows] if files == 1 else [rows[:2], rows[2:]]
    for k, part in enumerate(parts):
        (tmp_path / f"{k}.jsonl").write_text("\n".join(map(json.dumps, part)))
    size = len(json.dumps(rows[0])) + 10  # bytes that are read at a time, and the rest of a line
    builder = load_dataset_builder("json", data_files=str(tmp_path / "*.jsonl"), chunksize=size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_vec2vec.bulk.streams.load_dataset_builder", lambda *args, **kwargs: builder)
        data, facts = open_dataset("json", None, "train", str(tmp_path / "*.jsonl"))
    with pytest.raises(
        ValueError, match="`dataset` .*it has int64 in the column 'id' of its first rows, but texts in later"
    ):
        translate_store(model, data, tmp_path / "out.parquet", facts=facts, **SMALL)
    assert not (tmp_path / "out.parquet").exists()


def test_local_csv_is_read_as_input_alone(tmp_path):
    (tmp_path / "x.csv").write_text('id,embedding\n007,"[1.0, 2.0]"\n')
    with pytest.raises(ValueError, match="would make numbers of texts such as 007.*x.csv.*as `input`"):
        open_dataset("csv", None, "train", str(tmp_path / "x.csv"))
