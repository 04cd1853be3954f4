"""Tables of figures, as Markdown."""

COLUMNS = {
    "cosine": "cosine",
    "centred_cosine": "centred cosine",
    "top1": "top-1",
    "top5": "top-5",
    "reverse_top1": "reverse top-1",
    "csls_top1": "top-1, hubs corrected",
    "csls_reverse_top1": "reverse top-1, hubs corrected",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
    "foscttm": "FOSCTTM",
}


def places(figure: str) -> int:
    """Decimal places that a figure of a table has: a rank is large, a FOSCTTM small."""
    return 1 if "rank" in figure else 4 if figure == "foscttm" else 3


def markdown_table(rows: list[dict]) -> str:
    """The rows of `evaluate_translation` as a Markdown table that reads well as plain text.

    Figures that not every row has are left out: checkpoints keep rows that older versions measured.
    """
    columns = {name: title for name, title in COLUMNS.items() if all(name in row for row in rows)}
    lines = [["direction", "method", *columns.values()]]
    for row in rows:
        figures = [f"{row[c]:.{places(c)}f}" for c in columns]
        lines.append([row["direction"], row["method"], *figures])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))] for line in lines
    ]
    rule = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (texts[0], rule, *texts[1:]))
