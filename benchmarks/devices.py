"""Alignment, training and translation on the CPU and, where there is one, on a GPU: one table.

    python benchmarks/devices.py --output_dir results

Spaces are synthetic, clustered, of 384 and 768 dimensions, the second a noisy rotation of other rows of the first: what is
measured is time. `translate` takes rows from the CPU's memory and brings translations back; the merged layers work on rows
that are on the device already.
"""

import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel, Vec2VecTrainer, Vec2VecTrainingArguments, align
from hf_vec2vec.deployment.merging import merge

OLD, NEW = 384, 768
ENDS = {"source": "new", "target": "old"}


@dataclass
class DevicesArguments:
    """How much is run, and where."""

    output_dir: str | None = field(default=None, metadata={"help": "Where table and JSON go, if anywhere."})
    devices: list[str] | None = field(default=None, metadata={"help": "Default: cpu, and cuda if there is one."})
    rows: int = field(default=10_000, metadata={"help": "Rows a side of the alignment and the training."})
    steps: int = field(default=60, metadata={"help": "Training steps that are timed."})
    batch_size: int = field(default=256, metadata={"help": "Rows of each space in a step."})
    store_rows: int = field(default=32_768, metadata={"help": "Rows that are translated."})


def spaces(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of a clustered cloud, and other rows of it in more dimensions, turned and with noise."""
    draws = torch.Generator().manual_seed(0)
    centres, axes = torch.randn(300, OLD, generator=draws), torch.linspace(1.5, 0.2, OLD)
    labels = torch.multinomial(torch.rand(300, generator=draws) + 0.1, 2 * rows, replacement=True, generator=draws)
    cloud = (centres[labels] + 0.8 * torch.randn(2 * rows, OLD, generator=draws)) * axes
    turn = torch.linalg.qr(torch.randn(NEW, NEW, generator=draws))[0][:OLD]
    return cloud[:rows], cloud[rows:] @ turn + 0.1 * torch.randn(rows, NEW, generator=draws)


def seconds(work: Callable[[], object], device: str, repeats: int = 3) -> float:
    """The shortest of a few runs, after one that warms up."""
    found = []
    for _ in range(repeats + 1):
        _finish(device)
        start = time.perf_counter()
        work()
        _finish(device)
        found.append(time.perf_counter() - start)
    return min(found[1:])


def _finish(device: str) -> None:
    if torch.device(device).type == "cuda":  # which works on while Python does
        torch.cuda.synchronize()


def training_rate(model: Vec2VecModel, data: dict[str, torch.Tensor], device: str, args: DevicesArguments) -> float:
    """Steps a second of adversarial training, discriminators' and translator's in turn."""

    def train(steps: int) -> float:
        with tempfile.TemporaryDirectory() as folder:
            arguments = Vec2VecTrainingArguments(
                folder,
                max_steps=steps,
                per_device_train_batch_size=args.batch_size,
                use_cpu=device == "cpu",
                save_strategy="no",
                logging_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            return Vec2VecTrainer(model, arguments, train_dataset=data).train().metrics["train_runtime"]

    train(5)
    few = train(5)
    return args.steps / (train(5 + args.steps) - few)  # without what starting costs


def measure(device: str, args: DevicesArguments) -> dict[str, float]:
    """Every figure of a column."""
    old, new = spaces(args.rows)
    start = time.perf_counter()
    alignment = align(old, new, source_name="old", target_name="new", num_starts=6, device=device)
    found = {f"align, {args.rows:,} rows a side, six guesses: seconds": time.perf_counter() - start}
    found |= {f"  of which {stage}": value for stage, value in alignment.seconds.items()}
    store = spaces(args.store_rows)[1]
    linear = replace(alignment, residuals=None)
    for name, maps in (("linear", linear), ("residual", alignment)):
        model = Vec2VecModel.from_alignment(maps, allow_not_aligned=True).to(device)
        merged, there = merge(model, **ENDS), store.to(device)
        for what, work in (
            ("`translate`", lambda model=model: model.translate(store, **ENDS)),
            ("merged layers", lambda merged=merged, there=there: [merged(batch) for batch in there.split(8192)]),
        ):
            with torch.inference_mode():
                found[f"{what}, {name}, {NEW} → {OLD}: vectors/s"] = len(store) / seconds(work, device)
    found[f"training, batch {args.batch_size}: steps/s"] = training_rate(
        Vec2VecModel.from_alignment(alignment, allow_not_aligned=True), {"old": old, "new": new}, device, args
    )
    return found


def table(columns: dict[str, dict[str, float]]) -> str:
    """A line a figure, a column a device."""
    lines = [f"| | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for name in next(iter(columns.values())):
        values = [f"{found[name]:,.0f}" if found[name] >= 100 else f"{found[name]:.1f}" for found in columns.values()]
        lines.append(f"| {name} | {' | '.join(values)} |")
    return "\n".join(lines)


def main() -> None:
    (args,) = HfArgumentParser(DevicesArguments).parse_args_into_dataclasses()
    devices = args.devices or (["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"])
    names = {d: torch.cuda.get_device_name(d) if torch.device(d).type == "cuda" else platform.processor() for d in devices}
    columns = {device: measure(device, args) for device in devices}
    print(table(columns))
    if len(devices) == 1:
        print(f"\nOn {devices[0]} alone" + ("." if args.devices else ": there is no GPU here."))
    about = {"devices": names, "torch": torch.__version__, "threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    if args.output_dir:
        output = Path(args.output_dir)
        output.mkdir(parents=True, exist_ok=True)
        (output / "devices.md").write_text(table(columns) + "\n")
        results = {"figures": columns, "arguments": asdict(args), **about}
        (output / "devices.json").write_text(json.dumps(results, indent=2, ensure_ascii=False))


if __name__ == "__main__":
    main()
