"""Sections on translation: figures at home and elsewhere, how training went, pictures."""

from collections.abc import Callable
from pathlib import Path

import torch

from ...data.spaces import PairedEmbeddings
from .. import figures
from ..translation import Methods, score_methods
from .base import Cell, Contents, Makers, Section, Subject, Table, with_interval

COLUMNS = {
    "centred_cosine": "centred cosine",
    "cosine": "cosine",
    "top1": "top-1",
    "top10": "top-10",
    "reverse_top1": "reverse top-1",
    "mrr": "MRR",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
    "foscttm": "FOSCTTM",
    "neighbour_overlap": "10-NN overlap",
    "cka": "CKA",
}
DROP = ("centred_cosine", "top1", "mean_rank")


def makers(subject: Subject, contents: Contents) -> Makers:
    """The sections of this file that a report has, in its order. A new one needs a line here."""
    output, foreign_texts = contents.output, contents.foreign_texts
    made: Makers = {
        "Translation": lambda: translation(subject, contents.methods(), output),
        "Training": lambda: training(subject, output),
        "Pictures": lambda: pictures(subject, output),
    }
    if foreign_texts:
        made["Out of domain"] = lambda: out_of_domain(subject, contents.methods(), foreign_texts)
    return made


def translation(subject: Subject, methods: Methods, output: Path) -> Section:
    """How near translations come to the true vectors, beside baselines and oracles."""
    rows = score_methods(methods, subject.pairs, subject.model, full=True, seed=subject.seed)
    tables = []
    for a, b in subject.directions:
        chosen = [row for row in rows if row["direction"] == f"{a} → {b}"]
        cells = [[row["method"], *(with_interval(row, column) for column in COLUMNS)] for row in chosen]
        tables.append(Table(f"{a} → {b}, pool of {len(subject.pairs):,}", ["method", *COLUMNS.values()], cells))
    picture = output / "ranks.png"
    figures.draw_ranks(subject.model, subject.pairs, subject.directions, picture)
    text = (
        f"{len(subject.pairs):,} texts that the translator has not seen, embedded by both encoders. Ranks are those of the "
        f"true vector among all {len(subject.pairs):,}, by raw cosine to the translation; chance top-1 is "
        f"{1 / len(subject.pairs):.4f}. Reverse top-1 asks the translations with true vectors, as one asks a translated "
        "store. FOSCTTM is the fraction of samples closer than the true match, in the mean over both ways of asking: 0 is "
        "best, .5 is chance. Brackets hold 95 % bootstrap intervals over texts. Baselines know nothing of pairs; oracles "
        "were fitted on other pairs, as many as their names say. Raw cosine misleads: the mean vector shows what no "
        "information is worth."
    )
    return Section("Translation", text, tables, [("Share of texts whose true vector is found by rank", picture)], rows)


def out_of_domain(subject: Subject, methods: Methods, load: Callable[[], list[str]]) -> Section:
    """The translation table on other texts, and how much of each figure is lost."""
    texts, home = load(), len(subject.pairs)
    order = torch.randperm(len(texts), generator=torch.Generator().manual_seed(subject.seed))[:home]
    texts = [texts[i] for i in order.tolist()]
    foreign = PairedEmbeddings({space: subject.encode(space, texts) for space in (subject.source, subject.target)})
    # The pools have one size: ranks depend on it.
    near = PairedEmbeddings({space: rows[: len(foreign)] for space, rows in subject.pairs.spaces.items()})
    at_home = score_methods(methods, near, subject.model)
    abroad = score_methods(methods, foreign, subject.model, full=True, seed=subject.seed)
    rows = []
    for here, away in zip(at_home, abroad, strict=True):
        lost = {f"{name}_change": away[name] - here[name] for name in DROP}
        rows.append(away | {f"{name}_at_home": here[name] for name in DROP} | lost)
    head = ["method", *(f"{COLUMNS[name]}{where}" for name in DROP for where in ("", ": at home", ": change"))]
    tables = []
    for a, b in subject.directions:
        cells = [
            [row["method"]] + [cell for name in DROP for cell in _away_and_home(row, name)]
            for row in rows
            if row["direction"] == f"{a} → {b}"
        ]
        tables.append(Table(f"{a} → {b}, pools of {len(foreign):,}", head, cells))
    text = (
        f"{len(foreign):,} texts of another kind than those that the translator and the oracles were trained on, beside "
        "as many held-out ones of the kind that they know. Brackets hold 95 % bootstrap intervals over texts."
    )
    return Section("Out of domain", text, tables, [], rows)


def _away_and_home(row: dict, name: str) -> list[Cell]:
    places = 1 if "rank" in name else 3
    return [with_interval(row, name), f"{row[f'{name}_at_home']:.{places}f}", f"{row[f'{name}_change']:+.{places}f}"]


def training(subject: Subject, output: Path) -> Section:
    """How adversarial training went, and what was kept."""
    if not any("discriminator_loss" in row for row in subject.log):
        return Section("Training", "No adversarial training followed the alignment, or its folder holds no log of it.")
    picture = output / "training.png"
    figures.draw_training(subject.log, subject.selection.get("before"), picture)
    text = "The left panel holds every loss as it is before weighting; the discriminators guess when half is told apart."
    if "after" in subject.selection:
        facts = subject.selection
        text += (
            f" The score on held-out unpaired rows was {facts['before']:.4f} ± {facts['error']:.4f} (standard error) before "
            f"and {facts['after']:.4f} after: the {'trained model' if facts['kept'] == 'trained' else 'alignment'} was kept."
        )
    return Section("Training", text, [], [("Adversarial training, update by update", picture)], subject.log)


def pictures(subject: Subject, output: Path) -> Section:
    """Heat-map and projections."""
    given = (subject.model, subject.pairs, subject.source, subject.target)
    drawn = {
        "heatmap.png": "Cosines of 64 translations (rows) and 64 true vectors (columns): bright on the diagonal is right.",
        "projection.png": "Both spaces in two dimensions (PCA), before and after translation.",
    }
    figures.heatmap(*given, output / "heatmap.png")
    figures.projection(*given, output / "projection.png")
    text = ""
    try:
        figures.projection(*given, output / "umap.png", "UMAP")
        drawn["umap.png"] = "The same by UMAP, which keeps neighbourhoods, not distances."
    except ImportError:
        text = "There is no UMAP beside the PCA, because umap-learn is missing: pip install umap-learn"
    return Section("Pictures", text, pictures=[(caption, output / name) for name, caption in drawn.items()])
