"""Which anchors lead to right rotations: the share of guesses near the solution, by how clouds are cut into anchors.

    python benchmarks/starts.py --space minilm=minilm wordllama=wordllama --pair minilm:wordllama --output_dir results

Rows and rotation are those of `alignment.py`. Every scheme draws the same samples of both clouds, makes anchors of each,
matches the anchors' shapes by quadratic assignment, and takes the rotation of the matched anchors. Pairs only measure: the
mean rank of the true row among 2,000, where chance is 1,000. A guess counts as right below 400, whence refinement mostly
gets to the solution.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from alignment import spaces
from sklearn.cluster import BisectingKMeans, KMeans
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from hf_vec2vec.alignment.procrustes import polar_factor
from hf_vec2vec.alignment.quadratic_assignment import quadratic_assignment
from hf_vec2vec.alignment.start import gram, partial_whitening
from hf_vec2vec.metrics.translation import ranks

RIGHT = 400
Scheme = Callable[[Tensor, int, int], Tensor]  # rows `(n, d)`, anchors, seed to memberships `(n, k)`


@dataclass
class StartsArguments:
    """Which pairs, how many guesses."""

    space: list[str] = field(metadata={"help": "NAME=FILE of each space; row i is the same text in all."})
    pair: list[str] = field(metadata={"help": "NAME:NAME of each pair."})
    output_dir: str = field(metadata={"help": "Where table and JSON go."})
    rows: int = field(default=10_000, metadata={"help": "Rows a side."})
    guesses: int = field(default=12, metadata={"help": "Of each scheme on each pair."})
    num_anchors: int = field(default=25, metadata={"help": "Clusters a side."})
    sample: int = field(default=6000, metadata={"help": "Rows of each side in a guess."})
    seed: int = field(default=0, metadata={"help": "Of rotation and samples."})


def one_hot(labels) -> Tensor:
    return F.one_hot(torch.as_tensor(labels).long()).float()


def k_means(rows: Tensor, k: int, seed: int) -> Tensor:
    return one_hot(KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(rows.numpy()).labels_)


def hierarchical(rows: Tensor, k: int, seed: int) -> Tensor:
    return one_hot(BisectingKMeans(k, random_state=seed).fit(rows.numpy()).labels_)


def random_cells(rows: Tensor, k: int, seed: int) -> Tensor:
    seeds = rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed))[:k]]
    return one_hot(torch.cdist(rows, seeds).argmin(1))


def soft(rows: Tensor, k: int, seed: int) -> Tensor:
    centres = torch.from_numpy(KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(rows.numpy()).cluster_centers_)
    distances = torch.cdist(rows, centres.float()).square()
    return torch.softmax(-distances / (0.1 * distances.amin(1).median()), dim=1)


def density_matched(rows: Tensor, k: int, seed: int) -> Tensor:
    """k-means on a third of the rows, drawn so that dense regions are thinned; the others join the nearest centre."""
    distances = torch.cdist(rows, rows[:1000]).topk(11, largest=False).values[:, -1]
    picked = torch.multinomial(distances.pow(8), len(rows) // 3, generator=torch.Generator().manual_seed(seed))
    centres = torch.from_numpy(
        KMeans(k, n_init=1, max_iter=50, random_state=seed).fit(rows[picked].numpy()).cluster_centers_
    )
    return one_hot(torch.cdist(rows, centres.float()).argmin(1))


def two_resolutions(rows: Tensor, k: int, seed: int) -> Tensor:
    return torch.cat([k_means(rows, k, seed), k_means(rows, k // 2, seed + 1)], dim=1)


# Name, memberships, exponent of partial whitening.
SCHEMES: dict[str, tuple[Scheme, float]] = {
    "k-means": (k_means, 0.0),
    "k-means, whitened .3": (k_means, 0.3),
    "k-means, whitened .6": (k_means, 0.6),
    "k-means, whitened 1": (k_means, 1.0),
    "random cells, whitened .6": (random_cells, 0.6),
    "hierarchical, whitened .6": (hierarchical, 0.6),
    "soft, whitened .6": (soft, 0.6),
    "density-matched, whitened .6": (density_matched, 0.6),
    "two resolutions, whitened .6": (two_resolutions, 0.6),
    "similarity profiles, whitened .6": (k_means, 0.6),
}


def guess(x: Tensor, y: Tensor, name: str, k: int, seed: int, generator: torch.Generator) -> Tensor:
    """Rotation `(d_a, d_b)` from one sample of each side, `(n, d_a)` and `(n, d_b)`, norm 1."""
    scheme, exponent = SCHEMES[name]
    anchors, shapes = [], []
    for rows in (x, y):
        whitened = rows @ partial_whitening(rows, exponent)
        members = scheme(whitened, k, seed)
        members = members / members.sum(0).clamp_min(1e-6)
        anchors.append(members.T @ rows)
        shapes.append(gram(members.T @ whitened))
    linear = torch.zeros_like(shapes[0])
    if name.startswith("two resolutions"):  # an anchor goes with one of its own resolution
        level = torch.arange(len(linear)) < k
        linear = (level[:, None] == level).float()
    if name.startswith("similarity profiles"):  # sorted similarities to the other anchors do not depend on their order
        profiles = [shape.sort(1).values for shape in shapes]
        linear = -torch.cdist(*profiles).square()
    order, _ = quadratic_assignment(shapes[0][None], shapes[1][None], linear[None], generator=generator)
    a, b = (rows - rows.mean(0) for rows in anchors)
    return polar_factor(a.T @ b[order[0]])


def main() -> None:
    (args,) = HfArgumentParser(StartsArguments).parse_args_into_dataclasses()
    n, results = args.rows, []
    for pair in args.pair:
        a, b, _ = spaces(args.space, pair, args.seed, n)
        x, y = a[:n], b[n : 2 * n]
        held = [F.normalize(rows[-2000:] - mean, dim=1) for rows, mean in ((a, x.mean(0)), (b, y.mean(0)))]
        x, y = F.normalize(x - x.mean(0), dim=1), F.normalize(y - y.mean(0), dim=1)
        for name in tqdm(SCHEMES, desc=pair):
            generator, singles = torch.Generator().manual_seed(args.seed), []
            for i in range(args.guesses):
                drawn = (rows[torch.randperm(n, generator=generator)[: args.sample]] for rows in (x, y))
                singles.append(guess(*drawn, name, args.num_anchors, 100 * args.seed + i, generator))
            found = [ranks(held[0] @ rotation, held[1]).mean().item() for rotation in singles]
            joint = ranks(held[0] @ polar_factor(sum(singles)), held[1]).mean().item()
            share = sum(rank < RIGHT for rank in found) / len(found)
            results.append({"pair": pair, "scheme": name, "right": share, "median_rank": median(found), "joint_rank": joint})
    table = ["| pair | scheme | right | median rank | rank of all together |", "| --- | --- | ---: | ---: | ---: |"]
    table += [
        f"| {r['pair']} | {r['scheme']} | {r['right']:.0%} | {r['median_rank']:.0f} | {r['joint_rank']:.0f} |"
        for r in results
    ]
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "starts.json").write_text(json.dumps(results, indent=2))
    (output / "starts.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
