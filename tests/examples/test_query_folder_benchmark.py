"""The folder that benchmarks of queries read: right answers are right, and no text that answers may train."""

import sys
from pathlib import Path

import numpy as np
import pytest
from datasets import Dataset

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import query_folder

    yield query_folder
    sys.modules.pop("query_folder")


def run(benchmark, monkeypatch, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["x", *map(str, words)])
    benchmark.main()


def read(file: Path) -> list[str]:
    return Dataset.from_parquet(str(file))["question"][:]


def test_passages_that_answer_or_are_copies_do_not_train(benchmark, static, monkeypatch, tmp_path):
    texts = ["the moon is far", "a cat sat there", "The  moon is far.", "dogs bark", "dogs bark", "rain falls"]
    sources = ["asked", "asked", "other", "other", "other", "other"]
    Dataset.from_dict({"text": texts, "source": sources}).to_parquet(tmp_path / "texts.parquet")
    asked = {"question": ["how far?", "who sat?", "unknown?"], "passage": ["the moon is far", "A cat sat there", "gone"]}
    Dataset.from_dict(asked).to_parquet(tmp_path / "nq.parquet")
    words = ["--output", tmp_path / "out", "--passages", tmp_path / "texts.parquet", "--leave_out", "asked"]
    words += ["--questions", f"nq={tmp_path / 'nq.parquet'}:passage", "--train", f"more={tmp_path / 'nq.parquet'}"]
    words += ["--encoders", f"small={static}"]
    run(benchmark, monkeypatch, *words)
    gold = np.load(tmp_path / "out" / "nq_gold.npy").tolist()
    assert dict(zip(read(tmp_path / "out" / "nq.parquet"), gold, strict=True)) == {"how far?": 0, "who sat?": 1}
    assert np.load(tmp_path / "out" / "may_train.npy").tolist() == [3, 5]
    assert [len(np.load(tmp_path / "out" / f"{name}_small.npy")) for name in ("nq", "more", "passages")] == [2, 3, 6]
    monkeypatch.setattr(benchmark, "TextEncoder", None)  # would be called for vectors that are missing
    run(benchmark, monkeypatch, *words)


def test_a_gloss_asks_for_its_hypernym(benchmark, monkeypatch, tmp_path):
    dog = '02000001 05 n 01 dog 0 001 @ 02000002 n 0000 | a tame animal that barks at night; "the dog barked"  '
    animal = "02000002 05 n 01 animal 0 001 ~ 02000001 n 0000 | a living thing that moves about by itself  "
    short = "02000003 05 n 01 cat 0 001 @ 02000002 n 0000 | it mews  "
    lines = ["  1 this is the licence", dog, animal, short]
    lines += [f"0200{i:04d} 05 n 01 thing 0 000 | the thing of number {i} in a list" for i in range(100, 110)]
    (tmp_path / "data.noun").write_text("\n".join(lines))
    for part in ("verb", "adj", "adv"):
        (tmp_path / f"data.{part}").write_text("")
    monkeypatch.setattr(benchmark, "INDEXED", 5)
    run(benchmark, monkeypatch, "--output", tmp_path / "out", "--wordnet", tmp_path)
    index, train = read(tmp_path / "out" / "passages.parquet"), read(tmp_path / "out" / "train.parquet")
    assert read(tmp_path / "out" / "hypernyms.parquet") == ["a tame animal that barks at night"]
    assert index[np.load(tmp_path / "out" / "hypernyms_gold.npy")[0]] == "a living thing that moves about by itself"
    assert (len(index), len(train)) == (5, 6)
    assert not set(index) & set(train)
