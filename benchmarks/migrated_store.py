"""Does a translated store answer questions? Beside the old store, and beside embedding all of it again.

    python benchmarks/migrated_store.py --folder vectors --pairs minilm:l3 --questions nq squad --output store
    python benchmarks/migrated_store.py --output store --table

The folder holds, for each encoder, `passages_ENCODER.npy` `(n, d)`, and for each set of questions `SET_ENCODER.npy`
`(q, d)`; `SET_gold.npy` `(q,)` says which passage answers each question; `may_train.npy` lists passages whose texts answer
none. A pair is OLD:NEW. The store holds all passages by the old encoder. A seed cuts the passages that may train in halves:
the one is known by the old encoder alone, the other by the new one, so that no text is on both sides; and turns the new
space by a secret rotation. Figures of answers: nDCG@10 and the mean reciprocal rank of the right passage among all;
recall@10 of what the re-embedded store answers, and of what the old one does. Translators and results are kept in the
output folder: a run that was interrupted goes on where it stopped.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

import numpy as np
import torch
from matrix import secret_rotation
from torch import Tensor
from torch.nn.functional import normalize
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, align
from hf_vec2vec.alignment.procrustes import paired_rotation
from hf_vec2vec.alignment.regression import ridge

TOP = 10
BLOCK = 1000  # questions at a time
PENALTY = 0.01  # of the regression, in mean variances
FIGURES = ("ndcg", "mrr", "of_new", "of_old")


@dataclass
class StoreArguments:
    """What is run, and where results go."""

    output: str = field(metadata={"help": "Folder of the results."})
    folder: str | None = field(default=None, metadata={"help": "Folder of the vectors."})
    pairs: list[str] = field(default_factory=list, metadata={"help": "OLD:NEW, names of encoders."})
    questions: list[str] = field(default_factory=lambda: ["nq"], metadata={"help": "Sets of questions."})
    seeds: list[int] = field(default_factory=lambda: [0], metadata={"help": "Of halves, rotation and alignment."})
    table: bool = field(default=False, metadata={"help": "Print the table of what is there; run nothing."})


def main() -> None:
    (args,) = HfArgumentParser(StoreArguments).parse_args_into_dataclasses()
    results = Path(args.output) / "results.jsonl"
    results.parent.mkdir(parents=True, exist_ok=True)
    found = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    if args.table:
        print(table(found))
        return
    if args.folder is None:
        raise SystemExit("`--folder` is missing: where the vectors are.")
    torch.set_num_threads(1)
    done = {(row["pair"], row["seed"]) for row in found}
    with results.open("a", encoding="utf-8") as file:
        for pair in args.pairs:
            for seed in args.seeds:
                if (pair, seed) not in done:
                    for row in run(args, pair, seed):
                        print(json.dumps(row), flush=True)
                        file.write(json.dumps(row) + "\n")
                        file.flush()


def run(args: StoreArguments, pair: str, seed: int) -> list[dict]:
    """Align one pair, translate its store, and ask all ways there are; a row for each set of questions and way."""
    assert args.folder is not None
    folder, made = Path(args.folder), Path(args.output) / f"{pair.replace(':', '-')}-{seed}"
    old_name, new_name = pair.split(":")
    old, new = load(folder / f"passages_{old_name}.npy"), load(folder / f"passages_{new_name}.npy")
    secret = secret_rotation(new.shape[1], seed)
    new = new @ secret
    order = np.random.default_rng(seed).permutation(np.load(folder / "may_train.npy"))
    by_old, by_new = order[: len(order) // 2], order[len(order) // 2 :]
    model, facts = translator(made, old[by_old], new[by_new], seed)
    begin = time.process_time()
    translated = model.translate(old, source="old", target="new", map="full")
    rate = len(old) / (time.process_time() - begin)
    facts |= {"pair": pair, "seed": seed, "passages": len(old), "train_rows": len(by_old), "rows_a_second": round(rate)}
    native = torch.from_numpy(np.random.default_rng(seed).random(len(old)) < 0.5)
    ways = {
        "old questions, old store": lambda asked: (asked[0], old),
        "new questions, re-embedded store": lambda asked: (asked[1], new),
        "new questions, translated store": lambda asked: (asked[1], translated),
        "new questions, store by the linear map": lambda asked: (
            asked[1],
            model.translate(old, source="old", target="new", map="linear"),
        ),
        "new questions, store by a paired rotation": lambda asked: (asked[1], rotated(old, new, by_old)),
        "new questions, store by a paired regression": lambda asked: (asked[1], regressed(old, new, by_old)),
        "translated questions, old store": lambda asked: (
            model.translate(asked[1], source="new", target="old", map="linear"),
            old,
        ),
        "new questions, mixed store": lambda asked: (asked[1], torch.where(native[:, None], new, normalize(translated))),
        "new questions, old store cut to fit": lambda asked: (asked[1], fitted(old, new.shape[1])),
    }
    rows = []
    for name in args.questions:
        gold = torch.from_numpy(np.load(folder / f"{name}_gold.npy"))
        asked = load(folder / f"{name}_{old_name}.npy"), load(folder / f"{name}_{new_name}.npy") @ secret
        tops = {way: answers(*of(asked), gold) for way, of in ways.items()}
        of_old, of_new = tops["old questions, old store"][0], tops["new questions, re-embedded store"][0]
        for way, (top, ranks) in tops.items():
            figures = {
                "ndcg": torch.where(ranks < TOP, 1 / torch.log2(ranks + 2.0), 0.0).mean().item(),
                "mrr": (1 / (ranks + 1.0)).mean().item(),
                "of_new": shared(top, of_new),
                "of_old": shared(top, of_old),
            }
            if "mixed" in way:
                figures["native_share"] = native[top].float().mean().item()
            rows.append(facts | {"questions": name, "way": way} | {key: round(value, 4) for key, value in figures.items()})
    return rows


def translator(folder: Path, source: Tensor, target: Tensor, seed: int) -> tuple[Vec2VecModel, dict]:
    """Between two clouds without pairs, made once; and its verdict."""
    if not (folder / "facts.json").exists():
        begin = time.process_time()
        found = align(source, target, source_name="old", target_name="new", seed=seed, progress=False)
        assert found.report is not None
        Vec2VecModel.from_alignment(found, allow_not_aligned=True).save_pretrained(folder)
        facts = {"verdict": found.report.verdict, "align_seconds": round(time.process_time() - begin, 1)}
        (folder / "facts.json").write_text(json.dumps(facts))
    return Vec2VecModel.from_pretrained(folder), json.loads((folder / "facts.json").read_text())


def load(file: Path) -> Tensor:
    """Rows of norm 1."""
    return normalize(torch.from_numpy(np.load(file)).float(), dim=1)


def rotated(old: Tensor, new: Tensor, pairs: np.ndarray) -> Tensor:
    """The old store under the best rotation that can be had with so many pairs."""
    mean_old, mean_new = old[pairs].mean(0), new[pairs].mean(0)
    return (old - mean_old) @ paired_rotation(old[pairs] - mean_old, new[pairs] - mean_new) + mean_new


def regressed(old: Tensor, new: Tensor, pairs: np.ndarray) -> Tensor:
    """The old store by ridge regression on so many pairs."""
    mean_old, mean_new = old[pairs].mean(0), new[pairs].mean(0)
    return (old - mean_old) @ ridge(old[pairs] - mean_old, new[pairs] - mean_new, PENALTY) + mean_new


def fitted(rows: Tensor, dim: int) -> Tensor:
    """Rows cut, or filled up with zeros, to `dim` numbers: what no translator gives."""
    return torch.nn.functional.pad(rows, (0, max(0, dim - rows.shape[1])))[:, :dim]


def answers(questions: Tensor, store: Tensor, gold: Tensor) -> tuple[Tensor, Tensor]:
    """The `TOP` nearest passages of each question `(q, TOP)`, and the rank of the right one, from 0 `(q,)`."""
    store = normalize(store, dim=1)
    tops, ranks = [], []
    for asked, right in zip(normalize(questions, dim=1).split(BLOCK), gold.split(BLOCK), strict=True):
        cosines = asked @ store.T
        tops.append(cosines.topk(TOP)[1])
        ranks.append((cosines > cosines.gather(1, right[:, None])).sum(1))
    return torch.cat(tops), torch.cat(ranks)


def shared(top: Tensor, other: Tensor) -> float:
    """Share of the one list that stands in the other."""
    return (top[:, :, None] == other[:, None, :]).any(2).float().mean().item()


def table(rows: list[dict]) -> str:
    """Markdown, means over seeds."""
    head = "| pair | questions | seeds | asked | nDCG@10 | MRR | of the re-embedded top 10 | of the old top 10 |"
    return "\n".join([head, "| --- | --- | ---: | --- | ---: | ---: | ---: | ---: |", *lines(rows)])


def lines(rows: list[dict]) -> Iterator[str]:
    for pair, questions, way in dict.fromkeys((row["pair"], row["questions"], row["way"]) for row in rows):
        same = [row for row in rows if (row["pair"], row["questions"], row["way"]) == (pair, questions, way)]
        figures = " | ".join(f"{mean(row[name] for row in same):.3f}" for name in FIGURES)
        share = f" ({mean(row['native_share'] for row in same):.0%} of them new)" if "native_share" in same[0] else ""
        yield f"| {pair} | {questions} | {len(same)} | {way}{share} | {figures} |"


if __name__ == "__main__":
    main()
