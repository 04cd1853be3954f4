"""Maps between embedding spaces, found without pairs.

[`align`] (`aligner`) runs every stage with [`AlignmentOptions`] (`options`) and gives an [`Alignment`] (`result`):

- `statistics` take raw vectors to coordinates that two spaces can be compared in;
- `start` (by `quadratic_assignment`) and `third_moments` guess rotations from the shape of the clouds;
- `search` refines them (`refine`, by `neighbours`) until those that agree (`consensus`) meet; where none do, it goes over
  halves of the rows (`parts`);
- `back_translation` frees it from being a rotation (`soft_matching`, `partners`, `moments`), `residual` from being linear;
- `verdict` says whether to believe it.

`synchronization` makes the rotations between more than two spaces agree.
"""

from .aligner import align
from .options import PROTOTYPES, AlignmentOptions
from .procrustes import polar_factor
from .regression import ridge
from .result import Alignment
from .score import alignment_score, matched_cosines
from .statistics import Statistics, fit_statistics
from .synchronization import synchronize
from .verdict import AlignmentReport

__all__ = [
    "PROTOTYPES",
    "Alignment",
    "AlignmentOptions",
    "AlignmentReport",
    "Statistics",
    "align",
    "alignment_score",
    "fit_statistics",
    "matched_cosines",
    "polar_factor",
    "ridge",
    "synchronize",
]
