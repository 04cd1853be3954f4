import warnings

import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.alignment.usable_rows import usable_rows

pytestmark = pytest.mark.short_search
QUICK = {"num_starts": 1, "num_anchors": 10, "steps": 1, "hidden_dim": 16, "back_translation_rounds": 1, "progress": False}
NOISE = torch.randn(300, 24, generator=torch.Generator().manual_seed(0)) / 24**0.5


@pytest.fixture(scope="module")
def spaces():
    return make_cloud(300, seed=2), make_cloud(200, seed=3) @ random_rotation(24, 32)


@pytest.fixture(scope="module")
def clean(spaces):
    return align(*spaces, **QUICK)


def same(found, expected):
    maps = [(a.source_to_target, a.target_to_source, a.rotation, *a.source_statistics) for a in (found, expected)]
    networks = [[p for network in a.residuals for p in network.parameters()] for a in (found, expected)]
    return all(torch.equal(x, y) for x, y in zip(maps[0] + (*networks[0],), maps[1] + (*networks[1],), strict=True))


@pytest.mark.parametrize(
    ("add", "count"),
    [
        (lambda x: x.repeat(4, 1), 1200),  # every row five times
        (lambda x: x[7:8].repeat(143, 1), 143),  # three in ten rows are one
        (lambda x: x[:50].repeat(20, 1), 1000),
        (lambda x: x[100:200] + 1e-3 * NOISE[:100], 100),  # embedded again, elsewhere
        (lambda x: x.half().float(), 300),
        (lambda x: torch.cat([x + size * NOISE for size in (1e-5, 1e-4, 1e-3)]), 900),
    ],
    ids=["five times", "one", "a few", "embedded again", "float16", "noise"],
)
def test_a_store_with_repeated_rows_gives_what_it_gives_without_them(spaces, clean, add, count):
    a, b = spaces
    found = align(torch.cat([a, add(a)]), b, **QUICK)
    assert same(found, clean)
    assert found.report.repeated_rows == {"source": count, "target": 0}
    assert f"{count:,} repeated row(s) of the source" in str(found.report)
    assert found.report.to_dict()["repeated_rows"] == {"source": count, "target": 0}
    assert (found.report.verdict, found.report.score) == (clean.report.verdict, clean.report.score)


def test_repeated_rows_of_both_sides_in_any_type(spaces, clean):
    a, b = (rows.double() for rows in spaces)
    found = align(torch.cat([a, a[:10]]), torch.cat([b, b[5:9], b[:1]]).numpy(), **QUICK)
    assert same(found, clean)
    assert found.report.repeated_rows == {"source": 10, "target": 5}
    assert "repeated" not in str(clean.report)


@pytest.mark.parametrize(
    ("garbage", "count"),
    [
        (lambda x: x[5:6] * 30, 1),
        (lambda x: x[5:6] * 1e6, 1),
        (lambda x: -x[9:10] * 1e30, 1),
        (lambda x: x[9:10] * 1e-30, 1),
        (lambda x: x[:1] * 0, 1),
        (lambda x: x[:3] * 0 + 1e38, 3),
        (lambda x: x[:100] * torch.logspace(2, 20, 100)[:, None], 100),
        (lambda x: x[:100].double() * 1e300, 100),
        (lambda x: torch.cat([x[:30] * 1e4, x[:30] * 1e-12]), 60),
    ],
    ids=["30", "1e6", "1e30", "1e-30", "zeros", "three near the end", "hundreds", "1e300", "long and short"],
)
def test_garbage_is_left_out_and_named(spaces, clean, garbage, count):
    a, b = spaces
    with pytest.warns(
        UserWarning, match=f"`source`: {count} of {300 + count} rows are left out .* first is at index 300"
    ) as seen:
        found = align(torch.cat([a, garbage(a)]), b, **QUICK)
    assert same(found, clean)
    assert found.report.outlying_rows == {"source": count, "target": 0}
    assert f"{count} outlying row(s) of the source" in str(found.report)
    assert seen[0].filename == __file__


def test_a_row_far_from_a_space_that_is_far_from_the_origin(spaces):
    a, b = spaces
    with pytest.warns(UserWarning, match="`target`: 1 of 201 rows .* at index 0"):
        found = align(a, torch.cat([b[:1] * 0 + 150, b]) + 50, **QUICK)
    assert same(found, align(a, b + 50, **QUICK))


def test_garbage_is_translated_or_refused(clean):
    model = Vec2VecModel.from_alignment(clean, allow_not_aligned=True)
    row = make_cloud(1, seed=9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for size in (1e-30, 1e6, 1e30):
            assert model.translate(row * size, source="source", target="target").isfinite().all()
        with pytest.raises(ValueError, match="too large for this model"):
            model.translate(row.sign() * 3e38, source="source", target="target")


@pytest.mark.parametrize("size", [1e-30, 1e-14, 1e13, 1e30, 1e37])
def test_a_space_that_float32_cannot_compute_with_is_refused(spaces, size):
    a, b = spaces
    with pytest.raises(ValueError, match="`target` has rows with a usual length of .* Scale all of them"):
        align(a, b * size, **QUICK)


@pytest.mark.parametrize("size", [2.0**-30, 2.0**30])
def test_a_space_in_other_units_is_the_same_space(spaces, clean, size):
    a, b = spaces
    found = align(a, b.double() * size, **QUICK)
    assert torch.equal(found.source_to_target, clean.source_to_target)
    assert found.report == clean.report


def test_repeated_rows_do_not_count_as_rows(spaces):
    a, b = spaces
    with pytest.raises(
        ValueError, match="`source` has 30 different ones among 600 rows, too few to align: give at least 40"
    ):
        align(a[:30].repeat(20, 1), b, **QUICK)
    with pytest.raises(ValueError, match="`source` has 90 rows that are all alike"):
        align(a[:1].repeat(90, 1), b, **QUICK)


def test_a_repeated_row_among_thousands_is_counted_and_changes_nothing():
    rows = make_cloud(3000, seed=1)
    for few, left in ((rows[:3], 3003), (rows[:4], 3000)):
        found = usable_rows(torch.cat([rows, few]), "source", torch.device("cpu"))
        assert (len(found.rows), found.repeated, found.outlying) == (left, len(few), 0)
