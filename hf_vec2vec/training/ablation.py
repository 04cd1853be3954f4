"""Many trainings that differ in a few flags, over seeds, and one table with intervals."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml
from scipy import stats
from tqdm.auto import tqdm

from ..data.spaces import PairedEmbeddings
from ..metrics.translation import translation_metrics
from .recipe import load_translator

FIGURES = ("centred_cosine", "top1", "mean_rank")


def load_variants(path: str) -> dict[str, dict]:
    """Read variants from YAML: a name for each, and the flags of `hf-vec2vec train` that make it.

    Raises:
        ValueError: for anything else.
    """
    try:
        variants = yaml.safe_load(Path(path).read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"`variants` {path!r} is no YAML: {error}") from error
    if not (isinstance(variants, dict) and variants and all(isinstance(f, dict | None) for f in variants.values())):
        raise ValueError(f"`variants` {path!r} must hold lines `name: {{flag: value, ...}}`, for instance `no gan: "
                         "{adversarial_weight: 0}`; `{}` changes nothing.")  # fmt: skip
    return {str(name): flags or {} for name, flags in variants.items()}


def run_ablation(
    train: Callable[[list[str]], object],
    variants: dict[str, list[str]],
    pairs: PairedEmbeddings,
    seeds: int,
    output: Path,
    *,
    keep_models: bool = False,
) -> list[dict]:
    """Train every variant with every seed and measure the results on the same pairs.

    Every run leaves one JSON file under `runs/`: an ablation that was interrupted goes on where it stopped, and a run whose
    file is deleted is made again.

    Args:
        train: `hf-vec2vec train`, given its words.
        variants: words of `hf-vec2vec train`, but for `--output_dir` and `--seed`, by name.
        pairs: held-out pairs of both spaces; they only measure.
        seeds: 0 to this, not included.
        output: folder for runs, table and JSON.
        keep_models: leave every trained model in `models/`.

    Returns:
        One dictionary a variant: `variant`, `seeds` and for every figure its mean and the half-width of its 95 % interval
        over seeds (Student's t; `None` for one seed).

    Raises:
        ValueError: if a run was made with other flags than the variant of its name has now, or fails.
    """
    runs, models = output / "runs", output / "models"
    runs.mkdir(parents=True, exist_ok=True)
    results = {name: [] for name in variants}
    for name, seed in tqdm([(name, seed) for seed in range(seeds) for name in variants], desc="runs"):
        stem = f"{''.join(c if c.isalnum() else '-' for c in name)}-{seed}"
        file, model = runs / f"{stem}.json", models / stem
        words = [*variants[name], "--seed", str(seed)]
        if not file.exists():
            try:
                train([*words, "--output_dir", str(model), "--overwrite"])
            except ValueError as error:
                raise ValueError(f"`variants`: {name!r} with seed {seed} failed: {error}") from error
            file.write_text(json.dumps({"variant": name, "flags": words, "figures": _measure(model, pairs)}, indent=2))
            if not keep_models:
                shutil.rmtree(model)
        made = json.loads(file.read_text())
        if made["flags"] != words:
            raise ValueError(f"`output_dir`: {file} was made with other flags. Delete it, or take another folder.")
        results[name].append(made["figures"])
    rows = [{"variant": name, "seeds": seeds} | _over_seeds(found) for name, found in results.items()]
    (output / "ablation.json").write_text(json.dumps(rows, indent=2))
    (output / "ablation.md").write_text(ablation_table(rows) + "\n")
    return rows


def _measure(folder: Path, pairs: PairedEmbeddings) -> dict[str, float]:
    """Figures of what training made, even where selection kept the alignment."""
    trained = folder / "trained"
    model = load_translator(str(trained if trained.is_dir() else folder))
    selection = json.loads((folder / "training.json").read_text())["selection"]
    figures = {"alignment score": selection.get("after", selection["before"])}
    source, target = pairs.spaces
    for a, b in ((source, target), (target, source)):
        translated = model.translate(pairs.spaces[a], source=a, target=b)
        found = translation_metrics(translated, pairs.spaces[b], model.normalizers[b].mean.cpu())
        figures |= {f"{a} → {b}: {name}": found[name] for name in FIGURES}
    return figures


def _over_seeds(found: list[dict[str, float]]) -> dict[str, dict]:
    values = {name: np.array([figures[name] for figures in found]) for name in found[0]}
    width = stats.t.ppf(0.975, len(found) - 1) / np.sqrt(len(found)) if len(found) > 1 else None
    return {
        name: {"mean": float(v.mean()), "interval": None if width is None else float(width * v.std(ddof=1))}
        for name, v in values.items()
    }


def ablation_table(rows: list[dict]) -> str:
    """Markdown: a line a variant, a column a figure, mean ± half of the 95 % interval over seeds."""
    figures = [name for name in rows[0] if name not in ("variant", "seeds")]
    lines = ["| variant | seeds | " + " | ".join(figures) + " |", "| --- | ---: |" + " ---: |" * len(figures)]
    for row in rows:
        cells = []
        for name in figures:
            places = 1 if name.endswith("mean_rank") else 4
            spread = row[name]["interval"]
            cells.append(f"{row[name]['mean']:.{places}f}" + ("" if spread is None else f" ± {spread:.{places}f}"))
        lines.append(f"| {row['variant']} | {row['seeds']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


__all__ = ["ablation_table", "load_variants", "run_ablation"]
