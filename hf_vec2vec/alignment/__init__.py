"""Maps between embedding spaces, found without pairs.

`start` guesses rotations from the shape of the clouds, `search` refines (`refine`) and selects (`score`) them,
`back_translation` frees the best from being a rotation, `residual` from being linear, `verdict` says whether to believe it.
[`align`] runs them all. `synchronization` makes the rotations between more than two spaces agree.
"""

from .aligner import Alignment, Statistics, align, fit_statistics
from .refine import ridge
from .residual import PROTOTYPES
from .score import alignment_score, matched_cosines
from .start import polar_factor
from .synchronization import synchronize
from .verdict import AlignmentReport

__all__ = [
    "PROTOTYPES",
    "Alignment",
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
