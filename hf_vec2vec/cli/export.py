"""`export`: one direction of a translator as a file that runs without this package."""

from dataclasses import dataclass, field
from pathlib import Path

from ..deployment.export import SUFFIXES, check_export, export
from ..training.recipe import load_translator
from .parsing import parse


@dataclass
class ExportArguments:
    """Which direction, and as what."""

    _argument_group_name = "flags"

    source: str = field(metadata={"help": "Name of the space that vectors come from."})
    target: str = field(metadata={"help": "Name of the space to translate into."})
    output: str = field(metadata={"help": "The file: .onnx, .pt2 (torch), or .safetensors or .npz (merged)."})
    format: str = field(
        default="onnx",
        metadata={
            "help": "ONNX, ONNX in int8, torch.export, or one matrix and a bias for NumPy (of a linear translator).",
            "choices": list(SUFFIXES),
        },
    )
    overwrite: bool = field(default=False, metadata={"help": "Replace `output` if it exists."})


def run_export(argv: list[str]) -> None:
    """One direction of a translator as ONNX, int8, torch.export or one matrix; raw vectors in, raw vectors out."""
    args, folder = parse(
        run_export, "DIR --source NAME --target NAME --output FILE [flags]", argv, [ExportArguments], positional="DIR"
    )
    path = check_export(args.output, args.format, overwrite=args.overwrite)
    model = load_translator(folder)
    found = export(model, path, source=args.source, target=args.target, format=args.format, overwrite=args.overwrite)
    print(
        f"{args.source} → {args.target}: {path}, {Path(path).stat().st_size / 1e6:.1f} MB; translations differ from the "
        f"model's by at most {found:.1e} of a vector's length"
    )
