"""Held-out pairs: how near translations come to the true vectors, beside baselines and oracles."""

from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm

from ..data import PairedEmbeddings
from ..metrics import bootstrap_intervals, structure_metrics, translation_metrics
from ..modeling_vec2vec import Vec2VecModel
from .baselines import cross_fitted, mean_vector, paired_mlp, paired_procrustes, paired_ridge, random_rotation
from .transport import transport_map

TRANSPORT = {
    "Hungarian": "hungarian",
    "earth mover's distance": "emd",
    "Sinkhorn": "sinkhorn",
    "Gromov-Wasserstein, entropic": "entropic_gromov_wasserstein",
}
COLUMNS = {
    "cosine": "cosine",
    "centred_cosine": "centred cosine",
    "top1": "top-1",
    "top5": "top-5",
    "mean_rank": "mean rank",
    "median_rank": "median rank",
}


def evaluate_translation(
    models: dict[str, Vec2VecModel],
    pairs: PairedEmbeddings,
    *,
    source: str,
    target: str,
    oracle_pairs: PairedEmbeddings | None = None,
    full: bool = False,
    seed: int = 0,
) -> list[dict]:
    """Figures of translation in both directions, for translators, baselines and oracles on the same pool.

    Args:
        models: translators by the name of their row, for instance `{"alignment": …, "trained": …}`.
        pairs: held-out rows of both spaces; row i is the same text.
        source: name of the one space.
        target: name of the other.
        oracle_pairs: other pairs, on which the oracles are fitted: as many as the translator had rows is the fairest.
            Without them the oracles are fitted on four fifths of `pairs` and translate the fifth, five times.
        full: also the slow rows (optimal transport between unpaired halves of the oracle's pairs, or of `pairs`; a paired
            MLP) and columns: those of `structure_metrics` and, under `intervals`, those of `bootstrap_intervals`.
        seed: of the random rotation, the samples and the intervals.

    Returns:
        One dictionary a row of the table: `direction`, `method`, `kind` (translator, baseline or oracle) and the figures
        of `translation_metrics`.

    Raises:
        ValueError: if vectors do not have the model's dimensions.
    """
    dims = next(iter(models.values())).config.embedding_dims
    for argument, data in (("pairs", pairs), ("oracle_pairs", oracle_pairs)):
        for name in (source, target) if data is not None else ():
            if data.spaces[name].shape[1] != dims[name]:
                raise ValueError(
                    f"`{argument}` has vectors of dimension {data.spaces[name].shape[1]} for {name!r}, but the model has "
                    f"{dims[name]}."
                )
    rows = []
    for a, b in ((source, target), (target, source)):
        x, y = pairs.spaces[a], pairs.spaces[b]
        first = next(iter(models.values()))
        a_statistics, b_statistics = ((first.normalizers[n].mean.cpu(), first.normalizers[n].scale.cpu()) for n in (a, b))
        b_mean = b_statistics[0]

        def oracle(fit, a=a, b=b, x=x, y=y) -> Tensor:
            if oracle_pairs is None:
                return cross_fitted(fit, x, y)
            return fit(oracle_pairs.spaces[a], oracle_pairs.spaces[b])(x)

        transported = {}
        if full:
            known = oracle_pairs or pairs
            half = len(known) // 2
            unpaired = known.spaces[a][:half], known.spaces[b][half:]
            means = [rows.mean(0) for rows in unpaired]
            units = [F.normalize(rows - mean, dim=1) for rows, mean in zip(unpaired, means, strict=True)]
            for name, method in tqdm(TRANSPORT.items(), desc=f"transport {a} → {b}"):
                transported[name, "baseline"] = (x - means[0]) @ transport_map(*units, method, seed=seed) + means[1]
        where = f"{len(oracle_pairs):,} pairs" if oracle_pairs else "5-fold"
        answers = {
            ("mean vector", "baseline"): mean_vector(b_mean)(x),
            ("random rotation", "baseline"): random_rotation(a_statistics, b_statistics, seed)(x),
            **transported,
            **{(name, "translator"): model.translate(x, source=a, target=b) for name, model in models.items()},
            (f"paired Procrustes ({where})", "oracle"): oracle(paired_procrustes),
            (f"paired ridge ({where})", "oracle"): oracle(paired_ridge),
        }
        if full:
            answers[f"paired MLP ({where})", "oracle"] = oracle(paired_mlp)
        if x.shape[1] == y.shape[1]:
            answers = {("identity", "baseline"): x} | answers
        for (method, kind), answer in answers.items():
            figures = translation_metrics(answer, y, b_mean)
            if full:
                figures |= structure_metrics(answer, y)
                figures["intervals"] = bootstrap_intervals(answer, y, b_mean, seed=seed)
            rows.append({"direction": f"{a} → {b}", "method": method, "kind": kind, **figures})
    return rows


def markdown_table(rows: list[dict]) -> str:
    """The rows of `evaluate_translation` as a Markdown table that reads well as plain text."""
    lines = [["direction", "method", *COLUMNS.values()]]
    for row in rows:
        figures = [f"{row[c]:.1f}" if "rank" in c else f"{row[c]:.3f}" for c in COLUMNS]
        lines.append([row["direction"], row["method"], *figures])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    texts = [
        [c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True))] for line in lines
    ]
    rule = ["-" * w if i < 2 else "-" * (w - 1) + ":" for i, w in enumerate(widths)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (texts[0], rule, *texts[1:]))


__all__ = ["COLUMNS", "evaluate_translation", "markdown_table"]
