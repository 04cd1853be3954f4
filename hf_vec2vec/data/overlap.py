"""Whether rows of two spaces, which must have nothing to do with each other, are of the same texts after all."""

import html
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, combinations

import torch
from torch import Tensor
from torch.nn import functional as F

# What was done to see that no row of one space belongs to a row of another; what a card says of them.
TEXTS_COMPARED = "texts compared after normalising"
VECTORS_COMPARED = "texts unknown: vectors compared"
NOTHING_TO_COMPARE = "texts unknown, dimensions differ: nothing to compare"
NOT_CHECKED = "not checked"
ON_A_SAMPLE = " on a sample"
CHECKS = (TEXTS_COMPARED, VECTORS_COMPARED, NOTHING_TO_COMPARE, NOT_CHECKED)

UNSEEN = ("Cc", "Cf")  # Unicode's categories of signs that are not seen: controls, soft hyphens, byte-order marks, joiners
WITHOUT_FORM = dict.fromkeys((0x034F, *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))  # a joiner; variants of letters
# What programs put in place of the signs of a keyboard: quotes and apostrophes, hyphens and dashes.
PLAIN = dict.fromkeys(map(ord, "‘’‚‛′ʼ`´"), "'") | dict.fromkeys(map(ord, "“”„‟″«»"), '"')
ENDS = " .,;:!?"
PLAIN |= dict.fromkeys(map(ord, "‐‑‒–—―−"), "-") | {ord("…"): "..."}
SHARED = 0.001  # of the smaller space: more vectors than this on both sides are no accident, such as two empty texts
COMPARED = 4_096  # rows of a space whose neighbours are looked up, which takes memory and time by its square
BLOCK = 1_024  # rows whose distances are held at a time
# Distances of unit vectors up to which one is a copy of the other: half precision moves it by 3e-4, eight bits by up to
# 2e-2. So near may also lie different rows of a narrow cone.
COPY, ROUNDED_COPY = 1e-3, 3e-2
# Distances to the nearest neighbours tell a row from others, however the space is rotated: so many of them, and the relative
# difference up to which two are the same. Four, for copies that were rounded; two, where only some of the rows are shared,
# so that few have all of four neighbours on both sides.
SIGNS = ((4, 2e-3), (2, 2e-5))
WIDER = 4  # times as wide a tolerance, or as many rows, as are alike by chance
LEAST_DIMENSIONS = 5  # in fewer there is so little room that rows are near each other by chance
LEAST = 10  # rows that must be alike in rotated spaces: fewer say nothing


def normal_text(text: str) -> str:
    """A text without what readers do not see, or hardly.

    That is: Unicode forms, upper case, white space, signs without width, entities of HTML, kinds of quotes and dashes, and
    the signs that end a sentence.
    """
    text = html.unescape(text) if "&" in text else text
    if text.isascii() and text.isprintable() and "`" not in text:
        folded = text.casefold()
    else:
        # Before NFKC, which makes a space and an accent of some quotes.
        text = text.translate(WITHOUT_FORM | PLAIN)
        folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
        folded = "".join(sign for sign in folded if sign.isspace() or unicodedata.category(sign) not in UNSEEN)
    folded = re.sub(r"\s+", " ", folded).strip()
    return folded.rstrip(ENDS) or folded


def has_text(text: object) -> bool:
    """Whether there is anything to compare."""
    return text is not None and bool(str(text).strip())


def shared_texts(first: Iterable[object], second: Iterable[object]) -> list[str]:
    """Texts of the first that are the same as one of the second, when both are normalised. Blank ones are none."""
    known = {normal_text(str(text)) for text in second if has_text(text)}
    return [str(text) for text in first if has_text(text) and normal_text(str(text)) in known]


def first_places(texts: Sequence[object]) -> list[int]:
    """For each text, where the first stands that is the same when both are normalised."""
    found: dict[str, int] = {}
    return [found.setdefault(normal_text(str(text)), place) for place, text in enumerate(texts)]


def row_hashes(rows: Tensor) -> Tensor:
    """A number of 64 bits for each float32 row `(n, d)`, the same for rows of the same values: `(n,)`."""
    factors = (torch.randint(2**61, (rows.shape[1],), generator=torch.Generator().manual_seed(0)) * 2 + 1).to(rows.device)
    blocks = ((block.float() + 0.0).view(torch.int32) for block in rows.split(BLOCK))  # + 0: there is a -0, too
    return torch.cat([(bits * factors).sum(1) for bits in blocks])


def without_shared(pairs: Mapping[str, Tensor], others: Mapping[str, Tensor]) -> Tensor:
    """Numbers of the pairs of which neither side is a row of the others.

    Args:
        pairs: `{name: (n, d)}`, row i of all the same text.
        others: `{name: (m, d)}`, of the same spaces.
    """
    shared = [torch.isin(row_hashes(rows), row_hashes(others[name])) for name, rows in pairs.items()]
    return (~torch.stack(shared).any(0)).nonzero().flatten()


def groups_of_pairs(*sides: Tensor) -> Tensor:
    """For each pair, a number from 0 on; the same for pairs that share a vector on either side, or share one with a third.

    Args:
        sides: `(n, d)` each, row i of all the same text.

    Returns:
        `(n,)`, ascending by the first pair of each group.
    """
    keys = [row_hashes(rows).unique(return_inverse=True)[1] for rows in sides]
    group, before = torch.arange(len(keys[0])), None
    while before is None or not torch.equal(group, before):
        before = group
        for key in keys:
            group = torch.full_like(group, len(group)).scatter_reduce_(0, key, group, "amin")[key]
    return group.unique(return_inverse=True)[1]


def shared_vectors(first: Tensor, second: Tensor) -> str | None:
    """In which way rows of one space are those of another of the same dimension, if they are.

    Args:
        first: `(n, d)`.
        second: `(m, d)`.

    Returns:
        "the same vectors" (as they are, scaled, or rounded), "the same vectors, rotated", or `None`.
    """
    few = SHARED * min(len(first), len(second))
    if int(torch.isin(row_hashes(first), row_hashes(second)).sum()) > few:
        return "the same vectors"
    if first.shape[1] < LEAST_DIMENSIONS:
        return None
    first, second = _distinct(first.float()), _distinct(second.float())
    centred, other = _centred(first), _centred(second)
    first, second = F.normalize(first, dim=1), F.normalize(second, dim=1)
    sample, share = _evenly(first, COMPARED), min(1.0, COMPARED / max(len(first), 1))
    near = _nearest(sample, second, 1)
    if int((near <= COPY).sum()) > few * share:
        return "the same vectors"
    if (copies := int((near <= ROUNDED_COPY).sum())) > few * share:
        own = [_nearest(sample, first, 2), _nearest(_evenly(second, COMPARED), second, 2)]  # but for themselves
        if copies > WIDER * max(int((distances <= ROUNDED_COPY).sum()) for distances in own):
            return "the same vectors"
    rotated = _same_shape(_outermost(first), _outermost(second)) or _same_shape(_outermost(centred), _outermost(other))
    return "the same vectors, rotated" if rotated else None


def _nearest(rows: Tensor, others: Tensor, place: int) -> Tensor:
    """Distance `(n,)` of each row `(n, d)`, of norm 1, to its nearest of others `(m, d)`, or to that of another place."""
    place = min(place, len(others))
    products = torch.cat([(block @ others.T).topk(place, dim=1).values[:, -1] for block in rows.split(BLOCK)])
    return (2 - 2 * products).clamp_min(0).sqrt()


def _distinct(rows: Tensor) -> Tensor:
    """Each row once."""
    _, group = row_hashes(rows).unique(return_inverse=True)
    first = torch.full((int(group.max()) + 1,), len(rows)).scatter_reduce_(0, group, torch.arange(len(rows)), "amin")
    return rows[first.sort().values]


def _centred(rows: Tensor) -> Tensor:
    """With the mean 0 and the mean square norm 1."""
    rows = rows - rows.mean(0)
    return rows / rows.square().sum(1).mean().sqrt().clamp_min(torch.finfo(torch.float32).tiny)


def _evenly(rows: Tensor, count: int) -> Tensor:
    return rows[torch.linspace(0, len(rows) - 1, min(count, len(rows))).round().long()]


def _outermost(rows: Tensor) -> Tensor:
    """Up to `COMPARED` rows, chosen by their distances from the mean: the same ones however a space is rotated."""
    return rows[(rows - rows.mean(0)).norm(dim=1).topk(min(COMPARED, len(rows))).indices]


def _same_shape(first: Tensor, second: Tensor) -> bool:
    """Whether many rows have neighbours at the same distances in both spaces: no rotation changes these."""
    count = max(count for count, _ in SIGNS)
    if min(len(first), len(second)) <= count:
        return False
    ours, theirs = _neighbour_distances(first, count).log(), _neighbour_distances(second, count).log()
    return any(_many_alike(ours[:, :count], theirs[:, :count], tolerance) for count, tolerance in SIGNS)


def _many_alike(ours: Tensor, theirs: Tensor, tolerance: float) -> bool:
    """Whether more rows `(n, k)` and `(m, k)` are alike than would be by chance.

    By chance their number grows with the volume of the tolerance; that of true copies does not. And where rows of one side
    are alike among themselves, as few rows of many dimensions are, or rows of a few values, others that are tell nothing.
    """
    differences = _least_differences(ours, theirs)
    alike, wider = int((differences <= tolerance).sum()), int((differences <= tolerance * WIDER).sum())
    if alike < max(LEAST, SHARED * len(ours)) or wider >= alike * WIDER:
        return False
    return alike > WIDER * int((_least_differences(ours) <= tolerance).sum())


def _least_differences(ours: Tensor, theirs: Tensor | None = None) -> Tensor:
    """How far each row `(n, k)` is from the nearest of `theirs`, or of the others of its own side: `(n,)`."""
    others, found = ours if theirs is None else theirs, []
    step = max(1, BLOCK * 64 // len(others))
    for start in range(0, len(ours), step):
        differences = (ours[start : start + step, None] - others).abs().amax(2)
        if theirs is None:
            own = torch.arange(len(differences))
            differences[own, start + own] = torch.inf  # not itself
        found.append(differences.amin(1))
    return torch.cat(found)


def _neighbour_distances(rows: Tensor, count: int) -> Tensor:
    """Distances to the nearest neighbours, ascending: `(n, count)`."""
    squares, found = rows.square().sum(1), []
    for start in range(0, len(rows), BLOCK):
        block = rows[start : start + BLOCK]
        near = squares - 2 * block @ rows.T  # square distances, less what all have
        own = torch.arange(len(block))
        near[own, start + own] = torch.inf  # not itself
        nearest = near.topk(count, dim=1, largest=False).indices
        # Taken anew: small differences of large squares would be mostly rounding.
        found.append((rows[nearest] - block[:, None]).norm(dim=2).sort(1).values)
    return torch.cat(found).clamp_min(torch.finfo(torch.float32).tiny)


def refuse_shared(spaces: Mapping[str, Tensor], texts: Mapping[str, Sequence[str]]) -> str:
    """Raise if rows of two spaces are of the same texts, as far as that can be seen.

    Args:
        spaces: `{name: (n, d) vectors}`.
        texts: of those spaces where they are known; some may be missing.

    Returns:
        One of `CHECKS`: what was compared for every two spaces.

    Raises:
        ValueError: with the two spaces, and a text where texts are known.
    """
    done = []
    for a, b in combinations(spaces, 2):
        both = a in texts and b in texts
        if both and (shared := shared_texts(texts[a], texts[b])):
            raise ValueError(
                f"`spaces` {a!r} and {b!r} share {len(shared)} text(s), for instance {min(shared)[:80]!r}. Training rows "
                "must not be paired: drop the shared texts from one side, or set `strict_unpaired=False` if you mean it."
            )
        if both and all(map(has_text, chain(texts[a], texts[b]))):
            done.append(TEXTS_COMPARED)
        elif spaces[a].shape[1] == spaces[b].shape[1]:
            if how := shared_vectors(spaces[a], spaces[b]):
                raise ValueError(
                    f"`spaces` {a!r} and {b!r} hold {how}. Training rows must not be paired: give rows of other texts, or "
                    "set `strict_unpaired=False` if you mean it."
                )
            done.append(VECTORS_COMPARED)
        else:
            done.append(NOTHING_TO_COMPARE)
    return max(done, key=CHECKS.index)


__all__ = [
    "CHECKS",
    "first_places",
    "groups_of_pairs",
    "normal_text",
    "refuse_shared",
    "row_hashes",
    "shared_texts",
    "shared_vectors",
    "without_shared",
]
