"""How an alignment runs: every number that a user may set, checked before any work."""

from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import Literal

import torch

from ..data.devices import chosen_device

PROTOTYPES = 2048  # of the layer that frees a map from being linear: as many again give .002 of centred cosine
EFFORTS = ("quick", "default", "thorough")
LEAST = {
    "num_starts": 1,
    "num_anchors": 2,
    "steps": 1,
    "back_translation_rounds": 0,
    "neighbours": 1,
    "hidden_dim": 0,
    "seed": 0,
}
LARGEST_SEED = 2**63 - 1  # of torch's generators that is not read as a negative number


@dataclass(frozen=True)
class AlignmentOptions:
    """Options of [`align`].

    Args:
        effort: how long the rotation is looked for where it is not settled early: `"quick"` tries one wave of guesses,
            `"default"` tries `num_starts` guesses, `"thorough"` three times as many, and then halves of the rows, as the
            texts of the two sides may be alike only in part: each half of a side with the other side, then half with half.
        standardize: scale every dimension by its own deviation: `True`, `False`, or `"auto"`; see `fit_statistics`.
        num_starts: guesses of the rotation from matched clusters, at most: many pairs are settled by the first six and three
            of another kind.
        num_anchors: clusters a side and guess.
        steps: of a round of the last refinement of the rotation, of which there are three at most.
        back_translation_rounds: 0 keeps the rotation.
        neighbours: that back-translation averages, and fewer and more.
        hidden_dim: prototypes; 0 keeps the map linear: a lower cosine, and a higher top-1 where translations ask real rows.
        seed: of everything random.
        device: where it runs; a GPU if there is one. k-means and the matching that scores guesses run on the CPU.
        progress: show a bar.

    Raises:
        TypeError: for a value of another type.
        ValueError: for a number that is too small, or a device that this machine does not have.
    """

    effort: Literal["quick", "default", "thorough"] = "default"
    standardize: bool | Literal["auto"] = "auto"
    num_starts: int = 24
    num_anchors: int = 25
    steps: int = 20
    back_translation_rounds: int = 2
    neighbours: int = 15
    hidden_dim: int = PROTOTYPES
    seed: int = 0
    device: torch.device | str | None = None
    progress: bool = True

    def __post_init__(self):
        if self.effort not in EFFORTS:
            raise ValueError(f"`effort` must be one of {', '.join(map(repr, EFFORTS))}, got {self.effort!r}.")
        if not isinstance(self.standardize, bool) and self.standardize != "auto":
            raise ValueError(f"`standardize` must be True, False or 'auto', got {self.standardize!r}.")
        for name, least in LEAST.items():
            value = getattr(self, name)
            if not isinstance(value, Integral) or isinstance(value, bool):
                raise TypeError(f"`{name}` must be a whole number, got {value!r}.")
            if value < least:
                raise ValueError(f"`{name}` must be at least {least}, got {value}.")
            object.__setattr__(self, name, int(value))  # numpy's numbers, which torch does not take
        if self.seed > LARGEST_SEED:
            raise ValueError(f"`seed` must be at most {LARGEST_SEED}, got {self.seed}.")
        if not isinstance(self.progress, bool):
            raise TypeError(f"`progress` must be True or False, got {self.progress!r}.")
        self.resolved_device()

    def replaced(self, **values) -> "AlignmentOptions":
        """The same options with some values changed.

        Raises:
            TypeError: for a name that is no option.
        """
        names = [field.name for field in fields(self)]
        if unknown := sorted(set(values) - set(names)):
            raise TypeError(f"`{unknown[0]}` is no option of an alignment. There are: {', '.join(names)}.")
        return replace(self, **values)

    def resolved_device(self) -> torch.device:
        """The device that was asked for; else a GPU if there is one.

        Raises:
            ValueError: if this machine does not have it.
        """
        return chosen_device(self.device)
