"""What adversarial training and other losses on distributions learn, from a random start and from a known one.

    python benchmarks/adversarial.py --study known --output known.jsonl
    python benchmarks/adversarial.py --study losses --output losses.jsonl --space minilm=minilm wordllama=wordllama
    python benchmarks/adversarial.py --study random --output random.jsonl --space minilm=minilm l3=l3

`known`: a made problem whose answer is known, solved by `Vec2VecTrainer` from random weights, beside games that are broken
on purpose. `losses`: one linear map from `model_cards/SOURCE-TARGET`, whole and turned away from its place, moved by one
loss at a time, or as a rotation by plans between batches; pairs only measure. `random`: the `paper` preset from random
weights on real vectors.

Each run adds one line of JSON to `--output`; runs whose line is there are not made again. The table of all lines is printed.
"""

import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from matplotlib import pyplot
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HfArgumentParser, TrainerCallback

from hf_vec2vec import Vec2VecConfig, Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments
from hf_vec2vec.alignment import fit_statistics
from hf_vec2vec.alignment.neighbours import mutual_covariance
from hf_vec2vec.alignment.procrustes import polar_factor
from hf_vec2vec.data import load_embeddings, vectors
from hf_vec2vec.metrics.translation import rank_metrics
from hf_vec2vec.training import losses
from hf_vec2vec.training.arguments import OF_GAMES, PRESETS
from hf_vec2vec.training.distances import (
    energy_distance,
    hub_statistics,
    mmd,
    sinkhorn_divergence,
    sliced_wasserstein,
)

RIGID = ", a rotation"  # ends the name of a run whose map stays one
CARDS = Path(__file__).parent.parent / "model_cards"
STARTS = {f"rank {rank}": rank for rank in (50, 300, 1000)}


@dataclass
class Arguments:
    """What is run."""

    study: str = field(metadata={"help": "Which.", "choices": ["known", "losses", "random"]})
    output: str = field(metadata={"help": "JSON lines of runs."})
    space: list[str] = field(default_factory=list, metadata={"help": "NAME=FILE of each space; row i is the same text."})
    seeds: int = field(default=5, metadata={"help": "Of each run."})
    updates: int = field(default=200, metadata={"help": "Of the map in `losses`; both sides' in `random`."})
    runs: list[str] | None = field(default=None, metadata={"help": "Names of runs; default: all."})
    starts: list[str] | None = field(default=None, metadata={"help": "Names of starts in `losses`; default: all."})
    bf16: bool = field(default=False, metadata={"help": "`random` with an autocast: half the time on some processors."})
    source_rows: str | None = field(
        default=None, metadata={"help": "In `losses`: the source encoder's vectors of other texts, in place of its rows."}
    )
    held_out: int = field(default=2048, metadata={"help": "Last rows of the files, which measure."})
    picture: str | None = field(default=None, metadata={"help": "File for a picture of centred cosines."})


# The known problem


def known_problem(seed: int, clusters: int, dim: int = 16, rows: int = 2000) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Rows of two spaces that share no row, and held-out pairs: a mixture with 3 % of noise, turned by a secret rotation.

    Most rows lie around one centre; each other centre holds 12 % of them, in a direction of its own, .7 times as far as the
    one before. So the mixture is skewed along each direction, which says where its positive side is.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    directions, rotation = (torch.linalg.qr(normal(dim, dim))[0] for _ in range(2))
    others = directions[: clusters - 1] * 4 * 0.7 ** torch.arange(clusters - 1)[:, None]
    centres = torch.cat([torch.zeros(1, dim), others])
    weights = torch.tensor([1.12 - 0.12 * clusters] + [0.12] * (clusters - 1))
    spread = (weights @ centres.square() - (weights @ centres).square()).mean().sqrt()

    def draw(count: int) -> Tensor:
        chosen = torch.multinomial(weights, count, replacement=True, generator=generator)
        return centres[chosen] + 0.03 * spread * normal(count, dim)

    def other_side(drawn: Tensor) -> Tensor:
        return drawn @ rotation + 0.03 * spread * normal(*drawn.shape)

    held_out = draw(500)
    return {"a": draw(rows), "b": other_side(draw(rows))}, held_out, other_side(held_out)


def solve(seed: int, folder: str, clusters: int = 2, **arguments: Any) -> float:
    """Centred cosine, the mean of both ways, that the trainer reaches on the known problem from random weights."""
    rows, a, b = known_problem(seed, clusters)
    torch.manual_seed(seed)
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 16, "b": 16}, discriminator_hidden_dim=32, **LINEAR))
    for name, values in rows.items():
        mean_, scale = fit_statistics(values, False)
        model.normalizers[name].load_state_dict({"mean": mean_, "scale": scale})
    base = KNOWN if "objective" not in arguments else {k: v for k, v in KNOWN.items() if k not in OF_GAMES}
    args = Vec2VecTrainingArguments(folder, seed=seed, **QUIET | base | arguments)
    trainer = Vec2VecTrainer(model, args, rows)
    trainer.train()
    return mean(
        F.cosine_similarity(
            trainer.translator.translate(x, source=s, target=t) - trainer.translator.normalizer(t).mean,
            y - trainer.translator.normalizer(t).mean,
        )
        .mean()
        .item()
        for s, t, x, y in (("a", "b", a, b), ("b", "a", b, a))
    )


LINEAR = {"adapter_layers": 0, "backbone_layers": 0}
QUIET = {"save_strategy": "no", "report_to": "none", "disable_tqdm": True, "logging_steps": 1000, "use_cpu": True}
KNOWN = PRESETS["r3gan"] | {
    "per_device_train_batch_size": 64,
    "max_steps": 1000,
    "learning_rate": 3e-3,
    "discriminator_learning_rate": 3e-3,
    "ema_decay": 0.98,
    "latent_adversarial_weight": 0.0,
}


def known_runs(args: Arguments) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """The r3gan game, other games, and broken ones, by seed."""
    games: dict[str, dict[str, Any]] = {
        "r3gan": {},
        "broken: sign flipped": {},
        "broken: discriminators frozen": {"discriminator_learning_rate": 0.0},
        "broken: translator frozen": {"learning_rate": 0.0},
        "least squares": {"gan_loss": "least_squares", "r1_penalty_weight": 0.0, "r2_penalty_weight": 0.0},
        "r3gan, three clusters": {"clusters": 3},
        "r3gan, four clusters": {"clusters": 4},
    }
    for objective in ("energy", "sliced_wasserstein", "mmd", "sinkhorn"):  # as many updates of the translator
        for clusters, more in ((2, ""), (3, ", three clusters"), (4, ", four clusters")):
            games[objective + more] = {"objective": objective, "clusters": clusters, "max_steps": 500}
    for name, changes in games.items():
        for seed in range(args.seeds):

            def run(name: str = name, changes: dict = changes, seed: int = seed) -> dict:
                right = losses.generator_loss
                if name == "broken: sign flipped":
                    losses.generator_loss = lambda *given: -right(*given)
                try:
                    return {"centred_cosine": solve(seed, f"{args.output}.folder", **changes)}
                finally:
                    losses.generator_loss = right

            yield {"study": "known", "run": name, "seed": seed}, run


# Losses on distributions


class Game:
    """A discriminator beside one map, trained a step before each of the map's: relativistic, with both penalties."""

    def __init__(self, project: Tensor, kind: losses.GanLoss, penalty: float):
        self.project, self.kind, self.penalty = project, kind, penalty
        dim, width = project.shape[1], 256
        layers: list[nn.Module] = [nn.Linear(dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)]
        self.judge = nn.Sequential(*layers)
        self.optimizer = torch.optim.Adam(self.judge.parameters(), lr=1e-3, betas=(0.0, 0.9))

    def __call__(self, fake: Tensor, real: Tensor) -> Tensor:
        seen = [(rows.detach() @ self.project).requires_grad_() for rows in (real, fake)]
        r, f = (self.judge(rows).squeeze(1) for rows in seen)
        loss = losses.discriminator_loss(r, f, self.kind)
        if self.penalty:
            for out, rows in zip((r, f), seen, strict=True):
                loss = loss + self.penalty * losses.gradient_penalty(out, rows)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        f, r = self.judge(fake @ self.project).squeeze(1), self.judge(real @ self.project).squeeze(1).detach()
        return losses.generator_loss(f, self.kind, r)


def loss_runs(args: Arguments) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """Every loss from every start, by seed."""
    a, b = (vectors(load_embeddings(entry.split("=", 1)[1]), "space").float() for entry in args.space)
    source, target = (entry.split("=", 1)[0] for entry in args.space)
    model = Vec2VecModel.from_pretrained(CARDS / f"{source}-{target}", dtype=torch.float32)
    a, b = model.normalizer(source)(a), model.normalizer(target)(b)
    study = f"losses, {source} to {target}" + (f", source rows of {args.source_rows}" if args.source_rows else "")
    n = (len(a) - args.held_out) // 2
    x, y, pool = a[:n], b[n : 2 * n], (a[-args.held_out :], b[-args.held_out :])
    if args.source_rows:
        x = model.normalizer(source)(vectors(load_embeddings(args.source_rows), source)[:n].float())
    with torch.no_grad():
        whole = model.mapped(torch.eye(a.shape[1]), source, target, "full")
    variances, directions = torch.linalg.eigh(y.T @ y / n)
    everywhere, widest = torch.eye(b.shape[1]), directions[:, -64:] / variances[-64:].sqrt()
    shuffled = torch.randperm(b.shape[1], generator=torch.Generator().manual_seed(0))
    kinds: dict[str, Callable[[], Callable[[Tensor, Tensor], Tensor] | None]] = {
        "none": lambda: None,
        "energy distance": lambda: energy_distance,
        f"energy distance{RIGID}": lambda: energy_distance,
        "relativistic, R1 and R2": lambda: Game(everywhere, "relativistic", 0.5),
        "relativistic, R1 and R2, 64 directions": lambda: Game(widest, "relativistic", 0.5),
        "least squares": lambda: Game(everywhere, "least_squares", 0.0),
        "energy distance, shuffled targets": lambda: lambda fake, real: energy_distance(fake, real[:, shuffled]),
        "sliced Wasserstein": lambda: sliced_wasserstein,
        f"sliced Wasserstein{RIGID}": lambda: sliced_wasserstein,
        "MMD": lambda: mmd,
        "Sinkhorn divergence": lambda: sinkhorn_divergence,
        "hub statistics": lambda: hub_statistics,
    }
    paired = polar_factor(F.normalize(a[:n], dim=1).T @ F.normalize(b[:n], dim=1))
    yield (
        {"study": study, "run": "paired Procrustes", "start": "pairs", "seed": 0, "updates": 0},
        lambda: figures(pool[0] @ paired, pool[1]),
    )
    for seed in range(args.seeds):
        for start in args.starts or [*STARTS, "finished"]:
            weight = turned(whole, *pool, STARTS[start], seed) if start in STARTS else whole
            for kind, step in (("plans", balanced), ("mutual neighbours", mutual)):

                def climbed(step: Callable = step, weight: Tensor = weight, seed: int = seed) -> dict:
                    torch.manual_seed(seed)
                    return figures(pool[0] @ climb(weight, x, y, step, args.updates), pool[1])

                name = f"{kind}{RIGID}"
                yield {"study": study, "run": name, "start": start, "seed": seed, "updates": args.updates}, climbed
            for share in (0.1, 0.3, 0.5):

                def transport(share: float = share, weight: Tensor = weight) -> dict:
                    return figures(geodesic(x @ weight, y, share)(pool[0] @ weight), pool[1])

                yield (
                    {"study": study, "run": f"transport, a = {share}", "start": start, "seed": seed, "updates": 0},
                    transport,
                )
            for name, make in kinds.items():

                def run(name: str = name, make: Callable = make, weight: Tensor = weight, seed: int = seed) -> dict:
                    torch.manual_seed(seed)
                    rigid = name.endswith(RIGID)
                    return figures(pool[0] @ moved(weight, x, y, make(), args.updates, rigid=rigid), pool[1])

                yield {"study": study, "run": name, "start": start, "seed": seed, "updates": args.updates}, run


def turned(weight: Tensor, source: Tensor, target: Tensor, rank: float, seed: int) -> Tensor:
    """The map followed by a rotation between none and a random one, until the mean rank in the pool is about `rank`."""
    generator = torch.Generator().manual_seed(seed)
    dim = weight.shape[1]
    random = torch.linalg.qr(torch.randn(dim, dim, generator=generator))[0]
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        mixed = weight @ polar_factor((1 - middle) * torch.eye(dim) + middle * random)
        found = rank_metrics(source @ mixed, target)["mean_rank"]
        low, high = (low, middle) if found > rank else (middle, high)
    return mixed


def moved(
    weight: Tensor, x: Tensor, y: Tensor, loss: Callable | None, updates: int, batch: int = 512, rigid: bool = False
) -> Tensor:
    """The map after so many updates with Adam on batches of unpaired rows; the rate falls to a tenth, half a cosine.

    `rigid`: after each update the map is the nearest rotation, times a number.
    """
    weight = weight.clone().requires_grad_()
    if loss is None:
        return weight.detach()
    optimizer = torch.optim.Adam([weight], lr=1e-3, betas=(0.0, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates, eta_min=1e-4)
    for _ in range(updates):
        rows, real = x[torch.randint(len(x), (batch,))], y[torch.randint(len(y), (batch,))]
        optimizer.zero_grad()
        loss(rows @ weight, real).backward()
        optimizer.step()
        schedule.step()
        if rigid:
            with torch.no_grad():
                weight.copy_(polar_factor(weight) * torch.linalg.svdvals(weight).mean())
    return weight.detach()


def climb(weight: Tensor, x: Tensor, y: Tensor, step: Callable, updates: int, batch: int = 2000) -> Tensor:
    """The nearest rotation after so many steps on batches of unpaired rows, each half of the way to what the batch says."""
    x, y, rotation = F.normalize(x, dim=1), F.normalize(y, dim=1), polar_factor(weight)
    covariance = torch.zeros_like(rotation)
    for _ in range(updates):
        found = step(x[torch.randperm(len(x))[:batch]], y[torch.randperm(len(y))[:batch]], rotation)
        covariance = (covariance + found / found.norm()) / 2
        rotation = polar_factor(covariance)
    return rotation


def balanced(a: Tensor, b: Tensor, rotation: Tensor, entropy: float = 0.03, passes: int = 10) -> Tensor:
    """Cross-covariance under a transport plan between two batches, in which all rows have the same share.

    Source: Grave, Joulin and Berthet, "Unsupervised alignment of embeddings with Wasserstein Procrustes", 2019, with the
    plan of Cuturi, "Sinkhorn distances", 2013.
    """
    plan = (a @ rotation @ b.T).sub_(1).div_(entropy).exp_()
    columns = torch.ones(len(b))
    for _ in range(passes):
        rows = 1 / (plan @ columns)
        columns = 1 / (rows @ plan)
    return (a * rows[:, None]).T @ (plan @ (b * columns[:, None]))


def mutual(a: Tensor, b: Tensor, rotation: Tensor) -> Tensor:
    """Cross-covariance over mutual neighbours, as the alignment climbs."""
    return mutual_covariance(a, b, rotation, 10)


def geodesic(fake: Tensor, real: Tensor, share: float) -> Callable[[Tensor], Tensor]:
    """Translations moved by `share` of the optimal transport between two Gaussians. Source: Takatsu, 2011."""

    def root(matrix: Tensor, power: float) -> Tensor:
        values, directions = torch.linalg.eigh(matrix)
        return directions * values.clamp_min(1e-6 * values[-1]) ** power @ directions.T

    middle, goal = fake.mean(0), real.mean(0)
    f, r = (rows.T.cov() for rows in (fake, real))
    half, inverse = root(f, 0.5), root(f, -0.5)
    matrix = inverse @ root(half @ r @ half, 0.5) @ inverse
    return lambda rows: (1 - share) * rows + share * (goal + (rows - middle) @ matrix)


def figures(translated: Tensor, truth: Tensor) -> dict:
    """Of held-out pairs, in normalised coordinates: cosine, ranks, and how uneven the rows are as neighbours."""
    found = rank_metrics(translated, truth)
    cosines = F.normalize(translated, dim=1) @ F.normalize(truth, dim=1).T
    asked = torch.bincount(cosines.topk(10, dim=1).indices.flatten(), minlength=len(truth)).float()
    skew = ((asked - asked.mean()) / asked.std()).pow(3).mean().item()
    kept = {name: found[name] for name in ("top1", "reverse_top1", "mean_rank")}
    return {"centred_cosine": cosines.diagonal().mean().item()} | kept | {"hub_skewness": skew}


# The published game from random weights


def random_runs(args: Arguments) -> Iterator[tuple[dict, Callable[[], dict]]]:
    """The curve of the `paper` preset; checkpoints lie beside the output, a stopped run goes on from the last."""
    files = dict(entry.split("=", 1) for entry in args.space)
    (source, a), (target, b) = ((name, vectors(load_embeddings(file), name).float()) for name, file in files.items())
    n = (len(a) - args.held_out) // 2
    for seed in range(args.seeds):

        def run(seed: int = seed) -> dict:
            generator = torch.Generator().manual_seed(1000 + seed)
            rotated = b @ torch.linalg.qr(torch.randn(b.shape[1], b.shape[1], generator=generator))[0]
            rows = {source: a[:n], target: rotated[n : 2 * n]}
            torch.manual_seed(seed)
            model = Vec2VecModel(Vec2VecConfig.paper({name: values.shape[1] for name, values in rows.items()}))
            for name, values in rows.items():
                center, scale = fit_statistics(values, False)
                model.normalizers[name].load_state_dict({"mean": center, "scale": scale})
            folder = Path(f"{args.output}.{source}-{target}-{seed}")
            saving = {"save_strategy": "steps", "save_steps": 500, "save_total_limit": 1, "disable_tqdm": False}
            settings = QUIET | PRESETS["paper"] | saving | {"max_steps": args.updates, "bf16": args.bf16}
            trainer = Vec2VecTrainer(model, Vec2VecTrainingArguments(str(folder), seed=seed, **settings), rows)
            held_out, curve = (a[-args.held_out :], rotated[-args.held_out :]), folder / "curve.jsonl"

            class Measure(TrainerCallback):
                def on_step_end(self, arguments, state, control, **kwargs):
                    if state.global_step % 500 == 0:
                        translator, mean_ = trainer.translator, trainer.translator.normalizer(target).mean
                        translated = translator.translate(held_out[0], source=source, target=target)
                        found = {"step": state.global_step} | figures(translated - mean_, held_out[1] - mean_)
                        with open(curve, "a") as lines:
                            lines.write(json.dumps(found) + "\n")

            trainer.add_callback(Measure())
            trainer.train(resume_from_checkpoint=True if list(folder.glob("checkpoint-*")) else None)
            points = {line["step"]: line for line in map(json.loads, curve.read_text().splitlines())}
            return points[max(points)] | {"curve": list(points.values())}

        yield {"study": "random", "run": f"{source} to {target}, {args.updates} steps", "seed": seed}, run


STUDIES = {"known": known_runs, "losses": loss_runs, "random": random_runs}


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    output = Path(args.output)
    output.parent.mkdir(parents=True, exist_ok=True)
    for job, run in STUDIES[args.study](args):
        if args.runs and job["run"] not in args.runs or any(job.items() <= line.items() for line in lines_of(output)):
            continue
        started = time.process_time()
        found = run()
        with open(output, "a") as file:
            file.write(json.dumps(job | found | {"cpu_seconds": round(time.process_time() - started, 1)}) + "\n")
    print(as_markdown(lines_of(output)))
    if args.picture:
        draw(lines_of(output), args.picture)


def lines_of(output: Path) -> list[dict]:
    """What has been run."""
    return [json.loads(line) for line in output.read_text().splitlines()] if output.exists() else []


def as_markdown(lines: list[dict]) -> str:
    """A line a run and start: mean and standard error over seeds."""
    names = ["centred_cosine", "top1", "reverse_top1", "mean_rank", "hub_skewness"]
    names = [name for name in names if name in lines[0]]
    groups = defaultdict(list)
    for line in lines:
        groups[line["study"], line["run"], line.get("start", "random")].append(line)
    table = [
        "| study | run | start | seeds | " + " | ".join(names) + " |",
        "| --- | --- | --- | ---: |" + " ---: |" * len(names),
    ]
    for (study, name, start), found in groups.items():
        cells = []
        for figure in names:
            values, places = [line[figure] for line in found], 1 if figure in ("mean_rank", "hub_skewness") else 3
            error = f" ± {stdev(values) / len(values) ** 0.5:.{places}f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.{places}f}{error}")
        table.append(f"| {study} | {name} | {start} | {len(found)} | " + " | ".join(cells) + " |")
    return "\n".join(table)


def draw(lines: list[dict], file: str) -> None:
    """A dot a run: the centred cosine that it came to."""
    names = list(dict.fromkeys(line["run"] for line in reversed(lines)))
    figure, axis = pyplot.subplots(figsize=(7, 0.4 * len(names) + 1), layout="constrained")
    axis.axvline(0.0, color="grey", linewidth=0.8)
    axis.axvline(0.95, color="grey", linewidth=0.8, linestyle=":")
    axis.scatter([line["centred_cosine"] for line in lines], [names.index(line["run"]) for line in lines], alpha=0.6)
    axis.set(yticks=range(len(names)), yticklabels=names, xlabel="centred cosine on held-out pairs", xlim=(-1, 1.05))
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    main()
