"""`export`: one direction of a translator as a file that runs without this package."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from .checks import check_file, check_verdict
from .flags import DirectionFlags, flag

SYNOPSIS = "DIR --source NAME --target NAME --output FILE [flags]"
Format = Literal["onnx", "int8", "torch", "merged"]


@dataclass(kw_only=True)
class ExportFlags(DirectionFlags):
    """Which direction, and as what."""

    title: ClassVar[str] = "flags"

    output: str = flag("The file: .onnx, .pt2 (torch), or .safetensors or .npz (merged).")
    format: Format = flag("ONNX, ONNX in int8, torch.export, or one matrix and a bias for NumPy (of a linear map).", "onnx")
    overwrite: bool = flag("Replace `output` if it exists.", False)
    allow_not_aligned: bool = flag("Use a translator whose alignment's verdict is 'not aligned'.", False)

    @classmethod
    def check_incomplete(cls, given: dict[str, Any]) -> None:
        """An encoder has no spaces to name."""
        super().check_incomplete(given)
        if "folder" in given:
            _refuse_encoder(given["folder"])


def run(flags: ExportFlags) -> None:
    """One direction of a translator as ONNX, int8, torch.export or one matrix; raw vectors in, raw vectors out."""
    flags.check_folder()
    check_file("output", flags.output)
    from ..deployment.export import check_export, export
    from ..training.start import load_translator

    _refuse_encoder(flags.folder)
    path = check_export(flags.output, flags.format, overwrite=flags.overwrite)
    model = load_translator(flags.folder)
    check_verdict(flags.folder, allowed=flags.allow_not_aligned)
    direction: dict[str, str] = {"source": flags.source, "target": flags.target}
    chosen = model.chosen_map(flags.map, **direction, queries=flags.queries)
    found = export(model, path, **direction, map=chosen, format=flags.format, overwrite=flags.overwrite)
    print(
        f"{flags.source} → {flags.target}: {path}, {chosen} map, {Path(path).stat().st_size / 1e6:.1f} MB; translations "
        f"differ from the model's by at most {found:.1e} of a vector's length"
    )


def _refuse_encoder(folder: str) -> None:
    from ..encoders.folders import is_sentence_transformer

    if is_sentence_transformer(Path(folder)):
        raise ValueError(
            f"`DIR` {folder!r} holds an encoder, such as a query encoder, and no translator. `export-encoder` exports it."
        )
