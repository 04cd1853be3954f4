"""How many known pairs does it take to go from one API's vectors to another's?

    python examples/api_vectors.py ada002.npy te3small.npy                  # row i of both: the same text
    python examples/api_vectors.py ada002.npy te3small.npy --output curve.png

A few hundred texts are too few to align two spaces without pairs. With pairs a linear map can be fitted. This draws the
curve: with so many known pairs, how often is the nearest vector to a translation the right one? Rows are cut into folds;
each fold is translated by maps that saw pairs of the other folds only, and its rows compete with each other. Rows with one
and the same vector on either side (captions of one image) stay in one fold.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from hf_vec2vec.data import load_embeddings, vectors

Fit = Callable[[Tensor, Tensor], Callable[[Tensor], Tensor]]
COUNTS = (5, 10, 20, 50, 100, 200)
FOLDS = 5
STRENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)  # of ridge, in units of the mean eigenvalue


def procrustes(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """The best rotation between centred pairs, along the axes that they span: of the others few pairs say nothing."""
    (x_mean, y_mean), count = (x.mean(0), y.mean(0)), len(x)
    (a, r), (b, s) = (torch.linalg.qr((rows - mean).T.double()) for rows, mean in ((x, x_mean), (y, y_mean)))
    left, values, right = torch.linalg.svd(r @ s.T)
    kept = min(count - 1, int((values > 1e-9 * values[0]).sum()))
    rotation = ((a @ left)[:, :kept] @ (b @ right.T)[:, :kept].T).to(x.dtype)
    scale = (y - y_mean).norm() / (x - x_mean).norm()
    return lambda rows: (rows - x_mean) @ rotation * scale + y_mean


def ridge(x: Tensor, y: Tensor) -> Callable[[Tensor], Tensor]:
    """Ridge regression; its strength is chosen by squared error on the last tenth of the pairs."""
    cut = len(x) - max(1, len(x) // 10)
    errors = {s: (ridge_of(x[:cut], y[:cut], s)(x[cut:]) - y[cut:]).square().mean().item() for s in STRENGTHS}
    return ridge_of(x, y, min(errors, key=errors.__getitem__))


def ridge_of(x: Tensor, y: Tensor, strength: float) -> Callable[[Tensor], Tensor]:
    """By way of the pairs' inner products: there are fewer pairs than dimensions."""
    x_mean, y_mean = x.mean(0), y.mean(0)
    centred = (x - x_mean).double()
    inner = centred @ centred.T
    penalty = strength * inner.diagonal().sum() / x.shape[1]
    weights = torch.linalg.solve(inner + penalty * torch.eye(len(x)), (y - y_mean).double())
    return lambda rows: ((rows - x_mean).double() @ centred.T @ weights).to(y.dtype) + y_mean


METHODS: dict[str, Fit] = {"Procrustes": procrustes, "ridge": ridge}


def main(argv: list[str] | None = None) -> list[dict]:
    args = parse(argv)
    source, target = (vectors(load_embeddings(path), path) for path in (args.source, args.target))
    if len(source) != len(target):
        raise SystemExit(f"{args.source} has {len(source):,} rows, and {args.target} {len(target):,}: row i must be row i.")
    rows = curve(source, target, args.seeds)
    show(rows, groups_of(source, target))
    if args.output:
        draw(rows, args.output)
    return rows


def curve(source: Tensor, target: Tensor, seeds: int, methods: dict[str, Fit] = METHODS) -> list[dict]:
    """A row for each method and number of pairs."""
    groups, rows = groups_of(source, target), []
    fewest = min(int((fold_of(groups, seed) != k).sum()) for seed in range(seeds) for k in range(FOLDS))
    for name, fit in methods.items():
        for count in [count for count in COUNTS if count <= fewest]:
            runs = [
                judged(translated(source, target, groups, fit, count, seed), target, fold_of(groups, seed), groups)
                for seed in range(seeds)
            ]
            rows.append({"method": name, "pairs": count} | summary(runs))
    return rows


def summary(runs: list[tuple[float, float, float]]) -> dict[str, float]:
    """Means over seeds, and the least and most of the first figure."""
    first, first_of_all, cosine = (torch.tensor(figures) for figures in zip(*runs))
    known = {"top1": first.mean(), "least": first.min(), "most": first.max(), "among_all": first_of_all.mean()}
    return {name: value.item() for name, value in (known | {"cosine": cosine.mean()}).items()}


def groups_of(source: Tensor, target: Tensor) -> Tensor:
    """`(n,)`: rows that share a vector on either side have one number."""
    groups = torch.arange(len(source))
    for side in (source, target):
        same = torch.unique(side, dim=0, return_inverse=True)[1]
        for number in same.unique():
            members = groups[same == number]
            groups[torch.isin(groups, members)] = members.min()
    return groups


def fold_of(groups: Tensor, seed: int) -> Tensor:
    """`(n,)`: the fold that each row is in."""
    known, number = groups.unique(return_inverse=True)
    shuffled = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    return (shuffled % FOLDS)[number]


def translated(source: Tensor, target: Tensor, groups: Tensor, fit: Fit, count: int, seed: int) -> Tensor:
    """`(n, d)`: each row by a map fitted on `count` pairs of the other folds."""
    fold, result = fold_of(groups, seed), torch.empty_like(target)
    for k in range(FOLDS):
        others = (fold != k).nonzero().flatten()
        order = torch.randperm(len(others), generator=torch.Generator().manual_seed(1000 * seed + k))
        pairs = others[order[:count]]
        result[fold == k] = fit(source[pairs], target[pairs])(source[fold == k])
    return result


def judged(
    answers: Tensor, target: Tensor, fold: Tensor, groups: Tensor, *, centred: bool = True
) -> tuple[float, float, float]:
    """How often a row's own vector is the nearest to its translation, and the mean cosine of the two, both centred.

    Among the rows of its fold, which no map saw; among all rows, where those that the map was fitted on are nearer than they
    should be. Rows of one group, such as five captions of an image, do not compete with each other.
    """
    mean = target.mean(0) if centred else 0
    cosines = F.normalize(answers - mean, dim=1) @ F.normalize(target - mean, dim=1).T
    own = cosines.diag()
    better = (cosines > own[:, None]) & (groups[:, None] != groups[None, :])
    same = fold[:, None] == fold[None, :]
    first, first_of_all = ((~(better & where).any(1)).float().mean().item() for where in (same, same | True))
    return first, first_of_all, own.mean().item()


def show(rows: list[dict], groups: Tensor) -> None:
    held_out = len(groups) // FOLDS
    print(f"{len(groups):,} rows, about {held_out:,} of them held out at a time (by chance {1 / held_out:.3f})\n")
    print("| method | pairs | top-1 among held-out rows (seeds) | among all rows | centred cosine |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for row in rows:
        spread = f"{row['top1']:.2f} ({row['least']:.2f} to {row['most']:.2f})"
        print(f"| {row['method']} | {row['pairs'] or '-'} | {spread} | {row['among_all']:.2f} | {row['cosine']:.2f} |")


def draw(rows: list[dict], path: str) -> None:
    """Top-1 over the number of pairs; a method without pairs is a line across."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(5, 3.2), layout="constrained")
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = [row for row in rows if row["method"] == name]
        if not mine[0]["pairs"]:
            axes.axhline(mine[0]["top1"], linestyle=":", color="grey")
            axes.annotate(name, (5, mine[0]["top1"]), va="bottom", fontsize=8)
            continue
        counts = [row["pairs"] for row in mine]
        (line,) = axes.plot(counts, [row["top1"] for row in mine], marker="o", label=name)
        bounds = [[row[name] for row in mine] for name in ("least", "most")]
        axes.fill_between(counts, *bounds, alpha=0.2, color=line.get_color())
    axes.set(xscale="log", xlabel="known pairs", ylabel="top-1", ylim=(0, 1))
    axes.set_xticks(COUNTS, [str(count) for count in COUNTS])
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", help="Vectors by the one model.")
    parser.add_argument("target", help="Vectors of the same texts by the other.")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", help="Picture of the curve.")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
