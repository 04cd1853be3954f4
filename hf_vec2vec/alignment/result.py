"""What an alignment gives."""

from dataclasses import dataclass, field

from torch import Tensor, nn

from .statistics import Statistics
from .verdict import AlignmentReport


@dataclass(frozen=True)
class Alignment:
    """Maps between two spaces, in normalised coordinates, and the statistics that normalise.

    Args:
        source: name of the one space.
        target: name of the other.
        source_to_target: `(d_a, d_b)`, acts on rows from the right.
        target_to_source: `(d_b, d_a)`. No transpose of the other: see `back_translate`.
        source_statistics: mean and scale of the source's training rows, `(d_a,)` each.
        target_statistics: the same of the target.
        rotation: `(d_a, d_b)`, semi-orthogonal, that the maps were grown from; `None` for maps of your own. Of a space with
            more dimensions than rows, it takes what lies outside of their leading axes to 0.
        report: whether to believe it; `None` for maps of your own.
        residuals: networks that replace the two linear maps by better ones.
        guesses: rotations that were tried.
        seconds: that each stage took: `"rotation"`, `"parts"` (of the rows, where they were tried), `"back-translation"`,
            `"full"`.
        interrupted: whether it was interrupted, so that the maps are the best until then.
    """

    source: str
    target: str
    source_to_target: Tensor
    target_to_source: Tensor
    source_statistics: Statistics
    target_statistics: Statistics
    rotation: Tensor | None = None
    report: AlignmentReport | None = None
    residuals: tuple[nn.Module, nn.Module] | None = None
    guesses: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False
