"""Labels as files hold them: what counts as missing, which values name a class, and the order of classes."""

import math
import re
from collections.abc import Iterable, Sequence

MISSING = -1  # what published data sets write where a row has no label
IGNORED = (MISSING, -100)  # and what losses of PyTorch pass over
NONE = ("nan", "null", "none", "na", "n/a", "<na>")  # words for a gap that tables have among numbers
WHOLE = re.compile(r"(-?\d+)(?:\.0+)?")


def read_labels(values: Sequence, names: Sequence[str] | None = None) -> list[str | None]:
    """The name of each row's class, without spaces at its ends.

    No label are: null, NaN, an empty text; in a column of numbers also words such as "NaN" or "null", and -1 and -100,
    unless it has other negative numbers, or no other number but 1: -1 and 1 are two classes.

    Args:
        values: n labels: texts, whole numbers (also as `1.0`, as tables with gaps hold them) or truth values.
        names: of the classes, where the labels are places among them.

    Returns:
        n names, `None` for rows without a label.

    Raises:
        ValueError: for fractions, which are scores and no classes, for lists, or for a place that is not among `names`.
    """
    found = _numbers([_label(value) for value in values])
    if names is None:
        return found
    wrong = sorted({label for label in found if label is not None and not label.isdecimal()})
    wrong += sorted({label for label in found if label is not None and label.isdecimal() and int(label) >= len(names)})
    if wrong:
        raise ValueError(f"`label` must be a place among {list(names)}, from 0 on; got {wrong[:5]}.")
    return [None if label is None else names[int(label)] for label in found]


def _numbers(labels: list[str | None]) -> list[str | None]:
    """Labels that are whole numbers without those that stand for none; others as they are."""
    read = [None if label is None or label.casefold() in NONE else WHOLE.fullmatch(label) or label for label in labels]
    if any(isinstance(number, str) for number in read):
        return labels
    whole = [None if number is None else number[1] for number in read]
    numbers = {int(label) for label in whole if label is not None}
    if numbers == {-1, 1} or any(number < 0 and number not in IGNORED for number in numbers):
        return whole
    return [None if label is None or int(label) in IGNORED else label for label in whole]


def _label(value: object) -> str | None:
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType":  # of pandas
        return None
    if not isinstance(value, str | int | float):
        raise ValueError(f"`label` holds {value!r:.80}, a {type(value).__name__}: each row must have one class.")
    if isinstance(value, float):
        if not value.is_integer():
            raise ValueError(f"`label` holds {value!r}: classes have names or whole numbers, a fraction is a score.")
        value = int(value)
    return str(value).strip() or None


def natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted as people count: `"2"` before `"10"`, `"grade 9"` before `"grade 12"`, `"-1"` before `"0"`."""

    def key(name: str) -> tuple:
        if re.fullmatch(r"-?\d+", name):
            return (0, int(name), [], name)
        parts = re.split(r"(\d+)", name)  # text and digits in turn
        return (1, 0, [int(part) if i % 2 else part for i, part in enumerate(parts)], name)

    return sorted(names, key=key)
