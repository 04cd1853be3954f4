r"""Ours side by side with published methods, on their own terms: ordered pairs of encoders, rows a side, seeds.

    python benchmarks/published.py --vectors minilm.npy mpnet.npy wordllama.npy --output published \
        --rows 10000 25904 50000 --held_out 8192 --seeds 0 1 2 3 4 --pairs minilm:mpnet mpnet:minilm
    python benchmarks/published.py --output published --table

Each file holds one encoder's vectors of the same texts in the same order, `(n, d)`. A seed draws the texts: some that only
measure, then those of the source, then those of the target, so no text is on both sides; and a secret rotation of the
target. Paired oracles see the source's texts in both spaces. Ours are three maps of one alignment. Every run is a process of
its own on one thread, whose wall time and peak memory are measured. Results go to `published/results.jsonl` one by one: a
run that was interrupted goes on where it stopped. The table, medians over seeds, is `published/published.md`.
"""

import itertools
import json
import os
import resource
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import median
from threading import Lock

import numpy as np
import torch
from matrix import secret_rotation
from torch import Tensor
from torch.nn.functional import normalize
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.evaluation.baselines import ORACLES, Translate
from hf_vec2vec.evaluation.other_methods import mini_vec2vec, of_raw_rows, wasserstein_procrustes
from hf_vec2vec.metrics.translation import translation_metrics

FIGURES = {"cosine": 3, "centred_cosine": 3, "top1": 3, "reverse_top1": 3, "mean_rank": 1, "foscttm": 5}  # decimal places
OURS = ("rotation", "back-translation", "full")  # stages, each with a map: rotation, linear, full
METHODS = ("ours", "mini-vec2vec", "Wasserstein-Procrustes", "Wasserstein-Procrustes, one axis projected out", *ORACLES)


@dataclass
class PublishedArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    vectors: list[str] = field(default_factory=list, metadata={"help": "A file NAME.npy for each encoder."})
    pairs: list[str] = field(default_factory=list, metadata={"help": "NAME:NAME, source first; default: all ordered pairs."})
    rows: list[int] = field(default_factory=lambda: [10_000], metadata={"help": "Rows a side."})
    held_out: int = field(default=8192, metadata={"help": "Texts that only measure: the pool."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Of texts, rotation and method."})
    methods: list[str] = field(default_factory=lambda: list(METHODS), metadata={"help": "Which methods."})
    effort: str = field(default="default", metadata={"help": "Of ours: quick, default or thorough."})
    batch: int = field(default=5000, metadata={"help": "Rows that Wasserstein-Procrustes matches in a round."})
    at_once: int = field(default=1, metadata={"help": "Runs at a time, of one thread each."})
    table: bool = field(default=False, metadata={"help": "Make the table of what is there; run nothing."})
    cell: str | None = field(default=None, metadata={"help": "For its own use: one run, as JSON."})

    def __post_init__(self):
        if unknown := [name for name in self.methods if name not in METHODS]:
            raise ValueError(f"`methods` must be of {', '.join(METHODS)}, got {unknown[0]!r}.")


def main() -> None:
    (args,) = HfArgumentParser(PublishedArguments).parse_args_into_dataclasses()
    if args.cell:
        print(json.dumps(run(**json.loads(args.cell))))
        return
    results = Path(args.output) / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    if not args.table:
        run_all(cells(args), results, args.at_once)
    text = table(known(results))
    (Path(args.output) / "published.md").write_text(text + "\n")
    print(text)


def cells(args: PublishedArguments) -> list[dict]:
    """Every run, the quick settings first."""
    files = {Path(file).stem: file for file in args.vectors}
    pairs = [tuple(pair.split(":")) for pair in args.pairs] or list(itertools.permutations(files, 2))
    return [
        {"source": files[a], "target": files[b], "rows": rows, "held_out": args.held_out, "seed": seed, "method": method}
        | {"options": options_of(method, args)}
        for rows, seed, (a, b), method in itertools.product(args.rows, args.seeds, pairs, args.methods)
    ]


def options_of(method: str, args: PublishedArguments) -> dict:
    if method == "ours":
        return {"effort": args.effort}
    return {"batch": args.batch} if method.startswith("Wasserstein") else {}


def known(results: Path) -> list[dict]:
    """What was found already, without a line that was cut off."""
    found = []
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
        try:
            found.append(json.loads(line))
        except json.JSONDecodeError:
            print(f"left out, cut off: {line[:60]}")
    return found


def run_all(todo: list[dict], results: Path, at_once: int) -> None:
    done, lock = known(results), Lock()
    results.write_text("".join(json.dumps(result) + "\n" for result in done), encoding="utf-8")
    todo = [cell for cell in todo if cell not in [result["cell"] for result in done]]
    print(f"{len(done)} runs are there, {len(todo)} to go", flush=True)
    command = [sys.executable, __file__, "--output", str(results.parent), "--cell"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

    def finish(cell: dict) -> None:
        finished = subprocess.run([*command, json.dumps(cell)], capture_output=True, text=True, env=environment)
        with lock, results.open("a", encoding="utf-8") as file:
            if finished.returncode:
                print(f"failed: {cell}\n{finished.stderr[-500:]}", flush=True)
                return
            line = finished.stdout.splitlines()[-1]
            file.write(line + "\n")
            print(line[:300], flush=True)

    with ThreadPoolExecutor(at_once) as pool:
        list(pool.map(finish, todo))


def run(source: str, target: str, rows: int, held_out: int, seed: int, method: str, options: dict) -> dict:
    """One method on one draw, in this process."""
    torch.set_num_threads(1)
    files = [np.load(file, mmap_mode="r") for file in (source, target)]
    order = torch.randperm(len(files[0]), generator=torch.Generator().manual_seed(seed))
    if len(order) != len(files[1]) or len(order) < held_out + 2 * rows:
        raise ValueError(f"{source} and {target} must have the same texts, {held_out + 2 * rows:,} or more.")
    measured, ours, theirs = order.split([held_out, rows, rows, len(order) - held_out - 2 * rows])[:3]
    rotation = secret_rotation(files[1].shape[1], seed)

    def of_source(texts: Tensor) -> Tensor:
        return torch.from_numpy(files[0][texts.numpy()].astype(np.float32))

    def of_target(texts: Tensor) -> Tensor:
        return torch.from_numpy(files[1][texts.numpy()].astype(np.float32)) @ rotation

    x, y = of_source(ours), of_target(ours if method.startswith("paired") else theirs)
    started = time.perf_counter()
    if method == "ours":
        translations, seconds, facts = aligned(x, y, seed, **options)
    else:
        translate = ORACLES[method](x, y) if method in ORACLES else published(method, x, y, seed, **options)
        translations, seconds, facts = {"map": translate}, {"map": time.perf_counter() - started}, {}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # GiB, on Linux; before measuring
    asked, truth, mean = of_source(measured), of_target(measured), y.mean(0)
    maps = {name: translation_metrics(translate(asked), truth, mean) for name, translate in translations.items()}
    cell = {"source": source, "target": target, "rows": rows, "held_out": held_out, "seed": seed, "method": method}
    return {"cell": cell | {"options": options}, "maps": maps, "seconds": seconds, "peak_gib": memory} | facts


def aligned(x: Tensor, y: Tensor, seed: int, effort: str) -> tuple[dict[str, Translate], dict[str, float], dict]:
    """Three maps of one alignment, and the seconds until each was there."""
    found = align(x, y, source_name="a", target_name="b", seed=seed, effort=effort, progress=False)
    model = Vec2VecModel.from_alignment(found, allow_not_aligned=True)
    (a_mean, a_scale), (b_mean, b_scale) = found.source_statistics, found.target_statistics
    translations = {"rotation": lambda rows: (rows - a_mean) / a_scale @ found.rotation * b_scale + b_mean}
    translations |= {name: partial(model.translate, source="a", target="b", map=name) for name in ("linear", "full")}
    until = itertools.accumulate(found.seconds[stage] for stage in OURS)
    return translations, dict(zip(translations, until, strict=True)), {"report": found.report.to_dict()}


def published(method: str, x: Tensor, y: Tensor, seed: int, **options: int) -> Translate:
    """The map of a published method, as this repository has it: rows are centred and have norm 1."""
    if method.endswith("one axis projected out"):
        options["projected_out"] = 1
    solve = mini_vec2vec if method == "mini-vec2vec" else wasserstein_procrustes
    weight = solve(normalize(x - x.mean(0), dim=1), normalize(y - y.mean(0), dim=1), seed=seed, **options)
    return of_raw_rows(weight, x, y)


def table(results: list[dict]) -> str:
    """Medians over seeds, and the lowest top-1; a line for each pair, number of rows and map."""
    groups: dict[tuple, list[tuple[dict, str]]] = {}
    for result in results:
        cell = result["cell"]
        pair = f"{Path(cell['source']).stem} → {Path(cell['target']).stem}"
        for name in result["maps"]:
            method = f"ours, {name}" if cell["method"] == "ours" else cell["method"]
            groups.setdefault((cell["rows"], cell["held_out"], pair, method), []).append((result, name))
    titles = ["rows a side", "pool", "source → target", "method", *FIGURES, "lowest top1", "seconds", "GiB", "seeds"]
    lines = [titles, ["---"] * 4 + ["---:"] * (len(titles) - 4)]
    for (rows, pool, pair, method), runs in groups.items():
        figures = {name: [result["maps"][of][name] for result, of in runs] for name in FIGURES}
        seconds, memory = median(r["seconds"][of] for r, of in runs), max(r["peak_gib"] for r, _ in runs)
        shown = [f"{median(found):.{FIGURES[name]}f}" for name, found in figures.items()]
        ends = [f"{min(figures['top1']):.3f}", f"{seconds:.0f}", f"{memory:.1f}", str(len(runs))]
        lines.append([f"{rows:,}", f"{pool:,}", pair, method, *shown, *ends])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


if __name__ == "__main__":
    main()
