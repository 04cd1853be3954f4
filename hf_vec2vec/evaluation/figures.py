"""Pictures of a translation. Needs matplotlib (`pip install "hf-vec2vec[figures]"`)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor
from torch.nn import functional as F

from ..data.spaces import PairedEmbeddings
from ..metrics.translation import ranks
from ..model.modeling_vec2vec import Vec2VecModel

SOURCE_COLOUR, TARGET_COLOUR = "#0072b2", "#d55e00"  # told apart also by the colour-blind
SCORE = "eval_alignment_score"


def heatmap(model: Vec2VecModel, pairs: PairedEmbeddings, source: str, target: str, path: Path, rows: int = 64) -> None:
    """Centred cosines of translations and true vectors, both directions. A bright diagonal is a translation that works.

    Args:
        model: the translator.
        pairs: held-out rows; the first `rows` are drawn.
        source: name of the one space.
        target: name of the other.
        path: PNG to write.
        rows: texts in the picture.
    """
    figure = Figure(figsize=(10, 4.6), layout="constrained")  # no pyplot: a notebook keeps its backend
    axes = figure.subplots(1, 2)
    for axis, (a, b) in zip(axes, ((source, target), (target, source)), strict=True):
        mean = model.normalizer(b).mean.cpu()
        there = F.normalize(model.translate(pairs.spaces[a][:rows], source=a, target=b) - mean, dim=1)
        cosines = (there @ F.normalize(pairs.spaces[b][:rows] - mean, dim=1).T).numpy()
        image = axis.imshow(cosines, cmap="viridis", vmin=-0.2, vmax=1.0)
        axis.set_title(f"{a} → {b}")
        axis.set_xlabel(f"true vector in {b}")
        axis.set_ylabel(f"text, translated from {a}")
    figure.colorbar(image, ax=axes, label="cosine, target mean removed", shrink=0.9)
    figure.savefig(path, dpi=130)


def projection(
    model: Vec2VecModel,
    pairs: PairedEmbeddings,
    source: str,
    target: str,
    path: Path,
    method: Literal["PCA", "UMAP"] = "PCA",
    rows: int = 1000,
    lines: int = 40,
) -> None:
    """Both spaces in two dimensions, before and after translation, with lines between the two vectors of some texts.

    Before, each space is projected by itself, for the two have no common coordinates. After, both are projected as the
    target is.

    Args:
        model, pairs, source, target, path: as in `heatmap`.
        method: principal axes, which are honest about distances; or UMAP, which shows neighbourhoods and needs umap-learn.
        rows: texts drawn.
        lines: texts joined by a line.
    """
    clouds(model, pairs.spaces[source][:rows], pairs.spaces[target][:rows], source, target, path, method, lines=lines)


def clouds(
    model: Vec2VecModel,
    x: Tensor,
    y: Tensor,
    source: str,
    target: str,
    path: Path,
    method: Literal["PCA", "UMAP"] = "PCA",
    *,
    lines: int = 0,
) -> None:
    """The picture of [`projection`] for rows that need not be pairs.

    Args:
        model, source, target, path, method: as there.
        x: `(n, d_source)`, raw vectors of the source.
        y: `(m, d_target)`, raw vectors of the target.
        lines: first rows of both that belong to the same texts, and are joined by a line.
    """
    of_target, of_source = _projector(method).fit(_unit(y, model, target)), _projector(method)
    translated = model.translate(x, source=source, target=target)
    panels = {
        f"before: each in a {method} of its own": of_source.fit_transform(_unit(x, model, source)),
        f"after: {source} translated into {target}": of_target.transform(_unit(translated, model, target)),
    }
    truth = of_target.transform(_unit(y, model, target))
    figure = Figure(figsize=(11, 5.2), layout="constrained")  # no pyplot: a notebook keeps its backend
    axes = figure.subplots(1, 2)
    for axis, (title, points) in zip(axes, panels.items(), strict=True):
        axis.scatter(*truth.T, s=6, color=TARGET_COLOUR, alpha=0.45, linewidths=0, label=target)
        axis.scatter(*points.T, s=6, color=SOURCE_COLOUR, alpha=0.45, linewidths=0, label=source)
        for start, end in zip(points[:lines], truth[:lines], strict=True):
            axis.plot(*zip(start, end, strict=True), color="0.25", linewidth=0.6, alpha=0.7)
        axis.set_title(title)
        axis.set_xticks([])
        axis.set_yticks([])
    axes[0].legend(markerscale=3)
    if lines:
        figure.supxlabel(f"lines join the two vectors of one text ({lines} of {len(x)} texts)", fontsize=9)
    figure.savefig(path, dpi=130)


def _projector(method: Literal["PCA", "UMAP"]):
    if method == "PCA":
        return PCA(2, random_state=0)
    from umap import UMAP  # slow to import

    return UMAP(n_components=2, random_state=0, n_jobs=1)


def draw_ranks(model: Vec2VecModel, pairs: PairedEmbeddings, directions: Iterable[tuple[str, str]], path: Path) -> None:
    """Share of texts whose true vector is among the first k, for each direction (source and target) and for chance."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for a, b in directions:
        found = ranks(model.translate(pairs.spaces[a], source=a, target=b), pairs.spaces[b])
        axes.step(found.sort().values, torch.arange(1, len(found) + 1) / len(found), where="post", label=f"{a} → {b}")
    pool = len(pairs)
    places = np.geomspace(1, pool, 200)  # a straight line, were the axis not logarithmic
    axes.plot(places, places / pool, color="0.6", linestyle=":", label="chance")
    axes.set(xscale="log", xlabel="rank of the true vector", ylabel="share of texts", ylim=(0, 1.02))
    axes.legend()
    figure.savefig(path, dpi=130)


def draw_attributes(rows: list[dict], path: Path) -> None:
    """Accuracy of both attacks as bars with intervals, a panel a direction; the majority class as a line."""
    directions = list(dict.fromkeys(row["direction"] for row in rows))
    figure = Figure(figsize=(10, 3.8), layout="constrained")
    for i, direction in enumerate(directions):
        axes = figure.add_subplot(1, len(directions), i + 1)
        chosen = [row for row in rows if row["direction"] == direction]
        methods = list(dict.fromkeys(row["method"] for row in chosen if row["attack"] != "both"))
        for shift, attack in ((-0.2, "zero-shot"), (0.2, "linear probe")):
            bars = [next(r for r in chosen if r["attack"] == attack and r["method"] == m) for m in methods]
            heights = np.array([bar["accuracy"] for bar in bars])
            errors = np.abs(np.array([bar["accuracy_interval"] for bar in bars]).T - heights)
            axes.bar(np.arange(len(bars)) + shift, heights, 0.4, yerr=errors, capsize=2, label=attack)
        majority = next(row["accuracy"] for row in chosen if row["attack"] == "both")
        axes.axhline(majority, color="0.4", linestyle=":", label="majority class")
        axes.set(title=direction, ylim=(0, 1))
        axes.set_xticks(range(len(methods)), [m.replace(": ", ":\n").replace(" ", "\n", 1) for m in methods], fontsize=8)
    figure.axes[0].set_ylabel("accuracy")
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=9, frameon=False
    )
    figure.savefig(path, dpi=130)


def draw_defences(rows: list[dict], path: Path) -> None:
    """What each defence leaves to owner and attacker: rows of `privacy.defences` as bars, the bare store on top."""
    shown = {"kept_neighbours": ("owner: neighbours kept", "0.6"), "top1": ("attack: text found", TARGET_COLOUR)}
    shown |= {"attribute_accuracy": ("attack: class guessed", SOURCE_COLOUR)} if "attribute_accuracy" in rows[0] else {}
    figure = Figure(figsize=(8, 0.55 * len(rows) + 1), layout="constrained")
    axes = figure.add_subplot()
    places, height = np.arange(len(rows)), 0.8 / len(shown)
    for i, (name, (label, colour)) in enumerate(shown.items()):
        shift = (i - (len(shown) - 1) / 2) * height
        axes.barh(places + shift, [row[name] for row in rows], height, color=colour, label=label)
    axes.set_yticks(places, [row["defence"] for row in rows])
    axes.invert_yaxis()
    axes.set(xlim=(0, 1), xlabel="share of texts")
    figure.legend(loc="outside upper center", ncols=len(shown), fontsize=9, frameon=False)
    figure.savefig(path, dpi=130)


def draw_training(log: list[dict], before: float | None, path: Path) -> None:
    """Losses, accuracy of the discriminators, and the score without pairs, over the updates of adversarial training.

    Args:
        log: what the trainer logged, one dictionary a line, each with its `step`.
        before: alignment score before training, drawn at step 0.
        path: PNG to write.
    """
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    losses, accuracy, score = figure.subplots(1, 3)

    def curve(name: str) -> tuple:
        points = {row["step"]: row[name] for row in reversed(log) if name in row}  # of a step's scores the first: the last
        return tuple(points)[::-1], tuple(points.values())[::-1]  # may be that of another checkpoint, loaded at the end

    for name in sorted({key for row in log for key in row if key.endswith("_loss")} - {"eval_loss", "train_loss"}):
        losses.plot(*curve(name), label=name.removesuffix("_loss"))
    losses.set(title="losses", xlabel="step", yscale="log")
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower center", ncols=7, fontsize=8, frameon=False)
    accuracy.plot(*curve("discriminator_accuracy"))
    accuracy.axhline(0.5, color="0.6", linestyle=":")
    accuracy.set(title="discriminators: share told apart", xlabel="step", ylim=(0, 1.02))
    if any(SCORE in row for row in log):
        score.errorbar(*curve(SCORE), curve(f"{SCORE}_error")[1], marker="o", capsize=2)
    if before is not None:
        score.axhline(before, color="0.4", linestyle=":", label="before training")
        score.legend(fontsize=8)
    score.set(title="alignment score, without pairs", xlabel="step")
    figure.savefig(path, dpi=130)


def _unit(rows: Tensor, model: Vec2VecModel, space: str) -> np.ndarray:
    return F.normalize(rows - model.normalizer(space).mean.cpu(), dim=1).numpy()


__all__ = ["clouds", "draw_attributes", "draw_defences", "draw_ranks", "draw_training", "heatmap", "projection"]
