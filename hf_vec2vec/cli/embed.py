"""`embed`: texts or images to vectors."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from .checks import check_column, check_device, check_folder, check_input, check_model
from .dry_run import DryRunFlags, Plan, seconds_of
from .flags import DeviceFlags, EncoderFlags, flag

if TYPE_CHECKING:
    from datasets import Dataset

    from ..encoders.text import TextEncoder

SAMPLE = 128  # texts that a dry run embeds
SYNOPSIS = "(--texts FILE | --images PATH) --model MODEL --output PATH [flags]"
FOR_TEXTS = {"pooling", "layer", "prompt", "prompt_name", "max_length", "column", "id_column"}


@dataclass(kw_only=True)
class EmbedFlags(EncoderFlags, DeviceFlags, DryRunFlags):
    """What is embedded, and by what."""

    title: ClassVar[str] = "flags"

    model: str = flag("Local folder, Hub id, or the short name of a bundled encoder.")
    output: str = flag("Where the vectors go: Arrow folder (no suffix), .parquet, .npy, .safetensors.")
    texts: str | None = flag("Texts: .txt (one a line), or .jsonl, .csv, .parquet, Arrow with a column `text`.", None)
    images: str | None = flag(
        "Images, for the image side of a CLIP-like model: a folder; .parquet, Arrow with a column of them.", None
    )
    column: str | None = flag("Column with the texts; default: `text`.", None)
    id_column: str | None = flag("Column with the ids, which stay beside the vectors as `id`.", None)
    batch_size: int = flag("Texts or images at a time.", 64, minimum=1)
    cache_dir: str | None = flag("Where embeddings are cached.", None)
    overwrite: bool = flag("Replace `output` if it exists.", False)

    def __post_init__(self) -> None:
        if (self.texts is None) == (self.images is None):
            raise ValueError("`texts` or `images` must be given, and not both.")
        if self.images and (given := self.given & FOR_TEXTS):
            raise ValueError(f"`{min(given)}` is for texts, but `images` are embedded. Leave it out.")
        if self.id_column and Path(self.output).suffix.lower() in (".npy", ".safetensors"):
            raise ValueError(
                f"`id_column` is {self.id_column!r}, but `output` {self.output!r} holds vectors alone. Take an Arrow folder "
                "(no suffix) or .parquet."
            )

    def after_interrupt(self) -> str:
        """Whole chunks are in the cache."""
        return "Vectors of whole chunks are kept in the cache; the same command goes on after them."


def run(flags: EmbedFlags) -> None:
    """Texts or images to vectors on disk. What was embedded once is read from a cache."""
    check_model("model", flags.model)
    check_input("texts" if flags.texts else "images", flags.texts or flags.images or "")
    for argument, column in (("column", flags.column), ("id_column", flags.id_column)):
        check_column(argument, column, flags.texts or flags.images or "")
    check_folder("output", str(Path(flags.output).parent))
    if flags.cache_dir:
        check_folder("cache_dir", flags.cache_dir)
    from ..data.columns import EMBEDDING
    from ..data.files import check_output, save_embeddings

    check_device(flags.device)
    check_output(flags.output, overwrite=flags.overwrite, reads=[flags.texts or flags.images or ""])
    if flags.dry_run:
        print(_plan(flags))
        return
    data = _embed_images(flags) if flags.images else _embed_texts(flags)
    save_embeddings(data, flags.output, overwrite=flags.overwrite)
    what = "images" if flags.images else "texts"
    print(f"{len(data):,} {what} → {flags.output}, dimension {len(data[0][EMBEDDING])}")


def _plan(flags: EmbedFlags) -> Plan:
    """What would be done, by the pace of a sample of the texts."""
    from ..data.columns import TEXT
    from ..data.texts import load_texts

    if flags.texts is None:
        raise ValueError("`dry_run` knows the pace of texts only, but `images` are embedded.")
    texts = load_texts(flags.texts, column=flags.column or TEXT)
    sample = texts[:: max(1, len(texts) // SAMPLE)][:SAMPLE]
    encoder = _encoder(flags)
    dim = encoder.encode(sample[:1], progress=False).shape[1]
    seconds = seconds_of(lambda: encoder.encode(sample, batch_size=flags.batch_size, progress=False))
    total = seconds * len(texts) / len(sample)
    read, written = f"{flags.texts}: {len(texts):,} texts", {flags.output: 4.0 * len(texts) * dim}
    return Plan([read], written, (total, total), ["Texts that are in the cache take no time."])


def _encoder(flags: EmbedFlags) -> "TextEncoder":
    from ..encoders.text import TextEncoder

    return TextEncoder(
        flags.model,
        pooling=flags.pooling,
        layer=flags.layer,
        prompt=flags.prompt,
        prompt_name=flags.prompt_name,
        trust_remote_code=flags.trust_remote_code,
        max_length=flags.max_length,
        device=flags.device,
    )


def _embed_texts(flags: EmbedFlags) -> "Dataset":
    from ..data.columns import ID, TEXT, check_ids
    from ..data.texts import load_table, load_texts
    from ..encoders.text import embed

    assert flags.texts is not None
    texts = load_texts(flags.texts, column=flags.column or TEXT)
    ids = None
    if flags.id_column:
        table = load_table(flags.texts)
        if flags.id_column not in table.column_names:
            raise ValueError(
                f"`id_column` is {flags.id_column!r}, but {flags.texts!r} has the columns {', '.join(table.column_names)}."
            )
        check_ids(flags.id_column, table.schema, table.column_names, f"`texts` {flags.texts!r}")
        ids = table[flags.id_column]  # as they are: not every whole number or time comes back out of Python's
    data = embed(texts, _encoder(flags), batch_size=flags.batch_size, cache_dir=flags.cache_dir, progress=flags.progress)
    return data if ids is None else data.add_column(ID, ids)


def _embed_images(flags: EmbedFlags) -> "Dataset":
    from ..encoders.images import ImageEncoder, embed_images, load_images

    assert flags.images is not None
    images = load_images(flags.images)
    encoder = ImageEncoder(flags.model, device=flags.device, trust_remote_code=flags.trust_remote_code)
    return embed_images(images, encoder, batch_size=flags.batch_size, cache_dir=flags.cache_dir)
