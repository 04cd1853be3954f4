"""The same texts on both sides are found by their texts, and where these are not known by their vectors."""

import pytest
import torch
from datasets import Dataset

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import UnpairedEmbeddings
from hf_vec2vec.data import to_dataset
from hf_vec2vec.data.overlap import (
    NOT_CHECKED,
    NOTHING_TO_COMPARE,
    ON_A_SAMPLE,
    TEXTS_COMPARED,
    VECTORS_COMPARED,
    normal_text,
    shared_vectors,
)
from hf_vec2vec.data.stream_files import open_stream
from hf_vec2vec.data.streaming import StreamedEmbeddings

A = make_cloud(400, 12, seed=1)
B = make_cloud(400, 12, seed=2)  # another sample of the same space: rows of other texts
TURN = random_rotation(12, 12)
ORDER = torch.randperm(400, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "other",
    [
        "An apple a day",
        "An apple a day.",
        " an apple  a day\n",
        "AN APPLE A DAY",
        "An\u00a0apple\u2003a day",
        "Ａｎ ａｐｐｌｅ ａ ｄａｙ",
        "\ufeffAn apple a day",
        "An ap\u00adple a\u200b day",
        "\u202aAn apple a\u2060 day\u202c",
    ],
)
def test_texts_are_compared_without_what_readers_do_not_see(other):
    texts = {"a": [f"a {i}" for i in range(5)], "b": [f"b {i}" for i in range(5)]}
    rows = {name: torch.randn(5, 3) for name in texts}
    assert UnpairedEmbeddings({n: to_dataset(rows[n], texts[n]) for n in texts}).checked == TEXTS_COMPARED
    texts["a"][2], texts["b"][4] = "An apple a day", other
    spaces = {name: to_dataset(rows[name], texts[name]) for name in texts}
    with pytest.raises(ValueError, match=r"`spaces` 'a' and 'b' share 1 text\(s\), for instance 'An apple a day'"):
        UnpairedEmbeddings(spaces)
    assert UnpairedEmbeddings(spaces, strict_unpaired=False).checked == NOT_CHECKED


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Tom & Jerry's “farm” – a café…", 'tom &amp; jerry&#39;s "farm" - a caf&eacute;...'),
        ("it's 5−3", "it’s 5‐3"),
        ("an apple", "an\u034f ap\ufe0fple\x00\x1f"),
        ("C'est «bon»", 'c`est "bon"!'),
        ("one\x1ftwo", "one two"),
    ],
)
def test_signs_that_programs_put_in_place_of_others_are_one(one, other):
    assert normal_text(one) == normal_text(other)


@pytest.mark.parametrize(("one", "other"), [("C++", "C"), ("1.5", "15"), ("a-b", "ab"), ("?", "!"), ("AT&T", "AT T")])
def test_other_texts_stay_others(one, other):
    assert normal_text(one) != normal_text(other)


@pytest.mark.parametrize("missing", [None, "", " \n"])
def test_rows_without_a_text_leave_only_vectors_to_compare(missing):
    """Two empty texts are not one text; and who has none was not compared by it."""
    texts = {"a": [missing, *map(str, range(399))], "b": [missing, *(f"b {i}" for i in range(399))]}
    assert UnpairedEmbeddings({"a": to_dataset(A, texts["a"]), "b": to_dataset(B, texts["b"])}).checked == VECTORS_COMPARED
    spaces = {"a": to_dataset(A, texts["a"]), "b": to_dataset(B[:, :7].clone(), texts["b"])}
    assert UnpairedEmbeddings(spaces).checked == NOTHING_TO_COMPARE
    with pytest.raises(ValueError, match="hold the same vectors"):
        UnpairedEmbeddings({"a": to_dataset(A, texts["a"]), "b": to_dataset(A[ORDER], texts["b"])})
    with pytest.raises(ValueError, match="share 1 text"):
        UnpairedEmbeddings({"a": to_dataset(A, texts["a"]), "b": to_dataset(B, [*texts["b"][:-1], "7"])})


def test_numbers_are_texts_too():
    a = Dataset.from_dict({"text": list(range(400)), "embedding": A.tolist()})
    assert UnpairedEmbeddings({"a": a, "b": to_dataset(B, [f"b {i}" for i in range(400)])}).checked == TEXTS_COMPARED
    with pytest.raises(ValueError, match="share 1 text"):
        UnpairedEmbeddings({"a": a, "b": to_dataset(B, [*(f"b {i}" for i in range(399)), "17"])})


def test_forms_of_one_letter_are_one():
    assert normal_text("caf\u00e9") == normal_text("cafe\u0301") == normal_text("CAFE\u0301")
    assert normal_text("straße") == normal_text("STRASSE")
    assert normal_text("\ufb01t") == normal_text("fit")
    assert normal_text("one") != normal_text("two")


SAME = {
    "as they are": A,
    "in another order": A[ORDER],
    "in half precision": A[ORDER].half().float(),
    "in bfloat16": A[ORDER].bfloat16().float(),
    "in eight bits": (A[ORDER] / A.abs().max() * 127).round(),
    "in eight bits, a scale a row": (A[ORDER] / A[ORDER].abs().amax(1, keepdim=True) * 127).round(),
    "scaled": 3 * A[ORDER],
    "each of length one": torch.nn.functional.normalize(A, dim=1)[ORDER],
    "one in ten of them": torch.cat([A[:40], B[40:]]),
    "one of them": torch.cat([B[:399], A[:1]]),
    "several times": torch.cat([B, A[:5].repeat(20, 1)]),
}
ROTATED = {
    "rotated": A @ TURN,
    "rotated, in another order": (A @ TURN)[ORDER],
    "rotated, in half precision": (A @ TURN)[ORDER].half().float(),
    "rotated and scaled": 0.1 * (A @ TURN),
    "rotated and moved": A @ TURN + 1,
    "centred and rotated": ((A - A.mean(0)) @ TURN)[ORDER],
    "in a mirror": A[ORDER] * torch.tensor([-1.0] * 5 + [1.0] * 7),
    "rotated, most of them": (A @ TURN)[ORDER[:300]],
}
OTHER = {"other rows": B, "other rows, rotated": B @ TURN, "other rows, many times": B[:100].repeat(4, 1), "few": B[:3]}


@pytest.mark.parametrize("how", [*SAME, *ROTATED, *OTHER])
def test_the_same_vectors_are_found(how):
    found = shared_vectors(A, (SAME | ROTATED | OTHER)[how])
    assert found == ("the same vectors" if how in SAME else "the same vectors, rotated" if how in ROTATED else None)


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_one_space_with_repeated_rows_are_not_taken_for_the_same(seed):
    """Copies within a side are no sign of the other side."""
    a, b = make_cloud(300, 8, seed=10 + seed), make_cloud(300, 8, seed=20 + seed)
    assert shared_vectors(torch.cat([a, a[:60].repeat(5, 1)]), torch.cat([b, b[:60].repeat(5, 1)])) is None


def gauss(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


# Rows that are alike among themselves: all norms and all distances nearly the same, or of a few values.
ALIKE = {
    "few of many dimensions": lambda seed: gauss(seed, 200, 4000),
    "more of many dimensions": lambda seed: gauss(seed, 1000, 1000),
    "of length one": lambda seed: unit(gauss(seed, 500, 768)),
    "of length one, in a narrow cone": lambda seed: unit(gauss(seed, 800, 384) + 2),
    "of length one, in a very narrow cone": lambda seed: unit(gauss(seed, 800, 64) + 50),
    "of two values": lambda seed: gauss(seed, 1000, 384).sign(),
    "of whole numbers": lambda seed: (3 * gauss(seed, 1000, 32)).round(),
    "counts of words": lambda seed: (gauss(seed, 900, 300) > 2).float(),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_rows_that_are_alike_among_themselves_are_not_taken_for_the_same(kind):
    assert shared_vectors(ALIKE[kind](0), ALIKE[kind](1)) is None


@pytest.mark.parametrize("kind", ["few of many dimensions", "of length one", "of length one, in a narrow cone"])
def test_such_rows_are_found_where_they_are_the_same(kind):
    rows = ALIKE[kind](0)[:, :600]
    turn = random_rotation(rows.shape[1], rows.shape[1])
    assert shared_vectors(rows, (rows @ turn).flip(0)) == "the same vectors, rotated"
    most, others = len(rows) * 4 // 5, ALIKE[kind](1)[: len(rows) // 5, :600]
    assert shared_vectors(rows, torch.cat([rows[:most] @ turn, others])) == "the same vectors, rotated"


def test_vectors_are_compared_where_texts_are_not_known():
    with pytest.raises(ValueError, match="`spaces` 'a' and 'b' hold the same vectors, rotated. Training rows must not be"):
        UnpairedEmbeddings({"a": A, "b": A @ TURN})
    with pytest.raises(ValueError, match="hold the same vectors. "):
        UnpairedEmbeddings({"a": to_dataset(A, [f"text {i}" for i in range(400)]), "b": A[ORDER]})
    with pytest.raises(ValueError, match="'b' and 'c' hold the same vectors"):
        UnpairedEmbeddings({"a": A[:, :5], "b": A, "c": A[ORDER]})
    assert UnpairedEmbeddings({"a": A, "b": A}, strict_unpaired=False).checked == NOT_CHECKED
    assert UnpairedEmbeddings({"a": A, "b": B}).checked == VECTORS_COMPARED
    assert UnpairedEmbeddings({"a": A, "b": B[:, :7]}).checked == NOTHING_TO_COMPARE
    left, taken = UnpairedEmbeddings({"a": A, "b": B}).split(50, seed=0)
    assert left.checked == taken.checked == VECTORS_COMPARED


def test_streams_of_the_same_rows_are_found_though_samples_are_drawn_differently(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.data.stream_files.BLOCK", 50)
    for name, rows in (("a", A), ("b", A @ TURN), ("c", B)):
        to_dataset(rows).to_parquet(tmp_path / f"{name}.parquet", batch_size=50)
    streams = {name: open_stream(tmp_path / f"{name}.parquet") for name in "abc"}
    with pytest.raises(ValueError, match="'a' and 'b' hold the same vectors, rotated"):
        StreamedEmbeddings({name: streams[name] for name in "ab"}).sample(100, seed=0)
    sample = StreamedEmbeddings({name: streams[name] for name in "ac"}).sample(100, seed=0)
    assert sample.checked == VECTORS_COMPARED + ON_A_SAMPLE
    assert StreamedEmbeddings({"a": streams["a"], "b": streams["a"]}, strict_unpaired=False).sample(100, seed=0)


def test_a_row_that_is_there_many_times_is_set_aside_once_and_not_trained_on():
    rows = torch.cat([A[:50], A[:10].repeat(30, 1)])
    data = UnpairedEmbeddings({"a": rows, "b": B})
    for seed in range(5):
        left, taken = data.split(20, seed=seed)
        assert len(taken.spaces["a"].unique(dim=0)) == len(taken.spaces["a"]) == 20
        together = torch.cat([left.spaces["a"].unique(dim=0), taken.spaces["a"]])
        assert len(together.unique(dim=0)) == len(together) == 50
    with pytest.raises(ValueError, match="`a` has 50 different rows; 50 cannot be set aside"):
        data.split(50, seed=0)
