"""The sections of a report on one translator: what each measures, its tables, pictures and words."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from ..corpora import LabelledTexts
from ..data import PairedEmbeddings
from ..modeling_vec2vec import Vec2VecModel
from . import evaluate_translation, figures
from .attributes import attribute_inference
from .generation import PrefixInverter
from .inversion import WordDecoder, retrieve, text_overlap
from .privacy import defences

COLUMNS = {
    "centred_cosine": "centred cosine",
    "cosine": "cosine",
    "top1": "top-1",
    "top10": "top-10",
    "mrr": "MRR",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
    "neighbour_overlap": "10-NN overlap",
    "cka": "CKA",
}
INVERSION = {
    "word_f1": "words (F1)",
    "token_f1": "nearest text: token F1",
    "rouge_l": "ROUGE-L",
    "entity_recall": "names",
    "number_recall": "numbers",
    "cosine": "cosine",
}

Encode = Callable[[str, list[str]], Tensor]  # space and texts to `(n, d)`


@dataclass
class Table:
    """A table of a section: a caption, a head, and rows of text whose first cells name the row; `prose` breaks lines."""

    caption: str
    head: list[str]
    rows: list[list[str]]
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
        others: other pairs. Oracles are fitted on them; the texts of their second half are the attacker's own.
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


def translation(subject: Subject, output: Path) -> Section:
    """How near translations come to the true vectors, beside baselines and oracles."""
    rows = evaluate_translation(
        {"this translator": subject.model},
        subject.pairs,
        source=subject.source,
        target=subject.target,
        oracle_pairs=subject.others,
        full=True,
        seed=subject.seed,
    )
    tables = []
    for a, b in subject.directions:
        chosen = [row for row in rows if row["direction"] == f"{a} → {b}"]
        cells = [[row["method"], *(_with_interval(row, column) for column in COLUMNS)] for row in chosen]
        tables.append(Table(f"{a} → {b}, pool of {len(subject.pairs):,}", ["method", *COLUMNS.values()], cells))
    picture = output / "ranks.png"
    figures.draw_ranks(subject.model, subject.pairs, subject.directions, picture)
    text = (
        f"{len(subject.pairs):,} texts that the translator has not seen, embedded by both encoders. Ranks are those of the "
        f"true vector among all {len(subject.pairs):,}, by raw cosine to the translation; chance top-1 is "
        f"{1 / len(subject.pairs):.4f}. Brackets hold 95 % bootstrap intervals over texts. Baselines know nothing of pairs; "
        f"oracles were fitted on {len(subject.others):,} pairs. Raw cosine misleads: the mean vector shows what no "
        "information is worth."
    )
    return Section("Translation", text, tables, [("Share of texts whose true vector is found by rank", picture)], rows)


def out_of_domain(subject: Subject, texts: list[str]) -> Section:
    """The translation table on other texts, and how much of each figure is lost."""
    spaces = (subject.source, subject.target)
    home = len(subject.pairs)
    foreign = PairedEmbeddings({space: subject.encode(space, texts[:home]) for space in spaces})
    near = PairedEmbeddings({space: subject.pairs.spaces[space][: len(foreign)] for space in spaces})  # one size of pool
    options = {"source": subject.source, "target": subject.target, "oracle_pairs": subject.others, "seed": subject.seed}
    at_home, abroad = (
        evaluate_translation({"this translator": subject.model}, pairs, **options) for pairs in (near, foreign)
    )
    shown = {"centred_cosine": "centred cosine", "top1": "top-1", "mean_rank": "mean rank"}
    rows = [
        {"direction": away["direction"], "method": away["method"]}
        | {name: away[name] for name in shown}
        | {f"{name}_at_home": here[name] for name in shown}
        for here, away in zip(at_home, abroad, strict=True)
    ]
    head = ["direction", "method", *(f"{title}{where}" for title in shown.values() for where in ("", ", at home"))]
    cells = [
        [r["direction"], r["method"], *(f"{r[key]:.3f}" for name in shown for key in (name, f"{name}_at_home"))]
        for r in rows
    ]
    text = (
        f"{len(foreign):,} texts of another kind than those that the translator and the oracles were trained on, beside "
        "as many held-out ones of the kind that they know; pools are of that size."
    )
    return Section("Out of domain", text, [Table("Elsewhere and at home", head, cells)], [], rows)


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


def attributes(subject: Subject, load: Callable[[], LabelledTexts], output: Path) -> Section:
    """What labels an attacker reads off translated vectors of one corpus."""
    corpus = load()
    spaces = (subject.source, subject.target)
    vectors = {space: subject.encode(space, corpus.texts) for space in spaces}
    descriptions = {space: subject.encode(space, list(corpus.descriptions.values())) for space in spaces}
    rows = []
    for a, b in subject.directions:
        rows += attribute_inference(subject.model, corpus, vectors, descriptions, source=a, target=b, seed=subject.seed)
    head = ["attack", "method", "accuracy", "macro F1", *(f"recall: {name}" for name in corpus.descriptions)]
    tables = []
    for a, b in subject.directions:
        cells = [
            [r["attack"], r["method"], _with_interval(r, "accuracy"), f"{r['macro_f1']:.3f}"]
            + [f"{value:.2f}" for value in r["recall"].values()]
            for r in rows
            if r["direction"] == f"{a} → {b}"
        ]
        tables.append(Table(f"{a} → {b}, {rows[0]['texts']:,} texts attacked", head, cells))
    picture = output / f"attributes-{corpus.name}.png"
    figures.draw_attributes(rows, picture)
    text = (
        "Someone who has only the vectors, this translator, the other space's encoder and labelled texts of his own "
        f"guesses the class of each text ({', '.join(corpus.descriptions)}). Zero-shot: the class whose description lies "
        "nearest. Linear probe: fitted to vectors of his own texts. “Ideal” is the same attack where nothing had to be "
        "translated; “naive” hands the vectors over untranslated."
    )
    return Section(f"Attributes: {corpus.name}", text, tables, [("Accuracy by attack and method", picture)], rows)


def inversion(subject: Subject) -> Section:
    """What of the texts comes back."""
    if subject.texts is None or subject.other_texts is None:
        raise ValueError(
            "Inversion needs the texts of the vectors: give files with a column `text`, as `embed` writes them."
        )
    half = len(subject.others) // 2
    own_texts, generator = subject.other_texts[half:], torch.Generator().manual_seed(subject.seed)
    rows = []
    for a, b in subject.directions:
        own, truth = subject.others.spaces[b][half:], subject.pairs.spaces[b]
        mean = subject.model.normalizers[b].mean.cpu()
        decoder = WordDecoder(own, own_texts)
        attacked = {
            "translated": subject.model.translate(subject.pairs.spaces[a], source=a, target=b),
            "true vectors (ceiling)": truth,
            "mean vector (floor)": mean.expand_as(truth),
            "vectors of other texts (floor)": truth[torch.randperm(len(truth), generator=generator)],
        }
        for method, vectors in attacked.items():
            nearest = retrieve(vectors, own, mean)
            overlap = text_overlap([own_texts[i] for i in nearest.tolist()], subject.texts)
            figures = {name: _mean(values) for name, values in overlap.items()}
            # The retrieved text embedded again: its vector is known already.
            figures["cosine"] = F.cosine_similarity(own[nearest] - mean, truth - mean).mean().item()
            figures["word_f1"] = _mean(decoder.word_f1(vectors, subject.texts))
            rows.append({"direction": f"{a} → {b}", "method": method, "texts": len(truth), **figures})
    cells = [
        [r["direction"], r["method"], *("–" if r[name] is None else f"{r[name]:.3f}" for name in INVERSION)] for r in rows
    ]
    text = (
        f"The attacker has {len(own_texts):,} texts of his own and their vectors. He decodes which of the 2,000 most "
        "frequent words a text has, and looks up which of his own texts lies nearest. Names are words with a capital "
        "inside a sentence. No attacked text is among his own, so the ceiling of the look-up is far below 1."
    )
    return Section(
        "Inversion", text, [Table("What comes back", ["direction", "attack on", *INVERSION.values()], cells)], [], rows
    )


def written(subject: Subject, inverter: tuple[str, int], *, show_texts: bool, attacked: int = 100) -> Section:
    """What a language model writes when it reads the vectors."""
    if subject.texts is None or subject.other_texts is None:
        raise ValueError("Inversion needs texts: give vectors with a column `text`, as `hf-vec2vec embed` writes them.")
    (name, steps), (a, b), half = inverter, (subject.source, subject.target), len(subject.others) // 2
    own, mean = subject.others.spaces[b][half:], subject.model.normalizers[b].mean.cpu()
    writer = PrefixInverter(name, own.shape[1], mean, seed=subject.seed)
    losses = writer.fit(own, subject.other_texts[half:], steps=steps)
    texts, truth = subject.texts[:attacked], subject.pairs.spaces[b][:attacked]
    vectors = {
        "translated": subject.model.translate(subject.pairs.spaces[a][:attacked], source=a, target=b),
        "true vectors (ceiling)": truth,
        "vectors of other texts (floor)": truth.roll(1, 0),
    }
    rows, shown = [], []
    for method, given in vectors.items():
        found = writer.invert(given)
        figures = {key: _mean(values) for key, values in text_overlap(found, texts).items()}
        figures["cosine"] = F.cosine_similarity(subject.encode(b, found) - mean, truth - mean).mean().item()
        rows.append({"direction": f"{a} → {b}", "method": method, "texts": len(texts), **figures})
        shown += [[method, *pair] for pair in zip(texts[:5], found, strict=False)]
    titles = {key: title for key, title in INVERSION.items() if key != "word_f1"} | {"token_f1": "token F1"}
    cells = [[r["method"], *("–" if r[key] is None else f"{r[key]:.3f}" for key in titles)] for r in rows]
    tables = [Table(f"{a} → {b}, {len(texts)} texts", ["attack on", *titles.values()], cells)]
    tables += [Table("Texts", ["attack on", "text", "written"], shown, prose=True)] if show_texts else []
    text = (
        f"The attacker trains {name} to write a text from its vector, on {len(own):,} texts of his own and {steps} steps "
        f"of 16 (loss {losses[0]:.2f} at first, {np.mean(losses[-10:]):.2f} at last, in nats a token), and has it read "
        "translated vectors. Cosine: between the vector of what was written and the true one. More steps give more."
    )
    return Section("Inversion by a language model", text, tables, [], rows)


def privacy(subject: Subject) -> Section:
    """What an attacker with only the vectors learns, and what defences change."""
    half, (a, b) = len(subject.others) // 2, (subject.source, subject.target)
    rows = defences(
        subject.model,
        subject.pairs.spaces[a],
        subject.pairs.spaces[b],
        subject.others.spaces[a][:half],
        subject.others.spaces[b][half:],
        source=a,
        target=b,
        own_texts=subject.other_texts and subject.other_texts[half:],
        texts=subject.texts,
        seed=subject.seed,
    )
    bare, again = rows[0], rows[-1]
    undone = again["top1"] > bare["top1"] / 2
    text = (
        f"Someone who holds nothing but vectors of {a}, not even the model that made them, translates them into {b}, whose "
        f"encoder he has, and reads them there: he finds the right one of {len(subject.pairs):,} texts in "
        f"{bare['top1']:.0%} of cases, and the sections above tell what else. "
        "Vectors are no anonymised texts: treat them like the texts. "
        f"A secret rotation {'does not protect' if undone else 'was not undone here'}: aligned anew, without a pair, the "
        f"rotated store gives {again['top1']:.0%}. Noise and coarse rounding protect only as far as they spoil the owner's "
        "own search. The first figure is the share of each vector's ten nearest neighbours that the owner still finds."
    )
    columns = {"kept_neighbours": "owner: kept neighbours", "top1": "attack: top-1", "centred_cosine": "centred cosine"}
    columns |= {"word_f1": "words (F1)"} if "word_f1" in bare else {}
    cells = [[r["defence"], *(f"{r[name]:.3f}" for name in columns), r.get("verdict", "")] for r in rows]
    return Section("Privacy", text, [Table(f"{a} → {b}", ["defence", *columns.values(), "verdict"], cells)], [], rows)


def samples(subject: Subject, *, show_texts: bool, count: int = 12) -> Section:
    """A few translations and what they find."""
    a, b = subject.source, subject.target
    mean, truth = subject.model.normalizers[b].mean.cpu(), subject.pairs.spaces[b]
    found = retrieve(subject.model.translate(subject.pairs.spaces[a][:count], source=a, target=b), truth, mean)
    rows = [{"row": i, "found": j, "right": i == j} for i, j in enumerate(found.tolist())]
    if not show_texts or subject.texts is None:
        cells = [[str(r["row"]), str(r["found"]), "found" if r["right"] else "missed"] for r in rows]
        head, text = ["row", "nearest row", ""], "Texts are not shown unless asked for (`--show_texts`)."
    else:
        cells = [[subject.texts[r["row"]], "found" if r["right"] else "missed: " + subject.texts[r["found"]]] for r in rows]
        head, text = ["text", f"nearest of {len(truth):,}"], ""
    return Section("Samples", text, [Table(f"{a} → {b}", head, cells, prose=True)], [], rows)


def _mean(values: np.ndarray) -> float | None:
    """Mean over the texts that have what is measured; `None` if no text has a name, a number, a word."""
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _with_interval(row: dict, column: str) -> str:
    places = 1 if "rank" in column else 3
    low, high = row["intervals"][column] if "intervals" in row else row[f"{column}_interval"]
    return f"{row[column]:.{places}f} [{low:.{places}f}, {high:.{places}f}]"
