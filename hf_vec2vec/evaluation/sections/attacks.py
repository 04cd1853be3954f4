"""Sections on what translated vectors tell: what an attacker reads off them, and which texts a few of them find."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from ...data.corpora import LabelledTexts
from ...data.file_names import file_names
from ...data.overlap import normal_text
from ...metrics.translation import mean_interval
from .. import figures
from ..attributes import attribute_inference
from ..generation import PrefixInverter
from ..inversion import WordDecoder, retrieve, text_overlap
from ..privacy import LabelledRows, defences
from .base import Contents, Makers, Section, Subject, Table, with_interval

INVERSION = {
    "word_f1": "words (F1)",
    "token_f1": "nearest text: token F1",
    "rouge_l": "ROUGE-L",
    "entity_recall": "names",
    "number_recall": "numbers",
    "cosine": "cosine",
}
WRITTEN = 100  # texts at most whose vectors a language model is given to read
SAMPLES = 12  # translations that are shown
FEWEST = 2  # texts of the attacker's own: one fits the words, one chooses their threshold
EMPTY = "."  # what stands for an empty answer where an encoder needs a text


def makers(subject: Subject, contents: Contents) -> Makers:
    """The sections of this file that a report has, in its order. A new one needs a line here."""
    output, inverter, corpora = contents.output, contents.inverter, contents.corpora
    files = file_names(corpora, kept="-_.")
    made: Makers = {
        f"Attributes: {name}": partial(attributes, subject, load, output / f"attributes-{files[name]}.png")
        for name, load in corpora.items()
    }
    made["Inversion"] = lambda: inversion(subject)
    if inverter:
        made["Inversion by a language model"] = lambda: written(subject, inverter, show_texts=contents.show_texts)
    if contents.with_privacy:
        made["Privacy"] = lambda: privacy(subject, next(iter(corpora.values()), None), output)
    made["Samples"] = lambda: samples(subject, show_texts=contents.show_texts)
    return made


def attributes(subject: Subject, load: Callable[[], LabelledTexts], picture: Path) -> Section:
    """What labels an attacker reads off translated vectors of one corpus, and a PNG of it."""
    corpus = load()
    spaces = (subject.source, subject.target)
    vectors = {space: subject.encode(space, corpus.texts) for space in spaces}
    descriptions = {space: subject.encode(space, list(corpus.descriptions.values())) for space in spaces}
    rows = []
    for a, b in subject.directions:
        rows += attribute_inference(subject.model, corpus, vectors, descriptions, source=a, target=b, seed=subject.seed)
    head = ["vectors, attack", "accuracy", "macro F1", *(f"recall: {name}" for name in corpus.descriptions)]
    tables = []
    for a, b in subject.directions:
        cells = [
            [
                f"{r['method']}, {r['attack']}" if r["attack"] != "both" else r["method"],
                with_interval(r, "accuracy"),
                f"{r['macro_f1']:.3f}",
            ]
            + [f"{value:.2f}" for value in r["recall"].values()]
            for r in rows
            if r["direction"] == f"{a} → {b}"
        ]
        tables.append(Table(f"{a} → {b}, {rows[0]['texts']:,} texts attacked", head, cells))
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
    (texts, own_rows, own_texts), generator = _texts(subject), torch.Generator().manual_seed(subject.seed)
    left_out, rows = len(subject.others) - len(subject.others) // 2 - len(own_rows), []
    for a, b in subject.directions:
        own, truth = subject.others.spaces[b][own_rows], subject.pairs.spaces[b]
        mean = subject.model.normalizer(b).mean.cpu()
        decoder = WordDecoder(own, own_texts)
        attacked = {
            "translated": subject.model.translate(subject.pairs.spaces[a], source=a, target=b),
            "true vectors (ceiling)": truth,
            "mean vector (floor)": mean.expand_as(truth),
            "vectors of other texts (floor)": truth[torch.randperm(len(truth), generator=generator)],
        }
        for method, vectors in attacked.items():
            nearest = retrieve(vectors, own, mean)
            found = {"word_f1": decoder.word_f1(vectors, texts)}
            found |= text_overlap([own_texts[i] for i in nearest.tolist()], texts)
            # The retrieved text embedded again: its vector is known already.
            found["cosine"] = F.cosine_similarity(own[nearest] - mean, truth - mean).numpy()
            rows.append({"direction": f"{a} → {b}", "method": method, "texts": len(truth)} | _means(found, subject.seed))
    tables = [
        Table(
            f"{a} → {b}",
            ["attack on", *INVERSION.values()],
            [[r["method"], *(with_interval(r, name) for name in INVERSION)] for r in rows if r["direction"] == f"{a} → {b}"],
        )
        for a, b in subject.directions
    ]
    dropped = f" ({left_out:,} more, which are among the attacked ones, were left out)" if left_out else ""
    text = (
        f"The attacker has {len(own_texts):,} texts of his own and their vectors, and attacks {len(subject.pairs):,}. He "
        "decodes which of the 2,000 most frequent words a text has, and looks up which of his own texts lies nearest. Names "
        "are words with a capital inside a sentence; of names and numbers the share that comes back is shown. Cosine: of "
        f"the found text's vector to the true one. No attacked text is among his own{dropped}, so the ceiling of the "
        "look-up is far below 1."
    )
    return Section("Inversion", text, tables, [], rows)


def written(subject: Subject, inverter: tuple[str, int], *, show_texts: bool) -> Section:
    """What a language model writes when it reads the vectors."""
    (texts, own_rows, own_texts), (name, steps), (a, b) = _texts(subject), inverter, (subject.source, subject.target)
    own, mean = subject.others.spaces[b][own_rows], subject.model.normalizer(b).mean.cpu()
    writer = PrefixInverter(name, own.shape[1], mean, seed=subject.seed)
    losses = writer.fit(own, own_texts, steps=steps)
    texts, truth = texts[:WRITTEN], subject.pairs.spaces[b][:WRITTEN]
    vectors = {
        "translated": subject.model.translate(subject.pairs.spaces[a][:WRITTEN], source=a, target=b),
        "true vectors (ceiling)": truth,
        "vectors of other texts (floor)": truth.roll(1, 0),
        "mean vector (floor)": mean[None],
    }
    rows, shown = [], []
    for method, given in vectors.items():
        answers = writer.invert(given)
        again = subject.encode(b, [answer or EMPTY for answer in answers]) - mean
        found = text_overlap(answers * (len(texts) // len(answers)), texts)
        found["cosine"] = F.cosine_similarity(again, truth - mean).numpy()
        rows.append({"direction": f"{a} → {b}", "method": method, "texts": len(texts)} | _means(found, subject.seed))
        shown += [[method, *pair] for pair in zip(texts[:5], answers, strict=False)]
    titles = {key: title for key, title in INVERSION.items() if key != "word_f1"} | {"token_f1": "token F1"}
    cells = [[r["method"], *(with_interval(r, key) for key in titles)] for r in rows]
    tables = [Table(f"{a} → {b}, {len(texts)} texts", ["attack on", *titles.values()], cells)]
    tables += [Table("Texts", ["attack on", "text", "written"], shown, prose=True)] if show_texts else []
    text = (
        f"The attacker trains {name} to write a text from its vector, on {len(own):,} texts of his own and {steps} steps "
        f"of 16 (loss {losses[0]:.2f} at first, {np.mean(losses[-10:]):.2f} at last, in nats a token), and has it read "
        "translated vectors. Cosine: of the vector of what was written to the true one. More steps give more."
    )
    return Section("Inversion by a language model", text, tables, [], rows)


def privacy(subject: Subject, load: Callable[[], LabelledTexts] | None, output: Path) -> Section:
    """What an attacker with only the vectors learns, and what defences change."""
    half, (a, b) = len(subject.others) // 2, (subject.source, subject.target)
    own_rows = _own_rows(subject)
    corpus, labelled, unlabelled = None, None, ""
    try:
        if load is not None:
            corpus = load()
            described = list(corpus.descriptions.values())
            labelled = LabelledRows(subject.encode(a, corpus.texts), corpus.numbers(), subject.encode(b, described))
    except (OSError, ValueError, ImportError) as error:
        unlabelled = f" Attributes are not attacked here: {error}"
    rows = defences(
        subject.model,
        subject.pairs.spaces[a],
        subject.pairs.spaces[b],
        subject.others.spaces[a][:half],
        subject.others.spaces[b][own_rows],
        source=a,
        target=b,
        own_texts=subject.other_texts and [subject.other_texts[i] for i in own_rows],
        texts=subject.texts,
        labelled=labelled,
        seed=subject.seed,
    )
    bare, turned, again = rows[0], rows[-2], rows[-1]
    learns = [f"finds the right one of {len(subject.pairs):,} texts in {bare['top1']:.0%} of cases"]
    if corpus and labelled:
        majority = np.bincount(labelled.labels).max() / len(corpus)
        learns.append(
            f"reads off the class of {len(corpus):,} texts ({corpus.name}), without a single example, in "
            f"{bare['attribute_accuracy']:.0%} (always naming the commonest: {majority:.0%})"
        )
    if "word_f1" in bare:
        learns.append(f"tells which frequent words a text has with an F1 of {bare['word_f1']:.2f}")
    undone = again["top1"] > bare["top1"] / 2
    text = (
        f"Someone who holds nothing but vectors of {a}, not even the model that made them, translates them into {b}, whose "
        f"encoder he has, and reads them there. He {'; '.join(learns)}. Texts that lie near to many of the store "
        "are marked down (CSLS), so his figure may differ from plain top-1. Vectors are no anonymised texts: treat them so. "
        f"A secret rotation {'does not protect' if undone else 'was not undone here, which proves little'}: with the "
        f"translator as it is, the attacker finds {turned['top1']:.1%}; once he has aligned the rotated store anew, without "
        f"a pair, {again['top1']:.0%}. Noise and coarse rounding protect only as far as they spoil the owner's own search: "
        "the first figure is the share of each vector's ten nearest neighbours that he still finds. The attacker reads a "
        "store under noise or rounding with the translator as it is." + unlabelled
    )
    columns = {"kept_neighbours": "owner: kept neighbours", "top1": "attack: top-1", "centred_cosine": "centred cosine"}
    columns |= {"word_f1": "words (F1)"} if "word_f1" in bare else {}
    columns |= {"attribute_accuracy": f"class ({corpus.name})"} if corpus and labelled else {}
    cells = [[r["defence"], *(f"{r[name]:.3f}" for name in columns), r.get("verdict", "")] for r in rows]
    picture = output / "privacy.png"
    figures.draw_defences(rows, picture)
    tables = [Table(f"{a} → {b}", ["defence", *columns.values(), "verdict of the alignment"], cells)]
    return Section("Privacy", text, tables, [("What each defence leaves to owner and attacker", picture)], rows)


def samples(subject: Subject, *, show_texts: bool) -> Section:
    """A few translations and what they find."""
    a, b = subject.source, subject.target
    mean, truth = subject.model.normalizer(b).mean.cpu(), subject.pairs.spaces[b]
    found = retrieve(subject.model.translate(subject.pairs.spaces[a][:SAMPLES], source=a, target=b), truth, mean)
    rows = [{"row": i, "found": j, "right": i == j} for i, j in enumerate(found.tolist())]
    if not show_texts or subject.texts is None:
        cells = [[str(r["row"]), str(r["found"]), "found" if r["right"] else "missed"] for r in rows]
        head, text = ["row", "nearest row", ""], "Texts are not shown unless asked for (`show_texts`)."
    else:
        cells = [[subject.texts[r["row"]], "found" if r["right"] else "missed: " + subject.texts[r["found"]]] for r in rows]
        head, text = ["text", f"nearest of {len(truth):,}"], ""
    return Section("Samples", text, [Table(f"{a} → {b}", head, cells, prose=True)], [], rows)


def _texts(subject: Subject) -> tuple[list[str], list[int], list[str]]:
    """Those that are attacked, and rows and texts that are the attacker's own."""
    if subject.texts is None or subject.other_texts is None:
        raise ValueError("Inversion needs the texts of the vectors: give files with a column `text`.")
    rows = _own_rows(subject)
    return subject.texts, rows, [subject.other_texts[i] for i in rows]


def _own_rows(subject: Subject) -> list[int]:
    """Rows of the second half of the other pairs, but for texts that are attacked, too, as far as texts are known."""
    rows = list(range(len(subject.others) // 2, len(subject.others)))
    if subject.texts is None or subject.other_texts is None:
        return rows
    attacked = set(map(normal_text, subject.texts))
    own = [i for i in rows if normal_text(subject.other_texts[i]) not in attacked]
    if len(own) < FEWEST:
        raise ValueError(
            f"of the {len(rows):,} texts that are the attacker's own all but {len(own):,} are among the attacked ones: give "
            "pairs of other texts, or others as `oracle_source` and `oracle_target`."
        )
    return own


def _means(found: dict[str, np.ndarray], seed: int) -> dict:
    """Mean over the texts that have what is measured, and its interval; `None` if no text has a name, a number, a word."""
    figures: dict[str, float | list[float] | None] = {}
    for name, values in found.items():
        known = values[~np.isnan(values)]
        figures[name] = float(known.mean()) if len(known) else None
        figures[f"{name}_interval"] = list(mean_interval(known, seed=seed)) if len(known) else None
    return figures
