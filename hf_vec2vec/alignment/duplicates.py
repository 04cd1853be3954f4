"""Rows that a store holds more than once: as they are, or but for rounding.

Repeated rows are no shape of a space: they pull clusters to themselves and are each other's neighbours, so that a search
that sees them finds a wrong map and takes it for a good one. Stores have many: documents that were read twice, boilerplate,
the vector of an empty text, copies that went through half precision. Chunks that overlap are not found: they lie as far
apart as some different texts, and did no harm; docs/measurements/alignment.md, "Repeated rows and chunks that overlap".
"""

import torch
from torch import Tensor

from ..data.overlap import row_hashes

# Two rows are the same if they lie nearer than this, in usual distances (`_usual_distance`). Copies in float16 lie at .0004,
# in bfloat16 at .003, in eight bits at .01. Nearer than .1 lie .2 % of different texts at most, 2 % of questions, which
# people ask again in nearly the same words.
TOLERANCE = 0.05
# Rows among which the usual distance of a row to its nearest is told: few of them have a copy among so few of all.
USUAL_OF, USUAL_PART, USUAL_LEAST = 1000, 10, 30  # at most; one in so many; at least
USUAL_SHARE = 0.9  # of them have a nearer one, so that up to that share may have copies there
# Near rows are looked for in the cells of random grids. A cell is so wide, in the same unit, that two rows at half the
# tolerance share it in two of three grids; of rows that lie apart, few do.
CELL = 0.5
GRID_AXES = 8
GRIDS = 6
LEADERS = 8  # different rows of one cell that others are compared with
BLOCK = 8192  # rows compared at a time
SEED = 0  # of the grids: which rows are the same does not depend on the seed of an alignment


def unique_rows(rows: Tensor) -> Tensor:
    """Which rows to keep so that none is there twice: of those that are the same, the first.

    Exact copies are all found, near ones nearly all: one in a hundred is missed at the tolerance itself, one in a hundred
    thousand at a fifth of it.

    Args:
        rows: `(n, d)`, finite, without outliers.

    Returns:
        Indices `(k,)`, ascending.

    Source: the grids are locality-sensitive hashing (Datar et al., "Locality-sensitive hashing scheme based on p-stable
    distributions", 2004).
    """
    kept = torch.arange(len(rows), device=rows.device)
    kept = kept[_differ_from_first(rows, row_hashes(rows), 0.0)]
    different = rows[kept]
    generator = torch.Generator().manual_seed(SEED)
    unit = _usual_distance(different, generator)
    for _ in range(GRIDS):
        cells = _cells(different, CELL * unit, generator)
        alone = _differ_from_first(different, cells, TOLERANCE * unit)
        kept, different = kept[alone], different[alone]
    return kept


def _usual_distance(rows: Tensor, generator: torch.Generator) -> float:
    """Distance of a row to the nearest in a small sample, as most rows have it at most.

    Not the distance from the mean: where one direction holds nearly all variance, as in hidden states of language models, or
    rows crowd in clusters, all rows are near in that unit.
    """
    if len(rows) < 2:
        return 1.0
    size = max(USUAL_LEAST, min(USUAL_OF, len(rows) // USUAL_PART))
    sample = rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]
    sample = sample - sample.mean(0)  # far from the origin, distances would be lost in the rounding of their squares
    distances = torch.cdist(sample, sample)
    return distances.fill_diagonal_(torch.inf).amin(1).quantile(USUAL_SHARE).item()


def _cells(rows: Tensor, width: float, generator: torch.Generator) -> Tensor:
    """A number for the cell of a random grid that each row lies in: `(n,)`."""
    axes = torch.randn(rows.shape[1], GRID_AXES, generator=generator).to(rows)
    shifts = torch.rand(GRID_AXES, generator=generator).to(rows)
    factors = _odd_numbers(GRID_AXES, generator).to(rows.device)
    return (((rows @ axes / width + shifts).floor().long()) * factors).sum(1)


def _odd_numbers(count: int, generator: torch.Generator) -> Tensor:
    return torch.randint(2**61, (count,), generator=generator) * 2 + 1


def _differ_from_first(rows: Tensor, groups: Tensor, tolerance: float) -> Tensor:
    """Whether each row is the first of its group, or farther than that from the first: a mask `(n,)`.

    Those that are farther make a group of their own, and so on, `LEADERS` times.
    """
    differs = torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    left = torch.arange(len(rows), device=rows.device)
    for _ in range(LEADERS):
        first = left[_first_of_group(groups[left])]
        left, first = left[left != first], first[left != first]
        if not len(left):
            break
        pairs = zip(left.split(BLOCK), first.split(BLOCK), strict=True)
        near = torch.cat([(rows[a] - rows[b]).norm(dim=1) <= tolerance for a, b in pairs])
        differs[left[near]] = False
        left = left[~near]
    return differs


def _first_of_group(groups: Tensor) -> Tensor:
    """For each entry the position of the first that is equal to it: `(n,)`."""
    values, group = groups.unique(return_inverse=True)
    positions = torch.arange(len(groups), device=groups.device)
    first = torch.full_like(values, len(groups)).scatter_reduce_(0, group, positions, "amin")
    return first[group]
