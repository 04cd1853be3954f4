"""Names of files after what they hold."""

import hashlib
from collections import Counter
from collections.abc import Iterable


def file_names(names: Iterable[str], kept: str = "") -> dict[str, str]:
    """For each name one that a file can have, no two of them the same.

    What is no letter and no digit becomes `-`. Names that only differ in that, or in capitals, which some disks do not tell
    apart, have a hash behind them: whichever of them are there, and in which order, a name's file stays the same.

    Args:
        names: each once.
        kept: other characters that may stay.
    """
    plain = {name: "".join(c if c.isalnum() or c in kept else "-" for c in name) for name in names}
    shared = Counter(short.casefold() for short in plain.values())
    return {
        name: short
        if shared[short.casefold()] == 1
        else f"{short}-{hashlib.blake2b(name.encode(), digest_size=4).hexdigest()}"
        for name, short in plain.items()
    }
