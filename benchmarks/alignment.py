"""Alignment without pairs: ours, stage by stage, beside published methods, baselines and paired oracles.

    hf-vec2vec embed --texts texts.txt --model all-MiniLM-L6-v2 --output minilm     # and so on, the same texts each time
    python benchmarks/alignment.py --space minilm=minilm wordllama=wordllama --pair minilm:wordllama --output_dir results

Row i of every file is the same text. The first `--rows` train the one side, as many after them the other, the last
`--held_out` only measure; a secret random rotation, another for each seed, is put on the target, so that a common ancestor
of the encoders helps nobody. Every run is a process of its own, whose peak memory is measured, and leaves one JSON file:
a run that was interrupted goes on where it stopped. Oracles see pairs of the first `--rows` texts.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from textwrap import fill

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import HfArgumentParser, TrainerCallback

from hf_vec2vec import Vec2VecConfig, Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments, align
from hf_vec2vec.alignment import fit_statistics
from hf_vec2vec.data import UnpairedEmbeddings, load_embeddings, vectors
from hf_vec2vec.evaluation.baselines import mean_vector, paired_mlp, paired_procrustes, paired_ridge
from hf_vec2vec.evaluation.other_methods import adversarial_map, mini_vec2vec, of_raw_rows, wasserstein_procrustes
from hf_vec2vec.evaluation.transport import transport_map
from hf_vec2vec.metrics.translation import csls_metrics, translation_metrics

PUBLISHED = {
    "mini-vec2vec": mini_vec2vec,
    "Wasserstein-Procrustes": wasserstein_procrustes,
    "MUSE adversarial": adversarial_map,
}
TRANSPORT = {
    "Hungarian": "hungarian",
    "EMD": "emd",
    "Sinkhorn": "sinkhorn",
    "entropic GW": "entropic_gromov_wasserstein",
}
ONCE = ["oracles", *PUBLISHED, *TRANSPORT, "Vec2Vec, random start"]
CONTROLS = ["control: gaussian", "control: shuffled coordinates", "control: random strings"]
AT_CHANCE = 0.05  # or below: top-1 that is not worth a dot
PAIRS_CURVE = (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)


@dataclass
class BenchmarkArguments:
    """What is aligned and with what."""

    space: list[str] = field(metadata={"help": "NAME=FILE of each space; row i is the same text in all."})
    pair: list[str] = field(metadata={"help": "NAME:NAME of each pair to align."})
    output_dir: str = field(metadata={"help": "Where runs, table and picture go."})
    rows: int = field(default=10_000, metadata={"help": "Training rows a side."})
    held_out: int = field(default=4192, metadata={"help": "Rows that measure."})
    seeds: int = field(default=10, metadata={"help": "Runs of ours on each pair."})
    control_seeds: int = field(default=3, metadata={"help": "Runs on each control, in place of the last pair's target."})
    random_strings: str | None = field(
        default=None,
        metadata={"help": "Vectors of random strings by the encoder of the last pair's target: a third control."},
    )
    anchors: list[int] = field(default_factory=lambda: [10, 50, 500], metadata={"help": "Numbers of known pairs to try."})
    at_once: int = field(default=1, metadata={"help": "Runs at a time, each with its share of the cores."})
    methods: list[str] | None = field(default=None, metadata={"help": "Only these, for instance ours 'mini-vec2vec'."})
    run: str | None = field(default=None, metadata={"help": "Internal: one run, as JSON."})


def main() -> None:
    (args,) = HfArgumentParser(BenchmarkArguments).parse_args_into_dataclasses()
    if args.run:
        print(json.dumps(run(args, **json.loads(args.run))))
        return
    runs = Path(args.output_dir) / "runs"
    runs.mkdir(parents=True, exist_ok=True)
    shared = {"OMP_NUM_THREADS": str(max(1, os.cpu_count() // args.at_once))} if args.at_once > 1 else {}
    environment = shared | os.environ  # a number of threads that was asked for stays

    def finished(job: dict) -> dict:
        file = runs / ("_".join(map(str, job.values())).replace(":", "-").replace(" ", "-") + ".json")
        if not file.exists():
            started = time.perf_counter()
            command = [sys.executable, __file__, *sys.argv[1:], "--run", json.dumps(job)]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
            result = json.loads(done.stdout.splitlines()[-1])
            file.write_text(json.dumps(job | result | {"wall_seconds": time.perf_counter() - started}, indent=2))
        return json.loads(file.read_text())

    with ThreadPoolExecutor(args.at_once) as pool:
        results = list(tqdm(pool.map(finished, listed := jobs(args)), desc="runs", total=len(listed)))
    rows = summary(results)
    table = "\n\n".join([as_markdown(rows), *pair_equivalents(rows)])
    (Path(args.output_dir) / "alignment.json").write_text(json.dumps(rows, indent=2))
    (Path(args.output_dir) / "alignment.md").write_text(table + "\n")
    picture(rows, Path(args.output_dir) / "alignment.png")
    print(table)


def jobs(args: BenchmarkArguments) -> list[dict]:
    """Every run, ours first."""
    listed = [{"pair": p, "method": "ours", "seed": s} for s in range(args.seeds) for p in args.pair]
    listed += [{"pair": p, "method": m, "seed": 0} for p in args.pair for m in ONCE]
    controls = CONTROLS if args.random_strings else CONTROLS[:2]
    listed += [{"pair": args.pair[-1], "method": c, "seed": s} for c in controls for s in range(args.control_seeds)]
    listed += [{"pair": p, "method": f"ours, {n} pairs", "seed": 0} for p in args.pair for n in args.anchors]
    return [job for job in listed if args.methods is None or job["method"] in args.methods]


def run(args: BenchmarkArguments, pair: str, method: str, seed: int) -> dict:
    """One run in this process."""
    n = args.rows
    a, b, generator = spaces(args.space, pair, seed, n)
    if 2 * n + args.held_out > len(a):
        raise ValueError(
            f"`rows` {n} a side and `held_out` {args.held_out} need more than the {len(a)} rows that there are."
        )
    x, y, held_x, held_y = a[:n], b[n : 2 * n], a[-args.held_out :], b[-args.held_out :]
    means = x.mean(0), y.mean(0)

    def figures(forward: Callable[[Tensor], Tensor], backward: Callable[[Tensor], Tensor]) -> dict:
        forth, back = forward(held_x), backward(held_y)
        # Hubs are told by training rows, of other texts.
        return {
            "forward": translation_metrics(forth, held_y, means[1]) | csls_metrics(forth, held_y, forward(x), y),
            "backward": translation_metrics(back, held_x, means[0]) | csls_metrics(back, held_x, backward(y), x),
        }

    def linear(weight: Tensor, back: Tensor) -> dict:
        return figures(lambda rows: (rows - means[0]) @ weight + means[1], lambda rows: (rows - means[1]) @ back + means[0])

    started, stages, extra = time.perf_counter(), {}, {}
    if method.startswith("control"):
        y = {
            "control: gaussian": lambda: gaussian_like(y, generator),
            "control: shuffled coordinates": lambda: shuffled_coordinates(y, generator),
            "control: random strings": lambda: vectors(load_embeddings(args.random_strings), "random").float()[:n],
        }[method]()
        extra["report"] = align(x, y, seed=seed, hidden_dim=0, progress=False).report.to_dict()
    elif method.startswith("ours"):
        count = int(method.split()[1]) if "pairs" in method else 0
        known = (a[:count], b[:count]) if count else None
        alignment = align(x, y, source_name="a", target_name="b", anchors=known, seed=seed, progress=False)
        extra = {"report": alignment.report.to_dict(), "stage_seconds": alignment.seconds}
        model = Vec2VecModel.from_alignment(alignment, allow_not_aligned=True)
        (sa, sb) = alignment.source_statistics[1], alignment.target_statistics[1]
        stages = {
            "rotation": linear(alignment.rotation / sa[:, None] * sb, alignment.rotation.T / sb[:, None] * sa),
            "back-translation": linear(
                alignment.source_to_target / sa[:, None] * sb, alignment.target_to_source / sb[:, None] * sa
            ),
            "full": figures(
                partial(model.translate, source="a", target="b"), partial(model.translate, source="b", target="a")
            ),
        }
        if count:
            stages = {"full": stages["full"]}
    elif method == "oracles":
        stages = {name: figures(*both) for name, both in oracles(a[:n], b[:n]).items()}
        stages["mean vector"] = figures(mean_vector(means[1]), mean_vector(means[0]))
        if a.shape[1] == b.shape[1]:
            stages["identity"] = figures(lambda rows: rows, lambda rows: rows)
        for count in (c for c in PAIRS_CURVE if c <= n):
            stages[f"Procrustes, {count} pairs"] = figures(
                paired_procrustes(a[:count], b[:count]), paired_procrustes(b[:count], a[:count])
            )
    elif method == "Vec2Vec, random start":
        both = vec2vec_random_start(x, y, seed)
        extra["seconds"] = time.perf_counter() - started  # without measuring, as those of our stages
        stages = {"full": figures(*both)}
    else:
        units = F.normalize(x - means[0], dim=1), F.normalize(y - means[1], dim=1)
        solve = PUBLISHED.get(method) or (lambda *u, seed: transport_map(*u, TRANSPORT[method], seed=seed))
        weight = solve(*units, seed=seed)
        extra["seconds"] = time.perf_counter() - started
        stages = {"full": figures(of_raw_rows(weight, x, y), of_raw_rows(weight.T, y, x))}
    seconds = time.perf_counter() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, on Linux
    return {"stages": stages, "seconds": seconds, "peak_gib": memory, **extra}


def spaces(entries: list[str], pair: str, seed: int, n: int) -> tuple[Tensor, Tensor, torch.Generator]:
    """Both spaces of a pair, the second under a rotation that depends on the seed; and the generator it came from."""
    files = dict(entry.split("=", 1) for entry in entries)
    a, b = (vectors(load_embeddings(files[name]), name).float() for name in pair.split(":"))
    a, b = standardized(a, a[:n]), standardized(b, b[n : 2 * n])
    generator = torch.Generator().manual_seed(1000 + seed)
    return a, b @ torch.linalg.qr(torch.randn(b.shape[1], b.shape[1], generator=generator))[0], generator


def standardized(rows: Tensor, training: Tensor) -> Tensor:
    """Hidden states of language models, in deviations of each dimension; others as they are.

    It comes before the rotation, which hides the few dimensions that hold most of their variance.
    """
    mean, scale = fit_statistics(training)
    return rows if (scale == scale[0]).all() else (rows - mean) / scale


def oracles(x: Tensor, y: Tensor) -> dict[str, tuple[Callable, Callable]]:
    """Maps of both directions that were fitted on pairs `(n, d_a)`, `(n, d_b)`."""
    return {
        "paired Procrustes": (paired_procrustes(x, y), paired_procrustes(y, x)),
        "paired ridge": (paired_ridge(x, y), paired_ridge(y, x)),
        "paired MLP": (paired_mlp(x, y), paired_mlp(y, x)),
    }


def vec2vec_random_start(x: Tensor, y: Tensor, seed: int, minutes: float = 5) -> tuple[Callable, Callable]:
    """The default network and losses from a random start, as long as the time-box allows."""
    started = time.perf_counter()

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            control.should_training_stop = time.perf_counter() - started > 60 * minutes

    torch.manual_seed(seed)
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": x.shape[1], "b": y.shape[1]}))
    for name, rows in (("a", x), ("b", y)):
        mean, scale = fit_statistics(rows)
        model.normalizers[name].mean.copy_(mean)
        model.normalizers[name].scale.copy_(scale)
    arguments = Vec2VecTrainingArguments(
        tempfile.mkdtemp(), max_steps=100_000, learning_rate=1e-4, save_strategy="no", report_to="none",
        eval_strategy="no", load_best_model_at_end=False, disable_tqdm=True, seed=seed,
    )  # fmt: skip
    trainer = Vec2VecTrainer(model, arguments, train_dataset=UnpairedEmbeddings({"a": x, "b": y}), callbacks=[Stop()])
    trainer.train()
    translate = trainer.translator.translate
    return partial(translate, source="a", target="b"), partial(translate, source="b", target="a")


def gaussian_like(rows: Tensor, generator: torch.Generator) -> Tensor:
    """A Gaussian with the mean and covariance of the rows: nothing but second moments to align by."""
    values, axes = torch.linalg.eigh(torch.cov(rows.T))
    draws = torch.randn(rows.shape, generator=generator)
    return rows.mean(0) + draws * values.clamp_min(0).sqrt() @ axes.T


def shuffled_coordinates(rows: Tensor, generator: torch.Generator) -> Tensor:
    """The coordinates of every row in an order of its own."""
    return rows.gather(1, torch.rand(rows.shape, generator=generator).argsort(1))


def summary(results: list[dict]) -> list[dict]:
    """Figures of each pair, direction and method over its seeds, and what share of seeds succeeded."""
    groups = {}
    for result in results:
        for stage, figures in result["stages"].items():
            name = stage if result["method"] == "oracles" else result["method"]
            name += f": {stage}" if name == "ours" else ""
            for way in ("forward", "backward"):
                groups.setdefault((result["pair"], way, name), []).append((result, stage, figures[way]))
    rows = []
    for (pair, way, name), runs in groups.items():
        a, b = pair.split(":") if way == "forward" else pair.split(":")[::-1]
        top1 = [figures["top1"] for _, _, figures in runs]
        seconds = [elapsed(result, stage) for result, stage, _ in runs]
        rows.append(
            {
                "direction": f"{a} → {b}",
                "method": name,
                "centred_cosine": median(f["centred_cosine"] for _, _, f in runs),
                "cosine": median(f["cosine"] for _, _, f in runs),
                "top1": median(top1),
                "top1_range": [min(top1), max(top1)],
                "reverse_top1": median(f["reverse_top1"] for _, _, f in runs),
                "csls_top1": median(f["csls_top1"] for _, _, f in runs),
                "csls_reverse_top1": median(f["csls_reverse_top1"] for _, _, f in runs),
                "mean_rank": median(f["mean_rank"] for _, _, f in runs),
                "foscttm": median(f["foscttm"] for _, _, f in runs),
                "seeds": len(runs),
                "succeeded": sum(value >= 0.97 * median(top1) for value in top1),
                "seconds": median(seconds),
                "peak_gib": max(result["peak_gib"] for result, _, _ in runs),
            }
        )
    for result in results:
        if result["method"].startswith("control"):
            rows.append(
                {"direction": result["pair"], "method": result["method"], "seed": result["seed"], **result["report"]}
            )
    return rows


def elapsed(result: dict, stage: str) -> float:
    """Seconds until a stage was done."""
    seconds = result.get("stage_seconds", {})
    order = ["rotation", "back-translation", "full"]
    if result["method"] != "ours":
        return result["seconds"]
    return sum(seconds.get(name, 0.0) for name in order[: order.index(stage) + 1])


def as_markdown(rows: list[dict]) -> str:
    """The summary as a table; verdicts of the controls below it."""
    lines = [
        "| direction | method | cosine | centred | top-1 | reverse | by CSLS | mean rank | FOSCTTM "
        "| seeds right | seconds | GiB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in (r for r in rows if "top1" in r):
        figures = f"{row['cosine']:.3f} | {row['centred_cosine']:.3f} | {row['top1']:.3f} | "
        figures += f"{row['reverse_top1']:.3f} | {row['csls_top1']:.3f} / {row['csls_reverse_top1']:.3f} | "
        lines.append(
            f"| {row['direction']} | {row['method']} | {figures}{row['mean_rank']:.1f} | {row['foscttm']:.5f} "
            f"| {row['succeeded']}/{row['seeds']} | {row['seconds']:.0f} | {row['peak_gib']:.1f} |"
        )
    lines += [
        f"\n{row['method']}, {row['direction']}, seed {row['seed']}: {row['verdict']} (fit {row['fit']:.2f}, consensus "
        f"{row['consensus']:.2f})"
        for row in rows
        if "verdict" in row
    ]
    return "\n".join(lines)


def pair_equivalents(rows: list[dict]) -> list[str]:
    """How many pairs paired Procrustes needs for our figures: a line a direction, interpolated on the logarithm."""
    lines = []
    for ours in (row for row in rows if row["method"] == "ours: full"):
        curve = [
            (int(row["method"].split()[1]), row)
            for row in rows
            if row["direction"] == ours["direction"] and row["method"].startswith("Procrustes, ")
        ]
        found = []
        for figure in ("top1", "centred_cosine"):
            reached, needed = np.array([row[figure] for _, row in curve]), np.log([count for count, _ in curve])
            if not len(reached) or ours[figure] > reached.max():
                found.append(f"more than {curve[-1][0]:,}" if curve else "unknown")
            else:
                found.append(f"{np.exp(np.interp(ours[figure], np.maximum.accumulate(reached), needed)):,.0f}")
        lines.append(f"{ours['direction']}: worth {found[0]} pairs in top-1, {found[1]} in centred cosine")
    return lines


def picture(rows: list[dict], file: Path) -> None:
    """Centred cosine against what top-1 misses, one panel a direction, one dot a method without pairs or with all.

    Methods at chance are named in the panel, not drawn.
    """
    from matplotlib.figure import Figure

    dots = [row for row in rows if "top1" in row and not row["method"].startswith(("Procrustes, ", "ours, "))]
    directions = list(dict.fromkeys(row["direction"] for row in dots))
    if not directions:
        return
    methods = list(dict.fromkeys(row["method"] for row in dots if row["top1"] > AT_CHANCE))
    lines = -(-len(directions) // 2)
    figure = Figure(figsize=(9, 1.2 + 3.6 * lines), layout="constrained")
    for i, direction in enumerate(directions):
        axes, chance = figure.add_subplot(lines, 2, i + 1), []
        for row in (r for r in dots if r["direction"] == direction):
            if row["top1"] <= AT_CHANCE:
                chance.append(row["method"])
                continue
            marker = "*" if row["method"].startswith("ours") else "s" if row["method"].startswith("paired") else "o"
            colour = f"C{methods.index(row['method']) % 10}"
            missed = max(1 - row["top1"], 1e-4)
            axes.scatter(row["centred_cosine"], missed, marker=marker, s=80, color=colour, label=row["method"])
        axes.set(title=direction, xlabel="centred cosine", ylabel="not found first (1 - top-1)", yscale="log")
        axes.margins(0.15)
        axes.invert_yaxis()
        if chance:
            text = "at chance: " + ", ".join(chance)
            axes.text(0.02, 0.02, fill(text, 70), transform=axes.transAxes, fontsize=6, va="bottom")
    handles = {}
    for axes in figure.axes:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, fontsize=8)
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
