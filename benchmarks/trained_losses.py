"""Each loss of the trainer, left out and alone, and each objective, from a finished alignment and from a coarse one.

    python benchmarks/trained_losses.py --output trained.jsonl --space minilm=minilm wordllama=wordllama --bf16

The translator is that of `model_cards/SOURCE-TARGET`, both of its maps, trained by `Vec2VecTrainer` on unpaired rows. From a
coarse start the target's rows are turned, so that its translations have a mean rank of 50 or 300 in the pool. The rate is
constant; an update is one of the translator's, beside each of which a game makes one of its discriminators'. No checkpoint
is chosen: figures are of the last weights, on held-out pairs, which only measure.

Each run adds one line of JSON to `--output`; runs whose line is there are not made again. The table of all lines is printed.
"""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from adversarial import CARDS, QUIET, as_markdown, figures, lines_of, turned
from torch import Tensor
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments
from hf_vec2vec.data import load_embeddings, vectors
from hf_vec2vec.training.arguments import PRESETS

LOSSES = {
    "adversarial": "adversarial_weight",
    "latent adversarial": "latent_adversarial_weight",
    "reconstruction": "reconstruction_weight",
    "cycle": "cycle_weight",
    "structure": "vsp_weight",
}
STARTS = {"finished": None, "rank 50": 50.0, "rank 300": 300.0}


@dataclass
class Arguments:
    """What is run."""

    output: str = field(metadata={"help": "JSON lines of runs."})
    space: list[str] = field(metadata={"help": "NAME=FILE of each space; row i is the same text."})
    seeds: list[int] = field(default_factory=lambda: [0, 1], metadata={"help": "Of each run."})
    starts: list[str] = field(default_factory=lambda: ["finished", "rank 300"], metadata={"help": f"Of {list(STARTS)}."})
    runs: list[str] | None = field(default=None, metadata={"help": "Names of runs; default: all."})
    updates: int = field(default=5000, metadata={"help": "Of the translator."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Constant, of both sides."})
    batch_size: int = field(default=256, metadata={"help": "Rows a side."})
    bf16: bool = field(default=False, metadata={"help": "With an autocast."})
    held_out: int = field(default=2048, metadata={"help": "Last rows of the files, which measure."})


def runs() -> dict[str, dict[str, Any]]:
    """What each run changes of the trainer's defaults."""
    nothing = dict.fromkeys(LOSSES.values(), 0.0)
    found: dict[str, dict[str, Any]] = {"none": {}, "all": {}}
    found |= {f"without {name}": {weight: 0.0} for name, weight in LOSSES.items()}
    found |= {f"{name} alone": nothing | {weight: 1.0} for name, weight in LOSSES.items()}
    found |= {name: {"objective": name} for name in ("energy", "sliced_wasserstein", "mmd", "sinkhorn", "hubs")}
    found["energy, trust 10"] = {"objective": "energy", "trust_weight": 10.0}
    of_the_preset = ("gan_loss", "discriminator_norm", "r1_penalty_weight", "r2_penalty_weight", "penalty_decay")
    of_the_preset += ("adam_beta1", "adam_beta2", "adam_beta2_end", "ema_decay", "max_grad_norm")
    found["r3gan"] = {name: PRESETS["r3gan"][name] for name in of_the_preset}
    return found


def trained(args: Arguments, model: Vec2VecModel, rows: dict[str, Tensor], changes: dict[str, Any], seed: int) -> None:
    """So many updates of the translator, in place."""
    folder = Path(f"{args.output}.folder")
    game = "objective" not in changes and any(
        changes.get(name, 1.0) for name in ("adversarial_weight", "latent_adversarial_weight")
    )
    if not game:  # no discriminator is needed; a weight of 0 leaves the objective out
        changes = {"objective": "energy"} | changes
    rates = {"learning_rate": args.learning_rate}
    rates |= {"discriminator_learning_rate": args.learning_rate} if game else {}
    settings = QUIET | rates | {"lr_scheduler_type": "constant", "bf16": args.bf16, "max_steps": args.updates * (1 + game)}
    settings |= {"per_device_train_batch_size": args.batch_size} | changes
    Vec2VecTrainer(model, Vec2VecTrainingArguments(str(folder), seed=seed, **settings), rows).train()
    shutil.rmtree(folder, ignore_errors=True)


def cells(args: Arguments) -> Iterator[tuple[dict, dict[str, Any]]]:
    """Every run from every start, seeds last."""
    route = " to ".join(entry.split("=", 1)[0] for entry in args.space)
    settings = {"updates": args.updates, "learning_rate": args.learning_rate, "batch_size": args.batch_size}
    for seed in args.seeds:
        for start in args.starts:
            for name, changes in runs().items():
                if args.runs is None or name in args.runs:
                    yield {"study": f"trainer, {route}", "start": start, "run": name, "seed": seed} | settings, changes


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    output, files = Path(args.output), dict(entry.split("=", 1) for entry in args.space)
    output.parent.mkdir(parents=True, exist_ok=True)
    (source, a), (target, b) = ((name, vectors(load_embeddings(file), name).float()) for name, file in files.items())
    n = (len(a) - args.held_out) // 2
    for job, changes in cells(args):
        if any(job.items() <= line.items() for line in lines_of(output)):
            continue
        model, begun = Vec2VecModel.from_pretrained(CARDS / f"{source}-{target}", dtype=torch.float32), time.process_time()
        mean, asked = model.normalizer(target).mean, a[-args.held_out :]
        with torch.no_grad():
            translated = model.translate(asked, source=source, target=target) - mean
        rank, turn = STARTS[job["start"]], torch.eye(b.shape[1])
        if rank is not None:  # the target's rows are turned the other way
            turn = turned(turn, translated, b[-args.held_out :] - mean, rank, job["seed"]).T
        rows = {source: a[:n], target: (b[n : 2 * n] - mean) @ turn + mean}
        if job["run"] != "none":
            trained(args, model, rows, changes, job["seed"])
            model.eval()
            translated = model.translate(asked, source=source, target=target) - mean
        found = figures(translated, (b[-args.held_out :] - mean) @ turn)
        with open(output, "a") as file:
            file.write(json.dumps(job | found | {"cpu_seconds": round(time.process_time() - begun, 1)}) + "\n")
    print(as_markdown(lines_of(output)))


if __name__ == "__main__":
    main()
