"""One page about one translator: what its vectors still say, in tables and pictures, as HTML, PNG and JSON."""

import base64
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date
from functools import cache, partial
from itertools import count
from pathlib import Path

import torch
from datasets import Dataset
from jinja2 import Environment, FileSystemLoader
from torch import Tensor

from ..data.columns import TEXT
from ..data.corpora import LabelledTexts, load_labelled
from ..data.json_files import read_part
from ..data.overlap import first_places
from ..data.progress import progress_bar
from ..data.staging import locked, staged_entries
from ..data.texts import load_texts
from ..encoders.recorded import recorded_encoder
from ..encoders.text import TextEncoder
from ..model.configuration_vec2vec import Vec2VecConfig
from ..version import __version__
from .sections import FILES, Contents, Encode, Makers, Section, Subject, summary
from .translation import Methods, apart_from, fit_methods

TEMPLATES = Path(__file__).parent.parent / "templates"
EXPECTED = OSError, ValueError, TypeError, ImportError  # whose messages are written for users
MADE_BY = "<footer><p>hf_vec2vec "  # in the template of every page
logger = logging.getLogger(__name__)


def write_report(
    subject: Subject,
    corpora: dict[str, Callable[[], LabelledTexts]],
    output: Path,
    *,
    foreign_texts: Callable[[], list[str]] | None = None,
    inverter: tuple[str, int] | None = None,
    with_privacy: bool = False,
    show_texts: bool = False,
) -> list[Section]:
    """Make all sections and write `report.html`, `report.json` and the pictures.

    A section that fails (a corpus that is not there, an encoder that cannot be loaded) says why; the others are made. What
    was in the folder stays as it was until all is made; after an interruption what is done is written, and says so.

    Args:
        subject: what is reported on.
        corpora: labelled texts by the name that section, picture and figures have, loaded when their turn comes.
        output: folder.
        foreign_texts: loads texts of another domain than the translator was trained on, to measure the drop.
        inverter: causal language model that learns to write texts from vectors, and its training steps.
        with_privacy: attack the vectors under several defences, too, which takes an alignment of its own; attributes are
            those of the first of `corpora`.
        show_texts: print texts that were recovered or retrieved.

    Returns:
        The sections, as written.

    Raises:
        FileExistsError: see `check_page`; also if another process writes there.
    """
    check_page(output)

    @cache
    def methods() -> Methods:
        translators = {"this translator": subject.model}
        ends = subject.source, subject.target
        others = apart_from(subject.pairs, subject.others)
        return fit_methods(translators, others, source=ends[0], target=ends[1], full=True, seed=subject.seed)

    corpora = {name: cache(partial(_named, name, load)) for name, load in corpora.items()}
    with locked(output, argument="output_dir"), staged_entries(output) as beside:
        contents = Contents(beside, methods, corpora, foreign_texts, inverter, with_privacy, show_texts)
        makers: Makers = {}
        for file in FILES:
            makers |= file.makers(subject, contents)
        sections, interruption = _made(makers)
        _write_page(subject, sections, beside)
    if interruption is not None:
        raise interruption
    return [replace(s, pictures=[(caption, output / path.name) for caption, path in s.pictures]) for s in sections]


def _named(name: str, load: Callable[[], LabelledTexts]) -> LabelledTexts:
    return replace(load(), name=name)


def check_page(output: Path) -> None:
    """Raise FileExistsError if a folder holds a `report.html` that is no report of this package."""
    page = output / "report.html"
    if page.exists() and MADE_BY not in page.read_text(encoding="utf-8", errors="replace"):
        raise FileExistsError(
            f"`output_dir`: {str(page)!r} is of another hand; it is not overwritten. Choose another folder."
        )


def _made(makers: Makers) -> tuple[list[Section], KeyboardInterrupt | None]:
    """The sections, and the interruption behind the last of them, if there was one."""
    sections: list[Section] = []
    bar = progress_bar(makers.items())
    for title, make in bar:
        bar.set_description(title)
        try:
            sections.append(make())
        except KeyboardInterrupt as error:
            sections.append(Section(title, error="interrupted; this section and those after it were not made."))
            return sections, error
        except EXPECTED as error:
            sections.append(Section(title, error=" ".join(str(error).split())))
        except Exception as error:  # of a library, over a file that it cannot read for instance: the rest is still made
            logger.warning("%s", title, exc_info=True)
            sections.append(Section(title, error=f"{type(error).__name__}: {error}"))
    return sections, None


def _write_page(subject: Subject, sections: list[Section], output: Path) -> None:
    shown = [section for section in (summary(subject, sections), *sections) if section]
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("report.html")
    images = {path: base64.b64encode(path.read_bytes()).decode() for s in shown for _, path in s.pictures}
    page = template.render(subject=subject, sections=shown, images=images, version=__version__, day=date.today())
    (output / "report.html").write_text(page, encoding="utf-8")
    numbers = {s.title: {"error": s.error} if s.error else {"rows": s.figures} for s in sections}
    text = json.dumps(_without_nan(numbers), indent=2, ensure_ascii=False, allow_nan=False)
    (output / "report.json").write_text(text, encoding="utf-8")


def _without_nan(value):
    """The same with `None` for NaN and infinite numbers, which a trainer may log and JSON cannot hold."""
    if isinstance(value, dict):
        return {key: _without_nan(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def corpus_names(sources: Iterable[str]) -> dict[str, str]:
    """What `load_labelled` reads, by a short name for each, no two the same.

    The name is that of the file or the data set; where several have it, with its suffix, else with its folder, else with a
    number.
    """
    names = {source: Path(source).stem for source in sources}
    longer = (lambda path: path.name), (lambda path: "-".join(filter(None, (path.parent.name, path.stem))))
    for make in longer:
        shared = Counter(name.casefold() for name in names.values())
        names |= {s: make(Path(s)) for s, name in names.items() if shared[name.casefold()] > 1}
    found: dict[str, str] = {}
    for source, name in names.items():
        taken = {other.casefold() for other in found}
        tried = (name if number == 1 else f"{name}-{number}" for number in count(1))
        found[next(each for each in tried if each.casefold() not in taken)] = source
    return found


def load_corpus(name: str, max_texts: int, seed: int) -> LabelledTexts:
    """At most so many of a corpus' texts, drawn at random.

    A class of which one text alone was drawn, equal ones counted once, is left out: the attacker and the test need one each.
    """
    corpus = load_labelled(name)
    rows = torch.randperm(len(corpus), generator=torch.Generator().manual_seed(seed))[:max_texts].tolist()
    different = set(first_places([corpus.texts[i] for i in rows]))
    drawn = Counter(corpus.labels[row] for place, row in enumerate(rows) if place in different)
    return corpus.take([i for i in rows if drawn[corpus.labels[i]] > 1])


def load_foreign(source: str) -> list[str]:
    """Texts of a file (see `load_texts`), or of what `load_labelled` knows by name."""
    return load_texts(source) if Path(source).exists() else load_labelled(source).texts


def recorded_encoders(config: Vec2VecConfig, *, trust_remote_code: bool = False) -> Encode:
    """Encoders as a translator's config records them, loaded when they are first needed; with code of their own if asked."""

    @cache
    def encoder(space: str) -> TextEncoder:
        return recorded_encoder(config, space, trust_remote_code=trust_remote_code)

    @cache  # several sections ask for the same labelled texts
    def rows(space: str, texts: tuple[str, ...]) -> Tensor:
        return encoder(space).encode(list(texts), progress=False)

    return lambda space, texts: rows(space, tuple(texts))


def training_record(folder: Path) -> dict:
    """The trainer's log and the selection that a translator's folder holds, as arguments of `Subject`."""
    state, facts = folder / "trainer_state.json", folder / "training.json"
    return {
        "log": read_part(state, "log_history", list) if state.exists() else [],
        "selection": read_part(facts, "selection", dict) if facts.exists() else {},
    }


def texts_of(data: Dataset) -> list[str] | None:
    """The texts of a data set of vectors, if it has them."""
    return list(data[TEXT]) if TEXT in data.column_names else None


__all__ = [
    "Subject",
    "check_page",
    "corpus_names",
    "load_corpus",
    "load_foreign",
    "recorded_encoders",
    "texts_of",
    "training_record",
    "write_report",
]
