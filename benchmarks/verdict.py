"""Whether the verdict is right on pairs and texts that its thresholds were not chosen on.

    python benchmarks/verdict.py --results matrix/results.jsonl more/results.jsonl --output verdict

Reads what `benchmarks/matrix.py` measured. Three rules are judged: the one that is built in; thresholds of fit and consensus
that are chosen again on all pairs of encoders but one and judged on that one; the same with one text left out. "Right" is as
in the matrix. Beside the table, `verdict.png` shows a reliability diagram: a logistic regression on fit and consensus says
how likely a run of the left-out pair is right, and the share that was right stands beside it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from transformers import HfArgumentParser

from hf_vec2vec.alignment.verdict import GOOD_CONSENSUS, LEAST_EXCESS, LEAST_FIT, LONE_FIT

GRID = np.arange(0.2, 0.95, 0.01)
BINS = np.array([0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0001])


@dataclass
class VerdictArguments:
    """What is read, and where the picture goes."""

    results: list[str] = field(metadata={"help": "Files results.jsonl of the matrix."})
    output: str = field(default="verdict", metadata={"help": "Folder of verdict.png and verdict.md."})


def main() -> None:
    (args,) = HfArgumentParser(VerdictArguments).parse_args_into_dataclasses()
    runs = [json.loads(line) for file in args.results for line in Path(file).read_text().splitlines()]
    seen = np.array([[run["report"][name] for name in ("fit", "consensus", "excess")] for run in runs])
    truth = np.array([run["right"] for run in runs])
    groups = {"pair": np.array(list(map(pair_of, runs))), "text": np.array(list(map(text_of, runs)))}
    calls = {"as built in": verdicts(seen, LEAST_FIT, GOOD_CONSENSUS)}
    for name, group in groups.items():
        calls[f"chosen without the {name} that is judged"] = left_out(seen, truth, group, chosen_verdicts)
    folder = Path(args.output)
    folder.mkdir(parents=True, exist_ok=True)
    text = table(calls, truth)
    (folder / "verdict.md").write_text(text + "\n")
    print(f"{len(runs)} runs, {len(set(groups['pair']))} pairs, {len(set(groups['text']))} texts\n\n{text}")
    plot({name: left_out(seen, truth, group, likelihoods) for name, group in groups.items()}, truth, folder / "verdict.png")


def pair_of(run: dict) -> str:
    return " ".join(sorted(Path(run["cell"][side]).stem for side in ("source", "target")))


def text_of(run: dict) -> str:
    return " ".join(sorted({Path(run["cell"]["source"]).parent.name, Path(run["cell"]["target_corpus"]).name}))


def left_out(seen: np.ndarray, truth: np.ndarray, group: np.ndarray, rule: Callable) -> np.ndarray:
    """What a rule says of each run that learned from the runs of other groups alone: `(n,)`."""
    said = np.empty(len(seen), dtype=object)
    for name in np.unique(group):
        mine = group == name
        said[mine] = rule(seen[~mine], truth[~mine], seen[mine])
    return said


def verdicts(seen: np.ndarray, least_fit: float, good_consensus: float) -> np.ndarray:
    """The verdict of the library with these thresholds; `seen` has fit, consensus and excess: `(n, 3)`."""
    fit, consensus, excess = seen.T
    agreed = consensus >= good_consensus
    believed = (fit >= np.where(agreed, least_fit, LONE_FIT)) & (excess >= LEAST_EXCESS)
    return np.where(~believed, "not aligned", np.where(agreed, "aligned", "doubtful"))


def chosen_verdicts(seen: np.ndarray, truth: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """Verdicts with the thresholds under which no wrong run is called aligned, and as many right ones as can be.

    Among equally good ones, those in the middle.
    """
    scores = {}
    for pair in product(GRID, GRID):
        aligned = verdicts(seen, *pair) == "aligned"
        scores[pair] = aligned[truth].sum() - len(truth) * aligned[~truth].sum()
    best = [pair for pair, score in scores.items() if score == max(scores.values())]
    return verdicts(judged, *np.median(best, axis=0))


def likelihoods(seen: np.ndarray, truth: np.ndarray, judged: np.ndarray) -> np.ndarray:
    return LogisticRegression(C=100).fit(seen[:, :2], truth).predict_proba(judged[:, :2])[:, 1]


def table(calls: dict[str, np.ndarray], truth: np.ndarray) -> str:
    columns = [(verdict, right) for verdict in ("aligned", "doubtful", "not aligned") for right in (True, False)]
    titles = [f"{verdict}, {'right' if right else 'wrong'}" for verdict, right in columns]
    lines = [f"| thresholds | {' | '.join(titles)} |", "| --- |" + " ---: |" * len(columns)]
    for name, said in calls.items():
        counts = [f"{((said == verdict) & (truth == right)).sum()}" for verdict, right in columns]
        lines.append(f"| {name} | {' | '.join(counts)} |")
    return "\n".join(lines)


def plot(likely: dict[str, np.ndarray], truth: np.ndarray, file: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, len(likely), figsize=(5 * len(likely), 4.5), layout="constrained", squeeze=False)
    for panel, (name, said) in zip(axes[0], likely.items(), strict=True):
        said = said.astype(float)
        panel.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        for low, high in zip(BINS, BINS[1:], strict=False):
            inside = (said >= low) & (said < high)
            if inside.any():
                place = said[inside].mean(), truth[inside].mean()
                panel.scatter(*place, s=20 + 6 * inside.sum(), color="tab:blue", alpha=0.7)
                panel.annotate(f"{inside.sum()}", place, textcoords="offset points", xytext=(8, -4), fontsize=9)
        panel.set(
            title=f"left out: one {name} at a time",
            xlabel="said to be right, mean of the runs in a bin",
            ylabel="share that was right",
            xlim=(-0.05, 1.05),
            ylim=(-0.05, 1.05),
        )
    figure.suptitle("Reliability of what fit and consensus say; numbers: runs")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
