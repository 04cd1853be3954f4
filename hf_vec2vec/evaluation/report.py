"""One page about one translator: what its vectors still say, in tables and pictures, as HTML, PNG and JSON."""

import base64
import json
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import torch
from datasets import Dataset
from jinja2 import Environment, FileSystemLoader
from tqdm.auto import tqdm

from ..configuration_vec2vec import Vec2VecConfig
from ..corpora import LabelledTexts, load_labelled
from ..data import TEXT
from ..encoders import TextEncoder, recorded_encoder
from .sections import (
    Encode,
    Section,
    Subject,
    attributes,
    inversion,
    out_of_domain,
    pictures,
    privacy,
    samples,
    training,
    translation,
    written,
)

TEMPLATES = Path(__file__).parent.parent / "templates"


def write_report(
    subject: Subject,
    corpora: dict[str, Callable[[], LabelledTexts]],
    output: Path,
    *,
    foreign_texts: list[str] | None = None,
    inverter: tuple[str, int] | None = None,
    with_privacy: bool = False,
    show_texts: bool = False,
) -> list[Section]:
    """Make all sections and write `report.html`, `report.json` and the pictures.

    A section that fails (a corpus that is not there, an encoder that cannot be loaded) says why; the others are written.

    Args:
        subject: what is reported on.
        corpora: labelled texts by name, loaded when their turn comes.
        output: folder.
        foreign_texts: of another domain than the translator was trained on, to measure the drop.
        inverter: causal language model that learns to write texts from vectors, and its training steps.
        with_privacy: attack the vectors under several defences, too, which takes an alignment of its own.
        show_texts: print texts that were recovered or retrieved.

    Returns:
        The sections, as written.
    """
    output.mkdir(parents=True, exist_ok=True)
    makers = {
        "Translation": lambda: translation(subject, output),
        "Training": lambda: training(subject, output),
        "Pictures": lambda: pictures(subject, output),
        **({"Out of domain": lambda: out_of_domain(subject, foreign_texts)} if foreign_texts else {}),
        **{f"Attributes: {name}": partial(attributes, subject, load, output) for name, load in corpora.items()},
        "Inversion": lambda: inversion(subject),
        **({"Inversion by a language model": lambda: written(subject, inverter, show_texts=show_texts)} if inverter else {}),
        **({"Privacy": lambda: privacy(subject)} if with_privacy else {}),
        "Samples": lambda: samples(subject, show_texts=show_texts),
    }
    sections = []
    for title, make in tqdm(makers.items(), desc="report"):
        try:
            sections.append(make())
        except (OSError, ValueError, ImportError) as error:
            sections.append(Section(title, error=str(error)))
    template = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True).get_template("report.html")
    images = {path: base64.b64encode(path.read_bytes()).decode() for s in sections for _, path in s.pictures}
    (output / "report.html").write_text(template.render(subject=subject, sections=sections, images=images), encoding="utf-8")
    numbers = {s.title: {"error": s.error} if s.error else {"rows": s.figures} for s in sections}
    (output / "report.json").write_text(json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    return sections


def load_corpus(name: str, max_texts: int, seed: int) -> LabelledTexts:
    """At most so many of a corpus' texts, drawn at random."""
    corpus = load_labelled(name)
    rows = torch.randperm(len(corpus), generator=torch.Generator().manual_seed(seed))[:max_texts]
    return corpus.take(rows.tolist())


def recorded_encoders(config: Vec2VecConfig) -> Encode:
    """Encoders as a translator's config records them, loaded when they are first needed."""

    @cache
    def encoder(space: str) -> TextEncoder:
        return recorded_encoder(config, space)

    return lambda space, texts: encoder(space).encode(texts, progress=False)


def training_record(folder: Path) -> dict:
    """The trainer's log and the selection that a translator's folder holds, as arguments of `Subject`."""
    state, facts = folder / "trainer_state.json", folder / "training.json"
    return {
        "log": json.loads(state.read_text())["log_history"] if state.exists() else [],
        "selection": json.loads(facts.read_text()).get("selection", {}) if facts.exists() else {},
    }


def texts_of(data: Dataset) -> list[str] | None:
    """The texts of a data set of vectors, if it has them."""
    return list(data[TEXT]) if TEXT in data.column_names else None


__all__ = ["Section", "Subject", "load_corpus", "recorded_encoders", "texts_of", "training_record", "write_report"]
