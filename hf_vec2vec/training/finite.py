"""Numbers that training can compute with."""

from collections.abc import Mapping

from torch import Tensor

# A vector's squared norm and the sums over rows must stay in float32, whose largest number is 3.4e38: 1e15 squared, 10,000
# dimensions and 10,000 rows are 1e38. Encoders' values lie below 1e4.
LARGEST_VALUE = 1e15


class TrainingDivergedError(ValueError):
    """A loss or a weight is not a finite number. What was saved before is as it was."""


def check_magnitudes(spaces: Mapping[str, Tensor], argument: str) -> None:
    """Raise if values are so large that training would overflow.

    Args:
        spaces: rows `(n, d)` of every space.
        argument: that they came with, for the error.

    Raises:
        ValueError: which names the first such row.
    """
    for name, rows in spaces.items():
        large = ~(rows.abs().amax(1) <= LARGEST_VALUE)
        if large.any():
            first = int(large.nonzero()[0, 0])
            raise ValueError(
                f"`{argument}`: {int(large.sum())} row(s) of `{name}` have values above {LARGEST_VALUE:.0e}, whose squares "
                f"overflow; the first is row {first} with {rows[first].abs().max().item():.3g}. Such rows are damaged: drop "
                "or re-embed them."
            )
