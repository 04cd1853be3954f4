"""What a report is made of: its subject, sections and tables."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from ...data.corpora import LabelledTexts
from ...data.spaces import PairedEmbeddings
from ...metrics.tables import places
from ...model.modeling_vec2vec import Vec2VecModel
from ..translation import Methods

Cell = str | tuple[str, str]  # a text; or a figure and its interval
Encode = Callable[[str, list[str]], Tensor]  # space and texts to `(n, d)`


@dataclass
class Table:
    """A table of a section: a caption, a head, and rows whose first cells name the row; `prose` breaks lines."""

    caption: str
    head: list[str]
    rows: Sequence[Sequence[Cell]]
    prose: bool = False


@dataclass
class Section:
    """A part of the report, or the reason why it is missing.

    Args:
        title: in plain words.
        text: what was done and how to read it.
        tables: shown one below the other.
        pictures: caption and PNG of each.
        figures: all numbers, for JSON.
        error: why the section could not be made; then all but the title is empty.
    """

    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    pictures: list[tuple[str, Path]] = field(default_factory=list)
    figures: list[dict] = field(default_factory=list)
    error: str | None = None


@dataclass(frozen=True)
class Subject:
    """What is reported on.

    Args:
        name: of the translator.
        model: the translator.
        source: name of the one space.
        target: name of the other.
        pairs: held-out rows of both spaces, row i the same text.
        others: other pairs. Oracles are fitted on them; the texts of their second half are the attacker's own,
            but for those that are among the attacked ones.
        texts: of `pairs`, or `None` where they are unknown.
        other_texts: of `others`, the same.
        encode: makes vectors of new texts; raises where an encoder is not recorded or cannot be loaded.
        log: what the trainer logged; empty where nothing was trained or nothing is known of it.
        selection: what `train_translator` compared before it kept the alignment or the trained model.
        seed: of everything random.
    """

    name: str
    model: Vec2VecModel
    source: str
    target: str
    pairs: PairedEmbeddings
    others: PairedEmbeddings
    texts: list[str] | None
    other_texts: list[str] | None
    encode: Encode
    log: list[dict] = field(default_factory=list)
    selection: dict = field(default_factory=dict)
    seed: int = 0

    @property
    def directions(self) -> tuple[tuple[str, str], tuple[str, str]]:
        """Both ways."""
        return (self.source, self.target), (self.target, self.source)


@dataclass(frozen=True)
class Contents:
    """What a report on a subject shall hold.

    Args:
        output: folder of the pictures.
        methods: baselines, translator and oracles, fitted when they are first asked for.
        corpora: labelled texts by name, loaded when their turn comes.
        foreign_texts: loads texts of another domain than the translator was trained on; without it there is no such section.
        inverter: causal language model that learns to write texts from vectors, and its training steps; or no such section.
        with_privacy: attack the vectors under several defences, too.
        show_texts: print texts that were recovered or retrieved.
    """

    output: Path
    methods: Callable[[], Methods]
    corpora: dict[str, Callable[[], LabelledTexts]]
    foreign_texts: Callable[[], list[str]] | None = None
    inverter: tuple[str, int] | None = None
    with_privacy: bool = False
    show_texts: bool = False


Makers = dict[str, Callable[[], Section]]  # by title


def with_interval(row: dict, column: str) -> Cell:
    """A figure and its interval as a cell; a dash where there was nothing to measure."""
    if row[column] is None:
        return "–"
    shown = places(column)
    interval = row["intervals"][column] if "intervals" in row else row[f"{column}_interval"]
    low, high = (f"{bound:.{shown}f}".replace("0.", ".", 1) if shown > 1 else f"{bound:.1f}" for bound in interval)
    return f"{row[column]:.{shown}f}", f"[{low}, {high}]"
