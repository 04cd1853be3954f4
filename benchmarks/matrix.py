"""Pairs of encoders × corpora × seeds: how near unpaired alignments come to paired ones, and whether the verdict is right.

    python benchmarks/matrix.py --vectors film/minilm.npy film/wordllama.npy --output matrix --seeds 0 1 2 --rows 10000 24000
    python benchmarks/matrix.py --vectors film/*.npy wiki/*.npy --output matrix --across --anchors 0 20 100
    python benchmarks/matrix.py --output matrix --plot

Each folder is a corpus; each file in it holds one encoder's vectors of the same texts in the same order, `(n, d)`. The first
4,096 rows only measure; known pairs, if any, follow. The source gets the rows after them, the target as many after those, so
no text is on both sides; with `--across` the target's rows are of another folder. The target is turned by a secret rotation,
another for each seed. Every pair of files of a folder is run in one direction and measured in both. Results go to
`matrix/results.jsonl` one by one: a run that was interrupted goes on where it stopped.
"""

import itertools
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize
from transformers import HfArgumentParser

from hf_vec2vec import align
from hf_vec2vec.alignment.verdict import GOOD_CONSENSUS, LEAST_FIT

HELD_OUT = 4096
LEAST_ROWS = 1000
VERDICTS = ["aligned", "doubtful", "not aligned"]
RIGHT = 0.1  # an alignment is right if its top-1 is no further below the paired rotation's ...
RIGHT_RANK = 0.01  # ... or its mean rank below this share of the pool


@dataclass
class MatrixArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    vectors: list[str] = field(default_factory=list, metadata={"help": "Files CORPUS/ENCODER.npy."})
    seeds: list[int] = field(default_factory=lambda: [0])
    rows: list[int] = field(default_factory=lambda: [10_000], metadata={"help": "Rows a side."})
    effort: str = field(default="default", metadata={"help": "quick, default or thorough."})
    rotation_only: bool = field(default=False, metadata={"help": "Leave out what comes after the rotation."})
    at_once: int = field(default=2, metadata={"help": "Runs at a time, of one thread each."})
    across: bool = field(default=False, metadata={"help": "Rows of the target are of another folder; all pairs of folders."})
    anchors: list[int] = field(default_factory=lambda: [0], metadata={"help": "Known pairs given to the alignment."})
    controls: bool = field(
        default=False, metadata={"help": "Nothing to find: the target has the source's covariance alone."}
    )
    plot: bool = field(default=False, metadata={"help": "Draw matrix.png of what is there; run nothing."})
    cell: str | None = field(default=None, metadata={"help": "For its own use: one run, as JSON."})


def main() -> None:
    (args,) = HfArgumentParser(MatrixArguments).parse_args_into_dataclasses()
    results = Path(args.output) / "results.jsonl"
    if args.cell:
        print(json.dumps(run(json.loads(args.cell))))
    elif args.plot:
        plot([json.loads(line) for line in results.read_text().splitlines()], results.with_name("matrix.png"))
    else:
        run_all(args, results)


def run_all(args: MatrixArguments, results: Path) -> None:
    results.parent.mkdir(parents=True, exist_ok=True)
    done = [json.loads(line)["cell"] for line in results.read_text().splitlines()] if results.exists() else []
    cells = [
        {
            "source": str(a),
            "target": str(b),
            "target_corpus": corpus,
            "rows": rows,
            "seed": seed,
            "effort": args.effort,
            "full": not args.rotation_only,
            "anchors": anchors,
            "control": args.controls,
        }
        for seed, rows, anchors in itertools.product(args.seeds, args.rows, args.anchors)
        for a, b, corpus in pairs(sorted(map(Path, args.vectors)), args.across)
    ]
    cells = [cell for cell in cells if cell not in done]
    print(f"{len(done)} runs are there, {len(cells)} to go")
    command = [sys.executable, __file__, "--output", args.output, "--cell"]
    with ThreadPoolExecutor(args.at_once) as pool, results.open("a", encoding="utf-8") as file:
        runs = pool.map(lambda cell: subprocess.run([*command, json.dumps(cell)], capture_output=True, text=True), cells)
        for cell, finished in zip(cells, runs, strict=True):
            if finished.returncode:
                print(f"failed: {cell}\n{finished.stderr[-500:]}")
                continue
            line = finished.stdout.splitlines()[-1]
            file.write(line + "\n")
            file.flush()
            print(line, flush=True)


def pairs(files: list[Path], across: bool) -> list[tuple[Path, Path, str]]:
    """Two encoders of one corpus, and the folder of the target's rows."""
    found = []
    for a, b in itertools.combinations(files, 2):
        if a.parent == b.parent:
            folders = sorted({file.parent for file in files if file.name == b.name})
            found += [(a, b, str(folder)) for folder in folders if (folder != a.parent) == across]
    return found


def run(cell: dict) -> dict:
    """Align one pair; measure rotation and full map in both directions, beside the paired rotation."""
    torch.set_num_threads(1)
    source, paired = (np.load(cell[side], mmap_mode="r") for side in ("source", "target"))
    elsewhere = cell["target_corpus"] != str(Path(cell["target"]).parent)
    store = np.load(Path(cell["target_corpus"]) / Path(cell["target"]).name, mmap_mode="r") if elsewhere else paired
    used = HELD_OUT + cell["anchors"]
    rows = min(cell["rows"], min(len(source), len(paired)) - used, (len(store) - used) // (1 if elsewhere else 2))
    if rows < LEAST_ROWS:
        raise ValueError(f"{cell['source']} and {cell['target']} have {rows} rows a side, too few.")
    pool, known, fitted = slice(HELD_OUT), slice(HELD_OUT, used), slice(used, used + rows)
    secret = secret_rotation(paired.shape[1], cell["seed"])
    x, x_known, x_fitted = (tensor(source[part]) for part in (pool, known, fitted))
    y, y_known, y_paired = (tensor(paired[part]) @ secret for part in (pool, known, fitted))
    y_fitted = tensor(store[fitted] if elsewhere else store[fitted.stop : fitted.stop + rows])
    if cell["control"]:
        y_fitted = same_covariance(y_fitted, cell["seed"])
    y_fitted = y_fitted @ secret
    wall, cpu = time.perf_counter(), time.process_time()
    found = align(
        x_fitted,
        y_fitted,
        anchors=(x_known, y_known) if cell["anchors"] else None,
        seed=cell["seed"],
        effort=cell["effort"],
        progress=False,
        **({} if cell["full"] else {"back_translation_rounds": 0}),
    )
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    (mean, scale), (y_mean, y_scale) = found.source_statistics, found.target_statistics
    x, x_fitted = (x - mean) / scale, (x_fitted - mean) / scale
    y, y_paired = (y - y_mean) / y_scale, (y_paired - y_paired.mean(0)) / y_scale
    left, _, right = torch.linalg.svd(x_fitted.T @ y_paired, full_matrices=False)
    figures = {"paired": both_ways(x @ left @ right, y @ (left @ right).T, x, y)}
    figures["rotation"] = both_ways(x @ found.rotation, y @ found.rotation.T, x, y)
    if found.residuals is not None:
        figures["linear"] = both_ways(x @ found.source_to_target, y @ found.target_to_source, x, y)
        figures["full"] = both_ways(found.residuals[0](x), found.residuals[1](y), x, y)
    right_one = not cell["control"] and (
        figures["rotation"]["top1"] > figures["paired"]["top1"] - RIGHT
        or figures["rotation"]["rank"] < RIGHT_RANK * HELD_OUT
    )
    report = found.report.to_dict()
    return {"cell": cell, "rows": rows, "figures": figures, "right": right_one, "report": report, "seconds": seconds}


def tensor(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(rows, dtype=np.float32))


def same_covariance(rows: Tensor, seed: int) -> Tensor:
    """Gaussian rows of the same mean and covariance: nothing in them fits."""
    values, axes = torch.linalg.eigh(torch.cov(rows.T))
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(seed))
    return rows.mean(0) + noise * values.clamp_min(0).sqrt() @ axes.T


def secret_rotation(dim: int, seed: int) -> Tensor:
    return torch.linalg.qr(torch.randn(dim, dim, generator=torch.Generator().manual_seed(1000 + seed)))[0]


def both_ways(forward: Tensor, backward: Tensor, x: Tensor, y: Tensor) -> dict[str, float]:
    figures = {}
    for suffix, translated, truth in (("", forward, y), ("_back", backward, x)):
        cosines = normalize(translated, dim=1) @ normalize(truth, dim=1).T
        own = cosines.diagonal()
        ranks = (cosines > own[:, None]).sum(1).float() + 1
        figures |= {f"top1{suffix}": (ranks == 1).float().mean().item(), f"rank{suffix}": ranks.mean().item()}
        figures[f"cosine{suffix}"] = own.mean().item()
    return figures


def plot(results: list[dict], file: Path) -> None:
    """Share of the paired rotation's top-1; the verdict against the truth; share of right runs by consensus and by fit."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    names = {id(result): name(result) for result in results}
    rows, seeds = sorted(set(names.values())), sorted({r["cell"]["seed"] for r in results})
    shares = np.full((len(rows), len(seeds)), np.nan)
    counts = np.zeros((2, len(VERDICTS)))
    for result in results:
        figures = result["figures"]
        best = figures.get("linear", figures["rotation"])
        share = min(best[way] / figures["paired"][way] for way in ("top1", "top1_back"))
        shares[rows.index(names[id(result)]), seeds.index(result["cell"]["seed"])] = share
        counts[int(not result["right"]), VERDICTS.index(result["report"]["verdict"])] += 1
    figure, axes = plt.subplot_mosaic(
        [["shares", "verdicts"], ["shares", "reliability"]],
        figsize=(6 + 0.8 * len(seeds) + 5, max(7.0, 1.5 + 0.3 * len(rows))),
        width_ratios=[2 + 0.8 * len(seeds), 6],
        layout="constrained",
    )
    axes["shares"].imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes["shares"].set(title="share of the paired rotation's top-1, worse direction", xlabel="seed")
    axes["shares"].set_xticks(range(len(seeds)), seeds)
    axes["shares"].set_yticks(range(len(rows)), rows)
    axes["verdicts"].imshow(counts, cmap="Blues", aspect="auto")
    axes["verdicts"].set(title="runs by verdict and truth")
    axes["verdicts"].set_xticks(range(len(VERDICTS)), VERDICTS)
    axes["verdicts"].set_yticks(range(2), ["right", "wrong"])
    for place, values, form, light in (
        ("shares", shares, "{:.2f}", 0.6),
        ("verdicts", -counts, "{:.0f}", -counts.max() / 2),
    ):
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                axes[place].text(
                    j, i, form.format(abs(value)), ha="center", va="center", color="black" if value > light else "white"
                )
    truth = np.array([result["right"] for result in results])
    consensus, fit = (np.array([result["report"][key] for result in results]) for key in ("consensus", "fit"))
    axes["reliability"].scatter(fit[~truth], consensus[~truth], marker="x", color="tab:red", label="wrong")
    axes["reliability"].scatter(fit[truth], consensus[truth], marker="o", color="tab:green", label="right")
    axes["reliability"].axhline(GOOD_CONSENSUS, color="grey", linewidth=0.8)
    axes["reliability"].axvline(LEAST_FIT, color="grey", linewidth=0.8)
    axes["reliability"].set(title="what the verdict sees; grey: its thresholds", xlabel="fit", ylabel="consensus")
    axes["reliability"].legend(loc="lower right")
    figure.savefig(file, dpi=150)


def name(result: dict) -> str:
    cell = result["cell"]
    source, target = Path(cell["source"]), Path(cell["target"])
    corpus, other = source.parent.name, Path(cell["target_corpus"]).name
    extras = [f"{cell['anchors']} pairs"] * bool(cell["anchors"]) + ["control"] * cell["control"]
    corpora = corpus if other == corpus else f"{corpus} → {other}"
    return ", ".join([corpora, f"{source.stem} ↔ {target.stem}", f"{result['rows']:,}", *extras])


if __name__ == "__main__":
    main()
