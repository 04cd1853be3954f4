"""The section that shows a few translations and what they find."""

from ..inversion import retrieve
from .base import Contents, Makers, Section, Subject, Table


def makers(subject: Subject, contents: Contents) -> Makers:
    """The section of this file."""
    return {"Samples": lambda: samples(subject, show_texts=contents.show_texts)}


def samples(subject: Subject, *, show_texts: bool, count: int = 12) -> Section:
    """A few translations and what they find."""
    a, b = subject.source, subject.target
    mean, truth = subject.model.normalizer(b).mean.cpu(), subject.pairs.spaces[b]
    found = retrieve(subject.model.translate(subject.pairs.spaces[a][:count], source=a, target=b), truth, mean)
    rows = [{"row": i, "found": j, "right": i == j} for i, j in enumerate(found.tolist())]
    if not show_texts or subject.texts is None:
        cells = [[str(r["row"]), str(r["found"]), "found" if r["right"] else "missed"] for r in rows]
        head, text = ["row", "nearest row", ""], "Texts are not shown unless asked for (`show_texts`)."
    else:
        cells = [[subject.texts[r["row"]], "found" if r["right"] else "missed: " + subject.texts[r["found"]]] for r in rows]
        head, text = ["text", f"nearest of {len(truth):,}"], ""
    return Section("Samples", text, [Table(f"{a} → {b}", head, cells, prose=True)], [], rows)
