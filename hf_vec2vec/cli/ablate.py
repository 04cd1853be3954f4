"""`ablate`: trainings that differ in a few flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from . import train
from .checks import check_folder, named_pair
from .config_file import as_words, read_yaml
from .flags import Flags, flag
from .parsing import parse

SYNOPSIS = "--source NAME=PATH --target NAME=PATH --held_out_source ... --variants FILE.yaml --output_dir OUT [flags]"


@dataclass(kw_only=True)
class AblateFlags(Flags):
    """What is trained again and again."""

    title: ClassVar[str] = "flags"

    source: str = flag("NAME=PATH: the one space, and its training vectors.")
    target: str = flag("NAME=PATH of the other.")
    held_out_source: str = flag("NAME=PATH: vectors of held-out texts, which only measure.")
    held_out_target: str = flag("NAME=PATH of the other; row i of both is the same text.")
    variants: str = flag("YAML file: a line `name: {flag of train: value, ...}` for each variant.")
    output_dir: str = flag("Folder for runs, table and JSON; an interrupted ablation goes on there.")
    seeds: int = flag("Runs of each variant: seeds 0, 1, ...", 3, minimum=1)
    keep_models: bool = flag("Keep every trained model.", False)

    def after_interrupt(self) -> str:
        """Whole runs are kept."""
        return f"The runs that are complete are kept in {self.output_dir}; the same command goes on after them."


def run(flags: AblateFlags) -> None:
    """Trainings that differ in a few flags, over seeds; one table with intervals."""
    sides = named_pair(("source", "target"), (flags.source, flags.target))
    held_out = named_pair(("held_out_source", "held_out_target"), (flags.held_out_source, flags.held_out_target))
    if held_out.keys() != sides.keys():
        raise ValueError(f"`held_out_source` and `held_out_target` must name {list(sides)}, got {list(held_out)}.")
    check_folder("output_dir", flags.output_dir)
    variants = _variants(flags.variants)
    data = ["--source", flags.source, "--target", flags.target, "--disable_tqdm", "true", "--num_train_epochs", "3"]

    def parse_variant(name: str, *more: str) -> train.TrainFlags:
        return parse(train.TrainFlags, [*data, *as_words(variants[name]), *more, "--overwrite"])

    for name in variants:  # before any work
        try:
            parse_variant(name, "--output_dir", flags.output_dir)
        except (OSError, ValueError) as error:
            raise ValueError(f"`variants`: {name!r}: {error}") from error
    from ..data.files import load_embeddings
    from ..data.spaces import PairedEmbeddings
    from ..training.ablation import ablation_table, run_ablation

    rows = run_ablation(
        lambda name, seed, folder: train.run(parse_variant(name, "--seed", str(seed), "--output_dir", str(folder))),
        variants,
        {name: load_embeddings(path) for name, path in sides.items()},
        PairedEmbeddings({name: load_embeddings(held_out[name]) for name in sides}),
        flags.seeds,
        Path(flags.output_dir),
        keep_models=flags.keep_models,
    )
    print(f"\n{ablation_table(rows)}\n\n{flags.output_dir}/ablation.md, ablation.json")


def _variants(path: str) -> dict[str, dict[str, Any]]:
    """Flags of `train` by the names of the variants."""
    variants = read_yaml("variants", path)
    if not variants or not all(isinstance(values, dict | None) for values in variants.values()):
        raise ValueError(
            f"`variants` {path!r} must hold lines `name: {{flag: value, ...}}`, for instance `no gan: "
            "{adversarial_weight: 0}`; `{}` changes nothing."
        )
    return {name: values or {} for name, values in variants.items()}
