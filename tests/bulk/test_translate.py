"""Bulk translation: every format in and out, interruptions, bad input."""

import errno
import json
import random
import time
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, load_dataset, load_from_disk

from helpers.stores import contents, read_output, table, vectors_of, write_store
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.bulk.block_translation import BlockTranslator
from hf_vec2vec.bulk.manifest import checksum
from hf_vec2vec.bulk.run import Run
from hf_vec2vec.bulk.writers import HashedFile
from hf_vec2vec.data.staging import locked
from hf_vec2vec.data.vector_files import open_files

ENDS = {"source": "a", "target": "b"}
SMALL = ENDS | {"shard_rows": 32, "batch_size": 16, "progress": False}


@pytest.fixture(scope="module")
def model() -> Vec2VecModel:
    torch.manual_seed(0)
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()
    torch.nn.init.normal_(model.input_adapters["a"].output.weight, std=0.3)
    return model


def expected(model, rows: np.ndarray) -> np.ndarray:
    return model.translate(torch.from_numpy(rows), **ENDS).numpy()


@pytest.mark.parametrize("name", ["x.npy", "x.fbin", "x.f16bin", "x.safetensors", "x.parquet", "x.arrow", "saved"])
def test_every_format_is_read(model, tmp_path, name):
    rows = vectors_of(100)
    write_store(tmp_path / name, rows)
    done = translate_store(model, tmp_path / name, tmp_path / "out", output_format="npy", **SMALL)
    assert done.rows == 100
    assert len(open_files(tmp_path / "out").files) == done.shards >= 3
    loose = 0.05 if name in ("x.f16bin", "x.safetensors") else 1e-5
    np.testing.assert_allclose(read_output(tmp_path / "out"), expected(model, rows), atol=loose)
    assert set(done.dropped_columns) == ({"id", "text"} if name in ("x.parquet", "x.arrow", "saved") else set())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "int8"])
@pytest.mark.parametrize("output_format", ["npy", "fbin", "safetensors", "parquet", "arrow"])
def test_every_format_and_dtype_is_written(model, tmp_path, output_format, dtype):
    rows = vectors_of(101)
    np.save(tmp_path / "x.npy", rows)
    arguments = SMALL | {"output_format": output_format, "dtype": dtype}
    if dtype == "bfloat16" and output_format != "safetensors":
        with pytest.raises(ValueError, match=f"bfloat16 cannot be held by the format {output_format}; safetensors can"):
            translate_store(model, tmp_path / "x.npy", tmp_path / "out", **arguments)
        assert not (tmp_path / "out").exists()
        return
    translate_store(model, tmp_path / "x.npy", tmp_path / "out", **arguments)
    truth = expected(model, rows)
    if output_format == "arrow":
        data = load_from_disk(tmp_path / "out").with_format("numpy")[:]
        found = data["embedding"] * np.asarray(data.get("scale", 1))[..., None]
    else:
        found = read_output(tmp_path / "out")
    error = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 2e-2, "int8": np.abs(truth).max() / 254 + 1e-5}[dtype]
    assert np.abs(found - truth).max() <= error
    lines = (tmp_path / "out" / "_checksums.xxh128").read_text().split("\n")[:-1]
    assert all(checksum(tmp_path / "out" / line[34:]) == line[:32] for line in lines)
    assert len(lines) == (8 if dtype == "int8" and output_format in ("npy", "fbin") else 4)


def test_other_readers_of_parquet_take_the_folder_whole(model, tmp_path):
    """They pass over files whose names begin with _ or a dot."""
    np.save(tmp_path / "x.npy", vectors_of(100))
    translate_store(model, tmp_path / "x.npy", tmp_path / "out", output_format="parquet", **SMALL)
    assert len(pq.read_table(tmp_path / "out")) == 100


@pytest.mark.parametrize("suffix", [".npy", ".fbin", ".safetensors", ".parquet", ".NPY", ".Parquet"])
def test_one_file_out_of_a_folder_of_shards(model, tmp_path, suffix):
    (tmp_path / "store").mkdir()
    parts = [vectors_of(rows, seed) for seed, rows in enumerate((40, 3, 30))]
    for number, rows in zip((1, 2, 10), parts, strict=True):  # names in the order of their numbers, not of their letters
        write_store(tmp_path / "store" / f"part-{number}.npy", rows)
    output = tmp_path / f"data-{suffix}"
    assert translate_store(model, tmp_path / "store", output, **SMALL).rows == 73
    np.testing.assert_allclose(read_output(tmp_path), expected(model, np.concatenate(parts)), atol=1e-5)
    with pytest.raises(FileExistsError, match="exists already"):
        translate_store(model, tmp_path / "store", output, **SMALL)
    assert {path.name for path in tmp_path.iterdir()} == {"store", output.name}


@pytest.mark.parametrize("output_format", ["arrow", "parquet"])
def test_other_columns_and_their_features_keep_beside_their_rows(model, tmp_path, output_format):
    rows = vectors_of(100)
    data = Dataset(table(rows)).add_column("kind", [i % 2 for i in range(100)]).class_encode_column("kind")
    data.select(range(99, -1, -1)).flatten_indices().save_to_disk(tmp_path / "store", num_shards=2)
    translate_store(model, tmp_path / "store", tmp_path / "out", output_format=output_format, **SMALL)
    out = tmp_path / "out"
    read = (
        load_from_disk(out)
        if output_format == "arrow"
        else Dataset.from_parquet([str(p) for p in sorted(out.glob("*.parquet"))])
    )
    assert read["id"][:] == list(range(99, -1, -1))
    assert read["text"][5] == "text 94"
    assert read.features["kind"].names == ["0", "1"]
    np.testing.assert_allclose(read.with_format("numpy")["embedding"][:], expected(model, rows)[::-1], atol=1e-5)


class Killed(BaseException):
    """What nothing catches, as SIGKILL."""


@pytest.fixture
def kill(monkeypatch):
    """Make the n-th write to disk the last thing that happens; nothing is tidied up."""

    def arm(writes: int) -> None:
        left, whole = [writes], HashedFile.write

        def write(self, data):
            left[0] -= 1
            if left[0] == 0:
                whole(self, bytes(memoryview(data).cast("B"))[:100])  # half a block
                raise Killed
            return whole(self, data)

        monkeypatch.setattr(HashedFile, "write", write)
        monkeypatch.setattr(HashedFile, "abandon", lambda self: None)

    yield arm
    monkeypatch.undo()


@pytest.mark.parametrize("output_format", ["npy", "arrow"])
def test_a_run_that_was_killed_goes_on_to_the_same_bytes(model, tmp_path, kill, monkeypatch, output_format):
    Dataset(table(vectors_of(150))).save_to_disk(tmp_path / "store", num_shards=2)
    arguments = SMALL | {"output_format": output_format, "dtype": "int8"}
    translate_store(model, tmp_path / "store", tmp_path / "whole", **arguments)
    writes = 1
    while True:
        kill(writes)
        try:
            translate_store(model, tmp_path / "store", tmp_path / f"cut{writes}", **arguments)
            break
        except Killed:
            monkeypatch.undo()
        output = tmp_path / f"cut{writes}"
        assert json.loads((output / "_manifest.json").read_text())["complete"] is False
        done = translate_store(model, tmp_path / "store", output, **arguments)
        assert done.shards + done.earlier_shards == len(list(output.glob("data-*"))) / (1 + (output_format == "npy"))
        assert contents(output) == contents(tmp_path / "whole")
        writes += 4 if output_format == "npy" else 23
    assert writes > 12


@pytest.fixture
def three_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("slow", ["reading", "translating", "writing"])
def test_no_block_is_overwritten_while_it_is_needed_whatever_is_slow(model, tmp_path, monkeypatch, slow):
    owner, name = {
        "translating": (BlockTranslator, "translate"),
        "writing": (HashedFile, "write"),
        "reading": (Run, "_blocks"),
    }[slow]
    original, draw = getattr(owner, name), random.Random(0)

    def delayed(self, *arguments):
        if slow != "reading":
            time.sleep(draw.uniform(0, 0.004))
            return original(self, *arguments)
        return (time.sleep(draw.uniform(0, 0.004)) or item for item in original(self, *arguments))

    monkeypatch.setattr(owner, name, delayed)
    rows = vectors_of(600)
    np.save(tmp_path / "x.npy", rows)
    translate_store(model, tmp_path / "x.npy", tmp_path / "out", output_format="npy", **SMALL | {"batch_size": 4})
    np.testing.assert_allclose(read_output(tmp_path / "out"), expected(model, rows), atol=1e-5)


@pytest.mark.usefixtures("three_threads")
def test_threads_are_given_back_and_bytes_do_not_depend_on_their_number(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(200))
    translate_store(model, tmp_path / "x.npy", tmp_path / "three", output_format="npy", **SMALL)
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    translate_store(model, tmp_path / "x.npy", tmp_path / "one", output_format="npy", **SMALL)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")


@pytest.mark.usefixtures("three_threads")
def test_of_several_bad_rows_the_first_is_named_whichever_thread_finds_its_own_first(model, tmp_path, monkeypatch):
    original = BlockTranslator.translate

    def delayed(self, block, buffer, place):
        time.sleep(0.03 if block.first == 64 else 0)
        return original(self, block, buffer, place)

    monkeypatch.setattr(BlockTranslator, "translate", delayed)
    rows = vectors_of(200)
    rows[[70, 85, 100]] = np.nan
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match="row 70:"):
        translate_store(model, tmp_path / "x.npy", tmp_path / "out", output_format="npy", **SMALL)
    assert torch.get_num_threads() == 3


def test_a_run_that_was_killed_before_its_manifest_is_begun_anew(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(50))
    (tmp_path / "out" / ".records").mkdir(parents=True)
    (tmp_path / "out" / ".partial-_manifest.json").write_text("{")
    assert translate_store(model, tmp_path / "x.npy", tmp_path / "out", **SMALL).rows == 50


def test_a_stream_that_was_killed_goes_on_to_the_same_bytes(model, tmp_path, kill, monkeypatch):
    for part, rows in enumerate((100, 33)):
        pq.write_table(table(vectors_of(rows, part), 100 * part), tmp_path / f"{part}.parquet", row_group_size=30)
    files = {"data_files": str(tmp_path / "*.parquet"), "split": "train", "streaming": True}

    def stream():
        return load_dataset("parquet", cache_dir=str(tmp_path / "cache"), **files)

    translate_store(model, stream(), tmp_path / "whole", **SMALL)
    whole = load_from_disk(tmp_path / "whole")
    assert whole["id"][:] == list(range(133))
    rows = np.concatenate([vectors_of(100, 0), vectors_of(33, 1)])
    np.testing.assert_allclose(whole.with_format("numpy")["embedding"][:], expected(model, rows), atol=1e-5)
    for writes in (1, 9, 17):
        kill(writes)
        with pytest.raises(Killed):
            translate_store(model, stream(), tmp_path / f"cut{writes}", **SMALL)
        monkeypatch.undo()
        translate_store(model, stream(), tmp_path / f"cut{writes}", **SMALL)
        assert contents(tmp_path / f"cut{writes}") == contents(tmp_path / "whole")


@pytest.mark.parametrize("name", ["x.jsonl", "x.csv"])
def test_a_stream_of_other_files_has_no_arrow_inside(model, tmp_path, name):
    """Lists out of JSON, strings out of CSV."""
    rows = vectors_of(40)
    if name == "x.jsonl":
        lines = [json.dumps({"id": i, "vector": row}) for i, row in enumerate(rows.tolist())]
    else:
        lines = ["id,vector", *(f'{i},"{row}"' for i, row in enumerate(rows.tolist()))]
    (tmp_path / name).write_text("\n".join(lines))
    files = {"data_files": str(tmp_path / name), "split": "train", "streaming": True}
    stream = load_dataset("json" if name == "x.jsonl" else "csv", cache_dir=str(tmp_path / "cache"), **files)
    translate_store(model, stream, tmp_path / "out.npy", **SMALL)
    np.testing.assert_allclose(np.load(tmp_path / "out.npy"), expected(model, rows), atol=1e-5)


def test_shards_that_are_damaged_or_gone_are_made_anew(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(100))
    arguments = SMALL | {"output_format": "npy"}
    output = tmp_path / "out"
    translate_store(model, tmp_path / "x.npy", output, **arguments)
    before = contents(output)
    done = translate_store(model, tmp_path / "x.npy", output, **arguments)
    assert (done.rows, done.shards, done.earlier_shards) == (0, 0, 4)
    damaged = bytearray((output / "data-00000-00001.npy").read_bytes())
    damaged[-1] ^= 1
    (output / "data-00000-00001.npy").write_bytes(damaged)
    assert translate_store(model, tmp_path / "x.npy", output, **arguments).shards == 0  # its size is right
    assert translate_store(model, tmp_path / "x.npy", output, verify=True, **arguments).shards == 1
    assert contents(output) == before
    (output / "data-00000-00003.npy").unlink()
    assert translate_store(model, tmp_path / "x.npy", output, **arguments).shards == 1
    assert contents(output) == before


@pytest.fixture
def holes(tmp_path):
    """Rows 40 and 41 are NaN, 55 is zero, 70 infinite, and row 80 is null."""
    rows = vectors_of(100)
    rows[[40, 41]], rows[55], rows[70, 3] = np.nan, 0, np.inf
    data = table(rows)
    vector = pa.array([None if i == 80 else row for i, row in enumerate(rows.tolist())], pa.list_(pa.float32(), 6))
    pq.write_table(data.set_column(1, "vector", vector), tmp_path / "x.parquet", row_group_size=30)
    return rows


def test_invalid_rows_stop_the_run_and_dropping_them_goes_on_from_there(model, tmp_path, holes):
    message = r"x.parquet', row 40: no vector, or NaN or infinite values. 2 of the 16 rows from 32 on are such"
    with pytest.raises(ValueError, match=message):
        translate_store(model, tmp_path / "x.parquet", tmp_path / "out", **SMALL)
    assert [path.name for path in (tmp_path / "out").glob("data-*")] == []  # the first shard is of 60 rows
    done = translate_store(model, tmp_path / "x.parquet", tmp_path / "out", invalid_rows="drop", **SMALL)
    assert (done.rows, done.invalid_rows) == (95, 5)
    kept = [i for i in range(100) if i not in (40, 41, 55, 70, 80)]
    data = load_from_disk(tmp_path / "out")
    assert data["id"][:] == kept
    np.testing.assert_allclose(data.with_format("numpy")["embedding"][:], expected(model, holes[kept]), atol=1e-5)
    shards = json.loads((tmp_path / "out" / "_manifest.json").read_text())["shards"]
    assert [range_ for shard in shards for range_ in shard["invalid"]] == [[40, 42], [55, 56], [70, 71], [80, 81]]


@pytest.mark.parametrize("output", ["out.npy", "out.safetensors", "out.parquet", "out"])
def test_an_input_of_which_no_row_is_left_is_refused(model, tmp_path, output):
    np.save(tmp_path / "x.npy", np.zeros((100, 6), dtype=np.float32))
    for _ in range(2):  # the second time, the shards of a folder are there
        with pytest.raises(ValueError, match="`invalid_rows` drop leaves nothing to write: all 100 rows are missing, zero"):
            translate_store(model, tmp_path / "x.npy", tmp_path / output, invalid_rows="drop", **SMALL)
        assert not (tmp_path / output).is_file()


@pytest.mark.parametrize("dtype", ["float32", "int8"])
def test_invalid_rows_are_marked(model, tmp_path, holes, dtype):
    translate_store(model, tmp_path / "x.parquet", tmp_path / "out", invalid_rows="mark", dtype=dtype, **SMALL)
    data = load_from_disk(tmp_path / "out").with_format("numpy")[:]
    invalid = np.isin(np.arange(100), [40, 41, 55, 70, 80])
    assert (data["valid"] == ~invalid).all()
    undone = data["embedding"] * data.get("scale", np.ones(100))[:, None]
    assert (np.isnan(undone).all(1) == invalid).all()
    truth = expected(model, holes[~invalid])
    np.testing.assert_allclose(undone[~invalid], truth, atol=np.abs(truth).max() / 254 + 1e-5)


def test_float16_that_overflows_names_the_row(tmp_path):
    big = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 6}, adapter_layers=0, backbone_layers=0))
    rows = vectors_of(50)
    rows[33] *= 1e6
    np.save(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match="x.npy', row 33: its translation has values beyond 65,504"):
        translate_store(big, tmp_path / "x.npy", tmp_path / "out.npy", dtype="float16", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


def test_input_that_cannot_be_read_is_named(model, tmp_path):
    whole = vectors_of(50)
    for name in ("a.npy", "a.fbin", "a.safetensors", "a.parquet"):
        write_store(tmp_path / name, whole)
        half = tmp_path / f"half-{name}"
        half.write_bytes((tmp_path / name).read_bytes()[:-30])
        with pytest.raises(ValueError, match=f"`input` '.*half-{name}' cannot be read: "):
            translate_store(model, half, tmp_path / "out", **SMALL)
    (tmp_path / "mixed").mkdir()
    np.save(tmp_path / "mixed" / "1.npy", whole)
    np.save(tmp_path / "mixed" / "2.npy", whole[:, :5])
    np.save(tmp_path / "ints.npy", whole.astype(np.int8))
    np.save(tmp_path / "five.npy", whole[:, :5])
    np.save(tmp_path / "none.npy", whole[:0])
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object), allow_pickle=True)
    ragged = [row if i != 44 else row[:3] for i, row in enumerate(whole.tolist())]
    pq.write_table(pa.table({"vector": ragged}), tmp_path / "ragged.parquet")
    cases = {
        "mixed": r"dimension 5 in '.*2.npy', but 6 in '.*1.npy'",
        "ints.npy": "int8 values",
        "five.npy": "five.npy' has vectors of dimension 5, but the space 'a' has dimension 6",
        "none.npy": "is empty",
        "objects.npy": "object values",
        "ragged.parquet": "ragged.parquet', row 44: a vector of dimension 3; the rows before it have 6",
        "missing.npy": "where there is nothing",
    }
    for name, message in cases.items():
        with pytest.raises((ValueError, TypeError, OSError), match=message):
            translate_store(model, tmp_path / name, tmp_path / "out.npy", **SMALL)
    assert not list(tmp_path.glob("*out.npy"))
    (tmp_path / "mixed" / "2.parquet").touch()
    with pytest.raises(ValueError, match=r"several kinds \['.npy', '.parquet'\]"):
        translate_store(model, tmp_path / "mixed", tmp_path / "out.npy", **SMALL)


def test_a_parquet_file_that_is_damaged_in_the_middle_is_named_with_the_row(model, tmp_path):
    pq.write_table(table(vectors_of(2000)), tmp_path / "x.parquet", row_group_size=1000, compression="zstd")
    content = bytearray((tmp_path / "x.parquet").read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.parquet', at or after row [\d,]+, cannot be read"):
        translate_store(model, tmp_path / "x.parquet", tmp_path / "out", **SMALL | {"shard_rows": 1000})
    assert len(list((tmp_path / "out").glob("data-*"))) <= 1


def test_the_manifest_of_another_job_is_refused(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(100))
    np.save(tmp_path / "y.npy", vectors_of(100, 1))
    output = tmp_path / "out"
    translate_store(model, tmp_path / "x.npy", output, **SMALL)
    before = contents(output)
    torch.manual_seed(1)
    other = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16))
    cases = [
        (other, "x.npy", {}, "translator.weights_sha256 was"),
        (model, "y.npy", {}, r"input.files: .*x.npy.* there, .*y.npy.* here"),
        (model, "x.npy", {"dtype": "float16"}, "output.dtype was 'float32', is 'float16'"),
    ]
    for translator, name, more, message in cases:
        with pytest.raises(FileExistsError, match=message):
            translate_store(translator, tmp_path / name, output, **SMALL | more)
    np.save(tmp_path / "x.npy", vectors_of(100, 1))  # of the same name and size
    with pytest.raises(FileExistsError, match="input.files: "):
        translate_store(model, tmp_path / "x.npy", output, **SMALL)
    assert contents(output) == before
    long = vectors_of(30_000)
    np.save(tmp_path / "long.npy", long)
    translate_store(model, tmp_path / "long.npy", tmp_path / "long", **SMALL | {"shard_rows": 10_000})
    long[14_000:16_000] *= -1  # as when a part of a store is embedded again
    np.save(tmp_path / "long.npy", long)
    with pytest.raises(FileExistsError, match="input.files: "):
        translate_store(model, tmp_path / "long.npy", tmp_path / "long", **SMALL | {"shard_rows": 10_000})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for overwrite, message in ((False, "without a manifest"), (True, "in the way and no data set")):
        with pytest.raises(FileExistsError, match=message):
            translate_store(model, tmp_path / "x.npy", tmp_path / "mine", overwrite=overwrite, **SMALL)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "mine"


def test_overwriting_keeps_the_old_until_the_new_is_complete(model, tmp_path, kill, monkeypatch):
    for name in ("x", "y"):
        np.save(tmp_path / f"{name}.npy", vectors_of(100, ord(name)))
    output = tmp_path / "out"
    translate_store(model, tmp_path / "x.npy", output, **SMALL)
    before = contents(output)
    kill(15)
    with pytest.raises(Killed):
        translate_store(model, tmp_path / "y.npy", output, overwrite=True, **SMALL)
    monkeypatch.undo()
    assert contents(output) == before
    done = translate_store(model, tmp_path / "y.npy", output, overwrite=True, **SMALL)
    assert done.earlier_shards > 0
    assert {path.name for path in tmp_path.iterdir()} == {"x.npy", "y.npy", "out"}
    assert contents(output) != before


def test_a_second_writer_is_refused(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(50))
    for name in ("out", "out.npy"):
        with locked(tmp_path / name), pytest.raises(FileExistsError, match="another process is writing there"):
            translate_store(model, tmp_path / "x.npy", tmp_path / name, **SMALL)
        assert not (tmp_path / name).exists()
        translate_store(model, tmp_path / "x.npy", tmp_path / name, **SMALL)
    assert not list(tmp_path.glob(".lock-*"))


@pytest.mark.parametrize("name", ["out", "out.npy"])
def test_a_full_disk_is_one_message_and_what_is_complete_stays(model, tmp_path, monkeypatch, name):
    np.save(tmp_path / "x.npy", vectors_of(100))
    with monkeypatch.context() as patched:
        room, whole = [1500], HashedFile.write

        def write(self, data):
            room[0] -= memoryview(data).nbytes
            if room[0] < 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return whole(self, data)

        patched.setattr(HashedFile, "write", write)
        with pytest.raises(OSError, match=f"`output` '.*{name}': No space left on device. .*[Mm]ake room and start again"):
            translate_store(model, tmp_path / "x.npy", tmp_path / name, output_format="npy", **SMALL)
    assert not list(tmp_path.rglob(".partial-*"))
    done = translate_store(model, tmp_path / "x.npy", tmp_path / name, output_format="npy", **SMALL)
    assert done.earlier_shards == (1 if name == "out" else 0)
    with monkeypatch.context() as patched:
        patched.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": 1000}))
        with pytest.raises(OSError, match="needs 0.0 GB more, and 0.0 GB are free"):
            translate_store(model, tmp_path / "x.npy", tmp_path / "other", **SMALL)


def test_foreign_vectors_are_told_once(tmp_path):
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()
    model.normalizers["a"].mean.fill_(3)
    np.save(tmp_path / "x.npy", vectors_of(500))
    with pytest.warns(UserWarning, match="made in another way") as seen:
        translate_store(model, tmp_path / "x.npy", tmp_path / "out", **SMALL | {"batch_size": 64})
    assert len(seen) == 1
    model.normalizers["a"].mean.zero_()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translate_store(model, tmp_path / "x.npy", tmp_path / "out2", **SMALL)


def test_bad_arguments(model, tmp_path):
    np.save(tmp_path / "x.npy", vectors_of(50))
    pq.write_table(table(vectors_of(50)).append_column("embedding", pa.array(["x"] * 50)), tmp_path / "taken.parquet")
    facts = pa.array([[("page", 1)]] * 50, pa.map_(pa.string(), pa.int64()))
    pq.write_table(table(vectors_of(50)).append_column("facts", facts), tmp_path / "maps.parquet")
    cases = [
        ("x.npy", "out.csv", {}, "no known format"),
        ("x.npy", "out.fbin", {"dtype": "int8"}, "its suffix must be .i8bin"),
        ("x.npy", "out.npy", {"output_format": "fbin"}, "is one file of another format"),
        ("x.npy", "out", {"output_format": "csv"}, "must be one of"),
        ("x.npy", "out", {"batch_size": 0}, "must be at least 1"),
        ("x.npy", "out", {"target": "z"}, "`target` is 'z'"),
        ("taken.parquet", "out", {}, "in the column 'embedding' strings that are no vectors"),
        ("taken.parquet", "out", {"column": "vector"}, r"has the columns \['embedding'\], names that are needed"),
        ("taken.parquet", "out", {"column": "nothing"}, "not 'nothing'"),
        ("maps.parquet", "out", {"column": "vector"}, "columns of types that data sets do not know: {'facts': "),
    ]
    for name, output, more, message in cases:
        with pytest.raises((ValueError, TypeError), match=message):
            translate_store(model, tmp_path / name, tmp_path / output, **SMALL | more)
        assert not (tmp_path / output).exists()
