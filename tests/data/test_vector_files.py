"""The one reader of vectors: every format in every use, stores as people have them, and files that are none."""

import bz2
import functools
import gzip
import io
import json
import lzma
import zipfile

import numpy as np
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, load_from_disk
from safetensors.torch import save_file

from helpers.formats import ROWS, TEXTS, write
from helpers.stores import read_output
from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.bulk import translate_store
from hf_vec2vec.data import load_embeddings, open_stream, vectors
from hf_vec2vec.data.text_vectors import PIECE
from hf_vec2vec.data.texts import load_texts
from hf_vec2vec.data.vector_files import open_files

STORES = {name: {} for name in ("saved", "x.parquet", "x.arrow", "x.feather", "x.npy", "x.fbin", "x.safetensors")}
STORES |= {name: {} for name in ("x.csv", "x.tsv", "x.jsonl", "x.json")}
STORES |= {"by_columns.npy": {"fortran": True}, "big_endian.npy": {"dtype": ">f8"}, "doubles.npy": {"dtype": "<f8"}}
STORES |= {f"strings{suffix}": {"vector": str} for suffix in (".parquet", ".arrow", ".csv", ".jsonl")}
STORES |= {"pgvector.csv": {"vector": lambda row: "[" + ",".join(map(repr, row)) + "]"}}
STORES |= {"arrays.csv": {"vector": lambda row: str(np.array(row))}}
STORES |= {"scalars.csv": {"vector": lambda row: str([np.float32(x) for x in row])}}
STORES |= {
    f"separated_by_{name}.csv": {"delimiter": sign} for name, sign in (("semicolons", ";"), ("tabs", "\t"), ("bars", "|"))
}
STORES |= {"postgres.csv": {"vector": lambda row: str(row).replace("[", "{").replace("]", "}")}}


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x", content)
    return file.getvalue()


def loaded(path) -> np.ndarray:
    return vectors(load_embeddings(path), "x").numpy()


def streamed(path) -> np.ndarray:
    return np.concatenate([vectors(table, "x").numpy() for table in open_stream(path).with_format("arrow").iter(32)])


@functools.cache
def a_translator() -> Vec2VecModel:
    torch.manual_seed(0)
    return Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 6}, hidden_dim=16)).eval()


def translated(path) -> np.ndarray:
    """What comes out of a translator, less what it does to the rows."""
    model = a_translator()
    output = path.parent / f"out-{path.name.replace('.', '-')}"
    arguments = {"source": "a", "target": "b", "shard_rows": 16, "batch_size": 8, "progress": False}
    translate_store(model, path, output, output_format="npy", **arguments)
    truth = model.translate(torch.from_numpy(ROWS), source="a", target="b").numpy()
    found = read_output(output)
    return ROWS + (found - truth)


@pytest.mark.parametrize("use", [loaded, streamed, translated])
@pytest.mark.parametrize("name", STORES)
def test_every_format_in_every_use(tmp_path, name, use):
    write(tmp_path / name, **STORES[name])
    np.testing.assert_allclose(use(tmp_path / name), ROWS, atol=1e-5)


@pytest.mark.parametrize("use", [loaded, streamed, translated])
@pytest.mark.parametrize(("suffix", "pattern"), [(".npy", "store/part-*"), (".parquet", "store"), (".csv", "store")])
def test_folders_and_patterns_are_read_in_the_order_of_their_numbers(tmp_path, suffix, use, pattern):
    (tmp_path / "store").mkdir()
    for number, part in zip((1, 2, 10), np.split(ROWS, [40, 43]), strict=True):
        write(tmp_path / "store" / f"part-{number}{suffix}", part)
    (tmp_path / "store" / "notes.md").write_text("Mine.")
    if use is translated and "*" in pattern:
        (tmp_path / "store" / "out").mkdir()
    np.testing.assert_allclose(use(tmp_path / pattern if use is not translated else tmp_path / "store"), ROWS, atol=1e-5)


@pytest.mark.parametrize("use", [loaded, streamed, translated])
@pytest.mark.parametrize("suffix", [".npy", ".fbin", ".safetensors", ".parquet", ".csv", ".jsonl"])
def test_a_part_whose_suffix_is_in_capitals_is_not_passed_over(tmp_path, suffix, use):
    (tmp_path / "store").mkdir()
    for name, part in zip(("1", "2"), np.split(ROWS, [40]), strict=True):
        write(tmp_path / "store" / f"{name}{suffix}", part)
    (tmp_path / "store" / f"2{suffix}").rename(tmp_path / "store" / f"2{suffix.upper()}")
    np.testing.assert_allclose(use(tmp_path / "store"), ROWS, atol=1e-5)


@pytest.mark.parametrize("suffix", [".npy", ".fbin", ".safetensors", ".parquet", ".csv"])
def test_a_web_page_is_called_one(tmp_path, suffix):
    (tmp_path / f"x{suffix}").write_text("<!doctype html>\n<html><body>404 Not Found</body></html>")
    with pytest.raises(ValueError, match="it is a web page"):
        open_files(tmp_path / f"x{suffix}")


def test_ids_and_texts_stay_beside_their_vectors(tmp_path):
    for name in ("saved", "x.parquet", "x.csv", "x.jsonl", "x.json"):
        write(tmp_path / name)
        data = load_embeddings(tmp_path / name, id_column="id")
        assert data["id"][:] == list(range(70)), name
        assert data["text"][:] == TEXTS, name
        stream = open_stream(tmp_path / name, id_column="id")
        assert [(row["id"], row["text"]) for row in stream] == list(zip(range(70), TEXTS, strict=True)), name
    with pytest.raises(ValueError, match="beside the vectors, not 'key'"):
        load_embeddings(tmp_path / "x.csv", id_column="key")
    with pytest.raises(ValueError, match="beside the vectors, not 'key'"):
        open_stream(tmp_path / "x.csv", id_column="key")


LARGE = 2**53 + 1  # which no float is


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_large_ids_are_not_rounded_where_fractions_come_later(tmp_path, suffix):
    """Within a file, behind the rows that are read at a time, and in another file."""

    def lines(*ids) -> str:
        rows = [{"id": id, "embedding": [1.0, 2.0]} for id in ids]
        if suffix == ".jsonl":
            return "\n".join(map(json.dumps, rows))
        return "\n".join(["id,embedding", *(f'{row["id"]},"[1.0, 2.0]"' for row in rows)])

    (tmp_path / f"one{suffix}").write_text(lines(*[LARGE] * PIECE, 0.5))
    (tmp_path / "two").mkdir()
    for name, id in (("a", LARGE), ("b", 0.5)):
        (tmp_path / "two" / f"{name}{suffix}").write_text(lines(id))
    for path in (tmp_path / f"one{suffix}", tmp_path / "two"):
        found = load_embeddings(path, id_column="id")["id"]
        assert (found[0], found[-1]) == (str(LARGE), "0.5")
        assert [row["id"] for row in open_stream(path, id_column="id")][-1] == "0.5"


def test_ids_that_no_data_set_can_hold_are_refused(tmp_path):
    """UUIDs, as Arrow reads them out of Parquet; as a column like others they are left out, and told."""
    ids = pa.array([bytes([k] * 16) for k in range(len(ROWS))], pa.uuid())
    pq.write_table(pa.table({"id": ids, "embedding": ROWS.tolist()}), tmp_path / "x.parquet")
    for reader in (load_embeddings, open_stream):
        with pytest.raises(ValueError, match="x.parquet' has in the column 'id', `id_column`, values of type .*uuid"):
            reader(tmp_path / "x.parquet", id_column="id")
    assert load_embeddings(tmp_path / "x.parquet").column_names == ["embedding"]


def test_classes_of_a_saved_data_set_keep_their_names(tmp_path):
    data = Dataset.from_dict({"embedding": ROWS.tolist(), "kind": ["a", "b"] * 35}).class_encode_column("kind")
    data.info.description = "made by a test"
    data.save_to_disk(tmp_path / "saved")
    found = load_embeddings(tmp_path / "saved")
    assert found.features["kind"].names == ["a", "b"]
    assert found.info.description == "made by a test"


def test_a_column_is_chosen_where_one_can_hold_vectors(tmp_path):
    """A store of a vector database: id, vector, a structure, tokens; and one with two columns of vectors."""
    beside = {"id": list(range(70)), "about": [{"page": i, "tags": ["x"]} for i in range(70)], "tokens": [[1, 2]] * 70}
    pq.write_table(pa.table({**beside, "vec": ROWS.tolist()}), tmp_path / "one.parquet")
    pq.write_table(pa.table({**beside, "ada": ROWS.tolist(), "large": (2 * ROWS).tolist()}), tmp_path / "two.parquet")
    np.testing.assert_allclose(loaded(tmp_path / "one.parquet"), ROWS)
    assert load_embeddings(tmp_path / "one.parquet")["about"][3] == {"page": 3, "tags": ["x"]}
    np.testing.assert_allclose(translated(tmp_path / "one.parquet"), ROWS, atol=1e-5)
    for opened in (load_embeddings, open_stream, open_files):
        with pytest.raises(ValueError, match=r"\['ada', 'large'\] could hold the vectors; name .* with `column`"):
            opened(tmp_path / "two.parquet")
        with pytest.raises(ValueError, match=r"has the columns \['id', .*'large'\], not 'small'"):
            opened(tmp_path / "two.parquet", column="small")
        with pytest.raises(TypeError, match="'tokens' int64 values"):
            opened(tmp_path / "two.parquet", column="tokens")
        with pytest.raises(ValueError, match="'about' values of type struct"):
            opened(tmp_path / "two.parquet", column="about")
    data = load_embeddings(tmp_path / "two.parquet", column="large")
    np.testing.assert_allclose(vectors(data, "x"), 2 * ROWS)
    assert "ada" in data.column_names
    first = next(iter(open_stream(tmp_path / "two.parquet", column="ada")))
    np.testing.assert_allclose(first["embedding"], ROWS[0])


TYPES = {
    "halves": (pa.list_(pa.float16()), 2e-3),
    "large lists": (pa.large_list(pa.float32()), 0),
    "fixed lists": (pa.list_(pa.float32(), 6), 0),
    "views": (pa.list_view(pa.float32()), 0),
    "doubles": (pa.list_(pa.float64()), 0),
}


@pytest.mark.parametrize("name", TYPES)
def test_lists_of_every_type(tmp_path, name):
    kind, loose = TYPES[name]
    with pa.ipc.new_file(tmp_path / "x.arrow", pa.schema([("vector", kind)])) as writer:
        writer.write_table(pa.table({"vector": pa.array(ROWS.tolist(), kind)}))
    for use in (loaded, streamed, translated):
        np.testing.assert_allclose(use(tmp_path / "x.arrow"), ROWS, atol=loose + 1e-5)


def broken(rows: list, at: int, value) -> list:
    return [value if i == at else row for i, row in enumerate(rows)]


INVALID = {
    "null": None,
    "an empty list": [],
    "NaN": [float("nan")] * 6,
    "infinity": [1.0, float("inf"), 0, 0, 0, 0],
    "zeros": [0.0] * 6,
    "what is infinite in float32": [1e300] * 6,
    "what is zero when it is squared": [1e-30] * 6,
    "what is infinite when it is squared": [1e30] * 6,
}


@pytest.mark.parametrize("what", INVALID)
@pytest.mark.parametrize(("suffix", "at"), [(".parquet", 0), (".jsonl", 57), (".arrow", 57)])
def test_rows_without_a_usable_vector_are_named_or_dropped(tmp_path, what, suffix, at):
    rows, kept = broken(ROWS.tolist(), at, INVALID[what]), np.delete(ROWS, at, 0)
    table, path = pa.table({"vec": pa.array(rows, pa.list_(pa.float64())), "id": list(range(70))}), tmp_path / f"x{suffix}"
    if suffix == ".parquet":
        pq.write_table(table, path)
    elif suffix == ".arrow":
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    else:
        path.write_text("\n".join(json.dumps({"vec": row, "id": i}) for i, row in enumerate(rows)))
    named = f"line {at + 1}" if suffix == ".jsonl" else f"row {at}"
    for use in (loaded, streamed, translated):
        with pytest.raises(ValueError, match=rf"x\{suffix}', {named}: .*1 of the \d+ rows from \d+ on are such"):
            use(path)
    data = load_embeddings(path, invalid_rows="drop")
    np.testing.assert_allclose(vectors(data, "x").numpy(), kept)
    assert data["id"][:] == [i for i in range(70) if i != at]
    stream = open_stream(path, invalid_rows="drop").with_format("arrow").iter(20)
    np.testing.assert_allclose(np.concatenate([vectors(part, "x").numpy() for part in stream]), kept)


def npy(shape: str, kind: str = "<f4", values: bytes = bytes(240)) -> bytes:
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + text.encode() + values


LIES = {
    "minus.npy": (npy("(-5, 6)"), "claims -5 rows"),
    "both_minus.npy": (npy("(-5, -12)"), "claims -5 rows"),
    "huge.npy": (npy("(1000000000, 6)"), "should hold 1,000,000,000 rows of 6 values, but holds 10.0"),
    "narrow.npy": (npy("(60, 0)"), "claims 60 rows of 0 values"),
    "flat.npy": (npy("(60,)"), r"shape is \(60,\)"),
    "cube.npy": (npy("(2, 5, 6)"), r"shape is \(2, 5, 6\)"),
    "strings.npy": (npy("(10, 6)", "<U1"), "<U1 values"),
    "bytes.npy": (npy("(10, 6)", "|u1"), "uint8 values"),
    "complex.npy": (npy("(5, 6)", "<c8"), "complex64 values"),
    "version.npy": (b"\x93NUMPY\x09\x00" + npy("(10, 6)")[8:], "cannot be read"),
    "code.npy": (npy("__import__('os').abort()"), "cannot be read"),
    "empty.npy": (b"", "cannot be read"),
    "magic.npy": (b"\x93NUMPY", "cannot be read"),
    "short.fbin": (b"1234", "shorter than its header"),
    "huge.fbin": (np.array([2**32 - 1, 6], "<u4").tobytes() + bytes(240), "should hold 4,294,967,295 rows"),
    "narrow.fbin": (np.array([60, 0], "<u4").tobytes(), "claims 60 rows of 0"),
    "longer.fbin": (np.array([5, 6], "<u4").tobytes() + bytes(240), "should hold 5 rows"),
    "header.safetensors": ((1 << 40).to_bytes(8, "little") + bytes(99), "cannot be read"),
    "text.parquet": (b"PAR1 is what it says PAR1", "cannot be read"),
    "empty.parquet": (b"", "cannot be read"),
    "text.arrow": (b"hello, this is no Arrow", "cannot be read"),
    "empty.arrow": (b"", "cannot be read"),
    "empty.csv": (b"", "no header"),
    "header.csv": (b"id,vec\n", "no rows"),
    "ragged.csv": (b'id,vec\n1,"[1.5, 2]"\n2,[1.5, 2]\n', "line 3 has 3 values"),
    "open.csv": (b'id,vec\n1,"[1.5, 2]"\n2,"[1.5', "line 3 cannot be read"),
    "words.csv": (
        b'id,vec\n1,"[1.5, 2]"\n2,"[1.5, two]"\n',
        r"line 3: a string that is no vector of numbers: '\[1.5, two\]'",
    ),
    "cut.csv": (b'id,vec\n1,"[1.5 2]"\n2,"[1.5 ... 2]"\n', "line 3: a string that is no vector"),
    "first.csv": (b'id,embedding\n1,"[1.5 ... 2]"\n', r"strings that are no vectors of numbers, such as '\[1.5 ... 2\]'"),
    "decimal_commas.csv": (b'id,vec\n1,"[1.5, 2]"\n2,"[1,5 2,25]"\n', r"line 3: a string that is no vector.*'\[1,5 2,25\]'"),
    "pointer.npy": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS, not the file itself"),
    "pointer.parquet": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "pointer.safetensors": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "pointer.fbin": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "pointer.jsonl": (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
    "longer.csv": (b'id,vec\n1,"[1.5, 2]"\n2,"[1.5, 2, 3]"\n', "line 3: a vector of dimension 3; .* have 2"),
    "none.csv": (b"id,name\n1,x\n2,y\n", "of which none holds vectors"),
    "twice.csv": (b'vec,vec\n"[1.5, 2]","[1.5, 2]"\n', "could hold the vectors"),
    "comma.jsonl": (b'{"vec": [1.5, 2]},\n{"vec": [1.5, 2]}\n', "line 1 is no JSON"),
    "half.jsonl": (b'{"vec": [1.5, 2]}\n\n{"vec": [1.5', "line 3 is no JSON"),
    "list.jsonl": (b'{"vec": [1.5, 2]}\n[1.5, 2]\n', "line 2 is no JSON object"),
    "word.jsonl": (b'{"vec": [1.5, 2]}\n{"vec": [1.5, "x"]}\n', "line 2: a vector that is no list of numbers"),
    "number.jsonl": (b'{"vec": [1.5, 2]}\n{"vec": 7}\n', "line 2: a vector that is no list of numbers"),
    "deep.jsonl": (b"[" * 100_000, "nested too deeply|no JSON"),
    "pretty.json": (b'{\n  "data": [1.5, 2.5]\n}', "line 1 is no JSON"),
    "items.json": (b'[{"vec": [1.5, 2]}, 7]', "item 2 is no object"),
    "no_rows.json": (b"[]", "no rows"),
}


@pytest.mark.parametrize("name", LIES)
def test_files_that_are_not_what_they_say(tmp_path, name):
    content, message = LIES[name]
    (tmp_path / name).write_bytes(content)
    for opened in (load_embeddings, open_stream):
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            for _ in opened(tmp_path / name):
                pass
        assert name in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["x.parquet", "x.arrow", "x.feather", "x.npy", "x.fbin", "x.safetensors", "x.jsonl", "x.csv"]
)
@pytest.mark.parametrize("share", [0.31, 0.95])
def test_a_truncated_file_is_refused_in_every_format(tmp_path, name, share):
    write(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
    for use in (loaded, streamed, translated):
        with pytest.raises(ValueError, match=rf"{name}'.*(cannot be read|line \d+)"):
            use(tmp_path / name)


def test_a_structured_array_and_objects_are_refused(tmp_path):
    np.save(tmp_path / "pairs.npy", np.zeros(5, dtype=[("id", "i4"), ("vec", "f4", 6)]))
    np.save(tmp_path / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for name in ("pairs.npy", "objects.npy"):
        with pytest.raises(TypeError, match=f"{name}' cannot be used: it holds .* values"):
            load_embeddings(tmp_path / name)


def test_tensors_are_chosen_by_name(tmp_path):
    save_file({"a": torch.from_numpy(ROWS), "b": torch.from_numpy(2 * ROWS).bfloat16()}, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match=r"holds the tensors \['a', 'b'\]; it must hold one, or `column` name one"):
        load_embeddings(tmp_path / "x.safetensors")
    np.testing.assert_allclose(vectors(load_embeddings(tmp_path / "x.safetensors", column="a"), "x"), ROWS)
    np.testing.assert_allclose(vectors(load_embeddings(tmp_path / "x.safetensors", column="b"), "x"), 2 * ROWS, rtol=1e-2)


def test_folders_that_are_no_store(tmp_path):
    (tmp_path / "mixed").mkdir()
    write(tmp_path / "mixed" / "x.npy")
    write(tmp_path / "mixed" / "x.parquet")
    with pytest.raises(ValueError, match=r"several kinds \['.npy', '.parquet'\]"):
        load_embeddings(tmp_path / "mixed")
    with pytest.raises(FileNotFoundError, match="where there is nothing"):
        load_embeddings(tmp_path / "none" / "*.npy")
    with pytest.raises(FileNotFoundError, match="where there is nothing"):
        open_stream(tmp_path / "none.npy")
    with pytest.raises(OSError, match="'org/name' is nothing on this machine, and cannot be had from the Hub"):
        open_stream("org/name")


def test_a_table_beside_vectors_is_no_part_of_the_store(tmp_path):
    (tmp_path / "store").mkdir()
    write(tmp_path / "store" / "x.npy")
    (tmp_path / "store" / "ids.csv").write_text("id\n1\n")
    np.testing.assert_allclose(loaded(tmp_path / "store"), ROWS)


def test_a_translation_is_read_again(tmp_path):
    write(tmp_path / "x.parquet")
    translated(tmp_path / "x.parquet")
    assert len(load_embeddings(tmp_path / "out-x-parquet")) == 70
    manifest = tmp_path / "out-x-parquet" / "_manifest.json"
    manifest.write_text(manifest.read_text().replace('"complete": true', '"complete": false'))
    with pytest.raises(ValueError, match="is a translation that is not complete"):
        load_embeddings(tmp_path / "out-x-parquet")


def test_a_selection_of_rows_is_refused_until_it_is_flat(tmp_path):
    Dataset.from_dict({"vec": ROWS.tolist()}).select([5, 1]).save_to_disk(tmp_path / "few")
    if "_indices_data_files" in json.loads((tmp_path / "few" / "state.json").read_text()):
        with pytest.raises(ValueError, match="flatten_indices"):
            load_embeddings(tmp_path / "few")
    else:
        np.testing.assert_allclose(loaded(tmp_path / "few"), np.array(load_from_disk(tmp_path / "few")["vec"]))


@pytest.mark.parametrize("use", [loaded, streamed, translated])
@pytest.mark.parametrize("word", ["null", "None", "nan", "NA"])
def test_a_missing_number_in_a_string_is_a_row_without_a_vector(tmp_path, word, use):
    lines = [f'{i},"{row}"' for i, row in enumerate(ROWS.tolist())]
    lines[7] = f'7,"[1.0, {word}, 2.0, 3.0, 4.0, 5.0]"'
    (tmp_path / "x.csv").write_text("id,vec\n" + "\n".join(lines))
    with pytest.raises(ValueError, match="line 9.*NaN or infinite"):
        use(tmp_path / "x.csv")
    if use is loaded:
        found = vectors(load_embeddings(tmp_path / "x.csv", invalid_rows="drop"), "x")
        np.testing.assert_allclose(found, np.delete(ROWS, 7, axis=0), atol=1e-5)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress, zipped])
def test_a_compressed_file_is_called_one(tmp_path, suffix, pack):
    write(tmp_path / f"x{suffix}")
    (tmp_path / f"x{suffix}").write_bytes(pack((tmp_path / f"x{suffix}").read_bytes()))
    for read in (load_embeddings, open_stream, load_texts):
        with pytest.raises(ValueError, match=r"it is compressed \((gzip|bzip2|xz|zip, .*)\)"):
            read(tmp_path / f"x{suffix}")


def folder_of(path, **columns) -> None:
    """Two Parquet files with a column of one type each."""
    path.mkdir()
    for name, values in columns.items():
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(12, "f4")), 6)
        pq.write_table(pa.table({"id": [name] * 2, "x": values, "embedding": vectors}), path / f"{name}.parquet")


DIFFERENT = {
    "missing, then texts": (pa.nulls(2), ["a", None], [None, None, "a", None], pa.string()),
    "whole numbers, then fractions": ([1, 2], [0.5, 1.5], [1.0, 2.0, 0.5, 1.5], pa.float64()),
    "categories, then texts": (pa.array(["a", "a"]).dictionary_encode(), ["b", "c"], ["a", "a", "b", "c"], pa.string()),
    "lists": (pa.array([[], None], pa.list_(pa.null())), [["a"], []], [[], None, ["a"], []], pa.list_(pa.string())),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_columns_whose_types_differ_between_files_become_one(tmp_path, name):
    first, second, wanted, kind = DIFFERENT[name]
    for parts, values in (((first, second), wanted), ((second, first), wanted[2:] + wanted[:2])):
        place = tmp_path / f"store-{parts[0] is first}"
        folder_of(place, a=parts[0], b=parts[1])
        assert open_files(place).schema().field("x").type == kind
        assert load_embeddings(place)["x"][:] == values
        ends = {"source": "a", "target": "b", "progress": False}
        for output in (place.with_suffix(".parquet"), place.with_name(f"{place.name}-out")):
            translate_store(a_translator(), place, output, **ends)
            assert load_embeddings(output)["x"][:] == values


@pytest.mark.parametrize("use", ["loaded", "translated"])
def test_columns_that_no_type_can_hold_are_told_before_any_work(tmp_path, use):
    folder_of(tmp_path / "store", a=pa.nulls(2), b=[1, 2], c=["x", "y"])
    message = r"has int64 in the column 'x' of .*b.parquet', but string in that of .*c.parquet'"
    ends = {"source": "a", "target": "b", "progress": False}
    read = {"loaded": load_embeddings, "translated": lambda x: translate_store(a_translator(), x, tmp_path / "out", **ends)}
    with pytest.raises(ValueError, match=message):
        read[use](tmp_path / "store")
    assert not (tmp_path / "out").exists()
    done = translate_store(a_translator(), tmp_path / "store", tmp_path / "out.npy", **ends)  # which keeps no columns
    assert set(done.dropped_columns) == {"id", "x"}


def test_a_number_that_the_common_type_cannot_hold_is_named(tmp_path):
    folder_of(tmp_path / "store", a=[0.5, 1.5], b=[1, 2**60 + 1])
    with pytest.raises(ValueError, match=r"b.parquet', at or after row 0, cannot be read: Integer value \d+ not in range"):
        load_embeddings(tmp_path / "store")


def test_a_column_of_text_files_is_text_if_it_is_in_one_of_them(tmp_path):
    (tmp_path / "store").mkdir()
    for name, pages in (("a", ["12", "1.50"]), ("b", ["12a", "7"])):
        lines = ["page,embedding", *(f'{page},"[1, 2, 3, 4, 5, 6]"' for page in pages)]
        (tmp_path / "store" / f"{name}.csv").write_text("\n".join(lines))
    assert load_embeddings(tmp_path / "store")["page"][:] == ["12", "1.50", "12a", "7"]
