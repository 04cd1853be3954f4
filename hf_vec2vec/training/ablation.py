"""Many trainings that differ in a few arguments, over seeds, and one table with intervals."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from datasets import Dataset
from scipy import stats

from ..data.file_names import file_names
from ..data.json_files import read_object, write_object
from ..data.progress import progress_bar
from ..data.spaces import PairedEmbeddings
from ..data.staging import locked, staged_file
from ..metrics.translation import translation_metrics
from .fingerprint import Fingerprint, rows_digest, tensors_digest
from .start import load_translator

FIGURES = ("centred_cosine", "top1", "mean_rank")


def run_ablation(
    train: Callable[[str, int, Path], object],
    variants: Mapping[str, object],
    spaces: Mapping[str, Dataset],
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
        train: trains a variant, of that name, with a seed into a folder, where it may replace what is there.
        variants: arguments of each variant by its name, as JSON knows them: what tells whether a run is of this variant.
        spaces: the training vectors, for the same purpose.
        pairs: held-out pairs of both spaces; they only measure.
        seeds: 0 to this, not included.
        output: folder for runs, table and JSON.
        keep_models: leave every trained model in `models/`.

    Returns:
        One dictionary a variant: `variant`, `seeds` and for every figure its mean and the half-width of its 95 % interval
        over seeds (Student's t; `None` for one seed).

    Raises:
        FileExistsError: if another ablation runs in this folder.
        ValueError: if there is no seed or no variant, a run was made of other data or arguments than the variant of its name
            has now, or a run fails.
    """
    if seeds < 1:
        raise ValueError(f"`seeds` must be at least 1, got {seeds}.")
    if not variants:
        raise ValueError("`variants` is empty: name at least one.")
    data = {f"rows of {name!r}": rows_digest(rows) for name, rows in spaces.items()}
    data["held-out pairs"] = tensors_digest(pairs.spaces.items())
    results: dict[str, list[dict[str, float]]] = {name: [] for name in variants}
    files = file_names(variants)
    with locked(output, argument="output_dir"):
        for name, seed in progress_bar([(name, seed) for seed in range(seeds) for name in variants], desc="runs"):
            made_of = Fingerprint(data, {"variant": name, "arguments": variants[name], "seed": seed})
            run = _Run(output, f"{files[name]}-{seed}")
            if not run.file.exists():
                try:
                    train(name, seed, run.model)
                except ValueError as error:
                    raise ValueError(f"`variants`: {name!r} with seed {seed} failed: {error}") from error
                write_object(run.file, asdict(made_of) | {"figures": _measure(run.model, pairs)})
                if not keep_models:
                    shutil.rmtree(run.model)
            made = read_object(run.file)
            if found := made_of.differences(made):
                raise ValueError(
                    f"`output_dir`: {run.file} is of a run that differs from this one: {', '.join(found)}. Delete it, or "
                    "take another folder."
                )
            results[name].append(made["figures"])
        rows = [{"variant": name, "seeds": seeds} | _over_seeds(found) for name, found in results.items()]
        write_object(output / "ablation.json", rows)
        with staged_file(output / "ablation.md") as partial:
            partial.write_text(ablation_table(rows) + "\n")
    return rows


class _Run(NamedTuple):
    """Where the run of a variant with a seed leaves its model and its figures."""

    output: Path
    stem: str

    @property
    def file(self) -> Path:
        return self.output / "runs" / f"{self.stem}.json"

    @property
    def model(self) -> Path:
        return self.output / "models" / self.stem


def _measure(folder: Path, pairs: PairedEmbeddings) -> dict[str, float]:
    """Figures of what training made, even where selection kept the alignment."""
    trained = folder / "trained"
    model = load_translator(str(trained if trained.is_dir() else folder))
    selection = read_object(folder / "training.json")["selection"]
    figures = {"alignment score": selection.get("after", selection["before"])}
    source, target = pairs.spaces
    for a, b in ((source, target), (target, source)):
        translated = model.translate(pairs.spaces[a], source=a, target=b)
        found = translation_metrics(translated, pairs.spaces[b], model.normalizers[b].state_dict()["mean"].cpu())
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


__all__ = ["ablation_table", "run_ablation"]
