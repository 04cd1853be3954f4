"""The report in one table."""

from .base import Section, Subject, Table


def summary(subject: Subject, sections: list[Section]) -> Section | None:
    """What the other sections found, in a line each, beside chance and the best that could be had."""
    made = {section.title: section.figures for section in sections if section.figures}
    lines = []

    def add(what: str, figure: float, chance: float, best: float) -> None:
        lines.append([what, f"{figure:.3f}", f"{chance:.3f}", f"{best:.3f}"])

    for title, place in (("Translation", ""), ("Out of domain", ", out of domain")):
        for a, b in subject.directions if title in made else ():
            rows = {r["method"].split(" (")[0]: r for r in made[title] if r["direction"] == f"{a} → {b}"}
            ours, best = rows["this translator"], rows["paired Procrustes"]
            add(
                f"{a} → {b}{place}: the right one of {ours['pool_size']:,} is nearest",
                ours["top1"],
                1 / ours["pool_size"],
                best["top1"],
            )
            add(f"{a} → {b}{place}: centred cosine", ours["centred_cosine"], 0.0, best["centred_cosine"])
    for attacks in (figures for title, figures in made.items() if title.startswith("Attributes: ")):
        for a, b in subject.directions:
            found = {(r["attack"], r["method"]): r["accuracy"] for r in attacks if r["direction"] == f"{a} → {b}"}
            what = f"{a} → {b}: class of {attacks[0]['attribute']} told without examples"
            chance = found["both", "majority class"]
            add(what, found["zero-shot", "translated"], chance, found["zero-shot", f"ideal: {b}"])
    for title, key, what in (
        ("Inversion", "word_f1", "frequent words decoded (F1)"),
        ("Inversion by a language model", "token_f1", "words of texts written from vectors (F1)"),
    ):
        for a, b in subject.directions:
            share = {r["method"]: r[key] for r in made.get(title, ()) if r["direction"] == f"{a} → {b}"}
            if share:
                floor = share["vectors of other texts (floor)"]
                add(f"{a} → {b}: {what}", share["translated"], floor, share["true vectors (ceiling)"])
    if "Privacy" in made:
        bare, turned, again = made["Privacy"][0], made["Privacy"][-2], made["Privacy"][-1]
        add("behind a secret rotation, aligned anew: the right one is nearest", again["top1"], turned["top1"], bare["top1"])
    text = (
        "At best: what a rotation fitted to pairs reaches, for translation; what the same attack reads off true vectors of "
        "the target, for the others; the store without a rotation, for the last."
    )
    return Section("In short", text, [Table("", ["", "translated", "by chance", "at best"], lines)]) if lines else None
