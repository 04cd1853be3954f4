"""`export-encoder`: an encoder of texts, such as a query encoder, as one file that runs without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from .checks import check_column, check_file, check_input, check_model
from .flags import Flags, flag

SYNOPSIS = "DIR --texts FILE --output FILE [flags]"


@dataclass(kw_only=True)
class ExportEncoderFlags(Flags):
    """Which encoder, and as what."""

    title: ClassVar[str] = "flags"

    folder: str = flag("Folder of a query encoder, or short name or folder of another encoder.", placeholder="DIR")
    texts: str = flag("Some queries, which file and encoder are compared on: better some hundreds.")
    column: str | None = flag("Column of the texts in a table; default: text.", None)
    output: str = flag("The file: .onnx.")
    format: Literal["onnx", "int8"] = flag(
        "ONNX, or ONNX with matrices in 8 bits: a quarter of the size, less exact.", "onnx"
    )
    overwrite: bool = flag("Replace `output` if it exists.", False)


def run(flags: ExportEncoderFlags) -> None:
    """An encoder as one ONNX file, from tokens to vectors; tokenizers, onnxruntime and NumPy are all that runs it."""
    check_model("DIR", flags.folder)
    check_column("column", flags.column, check_input("texts", flags.texts))
    check_file("output", flags.output)
    from ..data.columns import TEXT
    from ..data.texts import load_texts
    from ..deployment.export import check_export
    from ..deployment.query_export import export_query_encoder
    from ..distillation.query_students import open_student

    path = check_export(flags.output, flags.format, overwrite=flags.overwrite)
    texts = load_texts(flags.texts, column=flags.column or TEXT)
    least = export_query_encoder(open_student(flags.folder), path, texts, format=flags.format, overwrite=flags.overwrite)
    print(
        f"{path}, {Path(path).stat().st_size / 1e6:.1f} MB; on {len(texts):,} texts the least cosine of a vector to the "
        f"encoder's own is {least:.4f}"
    )
