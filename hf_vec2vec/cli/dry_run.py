"""`--dry_run`: what a command would read and write, and about how long it would take on this machine."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .flags import Flags, flag

if TYPE_CHECKING:
    from ..training.translator_arguments import TranslatorArguments

PRODUCT = 1024  # rows and columns of the matrices whose product tells how fast this machine computes
ADVERSARIAL_PASSES = 20  # through a translator's weights an update: translations, cycles, both players, there and back
STEP_COST = 2.5  # products of a step's sample with itself, and what is done with each, in products
BLOCK_COST = 4  # the same of back-translation, a round: both directions, means of few and many neighbours
UNITS = ("bytes", "kB", "MB", "GB", "TB")


@dataclass(kw_only=True)
class DryRunFlags(Flags):
    """Whether to work at all."""

    title: ClassVar[str] = "instead of working"

    dry_run: bool = flag("Say what would be read and written, and about how long it would take; do nothing.", False)


@dataclass
class Plan:
    """What a command would do.

    Args:
        reads: what is read, in words.
        writes: paths, and about how many bytes each will hold.
        seconds: at least and at most.
        notes: what else is good to know.
    """

    reads: list[str]
    writes: dict[str, float]
    seconds: tuple[float, float]
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        lines = ["Dry run: nothing was done."]
        lines += [f"reads   {line}" for line in self.reads]
        lines += [f"writes  {path}: about {size(count)}{self._too_much(path)}" for path, count in self.writes.items()]
        least, most = (seconds / 60 for seconds in self.seconds)
        if most < 1:
            lines.append("takes   less than a minute")
        elif round(least) == round(most):
            lines.append(f"takes   about {most:,.0f} minutes")
        else:
            lines.append(f"takes   about {max(least, 1):,.0f} to {most:,.0f} minutes")
        return "\n".join(lines + [f"note    {note}" for note in self.notes])

    def _too_much(self, path: str) -> str:
        there = Path(path).absolute()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        return f", but only {size(free)} are free" if free < self.writes[path] else ""


def size(count: float) -> str:
    """Bytes for people."""
    for unit in UNITS[:-1]:
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} {UNITS[-1]}"


def seconds_of(work: Callable[[], object]) -> float:
    """Seconds that `work` takes, the second time."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def seconds_a_product() -> float:
    """Seconds a multiplication with an addition takes in a product of matrices, on a GPU if there is one."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    a = torch.randn(PRODUCT, PRODUCT, device=device)
    return seconds_of(lambda: (a @ a).sum().item()) / PRODUCT**3


def alignment_seconds(rows: dict[str, int], dims: dict[str, int], args: "TranslatorArguments") -> tuple[float, float]:
    """About how long an alignment takes, if the first guesses agree and if all are needed."""
    from ..alignment.search import MIDDLE_SAMPLE, search_steps

    if args.init != "alignment":
        return 0.0, 0.0
    unit, dim, options = seconds_a_product(), max(dims.values()), args.alignment_options(0)
    sample = min(MIDDLE_SAMPLE, min(rows.values()))
    step = STEP_COST * sample**2 * dim * unit
    n, m = rows.values()
    rest = BLOCK_COST * options.back_translation_rounds * n * m * dim * unit
    rest += (n + m) * (options.hidden_dim + dim) ** 2 * unit
    fewest = search_steps(options.replaced(num_starts=min(options.num_starts, 6)))
    return fewest * step + rest, search_steps(options) * step + rest
