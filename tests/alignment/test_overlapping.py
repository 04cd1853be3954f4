"""Stores of windows that overlap are thinned until they do not; other stores are left as they are."""

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud, windows
from hf_vec2vec.alignment.overlapping import _thinned, rows_apart
from hf_vec2vec.alignment.usable_rows import usable_rows

CPU = torch.device("cpu")
WORDS = 20  # of a window


def all_of(rows):
    return torch.arange(len(rows))


@pytest.mark.parametrize("step", [1, 2, 4])  # windows that share 95, 90 and 80 % of their words
def test_windows_that_overlap_are_thinned_to_about_as_many_as_share_nothing(step):
    rows, apart = windows(600, step, seed=2, dim=64), len(windows(600, WORDS, seed=2, dim=64))
    kept = rows_apart(rows)
    assert 0.8 * apart < len(kept) < 1.6 * apart
    assert torch.equal(kept, kept.unique())
    distances = torch.cdist(rows[kept], rows[kept]).fill_diagonal_(torch.inf).amin(1)
    nearest = torch.cdist(rows, rows).fill_diagonal_(torch.inf).amin(1)
    assert distances.min() > nearest.median()
    # Every row that went lies nearer than that to one that stays.
    assert torch.cdist(rows, rows[kept]).amin(1).max() <= distances.min()


CLEAN = {
    "windows that share nothing": lambda: windows(600, WORDS, seed=2, dim=64),
    "windows that share half": lambda: windows(600, WORDS // 2, seed=2, dim=64),
    "a cloud": lambda: make_cloud(3000, seed=1),
    "a cloud of few dimensions": lambda: make_cloud(3000, dim=8, seed=1),
    "a fifth of the rows have a near one": lambda: near(make_cloud(3000, dim=48, seed=1), 600),
    "a line": lambda: torch.randn(3000, 1, generator=torch.Generator().manual_seed(0)) @ torch.ones(1, 16),
    "a plane": lambda: torch.rand(3000, 2, generator=torch.Generator().manual_seed(0)),
    "a corner": lambda: make_cloud(3000, dim=3, seed=1),
    "one direction": lambda: make_cloud(3000, seed=1) * torch.tensor([300.0] + [1.0] * 23),
    "tight clusters": lambda: make_cloud(60, dim=48, seed=1).repeat(50, 1) + 0.01 * make_cloud(3000, dim=48, seed=2),
    "few rows": lambda: windows(30, 4, seed=2, dim=64)[:150],
}


def near(rows, count):
    """So many more rows, each beside another, as far as windows that share much."""
    noise = torch.randn(count, rows.shape[1], generator=torch.Generator().manual_seed(0))
    return torch.cat([rows, rows[:count] + 0.15 * noise])


@pytest.mark.parametrize("kind", CLEAN)
def test_other_stores_stay_as_they_are(kind):
    rows = CLEAN[kind]()
    assert torch.equal(rows_apart(rows), all_of(rows))


@pytest.mark.parametrize("move", ["scaled", "moved", "turned"])
def test_it_does_not_depend_on_where_or_how_large_a_space_is(move):
    rows = windows(300, 4, seed=2, dim=64)
    turn = torch.linalg.qr(torch.randn(64, 64, generator=torch.Generator().manual_seed(3)))[0]
    moved = {"scaled": rows * 1e4, "moved": rows + 50, "turned": rows @ turn}[move]
    kept, again = set(rows_apart(rows).tolist()), set(rows_apart(moved).tolist())
    assert len(kept ^ again) <= 0.02 * len(kept)  # rounding moves a row over the edge


def test_the_rows_left_out_are_counted_and_said():
    rows = windows(300, 4, seed=2, dim=64)
    kept = len(rows_apart(rows))
    with pytest.warns(UserWarning, match=rf"`target`: {len(rows) - kept:,} of {len(rows) + 40:,} rows .* overlap"):
        found = usable_rows(torch.cat([rows, rows[:40]]), "target", CPU)
    assert (found.repeated, found.outlying, found.overlapping) == (40, 0, len(rows) - kept)
    assert len(found.rows) == kept


def test_the_greedy_choice_is_that_of_a_loop(monkeypatch):
    monkeypatch.setattr("hf_vec2vec.alignment.overlapping.GREEDY_BLOCK", 64)
    monkeypatch.setattr("hf_vec2vec.alignment.overlapping.BLOCK", 50)
    rows = make_cloud(700, dim=4, seed=3)
    kept: list[int] = []
    for i, row in enumerate(rows.double().numpy()):
        if all(np.linalg.norm(row - rows[j].double().numpy()) > 0.8 for j in kept):
            kept.append(i)
    assert _thinned(rows, 0.8).tolist() == kept
