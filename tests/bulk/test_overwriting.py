"""The store that is read is never changed, and what is overwritten stays until the new one is whole."""

import gc
import mmap
import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import load_from_disk

from helpers.stores import contents, read_output, table, tree, vectors_of, write_store
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.data.files import check_output

SMALL = {"source": "a", "target": "a", "shard_rows": 32, "batch_size": 16, "progress": False, "overwrite": True}


@pytest.fixture
def place(tmp_path):
    """A file, a folder of files, a saved data set, and other names for them."""
    write_store(tmp_path / "x.npy", vectors_of(100))
    (tmp_path / "store").mkdir()
    for i in range(2):
        write_store(tmp_path / "store" / f"data-{i}.npy", vectors_of(50, i))
    write_store(tmp_path / "saved", vectors_of(100))
    os.link(tmp_path / "x.npy", tmp_path / "hard.npy")
    (tmp_path / "soft.npy").symlink_to(tmp_path / "x.npy")
    (tmp_path / "link").symlink_to(tmp_path / "store")
    (tmp_path / "saved_link").symlink_to("saved")
    return tmp_path


WAYS = [("x.npy", "x.npy"), ("x.npy", "hard.npy"), ("x.npy", "soft.npy"), ("soft.npy", "x.npy"), ("x.npy", "store/../x.npy")]
WAYS += [("saved", "saved"), ("saved", "saved_link"), ("saved_link", "saved"), ("saved", "saved/translated")]
WAYS += [("store", "store"), ("store", "link"), ("link", "store"), ("store", "store/new"), ("link", "store/new.npy")]
WAYS += [("store/data-*.npy", "store"), ("store/data-1.npy", "store"), ("store", "."), ("store/data-1.npy", "link")]


@pytest.mark.parametrize(("given", "output"), WAYS)
def test_an_output_that_is_the_input_by_whatever_name_is_refused(model, place, given, output):
    before = tree(place)
    with pytest.raises(
        ValueError, match="`output` .* (is what is read|holds .* which is read|lies inside .* which is read)"
    ):
        translate_store(model, place / given, place / output, **SMALL)
    assert tree(place) == before


def test_a_place_beside_the_input_is_fine(model, place):
    before = tree(place)
    translate_store(model, place / "store" / "data-1.npy", place / "store" / "new.npy", **SMALL)
    translate_store(model, place / "x.npy", place / "x", **SMALL)
    assert {name: content for name, content in tree(place).items() if name in before} == before


def test_what_an_earlier_run_did_not_make_stays_in_an_overwritten_folder(model, place):
    output = place / "out"
    translate_store(model, place / "saved", output, output_format="parquet", **SMALL)
    (output / "README.md").write_text("mine")
    (output / "plots").mkdir()
    (output / "plots" / "a.txt").write_text("mine")
    translate_store(model, place / "store", output, output_format="npy", **SMALL)
    translate_store(model, place / "store", place / "whole", output_format="npy", **SMALL)
    assert contents(output) == contents(place / "whole") | {"README.md": b"mine"}
    assert (output / "plots" / "a.txt").read_text() == "mine"


def test_a_bad_row_leaves_the_old_folder_and_the_old_file(model, place):
    rows = vectors_of(100)
    rows[90] = np.nan
    np.save(place / "bad.npy", rows)
    for name in ("out", "out.npy"):
        translate_store(model, place / "x.npy", place / name, **SMALL)
    before = tree(place / "out"), (place / "out.npy").read_bytes()
    for name in ("out", "out.npy"):
        with pytest.raises(ValueError, match="row 90"):
            translate_store(model, place / "bad.npy", place / name, **SMALL)
    assert (tree(place / "out"), (place / "out.npy").read_bytes()) == before
    done = translate_store(model, place / "bad.npy", place / "out", invalid_rows="drop", **SMALL)
    assert done.earlier_shards > 0  # it goes on from what the run that stopped had made
    assert tree(place / "out") != before[0]
    assert not list(place.glob(".*"))


def test_a_link_to_another_disk_stays_a_link(model, place):
    (place / "disk").mkdir()
    for name in ("out", "out.npy"):
        (place / name).symlink_to(place / "disk" / name)
        translate_store(model, place / "x.npy", place / name, **SMALL)
        translate_store(model, place / "x.npy", place / name, **SMALL)
        assert (place / name).is_symlink()
    assert sorted(path.name for path in (place / "disk").iterdir()) == ["out", "out.npy"]


def test_texts_are_not_replaced_by_their_vectors(tmp_path):
    for name in ("texts.parquet", "folder"):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "texts.parquet").touch()
        with pytest.raises(ValueError, match="is what is read"):
            check_output(tmp_path / name, overwrite=True, reads=[tmp_path / name])


WHOLE = [(suffix, "float32", "a shard") for suffix in (".npy", ".fbin", ".safetensors", ".parquet", ".arrow")]
WHOLE += [(suffix, "int8", "a block") for suffix in (".npy", ".safetensors", ".parquet")]
WHOLE += [(".npy", "float16", "all but one"), (".parquet", "int8", "all but one")]


@pytest.mark.parametrize(("suffix", "dtype", "invalid"), WHOLE)
def test_whole_blocks_of_invalid_rows_are_dropped_or_marked(model, tmp_path, suffix, dtype, invalid):
    rows = vectors_of(100)
    bad = {"a block": slice(16, 32), "a shard": slice(32, 64), "all but one": slice(1, None)}[invalid]
    rows[bad] = np.nan
    kept = np.isfinite(rows).all(1)
    arguments = SMALL | {"output_format": {".arrow": "arrow", ".parquet": "parquet"}.get(suffix, suffix[1:]), "dtype": dtype}
    write_store(tmp_path / "x.npy", rows)
    done = translate_store(model, tmp_path / "x.npy", tmp_path / "dropped", invalid_rows="drop", **arguments)
    assert (done.rows, done.invalid_rows) == (kept.sum(), (~kept).sum())
    write_store(tmp_path / "kept.npy", rows[kept])
    translate_store(model, tmp_path / "kept.npy", tmp_path / "kept", **arguments)
    marked = translate_store(model, tmp_path / "x.npy", tmp_path / "marked", invalid_rows="mark", **arguments)
    assert (marked.rows, marked.invalid_rows) == (100, (~kept).sum())
    found, truth, all_rows = (values(tmp_path / name, suffix) for name in ("dropped", "kept", "marked"))
    np.testing.assert_array_equal(found, truth)
    np.testing.assert_array_equal(all_rows[kept], truth)
    assert np.isnan(all_rows[~kept]).all()


def values(folder, suffix) -> np.ndarray:
    if suffix != ".arrow":
        return read_output(folder)
    data = load_from_disk(folder).with_format("numpy")[:]
    return data["embedding"] * np.asarray(data.get("scale", 1), dtype=np.float32)[..., None]


def test_null_and_empty_vectors_go_through_every_mode(model, tmp_path):
    rows = vectors_of(60)
    for name, missing in (("null", None), ("empty", [])):
        listed = [missing if i in (0, 41) else row for i, row in enumerate(rows.tolist())]
        data = table(rows).set_column(1, "vector", pa.array(listed, pa.list_(pa.float32())))
        pq.write_table(data, tmp_path / f"{name}.parquet")
        with pytest.raises(ValueError, match="row 0: no vector"):
            translate_store(model, tmp_path / f"{name}.parquet", tmp_path / "out.npy", **SMALL)
        done = translate_store(model, tmp_path / f"{name}.parquet", tmp_path / "out.npy", invalid_rows="drop", **SMALL)
        assert (done.rows, done.invalid_rows) == (58, 2)
        translate_store(model, tmp_path / f"{name}.parquet", tmp_path / "out.parquet", invalid_rows="mark", **SMALL)
        found = pq.read_table(tmp_path / "out.parquet")
        assert found["id"].to_pylist() == list(range(60))
        assert [i for i, valid in enumerate(found["valid"].to_pylist()) if not valid] == [0, 41]
    pq.write_table(pa.table({"vector": pa.array([None, []], pa.list_(pa.float32()))}), tmp_path / "none.parquet")
    with pytest.raises(ValueError, match="not one of its rows has a vector"):
        translate_store(model, tmp_path / "none.parquet", tmp_path / "none.npy", **SMALL)


def test_a_translation_that_is_not_finite_is_never_written(model, tmp_path):
    write_store(tmp_path / "x.npy", vectors_of(50))
    broken = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()
    with torch.no_grad():
        broken.normalizers["b"].mean[2] = torch.inf
    for dtype in ("float32", "float16", "int8"):
        with pytest.raises(ValueError, match="row 0: its translation has"):
            translate_store(
                broken, tmp_path / "x.npy", tmp_path / f"out-{dtype}.npy", dtype=dtype, **SMALL | {"target": "b"}
            )
    assert [path.name for path in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("shown", [True, False])
def test_bars_are_shown_unless_the_environment_or_the_caller_says_no(model, tmp_path, capfd, monkeypatch, shown):
    write_store(tmp_path / "x.npy", vectors_of(50))
    arguments = SMALL | {"progress": shown}
    translate_store(model, tmp_path / "x.npy", tmp_path / "out.npy", **arguments)
    assert ("vectors/s" in capfd.readouterr().err) == shown


@pytest.mark.parametrize("suffix", [".parquet", ".npy"])
def test_a_run_that_stops_says_nothing_but_its_error(model, tmp_path, suffix, capfd):
    rows = vectors_of(100)
    rows[50] = np.nan
    write_store(tmp_path / "x.npy", rows)
    with pytest.raises(ValueError, match="row 50"):
        translate_store(model, tmp_path / "x.npy", tmp_path / f"out{suffix}", **SMALL)
    gc.collect()  # a writer that is forgotten
    assert capfd.readouterr().err == ""


def test_it_runs_where_the_system_lacks_calls_of_linux(model, tmp_path, monkeypatch):
    write_store(tmp_path / "saved", vectors_of(100))
    monkeypatch.setattr("hf_vec2vec.bulk.writers.FLUSHED", 64)
    monkeypatch.setattr("hf_vec2vec.data.table_files.RESIDENT", 64)
    translate_store(model, tmp_path / "saved", tmp_path / "linux", **SMALL)
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    monkeypatch.delattr(mmap, "MADV_DONTNEED", raising=False)
    translate_store(model, tmp_path / "saved", tmp_path / "other", **SMALL)
    assert contents(tmp_path / "linux") == contents(tmp_path / "other")


@pytest.mark.parametrize("name", ["out.npy", "out.i8bin"])
def test_int8_without_room_for_its_scales_leaves_values_and_scales_as_they_were(tmp_path, monkeypatch, model, name):
    write_store(tmp_path / "old.npy", vectors_of(40, 1))
    write_store(tmp_path / "new.npy", vectors_of(60, 2))
    output = tmp_path / "made" / name
    arguments = {"source": "a", "target": "b", "dtype": "int8", "progress": False}
    translate_store(model, tmp_path / "old.npy", output, **arguments)
    before = contents(output.parent)
    assert len(before) == 2
    with monkeypatch.context() as full:
        full.setattr(
            "hf_vec2vec.bulk.writers._copy", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
        )
        with pytest.raises(OSError, match="No space left"):
            translate_store(model, tmp_path / "new.npy", output, overwrite=True, **arguments)
    assert contents(output.parent) == before
    translate_store(model, tmp_path / "new.npy", output, overwrite=True, **arguments)
    assert contents(output.parent).keys() == before.keys()
    assert contents(output.parent) != before


INT8 = {"source": "a", "target": "b", "dtype": "int8", "progress": False}


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["out.npy", "out.i8bin"])
def test_scales_replace_no_file_but_their_own(model, tmp_path, name, overwrite):
    write_store(tmp_path / "x.npy", vectors_of(40))
    output = tmp_path / "made" / name
    output.parent.mkdir()
    np.save(output.parent / "out.scale.npy", np.arange(7.0))
    before = contents(output.parent)
    with pytest.raises(FileExistsError, match="would have its scales in .*out.scale.npy', where another file is"):
        translate_store(model, tmp_path / "x.npy", output, overwrite=overwrite, **INT8)
    assert contents(output.parent) == before
    (output.parent / "out.scale.npy").rename(tmp_path / "mine.npy")
    translate_store(model, tmp_path / "x.npy", output, overwrite=overwrite, **INT8)
    other = output.with_suffix(".npy" if name == "out.i8bin" else ".i8bin")  # whose scales would have the same name
    with pytest.raises(FileExistsError, match="where another file is"):
        translate_store(model, tmp_path / "x.npy", other, overwrite=overwrite, **INT8)


def test_scales_go_with_the_file_that_they_belonged_to(model, tmp_path):
    write_store(tmp_path / "x.npy", vectors_of(40))
    output, scales = tmp_path / "out.npy", tmp_path / "out.scale.npy"
    translate_store(model, tmp_path / "x.npy", output, **INT8)
    assert scales.exists()
    plain = INT8 | {"dtype": "float32", "overwrite": True}
    translate_store(model, tmp_path / "x.npy", output, **plain)
    assert not scales.exists()
    np.save(scales, np.ones(40, "f4"))  # of something else: what is there is not in int8
    translate_store(model, tmp_path / "x.npy", output, **plain)
    assert scales.exists()


def test_scales_do_not_replace_what_is_read(model, tmp_path):
    write_store(tmp_path / "out.scale.npy", vectors_of(40))
    with pytest.raises(ValueError, match="out.scale.npy' is what is read"):
        translate_store(model, tmp_path / "out.scale.npy", tmp_path / "out.npy", overwrite=True, **INT8)
