"""Bars of progress, which callers and users may both hide."""

from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress_bar(rows: Iterable | None = None, *, shown: bool = True, **options: Any) -> tqdm:
    """A bar that is hidden if the caller asks for it, or the user does (`TQDM_DISABLE=1`).

    A bar that is told `disable=False` does not look at the environment any more.

    Args:
        rows: to go through; without them the caller updates the bar.
        shown: whether the caller wants it.
        options: of `tqdm`.
    """
    return tqdm(rows, **options, **({} if shown else {"disable": True}))


__all__ = ["progress_bar"]
