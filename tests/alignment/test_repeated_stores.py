"""What a store holds more than once changes neither the verdict nor the map: both are those of the store without it."""

import pytest
import torch

from helpers.clouds import make_cloud, random_rotation, top1
from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.alignment.usable_rows import usable_rows

QUICK = {"num_starts": 6, "num_anchors": 20, "steps": 10, "hidden_dim": 32, "progress": False, "seed": 0}
ROWS = 2000
TURN = random_rotation(24, 32)


def copies(rows, size):
    """As through rounding or a re-run: so far from their rows, in usual lengths."""
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0)) / rows.shape[1] ** 0.5
    return rows + size * rows.square().sum(1).mean().sqrt() * noise


KINDS = {
    "crawled twice": lambda x: torch.cat([x, x]),
    "some of it crawled five times": lambda x: torch.cat([x, x[300:900].repeat(4, 1)]),
    "a boilerplate row": lambda x: torch.cat([x, x[7:8].repeat(1500, 1)]),
    "three boilerplate rows": lambda x: torch.cat([x, x[[5, 900, 1400]].repeat_interleave(torch.tensor([900, 400, 9]), 0)]),
    "a block many times": lambda x: torch.cat([x, x[:100].repeat(80, 1)]),
    "copies in float16": lambda x: torch.cat([x, x.half().float()]),
    "copies in bfloat16": lambda x: torch.cat([x, x.bfloat16().float()]),
    "near copies": lambda x: torch.cat([x, copies(x[:1200], 1e-3), copies(x[:500], 4e-3)]),
    "copies in steps of a sixty-fourth": lambda x: torch.cat([x, (x * 64).round() / 64]),
    "all of these": lambda x: torch.cat([x, x, x[:50].repeat(20, 1), x.half().float()[:700], copies(x[100:800], 1e-3)]),
}  # fmt: skip
SIDES = {
    "source": lambda kind, a, b: (kind(a), b),
    "target": lambda kind, a, b: (a, kind(b)),
    "both, differently": lambda kind, a, b: (kind(a), KINDS["a block many times"](b)),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_that_are_looked_at_are_those_of_the_store_without_copies(kind):
    rows = make_cloud(ROWS, seed=2)
    found = usable_rows(KINDS[kind](rows), "source", torch.device("cpu"))
    assert torch.equal(found.rows, rows)
    assert found.repeated == len(KINDS[kind](rows)) - ROWS
    assert found.outlying == 0


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "side"), [(kind, list(SIDES)[i % 3]) for i, kind in enumerate(KINDS)])
def test_verdict_and_map_are_those_of_the_store_without_copies(kind, side, rotated):
    a, b, x, y, clean = rotated
    found = align(*SIDES[side](KINDS[kind], a, b), source_name="a", target_name="b", **QUICK)
    assert found.report.verdict == clean.report.verdict == "aligned"
    assert found.report.score == pytest.approx(clean.report.score, abs=1e-4)
    model = Vec2VecModel.from_alignment(found)
    assert top1(model.translate(x, source="a", target="b"), y) >= 0.99
    assert top1(model.translate(y, source="b", target="a"), x) >= 0.99


@pytest.fixture(scope="module")
def rotated():
    a, b, x = make_cloud(ROWS, seed=2), make_cloud(ROWS, seed=3) @ TURN, make_cloud(500, seed=4)
    return a, b, x, x @ TURN, align(a, b, source_name="a", target_name="b", **QUICK)


WORDS = 20  # of a window


def windows(documents, step, seed):
    """Vectors of windows over documents of 40 words, each `step` words after the last, as a static encoder makes them.

    A document's place, and the mean of a window's words.
    """
    words = torch.randn(documents, 2 * WORDS, 24, generator=torch.Generator().manual_seed(seed)) * 0.4 * WORDS**0.5
    means = torch.stack([words[:, i : i + WORDS].mean(1) for i in range(0, WORDS + 1, step)], 1)
    return (make_cloud(documents, seed=seed)[:, None] + means).flatten(0, 1)


@pytest.mark.slow
@pytest.mark.parametrize("step", [4, 2])  # windows that share 80 and 90 % of their words
def test_windows_that_overlap_are_rows_of_their_own_and_do_no_harm(step):
    a, b, x = windows(1000, step, seed=2), windows(1000, WORDS, seed=3) @ TURN, windows(250, WORDS, seed=4)
    clean = align(windows(1000, WORDS, seed=2), b, source_name="a", target_name="b", **QUICK)
    found = align(a, b, source_name="a", target_name="b", **QUICK)
    assert found.report.repeated_rows == {"source": 0, "target": 0}
    assert found.report.verdict == clean.report.verdict == "aligned"
    model = Vec2VecModel.from_alignment(found)
    assert top1(model.translate(x, source="a", target="b"), x @ TURN) >= 0.98
    assert top1(model.translate(x @ TURN, source="b", target="a"), x) >= 0.98
