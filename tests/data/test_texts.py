"""Texts as people have them: every row of a file is one text, or the lines that are none are named."""

import csv
import json
import warnings

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from hf_vec2vec.data import load_table, load_texts

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
PAGE = "<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head>\n<body>Nothing is here.</body></html>\n"
TEXTS = ["Grüße aus Köln", "a déjà vu, again", 'he said "no"', "plain"]


def written(path, texts=TEXTS, encoding="utf-8", newline="\n"):
    """Texts in the format that the suffix says; those of CSV in quotes."""
    if path.suffix == ".txt":
        content = "\n".join(texts) + "\n"
    elif path.suffix == ".csv":
        content = "n,text\n" + "".join('{},"{}"\n'.format(i, t.replace('"', '""')) for i, t in enumerate(texts))
    elif path.suffix == ".tsv":
        content = "n\ttext\n" + "".join(f"{i}\t{t}\n" for i, t in enumerate(texts))
    elif path.suffix == ".json":
        content = json.dumps([{"n": i, "text": t} for i, t in enumerate(texts)], ensure_ascii=False, indent=1)
    else:
        content = "".join(json.dumps({"n": i, "text": t}, ensure_ascii=False) + "\n" for i, t in enumerate(texts))
    path.write_bytes(content.replace("\n", newline).encode(encoding))
    return path


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".json"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_encoding_and_line_end(tmp_path, suffix, encoding, newline):
    path = written(tmp_path / f"x{suffix}", encoding=encoding, newline=newline)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert load_texts(path) == TEXTS
        if suffix != ".txt":
            assert load_table(path)["n"].to_pylist() == [0, 1, 2, 3]
    told = [str(warning.message) for warning in seen]
    if encoding == "cp1252":
        assert "is not UTF-8 and is read as cp1252" in told[0]
        assert "Köln" in told[0]
    else:
        assert not told


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text\nПривет, как дела\n".encode("cp1251"), "line 2 is not UTF-8, and the encoding is not known"),
        ("text\n日本語のテキスト\n".encode("shift_jis"), "line 2 is not UTF-8"),
        ("text\nplain\nmore\n".encode("utf-16")[2:], "line 1 holds a NUL byte"),
        (b"text\nplain\nda\0maged\n", "line 3 holds a NUL byte"),
        (b"\xef\xbb\xbftext\nplain\n\xff\xfe\n", "is not utf-8-sig, as its first bytes say"),
        (b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\x2b\x49\xad\x28\x01", "compressed"),
    ],
)
def test_an_encoding_that_is_not_known_is_an_error(tmp_path, content, message):
    (tmp_path / "x.csv").write_bytes(content)
    with pytest.raises(ValueError, match=f"x.csv' cannot be read: .*{message}"):
        load_texts(tmp_path / "x.csv")


def test_csv_values_stay_what_they_are(tmp_path):
    rows = ["007", "1e5", "1.10", "-0", "TRUE", "NULL", "nan", "2024-05-06", "12345678901234567890"]
    path = written(tmp_path / "x.csv", rows)
    assert load_texts(path) == rows
    (tmp_path / "codes.csv").write_text("text,code,count,share\na,007,1,0.5\nb,010,20,1\nc,100,,0.25\n")
    table = load_table(tmp_path / "codes.csv")
    assert table["code"].to_pylist() == ["007", "010", "100"]
    assert table["count"].to_pylist() == [1, 20, None]
    assert table["share"].to_pylist() == [0.5, 1.0, 0.25]
    (tmp_path / "numbers.jsonl").write_text('{"text": 7}\n{"text": 7.5}\n{"text": "007"}\n')
    assert load_texts(tmp_path / "numbers.jsonl") == ["7", "7.5", "007"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [";", "^", "\t"])
def test_a_csv_may_tell_its_separator_as_excel_does(tmp_path, separator, encoding):
    lines = f"sep={separator}", f"id{separator}text", f'1{separator}"one{separator}, two"', f"2{separator}three", ""
    (tmp_path / "x.csv").write_bytes("\r\n".join(lines).encode(encoding))
    assert load_texts(tmp_path / "x.csv") == [f"one{separator}, two".strip(), "three"]
    assert load_table(tmp_path / "x.csv")["id"].to_pylist() == [1, 2]
    (tmp_path / "x.csv").write_bytes("\r\n".join([*lines[:4], f"3{separator} "]).encode(encoding))
    with pytest.raises(ValueError, match="1 of 3 rows have no text: line 5"):
        load_texts(tmp_path / "x.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_csv_of_any_separator(tmp_path, separator):
    rows = [["1", "one, two; three | four"], ["2", 'a "b"'], ["3", "plain"]]
    with open(tmp_path / "x.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=separator).writerows([["id", "text"], *rows])
    assert load_texts(tmp_path / "x.csv") == [text for _, text in rows]
    assert load_table(tmp_path / "x.csv")["id"].to_pylist() == [1, 2, 3]


def test_newlines_quotes_and_long_values(tmp_path):
    rows = ["one\ntwo", 'a "quote"', "comma, comma", "x" * 200_000, " spaces "]
    assert load_texts(written(tmp_path / "x.csv", rows)) == [*rows[:4], "spaces"]
    # GLUE's files have quotes as plain characters, Excel's around values.
    glue = ['"It begins with a quote', 'and here is another one"', 'b "c" d']
    assert load_texts(written(tmp_path / "glue.tsv", glue)) == glue
    (tmp_path / "excel.tsv").write_text('n\ttext\n1\t"a ""b""\tc"\n2\t"d\ne"\n')
    assert load_texts(tmp_path / "excel.tsv") == ['a "b"\tc', "d\ne"]


def test_columns_that_are_not_used_do_no_harm(tmp_path):
    lines = [{"text": f"t{i}", "meta": meta, **more} for i, (meta, more) in enumerate(MIXED)]
    (tmp_path / "x.jsonl").write_text("\n\n".join(map(json.dumps, lines)) + "\n\n")
    assert load_texts(tmp_path / "x.jsonl") == [f"t{i}" for i in range(len(MIXED))]
    table = load_table(tmp_path / "x.jsonl")
    assert table["meta"].to_pylist()[:4] == ["1", "one", '{"a": 2}', None]
    assert table["late"].to_pylist() == [None] * (len(MIXED) - 1) + [True]
    (tmp_path / "x.csv").write_text("text,note,note\na,1,2\nb,x,y\n")
    assert load_texts(tmp_path / "x.csv") == ["a", "b"]
    assert load_table(tmp_path / "x.csv").column_names == ["text", "note (1)", "note (2)"]
    (tmp_path / "two.csv").write_text("text,text\na,1\n")
    with pytest.raises(ValueError, match=r"has the columns \['text \(1\)', 'text \(2\)'\]; it needs one column 'text'"):
        load_texts(tmp_path / "two.csv")


def test_signs_of_no_meaning_are_no_part_of_a_text(tmp_path):
    """Byte-order marks of files that were joined, line ends of several systems, signs that end lines elsewhere."""
    joined = "text\none\n\ufefftwo\nthree \ufeff\n"
    (tmp_path / "x.csv").write_text(joined)
    assert load_texts(tmp_path / "x.csv") == ["one", "two", "three"]
    (tmp_path / "x.txt").write_bytes(joined.replace("text\n", "").encode("utf-8-sig"))
    assert load_texts(tmp_path / "x.txt") == ["one", "two", "three"]
    (tmp_path / "ends.csv").write_bytes(b'text,n\r\na,1\n"b\r\nc",2\r\nd,3\n')
    assert load_texts(tmp_path / "ends.csv") == ["a", "b\r\nc", "d"]
    inside = ["a\u2028b", "c\u0085d", "e\x0cf"]
    assert load_texts(written(tmp_path / "inside.txt", inside)) == inside
    assert load_texts(written(tmp_path / "inside.jsonl", inside)) == inside


COLUMNS = {
    "dictionary": (pa.array(["x", "y", "x"]).dictionary_encode(), ["x", "y", "x"]),
    "large strings": (pa.array(["x", "y"], pa.large_string()), ["x", "y"]),
    "views": (pa.array(["x", "y"], pa.string_view()), ["x", "y"]),
    "codes": (pa.array(["007", "1e5"]), ["007", "1e5"]),
    "numbers": (pa.array([7, 10**15]), ["7", "1000000000000000"]),
    "bytes": (pa.array([b"x", b"y"]), None),
    "truth values": (pa.array([True, False]), None),
    "structures": (pa.array([{"a": "x"}]), None),
    "lists": (pa.array([["x"]]), None),
    "times": (pa.array([1, 2], pa.timestamp("s")), None),
    "gaps among numbers": (pa.array([7.0, float("nan"), float("inf")]), None),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_columns_of_every_type_are_texts_as_they_are_or_named(tmp_path, kind):
    column, expected = COLUMNS[kind]
    pq.write_table(pa.table({"text": column}), tmp_path / "x.parquet")
    if expected is not None:
        assert load_texts(tmp_path / "x.parquet") == expected
        return
    with pytest.raises(ValueError, match="holds no text|2 of 3 rows have no text: row .the first is 0. 1, 2"):
        load_texts(tmp_path / "x.parquet")


MIXED = [(1, {}), ("one", {}), ({"a": 2}, {}), (None, {}), ([1, "x"], {}), (10**30, {}), (True, {"late": True})]
DOCUMENTS = ["first", "", "third", None, "fifth", "  \t", "seventh"]


def store(path) -> list[int]:
    """Documents of which some are blank; returns how the blank ones are numbered."""
    if path.suffix == ".csv":
        path.write_text('id,text\n0,"first\nline"\n1,\n2,third\n3,""\n4,fifth\n5,"  "\n6,seventh\n')
        return [4, 6, 8]
    if path.suffix == ".tsv":
        path.write_text("id\ttext\n" + "".join(f"{i}\t{(t or '').strip()}\n" for i, t in enumerate(DOCUMENTS)))
        return [3, 5, 7]
    if path.suffix == ".txt":
        path.write_text("\n".join(text or "" for text in DOCUMENTS) + "\n\n\n")
        return [2, 4, 6]
    if path.suffix == ".jsonl":
        lines = [json.dumps({"id": i} | ({} if t is None else {"text": t})) for i, t in enumerate(DOCUMENTS)]
        path.write_text("\n" + "\n".join(lines))
        return [3, 5, 7]
    if path.suffix == ".json":
        path.write_text(json.dumps([{"text": text} for text in DOCUMENTS]))
        return [2, 4, 6]
    table = pa.table({"id": list(range(7)), "text": DOCUMENTS})
    if path.suffix == ".parquet":
        pq.write_table(table, path)
    else:
        Dataset(table).save_to_disk(path)
    return [1, 3, 5]


@pytest.mark.parametrize("name", ["x.csv", "x.tsv", "x.txt", "x.jsonl", "x.json", "x.parquet", "saved"])
def test_blank_documents_are_named_and_never_shift_the_rest(tmp_path, name, caplog):
    numbers = ", ".join(map(str, store(tmp_path / name)))
    with pytest.raises(ValueError, match=f"{name}': 3 of 7 rows have no text: .* {numbers}. Each row becomes one vector"):
        load_texts(tmp_path / name)
    first = "first\nline" if name == "x.csv" else "first"
    assert load_texts(tmp_path / name, invalid_rows="drop") == [first, "third", "fifth", "seventh"]
    assert f" {numbers}. They are left out" in caplog.text


def test_a_file_of_one_column_has_a_row_for_each_blank_line_but_the_last_ones(tmp_path):
    (tmp_path / "x.csv").write_text("text\none\n\n\ntwo\n\n\n")
    with pytest.raises(ValueError, match="2 of 4 rows have no text: line 3, 4"):
        load_texts(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_text("n,text\n1,one\n\n2,two\n\n")  # here they are no rows
    assert load_texts(tmp_path / "x.csv") == ["one", "two"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", "sentence\none\n", r"has the columns \['sentence'\]; it needs one column 'text'"),
        ("x.csv", "text,label\none, two,1\n", "line 2 has 3 values, but the header has 2"),
        ("x.csv", 'text,label\n"one,1\ntwo,2\n', "line 2 cannot be read: unexpected end of data"),
        ("x.csv", 'text\n"one\\" more"\n', "line 2 cannot be read"),
        ("x.csv", "text,label\rone,1\rtwo,2\r", "x.csv.*line 1 holds a carriage return .* Save the file with the line ends"),
        ("x.csv", "text,label\none,1\ntwo\rthree,2\n", "line 3 holds a carriage return"),
        ("x.tsv", "text\tlabel\rone\t1\r", "line 1 holds a carriage return"),
        ("x.csv", "", "is empty"),
        ("x.csv", "text\n", "holds no text"),
        ("x.jsonl", '{"text": "one"},\n{"text": "two"}', "line 1 is no JSON"),
        ("x.jsonl", '{"text": "one"}\n"two"\n', "line 2 is no JSON object"),
        ("x.jsonl", '{"text": "one"}\n{"text": ["two"]}\n{"text": {"a": 1}}\n', "2 of 3 rows have no text: line 2, 3"),
        ("x.jsonl", '{"text": "one"}\n{"text": true}\n', "1 of 2 rows have no text: line 2"),
        ("x.jsonl", '{"text": "one"}\n{"text": "\\ud800 half"}\n', "1 of 2 rows have no text: line 2"),
        ("x.jsonl", '{"text": "one"}\n{"text": NaN}\n{"text": 1e400}\n', "2 of 3 rows have no text: line 2, 3"),
        ("x.jsonl", '{"text": "one", "text": "two"}\n', r"has the columns \['text \(1\)', 'text \(2\)'\]"),
        ("x.jsonl", '{"text": "a"}\n{"text": "b", "text": ""}\n', "1 of 2 rows have no text: line 2"),
        ("x.csv", "text\none\n\u200b\n", "1 of 2 rows have no text: line 3"),
        ("x.jsonl", '{"body": "one"}\n', r"has the columns \['body'\]"),
        ("x.json", '{"text": [\n"one"]}', "line 1 is no JSON"),
        ("x.json", '["one", "two"]', "item 1 is no object"),
        ("x.txt", "\n\n", "holds no text"),
        ("x.txt", "", "holds no text"),
        ("x.doc", "one", "no known format"),
        ("x.json", '{"text": ["one", "two"]}', "holds no text, but values of the type list: each row must have one text"),
        ("x.txt", POINTER, "x.txt' cannot be read: it is a pointer of Git LFS, not the file itself. .*git lfs pull"),
        ("x.csv", POINTER, "pointer of Git LFS"),
        ("x.jsonl", POINTER, "pointer of Git LFS"),
        ("x.parquet", POINTER, "pointer of Git LFS"),
        ("x.txt", PAGE, "x.txt' cannot be read: it is a web page"),
        ("x.csv", "\ufeff\n" + PAGE.lower(), "it is a web page"),
        ("x.jsonl", PAGE.split("\n", 1)[1], "it is a web page"),
        ("x.parquet", PAGE, "it is a web page"),
    ],
)
def test_bad_texts(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_texts(tmp_path / name)
    assert name in str(caught.value)


def test_tables_that_are_none(tmp_path):
    rows = Dataset.from_dict({"text": ["one"]})
    DatasetDict({"train": rows, "test": rows}).save_to_disk(tmp_path / "splits")
    with pytest.raises(
        ValueError, match=r"splits' cannot be read: it has the splits \['test', 'train'\]: give the folder of"
    ):
        load_texts(tmp_path / "splits")
    assert load_texts(tmp_path / "splits" / "test") == ["one"]
    (tmp_path / "shards.parquet").mkdir()  # as Spark writes them
    rows.to_parquet(tmp_path / "shards.parquet" / "part-0.parquet")
    with pytest.raises(ValueError, match="shards.parquet' cannot be read: it is a folder, but no saved data set"):
        load_texts(tmp_path / "shards.parquet")
    pq.write_table(pa.table([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), tmp_path / "x.parquet")
    with pytest.raises(ValueError, match="x.parquet' cannot be read: it has 2 columns 'text'"):
        load_texts(tmp_path / "x.parquet")


def test_other_columns_and_places(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        load_texts(tmp_path / "none.txt")
    pq.write_table(pa.table({"body": ["a", "b"], "n": [1, 2]}), tmp_path / "x.parquet")
    assert load_texts(tmp_path / "x.parquet", column="body") == ["a", "b"]
    assert load_texts(tmp_path / "x.parquet", column="n") == ["1", "2"]
    with pytest.raises(ValueError, match="`invalid_rows` is 'skip'; it must be one of stop, drop"):
        load_texts(tmp_path / "x.parquet", invalid_rows="skip")
    with pa.ipc.new_stream(tmp_path / "x.arrow", pa.schema([("text", pa.string())])) as writer:
        writer.write_table(pa.table({"text": ["a"]}))
    assert load_texts(tmp_path / "x.arrow") == ["a"]


@pytest.mark.parametrize("name", ["x.TXT", "x.CSV", "x.Tsv", "x.Json", "x.JSONL"])
def test_suffixes_in_capitals(tmp_path, name):
    written(tmp_path / name.lower())
    (tmp_path / name.lower()).rename(tmp_path / name)
    assert load_texts(tmp_path / name) == TEXTS


def test_many_pages_are_texts(tmp_path):
    pages = ["<html><body>one</body></html>", "<html><body>two</body></html>"]
    (tmp_path / "pages.txt").write_text("\n".join(pages))
    assert load_texts(tmp_path / "pages.txt") == pages


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["1.1", "1.10", "1.2"], None),
        (["1.10", "2.20"], None),  # beside 1.1 in another file, or another part of this one
        (["1", "1.0"], None),
        (["0.12345678901234567891", "0.5"], None),
        (["9007199254740993", "0.5"], None),
        (["0.5", "2", "1.25", "-0.00001", "3.0"], [0.5, 2.0, 1.25, -0.00001, 3.0]),
    ],
)
def test_numbers_of_a_csv_are_those_that_say_all_that_stands_there(values, expected, tmp_path):
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{value},a\n" for value in values))
    assert load_table(tmp_path / "a.csv")["id"].to_pylist() == (expected or values)
