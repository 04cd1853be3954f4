"""Three and more spaces: a → c through the common frame, although a and c were never aligned, beside aligning them.

    python benchmarks/synchronization.py --space minilm=minilm l3=l3 mpnet=mpnet --output_dir results

Row i of every file is the same text; each space trains on a slice of its own, so that no two share a text. For every pair
the table has the rotation that was fitted to it, the one that `synchronize` makes of all pairs, the one that it makes of
all pairs but this, and what `align` makes of that one as a guess. All maps are rotations, before back-translation, so that
only the way they were found differs.
"""

import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch.nn import functional as F
from transformers import HfArgumentParser

from hf_vec2vec import align, synchronize
from hf_vec2vec.alignment import fit_statistics
from hf_vec2vec.data import load_embeddings, vectors


@dataclass
class SynchronizationArguments:
    """Which spaces."""

    space: list[str] = field(metadata={"help": "NAME=FILE of each space, three at least; row i is the same text in all."})
    output_dir: str = field(metadata={"help": "Where table and JSON go."})
    rows: int = field(default=6500, metadata={"help": "Training rows of each space, a slice of its own."})
    held_out: int = field(default=4192, metadata={"help": "Rows that measure."})
    seed: int = field(default=0, metadata={"help": "Of the alignments."})


def main() -> None:
    (args,) = HfArgumentParser(SynchronizationArguments).parse_args_into_dataclasses()
    whole = {name: vectors(load_embeddings(file), name).float() for name, file in (e.split("=", 1) for e in args.space)}
    needed = len(whole) * args.rows + args.held_out
    if len(whole) < 3 or any(len(rows) < needed for rows in whole.values()):
        raise ValueError(f"`space` must be three spaces at least, of {needed} rows each, for `rows` {args.rows}.")
    training = {name: rows[i * args.rows : (i + 1) * args.rows] for i, (name, rows) in enumerate(whole.items())}
    statistics = {name: fit_statistics(rows) for name, rows in training.items()}  # as `align` takes them
    held_out = {name: (whole[name][-args.held_out :] - mean) / scale for name, (mean, scale) in statistics.items()}

    def fit(a: str, b: str, guess: torch.Tensor | None = None) -> torch.Tensor:
        options = {"guess": guess, "seed": args.seed, "back_translation_rounds": 0}
        found = align(training[a], training[b], source_name=a, target_name=b, **options)
        print(f"{a} → {b}{'' if guess is None else ', with a guess'}: {found.report}")
        return found.rotation

    fitted = {pair: fit(*pair) for pair in itertools.combinations(whole, 2)}
    together, results = synchronize(fitted), []
    for a, b in fitted:
        without = synchronize({pair: rotation for pair, rotation in fitted.items() if pair != (a, b)})
        ways = {"direct": fitted[a, b], "all pairs": together[a, b], "never aligned": without[a, b]}
        ways["direct, with that guess"] = fit(a, b, without[a, b])
        for way, rotation in ways.items():
            translated, truth = F.normalize(held_out[a] @ rotation, dim=1), F.normalize(held_out[b], dim=1)
            top1 = (translated @ truth.T).argmax(1) == torch.arange(len(truth))
            cosine = (translated * truth).sum(1).mean().item()
            results.append({"pair": f"{a} → {b}", "rotation": way, "cosine": cosine, "top1": top1.float().mean().item()})
    table = ["| pair | rotation | centred cosine | top-1 |", "| --- | --- | ---: | ---: |"]
    table += [f"| {r['pair']} | {r['rotation']} | {r['cosine']:.3f} | {r['top1']:.3f} |" for r in results]
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "synchronization.json").write_text(json.dumps(results, indent=2))
    (output / "synchronization.md").write_text("\n".join(table) + "\n")
    print("\n".join(table))


if __name__ == "__main__":
    main()
