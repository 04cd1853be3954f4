"""Bars of progress, which callers and users may both hide."""

import os
from collections.abc import Iterable
from typing import Any

from tqdm.auto import tqdm


def progress_bar(rows: Iterable | None = None, *, shown: bool = True, **options: Any) -> tqdm:
    """A bar that is hidden if the caller asks for it, or the user does (`TQDM_DISABLE=1`).

    The variable is read when the bar is made; tqdm alone reads it once, when it is loaded.

    Args:
        rows: to go through; without them the caller updates the bar.
        shown: whether the caller wants it.
        options: of `tqdm`.
    """
    hidden = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    return tqdm(rows, **options, disable=hidden or not shown)


__all__ = ["progress_bar"]
