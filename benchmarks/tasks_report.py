"""What the runs of `benchmarks/tasks.py` say: a table, and two pictures."""

import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from hf_vec2vec.data.staging import staged_file
from hf_vec2vec.tasks.judging import points_of

FROZEN, TEACHER = "frozen student", "teacher"
DRAWS = 500  # of the bootstrap
Points = dict[str, np.ndarray]  # by task, `(seeds, 1 + DRAWS)`: of the rows as they are, then of each draw of them


def read(file: Path) -> list[dict]:
    """Runs that are whole; what a run that was killed left half written is cut off."""
    if not file.exists():
        return []
    text = file.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        with staged_file(file) as partial:
            partial.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def best_rate(runs: list[dict], pair: str, arm: str, seed: int) -> float:
    """The learning rate of an arm that does best in folds of the tasks' training rows, over all numbers of updates."""
    found = defaultdict(list)
    for run in runs:
        cell = run["cell"]
        if (cell["pair"], cell["arm"], cell["seed"]) == (pair, arm, seed):
            folds = [judged["fold_points"] for judged in run["judgements"].values()]
            found[cell["learning_rate"]].append(np.mean(folds))
    return max(found, key=lambda rate: np.mean(found[rate]))


def write(folder: Path) -> str:
    """Write `table.md`, `summary.json` and both pictures; the table."""
    runs = read(folder / "runs.jsonl")
    if not runs:
        raise ValueError(f"`output` {str(folder)!r} has no finished run.")
    groups = defaultdict(list)
    for run in runs:
        groups[json.dumps({k: v for k, v in run["cell"].items() if k not in VARIED})].append(run)
    summaries = [summary(json.loads(shared), found) for shared, found in groups.items()]
    text = "\n\n".join(map(table, summaries))
    for name, content in (("table.md", text), ("summary.json", json.dumps(summaries, indent=2))):
        with staged_file(folder / name) as partial:
            partial.write_text(content + "\n", encoding="utf-8")
    pictures(summaries, folder)
    return text


VARIED = ("arm", "updates", "seed", "learning_rate", "task")
BASES = {"general": FROZEN, "task": "task loss only"}


def summary(shared: dict, runs: list[dict]) -> dict:
    """Of one pair: for each arm and number of updates the points of each task, and what they are over the base.

    The base is the frozen student; where students learn the labels, the one that learned nothing else, seed by seed.
    """
    arms: dict[tuple[str, int], dict[int, dict]] = defaultdict(dict)
    for run in _whole(_of_chosen_rates(runs)):
        arms[run["cell"]["arm"], run["cell"]["updates"]][run["cell"]["seed"]] = run
    base_name = BASES[shared.get("regime", "general")]
    bases = {updates: found for (arm, updates), found in arms.items() if arm == base_name}
    if not bases:
        raise ValueError(f"`output` has no run of the {base_name}, which all are compared with.")
    rows = []
    for (arm, updates), found in arms.items():
        base = bases.get(updates, bases[max(bases)])
        if len(base) > 1 and len(found) > 1:  # pairs of seeds
            found = {seed: run for seed, run in found.items() if seed in base}
            base = {seed: run for seed, run in base.items() if seed in found}
        kept = [found[seed] for seed in sorted(found)]
        points, less = _points(kept), _points([base[seed] for seed in sorted(base)])
        drift = [run["student_drift"] for run in kept if "student_drift" in run]
        rows.append(
            {
                "arm": arm,
                "updates": updates,
                "seeds": len(kept),
                "learning_rate": kept[0]["cell"]["learning_rate"],
                "points": {task: float(values[:, 0].mean()) for task, values in points.items()},
                "gain": {task: _interval(points[task][None], less[task][None]) for task in points},
                "mean": float(np.mean([values[:, 0] for values in points.values()])),
                "mean_gain": _interval(np.stack(list(points.values())), np.stack([less[task] for task in points])),
                "drift": float(np.mean(drift)) if drift else None,
            }
        )
    judged = next(iter(next(iter(bases.values())).values()))["judgements"]
    parts = {task: found["part"] for task, found in judged.items()}
    fitted = {task: found["train_rows"] for task, found in judged.items()}
    rows = sorted(rows, key=lambda row: (row["updates"] > 0, row["updates"], -row["mean"]))
    return {"shared": shared, "base": base_name, "parts": parts, "train_rows": fitted, "rows": rows}


def _whole(runs: list[dict]) -> list[dict]:
    """Runs with the judgements of all tasks; those that were made task by task are put together, if none is missing."""
    found: dict[str, dict] = {}
    for run in runs:
        cell = {name: value for name, value in run["cell"].items() if name != "task"}
        whole = found.setdefault(json.dumps(cell), run | {"cell": cell, "judgements": {}})
        whole["judgements"].update(run["judgements"])
    most = max((len(run["judgements"]) for run in found.values()), default=0)
    return [run for run in found.values() if len(run["judgements"]) == most]


def _of_chosen_rates(runs: list[dict]) -> list[dict]:
    """Of arms that tried several learning rates, the runs of the best."""
    tried, kept = defaultdict(set), []
    for run in runs:
        tried[run["cell"]["arm"]].add(run["cell"]["learning_rate"])
    first = min((run["cell"]["seed"] for run in runs), default=0)
    for run in runs:
        cell = run["cell"]
        several = len(tried[cell["arm"]]) > 1
        if not several or cell["learning_rate"] == best_rate(runs, cell["pair"], cell["arm"], first):
            kept.append(run)
    return kept


def _points(runs: list[dict]) -> Points:
    """Of each task and seed, on the rows as they are and on draws of them: the same draws for all runs."""
    found = {}
    for number, task in enumerate(runs[0]["judgements"]):
        judged = [run["judgements"][task] for run in runs]
        count = len(judged[0]["references"])
        generator = np.random.default_rng(number)
        draws = [np.arange(count), *(generator.integers(count, size=count) for _ in range(DRAWS))]
        rows = [(each["metric"], np.array(each["predictions"]), np.array(each["references"])) for each in judged]
        found[task] = np.array([[points_of(metric, said[d], right[d]) for d in draws] for metric, said, right in rows])
    return found


def _interval(points: np.ndarray, base: np.ndarray) -> list[float]:
    """Mean gain, and its 95 % interval over seeds and rows at once, of `(tasks, seeds, 1 + DRAWS)`; one seed for all."""
    gain = (points - base).mean(0)  # over tasks
    generator = np.random.default_rng(0)
    seeds = len(gain)
    drawn = [gain[generator.integers(seeds, size=seeds), draw].mean() for draw in range(1, DRAWS + 1)]
    return [float(gain[:, 0].mean()), *map(float, np.percentile(drawn, [2.5, 97.5]))]


def table(found: dict) -> str:
    """Markdown: a line an arm, a column a task, gains in points over the frozen student."""
    tasks, shared = list(found["parts"]), found["shared"]
    starred = {task: f"{task}*" if found["parts"][task] else task for task in tasks}
    teacher, _, student = shared["pair"].partition("=")
    lines = [
        f"**{teacher} → {student}**: points, and gains over the {found['base']}, with 95 % intervals over seeds and rows.",
        "",
        f"| arm | updates | seeds | rate | mean | gain | {' | '.join(starred.values())} | drift |",
        "| --- " + "| ---: " * (6 + len(tasks)) + "|",
    ]
    for row in found["rows"]:
        alone = row["arm"] == found["base"]
        gain = "" if alone else "{:+.2f} [{:+.2f}, {:+.2f}]".format(*row["mean_gain"])
        cells = [f"{row['points'][task]:.1f}" + ("" if alone else f" ({row['gain'][task][0]:+.1f})") for task in tasks]
        drift = "" if row["drift"] is None else f"{row['drift']:.2f}"
        rate = f"{row['learning_rate']:g}" if row["updates"] else ""
        lines.append(
            f"| {row['arm']} | {row['updates'] or ''} | {row['seeds']} | {rate} | {row['mean']:.2f} | {gain} | "
            f"{' | '.join(cells)} | {drift} |"
        )
    parts = [f"{task}: {part}" for task, part in found["parts"].items() if part]
    lines += ["", f"\\* {'. '.join(parts)}."] if parts else []
    return "\n".join(lines)


def pictures(summaries: list[dict], folder: Path) -> None:
    """Gain by task, and mean gain by number of updates, both with intervals."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    for name, draw in (("by_task", _by_task), ("by_updates", _by_updates)):
        figure, axes = pyplot.subplots(
            len(summaries), 1, figsize=(11, 4.2 * len(summaries)), layout="constrained", squeeze=False
        )
        for axis, found in zip(axes[:, 0], summaries, strict=True):
            draw(axis, found)
            axis.axhline(0, color="black", linewidth=0.8)
            axis.set(title=found["shared"]["pair"].replace("=", " → "), ylabel=f"points over the {found['base']}")
            if axis.get_legend_handles_labels()[0]:
                axis.legend(fontsize="small", ncols=3, loc="upper center", bbox_to_anchor=(0.5, -0.15))  # off the bars
        with staged_file(folder / f"{name}.png") as partial:
            figure.savefig(partial, dpi=120)
        pyplot.close(figure)


def _by_task(axis, found: dict) -> None:
    most = max(row["updates"] for row in found["rows"])
    rows = [row for row in found["rows"] if row["updates"] == most and row["arm"] != found["base"]]
    tasks = [*found["parts"], "mean"]
    for i, row in enumerate(rows):
        gains = np.array([*(row["gain"][task] for task in found["parts"]), row["mean_gain"]])
        errors = np.abs(gains[:, 1:] - gains[:, :1]).T
        places = np.arange(len(tasks)) + (i - (len(rows) - 1) / 2) * 0.8 / len(rows)
        axis.bar(places, gains[:, 0], 0.8 / len(rows), yerr=errors, label=row["arm"], error_kw={"linewidth": 0.8})
    axis.set_xticks(range(len(tasks)), [task.replace("_", "\n") for task in tasks], fontsize="small")


def _by_updates(axis, found: dict) -> None:
    arms = defaultdict(list)
    for row in found["rows"]:
        if row["updates"] and row["arm"] != found["base"]:
            arms[row["arm"]].append((row["updates"], *row["mean_gain"]))
    for arm, rows in arms.items():
        updates, mean, low, high = np.array(sorted(rows)).T
        axis.errorbar(updates, mean, yerr=[mean - low, high - mean], marker="o", capsize=3, label=arm)
    axis.set(xlabel="updates", xscale="log")
