"""Pairs of encoders × corpora × seeds: how near unpaired alignments come to paired ones, and whether the verdict is right.

    python benchmarks/matrix.py --vectors film/minilm.npy film/wordllama.npy --output matrix --seeds 0 1 2 --rows 10000 24000
    python benchmarks/matrix.py --output matrix --plot

Each folder is a corpus; each file in it holds one encoder's vectors of the same texts in the same order, `(n, d)`. The first
4,096 rows only measure. The source gets the rows after them, the target as many after those, so no text is on both sides;
the target is turned by a secret rotation, another for each seed. Every pair of files of a folder is run in one direction and
measured in both. Results go to `matrix/results.jsonl` one by one: a run that was interrupted goes on where it stopped.
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

HELD_OUT = 4096
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
    files = sorted(map(Path, args.vectors))
    cells = [
        {
            "source": str(a),
            "target": str(b),
            "rows": rows,
            "seed": seed,
            "effort": args.effort,
            "full": not args.rotation_only,
        }
        for seed, rows in itertools.product(args.seeds, args.rows)
        for a, b in itertools.combinations(files, 2)
        if a.parent == b.parent
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


def run(cell: dict) -> dict:
    """Align one pair; measure rotation and full map in both directions, beside the paired rotation."""
    from hf_vec2vec import align

    torch.set_num_threads(1)
    a, b = (
        torch.from_numpy(np.load(cell[side], mmap_mode="r")[: HELD_OUT + 2 * cell["rows"]].astype(np.float32))
        for side in ("source", "target")
    )
    if min(len(a), len(b)) < HELD_OUT + 2 * cell["rows"]:
        raise ValueError(f"{cell['source']} and {cell['target']} have too few rows for {cell['rows']} a side.")
    b = b @ secret_rotation(b.shape[1], cell["seed"])
    fitted = slice(HELD_OUT, HELD_OUT + cell["rows"])
    wall, cpu = time.perf_counter(), time.process_time()
    rounds = {} if cell["full"] else {"back_translation_rounds": 0}
    found = align(a[fitted], b[fitted.stop :], seed=cell["seed"], effort=cell["effort"], progress=False, **rounds)
    seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    (x, y), (paired_x, paired_y) = (
        [(rows[part] - mean) / scale for rows, (mean, scale) in ((a, found.source_statistics), (b, found.target_statistics))]
        for part in (slice(0, HELD_OUT), fitted)
    )
    left, _, right = torch.linalg.svd(paired_x.T @ paired_y, full_matrices=False)
    figures = {"paired": both_ways(x @ left @ right, y @ (left @ right).T, x, y)}
    figures["rotation"] = both_ways(x @ found.rotation, y @ found.rotation.T, x, y)
    if found.residuals is not None:
        figures["linear"] = both_ways(x @ found.source_to_target, y @ found.target_to_source, x, y)
        figures["full"] = both_ways(found.residuals[0](x), found.residuals[1](y), x, y)
    right_one = (
        figures["rotation"]["top1"] > figures["paired"]["top1"] - RIGHT
        or figures["rotation"]["rank"] < RIGHT_RANK * HELD_OUT
    )
    return {"cell": cell, "figures": figures, "right": right_one, "report": found.report.to_dict(), "seconds": seconds}


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
    """Left: share of the paired rotation's top-1, worse direction. Right: the verdict against the truth."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    def name(result: dict) -> str:
        cell = result["cell"]
        source, target = Path(cell["source"]), Path(cell["target"])
        return f"{source.parent.name}, {source.stem} ↔ {target.stem}, {cell['rows']:,}"

    rows, seeds = sorted({name(r) for r in results}), sorted({r["cell"]["seed"] for r in results})
    shares = np.full((len(rows), len(seeds)), np.nan)
    figure, axes = plt.subplots(1, 2, figsize=(4 + 1.2 * len(seeds) + 5, 1.5 + 0.45 * len(rows)), layout="constrained")
    verdicts = ["aligned", "doubtful", "not aligned"]
    counts = np.zeros((2, 3))
    for result in results:
        figures = result["figures"]
        best = figures.get("full", figures["rotation"])
        share = min(best[way] / figures["paired"][way] for way in ("top1", "top1_back"))
        shares[rows.index(name(result)), seeds.index(result["cell"]["seed"])] = share
        counts[int(not result["right"]), verdicts.index(result["report"]["verdict"])] += 1
    axes[0].imshow(shares, vmin=0, vmax=1, cmap="viridis", aspect="auto")
    axes[0].set(title="share of the paired rotation's top-1", xlabel="seed")
    axes[0].set_xticks(range(len(seeds)), seeds)
    axes[0].set_yticks(range(len(rows)), rows)
    axes[1].imshow(counts, cmap="Blues", aspect="auto")
    axes[1].set(title="runs by verdict and truth")
    axes[1].set_xticks(range(3), verdicts)
    axes[1].set_yticks(range(2), ["right", "wrong"])
    for axis, values, form in ((axes[0], shares, "{:.2f}"), (axes[1], counts, "{:.0f}")):
        for (i, j), value in np.ndenumerate(values):
            if not np.isnan(value):
                axis.text(j, i, form.format(value), ha="center", va="center", color="white" if axis is axes[0] else "black")
    figure.savefig(file, dpi=150)


if __name__ == "__main__":
    main()
