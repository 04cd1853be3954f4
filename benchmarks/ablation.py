"""What adversarial training adds to an alignment: all losses, all but one, none; and all of them from a random start.

    python benchmarks/ablation.py --space minilm=minilm wordllama=wordllama --pair minilm:wordllama --output_dir results

Rows and rotation are those of `alignment.py` with the same arguments. Every row of the table starts from the same alignment
(and seed) and takes the same number of steps; `score` is the unpaired alignment score that selection goes by.
"""

import json
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from alignment import spaces
from tqdm.auto import tqdm
from transformers import HfArgumentParser, set_seed

from hf_vec2vec import Vec2VecConfig, Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments, align
from hf_vec2vec.data import PairedEmbeddings, UnpairedEmbeddings
from hf_vec2vec.training.arguments import LOSS_WEIGHTS


@dataclass
class AblationArguments:
    """Which pair, and how long."""

    space: list[str] = field(metadata={"help": "NAME=FILE of each space; row i is the same text in all."})
    pair: str = field(metadata={"help": "NAME:NAME."})
    output_dir: str = field(metadata={"help": "Where table and JSON go."})
    rows: int = field(default=10_000, metadata={"help": "Training rows a side."})
    held_out: int = field(default=4192, metadata={"help": "Rows that measure."})
    epochs: float = field(default=5.0, metadata={"help": "Of adversarial training."})
    learning_rate: float = field(default=1e-5, metadata={"help": "Of the translator, in runs from the alignment."})
    seed: int = field(default=0, metadata={"help": "Of rotation, alignment and training."})


def main() -> None:
    (args,) = HfArgumentParser(AblationArguments).parse_args_into_dataclasses()
    source, target = args.pair.split(":")
    a, b, _ = spaces(args.space, args.pair, args.seed, args.rows)
    n = args.rows
    training = UnpairedEmbeddings({source: a[:n], target: b[n : 2 * n]})
    held_out = PairedEmbeddings({source: a[-args.held_out :], target: b[-args.held_out :]})
    alignment = align(a[:n], b[n : 2 * n], source_name=source, target_name=target, seed=args.seed)
    print(alignment.report)

    def figures(model: Vec2VecModel, weights: dict[str, float], epochs: float, learning_rate: float) -> dict[str, float]:
        arguments = Vec2VecTrainingArguments(
            tempfile.mkdtemp(),
            num_train_epochs=epochs,
            learning_rate=learning_rate,
            seed=args.seed,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
            **weights,
        )
        trainer = Vec2VecTrainer(model, arguments, train_dataset=training, eval_dataset=held_out)
        if epochs:
            trainer.train()
        return trainer.evaluate()

    used = [name for name in LOSS_WEIGHTS if getattr(Vec2VecTrainingArguments, name)]
    runs = {"alignment alone": ({}, 0.0), "all losses": ({}, args.epochs)}
    runs |= {f"without {name.removesuffix('_weight')}": ({name: 0.0}, args.epochs) for name in used}
    results = {}
    for name, (weights, epochs) in tqdm(runs.items(), desc="runs"):
        set_seed(args.seed)
        model = Vec2VecModel.from_alignment(alignment, allow_not_aligned=True)
        results[name] = figures(model, weights, epochs, args.learning_rate)
    set_seed(args.seed)
    random = Vec2VecModel(Vec2VecConfig(embedding_dims={source: a.shape[1], target: b.shape[1]}))
    for name, (mean, scale) in ((source, alignment.source_statistics), (target, alignment.target_statistics)):
        random.normalizers[name].mean.copy_(mean)
        random.normalizers[name].scale.copy_(scale)
    results["all losses, random start"] = figures(random, {}, args.epochs, 1e-4)
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "ablation.json").write_text(json.dumps(results, indent=2))
    table = as_markdown(results, (f"{source}_to_{target}", f"{target}_to_{source}"))
    (output / "ablation.md").write_text(table + "\n")
    print(table)


def as_markdown(results: dict[str, dict[str, float]], ways: tuple[str, str]) -> str:
    """One line a run: the unpaired score, then centred cosine and top-1 in both directions."""
    lines = [
        "| losses | score | " + " | ".join(f"centred cosine {w} | top-1" for w in ("forward", "backward")) + " |",
        "| --- |" + " ---: |" * 5,
    ]
    for name, found in results.items():
        values = [found["eval_alignment_score"]]
        values += [found[f"eval_{way}_{figure}"] for way in ways for figure in ("centred_cosine", "top1")]
        lines.append(f"| {name} | " + " | ".join(f"{value:.4f}" for value in values) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
