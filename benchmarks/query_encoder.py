"""A small encoder of queries for an index that exists: starts × pairs × students, frozen and trained.

    python benchmarks/query_encoder.py --output OUT --folder FOLDER --questions nq squad --train nq_train squad_train \
        --routes l3:minilm --models l3=paraphrase-MiniLM-L3-v2 --train_texts nq_train.parquet squad_train.parquet \
        --question_texts nq.parquet squad.parquet --arms frozen joint
    python benchmarks/query_encoder.py --output OUT --report

The folder holds, for each encoder, `passages_ENCODER.npy` `(n, d)`, and for each set of questions `SET_ENCODER.npy`;
`SET_gold.npy` says which passage answers each question; `may_train.npy` lists passages whose texts answer none. A route is
STUDENT:TEACHER: the index holds all passages by the teacher. The passages that may train are cut in halves: the student
knows the one, the index gives the other, and a translator is made of them without a pair, in a space of the teacher that
a secret rotation has turned. Pairs are drawn from the sets of `--train`, other questions, whose vectors by the teacher are
taken as known. (Files, halves and rotations are those of `migrated_store.py`, whose translators serve here, too.)

Arms, each a line of the picture:

- teacher, own index: what the teacher finds in its index, and the untouched student in an index of its own, plainly and
  whitened;
- translator; plain ridge: no training, the student as it is; the translator alone, and a regression on p pairs;
- ridge; ours: the same regression, and the translator bent by p pairs, each less the index's mean in the end;
- ridge, documents; ours, documents: the pairs are passages whose texts are known, not questions;
- refined: the translator, bent without pairs towards what the training questions find in the index, less the mean;
- mixed: the other way round. Half of an index by the student, translated, beside the other half by the teacher, asked
  by the teacher: the share of translated rows among the first ten, plainly and after a calibration without pairs;
- random, ridge, ours + training: the same starts, then student and projection trained on p pairs; with p = 0, `ours` on
  targets guessed from the index.

Every run is a cell with a JSON file of its own: a benchmark that was interrupted goes on where it stopped.
"""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from statistics import mean, median

import numpy as np
import torch
from matrix import secret_rotation
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.data import load_texts
from hf_vec2vec.data.staging import staged_file
from hf_vec2vec.distillation.query_encoder import query_encoder
from hf_vec2vec.distillation.query_starts import (
    Projection,
    fitted_projection,
    off_the_middle,
    random_projection,
    translator_projection,
)
from hf_vec2vec.distillation.query_students import open_student, opening_prompt
from hf_vec2vec.distillation.query_training import QueryTraining, train_query_encoder
from hf_vec2vec.distillation.store_targets import confident_targets
from hf_vec2vec.metrics.hubness import hub_penalties
from hf_vec2vec.metrics.mixed_index import fair_length

TOP = 10
LINKS = 32  # of a row in the graph index
EFFORTS = (10, 20, 40, 80, 160)  # `efSearch`: rows that a search keeps in sight
SAMPLE = 1000  # questions without answers that a calibration looks at
BLOCK = 256  # questions at a time
SEED = 0  # of halves, rotation and alignment
FROZEN = ("translator", "plain ridge", "refined", "ridge", "ours", "ridge, documents", "ours, documents")
JOINT = ("random + training", "ridge + training", "ours + training")
BOUNDS = ("teacher", "own index", "own index, whitened")
FLOOR = 1e-3  # of variances that are scaled to 1, by the largest
MIXED = ("mixed", "mixed, one mean", "mixed, fewer hubs", "mixed, lengths")
COLOURS = {"translator": "C0", "ours": "C0", "ridge": "C1", "random": "C2", "refined": "C4", "plain": "C3"}


@dataclass
class QueryArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    folder: str | None = field(default=None, metadata={"help": "Folder of the vectors."})
    questions: list[str] = field(default_factory=list, metadata={"help": "Sets that ask."})
    train: list[str] = field(default_factory=list, metadata={"help": "Sets that pairs are drawn from."})
    routes: list[str] = field(default_factory=list, metadata={"help": "STUDENT:TEACHER."})
    translators: str | None = field(default=None, metadata={"help": "Folder of translators; default: in `output`."})
    arms: list[str] = field(
        default_factory=lambda: ["frozen"], metadata={"help": "frozen, joint, mixed, hnsw, or single arms."}
    )
    pairs: list[int] = field(default_factory=lambda: [0, 10, 50, 200, 1000, 3200, 10**9])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2, 3, 4], metadata={"help": "Draws of pairs."})
    most_questions: int = field(default=1000, metadata={"help": "Of a set, drawn once."})
    models: list[str] = field(default_factory=list, metadata={"help": "STUDENT=MODEL or STUDENT=MODEL@LAYER, for training."})
    train_texts: list[str] = field(default_factory=list, metadata={"help": "A file for each set of `train`."})
    question_texts: list[str] = field(default_factory=list, metadata={"help": "A file for each set of `questions`."})
    column: str = field(default="question", metadata={"help": "Of the texts in these files."})
    trained: str = field(default="lora", metadata={"help": "lora or whole."})
    loss: str = field(default="squared_error", metadata={"help": "Of training."})
    steps: int = field(default=2000, metadata={"help": "Of training."})
    batch_size: int = field(default=32, metadata={"help": "Of training."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Of training."})
    bf16: bool = field(default=False, metadata={"help": "Train in bfloat16."})
    projection_rate: float = field(default=0.3, metadata={"help": "Of training; a random start takes 1."})
    report: bool = field(default=False, metadata={"help": "Run nothing; write table and picture anew."})


class Route:
    """A student, a teacher, their vectors and what is known between them."""

    def __init__(self, args: QueryArguments, route: str):
        self.args, self.name = args, route
        self.student, self.teacher = route.split(":")
        self.secret = secret_rotation(self._stored("passages", self.teacher).shape[1], SEED)
        self.index = self.rows("passages", self.teacher)
        self.chosen = {name: self._chosen(name) for name in args.questions}
        self.gold = {
            name: torch.from_numpy(np.load(Path(args.folder or "") / f"{name}_gold.npy")) for name in args.questions
        }
        self.exact = {
            name: answers(self.questions(name, self.teacher), self.index, self.gold[name][self.chosen[name]])[0]
            for name in args.questions
        }
        self.pool = torch.cat([self.rows(name, self.student) for name in args.train])
        self.answers = torch.cat([self.rows(name, self.teacher) for name in args.train])
        projection = translator_projection(self._translator(), "old", "new")
        assert projection is not None  # linear for queries
        self.translator: Projection = projection

    def _stored(self, name: str, encoder: str) -> np.ndarray:
        return np.load(Path(self.args.folder or "") / f"{name}_{encoder}.npy", mmap_mode="r")

    def rows(self, name: str, encoder: str) -> Tensor:
        """Vectors of a set, norm 1; the teacher's are turned."""
        rows = F.normalize(torch.from_numpy(np.array(self._stored(name, encoder))).float(), dim=1)
        return rows @ self.secret if encoder == self.teacher else rows

    def _translator(self) -> Vec2VecModel:
        """Made once, of halves that share no text."""
        made = (
            Path(self.args.translators or Path(self.args.output) / "translators") / f"{self.student}-{self.teacher}-{SEED}"
        )
        if not (made / "config.json").exists():
            order = np.random.default_rng(SEED).permutation(np.load(Path(self.args.folder or "") / "may_train.npy"))
            half, begun = len(order) // 2, time.process_time()
            mine = self.rows("passages", self.student)[order[:half]]
            found = align(mine, self.index[order[half:]], source_name="old", target_name="new", seed=SEED, progress=False)
            print(f"{self.name}: {found.report}, {time.process_time() - begun:.0f} processor seconds", flush=True)
            Vec2VecModel.from_alignment(found, allow_not_aligned=True).save_pretrained(made)
        return Vec2VecModel.from_pretrained(made)

    def _chosen(self, name: str) -> Tensor:
        rows = len(self._stored(name, self.student))
        return torch.randperm(rows, generator=torch.Generator().manual_seed(0))[: self.args.most_questions]

    def questions(self, name: str, encoder: str) -> Tensor:
        """Vectors of the questions that ask."""
        return self.rows(name, encoder)[self.chosen[name]]

    def documents(self) -> tuple[Tensor, Tensor]:
        """Passages that may train, by student and teacher."""
        rows = np.load(Path(self.args.folder or "") / "may_train.npy")
        return self.rows("passages", self.student)[rows], self.index[rows]

    def draw(self, pairs: int, seed: int) -> Tensor:
        """Numbers of so many pairs."""
        return torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(seed))[:pairs]

    def judged(self, ask: Callable[[str], Tensor], index: Tensor | None = None) -> dict[str, dict[str, float]]:
        """Figures of what `ask` makes of each set of questions, in the teacher's index or another."""
        return {name: self._figures(name, ask(name), self.index if index is None else index) for name in self.args.questions}

    def _figures(self, name: str, queries: Tensor, index: Tensor) -> dict[str, float]:
        return self.scored(name, *answers(queries, index, self.gold[name][self.chosen[name]]))

    def scored(self, name: str, found: Tensor, ranks: Tensor) -> dict[str, float]:
        """Figures of the ten rows that each question finds, and of how many lie before the right one."""
        gold = self.gold[name][self.chosen[name]]
        kept = (found[:, :, None] == self.exact[name][:, None]).any(2).float().mean().item()
        known = gold >= 0
        hits = (found == gold[:, None])[known].float()
        discounts = 1 / torch.arange(2, TOP + 2).log2()
        reciprocal = (1 / (ranks[known] + 1.0)).mean().item()
        return {"recall": kept, "ndcg": (hits * discounts).sum(1).mean().item(), "mrr": reciprocal}


def answers(queries: Tensor, index: Tensor, gold: Tensor, penalty: Tensor | float = 0.0) -> tuple[Tensor, Tensor]:
    """Numbers of the nearest rows `(n, TOP)`, and how many lie before the right one `(n,)`."""
    found, ranks = [], []
    for block, right in zip(F.normalize(queries, dim=1).split(BLOCK), gold.split(BLOCK), strict=True):
        cosines = block @ index.T - penalty
        found.append(cosines.topk(TOP).indices)
        ranks.append((cosines > cosines.gather(1, right.clamp_min(0)[:, None])).sum(1))
    return torch.cat(found), torch.cat(ranks)


def frozen(route: Route, arm: str, pairs: int, seed: int) -> dict:
    """A cell whose student is as it was."""
    if arm == "teacher":
        return route.judged(lambda name: route.questions(name, route.teacher))
    if arm == "own index":
        return route.judged(lambda name: route.questions(name, route.student), route.rows("passages", route.student))
    if arm == "own index, whitened":
        rows = route.rows("passages", route.student)
        variances, directions = torch.linalg.eigh((rows - rows.mean(0)).T @ (rows - rows.mean(0)) / len(rows))
        scale = directions / variances.clamp_min(FLOOR * variances[-1]).sqrt()
        index = F.normalize((rows - rows.mean(0)) @ scale, dim=1)
        return route.judged(lambda name: (route.questions(name, route.student) - rows.mean(0)) @ scale, index)
    projection = start(route, arm.removeprefix("plain "), pairs, seed)
    if arm not in ("translator", "plain ridge"):
        projection = off_the_middle(projection, route.index)
    return route.judged(lambda name: projection(route.questions(name, route.student)))


def start(route: Route, arm: str, pairs: int, seed: int) -> Projection:
    """The projection of an arm before any training."""
    arm, _, documents = arm.partition(", ")
    pool, known = route.documents() if documents else (route.pool, route.answers)
    chosen = torch.randperm(len(pool), generator=torch.Generator().manual_seed(seed))[:pairs]
    if arm == "random":
        return random_projection(route.pool.shape[1], route.index.shape[1], seed)
    if arm == "refined":
        targets, kept = confident_targets(route.translator(route.pool), route.index)
        return fitted_projection(route.pool[kept], targets, route.index, route.translator)
    if arm == "translator" or not pairs:
        return route.translator
    return fitted_projection(pool[chosen], known[chosen], route.index, route.translator if arm == "ours" else None)


def mixed(route: Route, arm: str, seed: int) -> dict:
    """A cell of an index of two kinds of rows: figures of the teacher's questions, and the share of translated answers."""
    native = torch.rand(len(route.index), generator=torch.Generator().manual_seed(seed)) < 0.5
    translated = F.normalize(route.translator(route.rows("passages", route.student)), dim=1)
    if arm == "mixed, one mean":
        translated = F.normalize(translated - translated.mean(0) + route.index[native].mean(0), dim=1)
    index = torch.where(native[:, None], route.index, translated)
    if arm == "mixed, lengths":  # best cosines of some questions to either kind shall be alike
        asked = route.answers[route.draw(SAMPLE, seed)]
        length = fair_length(index[native], index[~native], asked, k=TOP)
        index = torch.where(native[:, None], index, length * index)
    penalty = torch.zeros(len(index))
    if arm == "mixed, fewer hubs":
        penalty = hub_penalties(index, route.answers[route.draw(SAMPLE, seed)])
    figures = {}
    for name in route.args.questions:
        gold = route.gold[name][route.chosen[name]]
        found, ranks = answers(route.questions(name, route.teacher), index, gold, penalty)
        share = (~native[found]).float().mean().item()
        figures[name] = route.scored(name, found, ranks) | {"translated": share}
    return figures


def joint(route: Route, arm: str, pairs: int, seed: int) -> dict:
    """A cell whose student is trained."""
    args, begun = route.args, time.process_time()
    kind = arm.partition(" ")[0]
    models = dict(entry.split("=") for entry in args.models)
    projection = start(route, kind, pairs, seed)
    model, _, layer = models[route.student].partition("@")
    opened = open_student(model, layer=int(layer) if layer else None)
    prompt = opening_prompt(opened)
    if layer:  # hidden states have lengths of hundreds; the projection was made for rows of norm 1, as all are here
        opened.append(Normalize())
    encoder = query_encoder(opened, projection, prompt=prompt)
    texts = texts_of(tuple(args.train_texts), args.column)
    if pairs:
        chosen = route.draw(pairs, seed)
        targets = route.answers[chosen]
    else:
        targets, chosen = confident_targets(projection(route.pool), route.index)
    training = QueryTraining(
        trained=args.trained,
        loss=args.loss,
        steps=args.steps,
        batch_size=args.batch_size,
        learning_rate=args.learning_rate,
        projection_rate=1.0 if kind == "random" else args.projection_rate,
        bf16=args.bf16,
        seed=seed,
    )
    train_query_encoder(encoder, [texts[i] for i in chosen.tolist()], targets, route.index, training, prompt=prompt)
    files = dict(zip(args.questions, args.question_texts, strict=True))

    student, dense = SentenceTransformer(modules=list(encoder)[:-2], device="cpu"), encoder[len(encoder) - 2].linear
    trained = Projection(dense.weight.detach().T, dense.bias.detach())
    asked = {name: texts_of((files[name],), args.column) for name in args.questions}
    rows = {
        name: student.encode(
            [asked[name][i] for i in route.chosen[name].tolist()],
            prompt=prompt,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
        for name in args.questions
    }
    length = torch.cat([trained(each) for each in rows.values()]).norm(dim=1).mean().item()
    settled = off_the_middle(trained, route.index, length)
    settings = {"trained": args.trained, "loss": args.loss, "steps": args.steps, "batch_size": args.batch_size}
    settings |= {"learning_rate": args.learning_rate, "projection_rate": training.projection_rate, "bf16": args.bf16}
    facts = {"settings": settings, "processor_seconds": time.process_time() - begun}
    return (
        route.judged(lambda name: settled(rows[name]))
        | {"not centred": route.judged(lambda name: trained(rows[name]))}
        | facts
    )


@cache
def texts_of(files: tuple[str, ...], column: str) -> list[str]:
    return [text for file in files for text in load_texts(file, column=column)]


def cells(args: QueryArguments) -> list[tuple[str, str, int, int]]:
    """Route, arm, pairs, seed of every cell, cheap ones first."""
    wanted = {
        name for arm in args.arms for name in {"frozen": BOUNDS + FROZEN, "joint": JOINT, "mixed": MIXED}.get(arm, (arm,))
    }
    if unknown := wanted - {*BOUNDS, *FROZEN, *JOINT, *MIXED, "hnsw"}:
        raise ValueError(
            f"`arms` must be of frozen, joint, mixed, {', '.join(BOUNDS + FROZEN + JOINT)}, got {sorted(unknown)[0]!r}."
        )
    listed = []
    for seed in args.seeds:
        for route in args.routes:
            for arm in (*BOUNDS, *FROZEN, *JOINT, *MIXED):
                once = arm in (*BOUNDS, *MIXED, "translator", "refined")
                needs_pairs = not once and arm not in ("ours", "ours + training")
                for pairs in [0] if once else args.pairs:
                    if arm not in wanted or (once and seed != args.seeds[0]) or (needs_pairs and not pairs):
                        continue
                    listed.append((route, arm, pairs, seed))
    return listed


def run(args: QueryArguments) -> None:
    """Every cell that is not there yet."""
    routes: dict[str, Route] = {}
    folder = Path(args.output) / "cells"
    for name, arm, pairs, seed in tqdm(cells(args), desc="cells"):
        file = folder / f"{name}_{arm}_{pairs}_{seed}.json".replace(":", "-").replace(" ", "-")
        if file.exists():
            continue
        route = routes[name] if name in routes else routes.setdefault(name, Route(args, name))
        if arm in MIXED:
            figures = mixed(route, arm, seed)
        else:
            figures = (joint if arm in JOINT else frozen)(route, arm, pairs, seed)
        shown = min(pairs, len(route.documents()[0] if "documents" in arm else route.pool))
        with staged_file(file) as partial:
            cell = {"route": name, "arm": arm, "pairs": shown, "seed": seed, "figures": figures}
            partial.write_text(json.dumps(cell, indent=2))


def graph(route: Route) -> None:
    """How far a graph index must be searched to find each query's own exact ten, to `hnsw.md`."""
    import faiss

    index = faiss.IndexHNSWFlat(route.index.shape[1], LINKS, faiss.METRIC_INNER_PRODUCT)
    index.add(route.index.numpy())
    name = route.args.questions[0]
    student, gold = route.questions(name, route.student), route.gold[name][route.chosen[name]]
    plain, settled = route.translator, off_the_middle(route.translator, route.index)
    asked = {"teacher": route.questions(name, route.teacher), "translator": plain(student), "ours": settled(student)}
    lines = ["| queries | " + " | ".join(f"{effort}" for effort in EFFORTS) + " |", "| --- |" + " ---: |" * len(EFFORTS)]
    for kind, rows in asked.items():
        exact, found = answers(rows, route.index, gold)[0], []
        for effort in EFFORTS:
            index.hnsw.efSearch = effort
            near = torch.from_numpy(index.search(F.normalize(rows, dim=1).numpy(), TOP)[1])
            found.append(f"{(near[:, :, None] == exact[:, None]).any(2).float().mean():.3f}".removeprefix("0"))
        lines.append(f"| {kind} | " + " | ".join(found) + " |")
    (Path(route.args.output) / "hnsw.md").write_text("\n".join(lines) + "\n")


def report(output: Path) -> None:
    """`table.md` and a picture a route, of all cells that are there."""
    found = [json.loads(file.read_text()) for file in sorted((output / "cells").glob("*.json"))]
    lines = []
    for route in sorted({cell["route"] for cell in found}):
        mine = [cell for cell in found if cell["route"] == route]
        sets = [name for name, figures in mine[0]["figures"].items() if isinstance(figures, dict) and "recall" in figures]
        lines += [
            f"\n{route}\n",
            "| arm | pairs | seeds | " + " | ".join(f"{s}: recall@10 | nDCG@10 | MRR" for s in sets) + " |",
        ]
        lines += ["| --- | ---: | ---: |" + " ---: |" * 3 * len(sets)]
        for arm in (*BOUNDS, *FROZEN, *JOINT):
            for pairs in sorted({cell["pairs"] for cell in mine if cell["arm"] == arm}):
                runs = [cell["figures"] for cell in mine if cell["arm"] == arm and cell["pairs"] == pairs]
                figures = (spread([r[s][name] for r in runs]) for s in sets for name in ("recall", "ndcg", "mrr"))
                lines.append(f"| {arm} | {pairs:,} | {len(runs)} | " + " | ".join(figures) + " |")
        lines += mixtures(mine, sets)
        picture(mine, sets, output / f"{route.replace(':', '-')}.png")
    (output / "table.md").write_text("\n".join(lines).strip() + "\n")
    print("\n".join(lines).strip())


def mixtures(found: list[dict], sets: list[str]) -> list[str]:
    """A table of the mixed indexes, if there are any."""
    runs = {arm: [cell["figures"] for cell in found if cell["arm"] == arm] for arm in MIXED}
    if not any(runs.values()):
        return []
    head = ["| index | " + " | ".join(f"{s}: translated among ten | recall@10 | nDCG@10" for s in sets) + " |"]
    names = [(s, figure) for s in sets for figure in ("translated", "recall", "ndcg")]
    body = [
        f"| {arm} | " + " | ".join(spread([run[s][figure] for run in each]) for s, figure in names) + " |"
        for arm, each in runs.items()
        if each
    ]
    return ["", *head, "| --- |" + " ---: |" * len(names), *body]


def spread(values: list[float]) -> str:
    """Median, and in brackets how far the seeds lie apart."""
    digits = f"{median(values):.3f}".removeprefix("0")
    return digits if len(values) == 1 else f"{digits} ({max(values) - min(values):.3f})".replace("(0", "(")


def picture(found: list[dict], sets: list[str], file: Path) -> None:
    """Recall against pairs, a line an arm; the mean over the sets of questions."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")

    def at(arm: str) -> dict[int, float]:
        values: dict[int, list[float]] = {}
        for cell in found:
            if cell["arm"] == arm:
                values.setdefault(cell["pairs"], []).append(mean(cell["figures"][s]["recall"] for s in sets))
        return {pairs: median(each) for pairs, each in sorted(values.items())}

    for arm in ("translator", "refined"):
        for level in at(arm).values():
            axes.axhline(level, color=COLOURS[arm], ls=":", label=f"{arm}, no pair")
    for arm in (*FROZEN, *JOINT):
        if arm in ("translator", "refined"):
            continue
        points = at(arm)
        trained = arm in JOINT
        if points:
            style = {
                "ls": ":" if "documents" in arm else "-" if trained else "--",
                "marker": "o" if trained else ".",
                "color": COLOURS[arm.partition(",")[0].partition(" ")[0]],
            }
            axes.plot(list(points), list(points.values()), label=arm, **style)
    axes.set_xscale("symlog", linthresh=10)
    axes.set(xlabel="pairs", ylabel="recall@10 of the teacher's ten", title=found[0]["route"].replace(":", " asks "))
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    pyplot.close(figure)


def main() -> None:
    (args,) = HfArgumentParser(QueryArguments).parse_args_into_dataclasses()
    if not args.report:
        missing = [name for name in ("folder", "questions", "train", "routes") if not getattr(args, name)]
        if missing:
            sys.exit(f"`{missing[0]}` must be given.")
        run(args)
        if "hnsw" in args.arms:
            graph(Route(args, args.routes[0]))
    report(Path(args.output))


if __name__ == "__main__":
    main()
