"""Bulk translation, deployment and training at scale: every figure that has a bar, in one run and one table.

    python benchmarks/scale.py --output_dir results                       # about 40 GB of scratch, deleted at the end
    python benchmarks/scale.py --output_dir results --sections bulk --quick

Data are drawn at random, for rates do not depend on them. A figure counts if nothing else runs on the machine meanwhile; the
load at the start is printed above the table.
"""

import json
import os
import platform
import tempfile
import time
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import torch
from transformers import HfArgumentParser

SECTIONS = {"bulk": "scale_bulk", "deployment": "scale_deployment", "training": "scale_training"}


@dataclass
class ScaleArguments:
    """What is measured, and where."""

    output_dir: str = field(metadata={"help": "Where table and JSON go."})
    sections: list[str] = field(
        default_factory=lambda: list(SECTIONS),
        metadata={"help": f"Some of {', '.join(SECTIONS)}.", "choices": list(SECTIONS)},
    )
    quick: bool = field(default=False, metadata={"help": "Fewer rows, seconds and repeats: whether it works, not how fast."})
    scratch: str | None = field(default=None, metadata={"help": "Folder on the disk to measure; default: the system's."})


def main() -> None:
    (args,) = HfArgumentParser(ScaleArguments).parse_args_into_dataclasses()
    machine = f"{os.cpu_count()} cores, {platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads"
    machine += f", load {os.getloadavg()[0]:.1f}" + (", quick" if args.quick else "")
    rows, seconds = [], {}
    for section in args.sections:
        started = time.perf_counter()
        with tempfile.TemporaryDirectory(prefix="scale-", dir=args.scratch) as folder:
            rows += import_module(SECTIONS[section]).run(Path(folder), args.quick)
        seconds[section] = time.perf_counter() - started
    table = ["| bar | limit | measured | met |", "| --- | --- | --- | --- |"]
    table += [f"| {r['bar']} | {r['limit']} | {r['measured']} | {'yes' if r['met'] else 'no'} |" for r in rows]
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    (output / "scale.json").write_text(json.dumps({"machine": machine, "seconds": seconds, "rows": rows}, indent=2))
    (output / "scale.md").write_text("\n".join([machine, "", *table]) + "\n")
    print("\n".join(["", machine, "", *table]))


if __name__ == "__main__":
    main()
