"""`embed` and `translate`: vectors of texts, vectors of the other space."""

import torch
from datasets import Dataset, concatenate_datasets

from ..data import EMBEDDING, check_output, load_embeddings, save_embeddings, to_dataset, vector_column, vectors
from ..encoders import TextEncoder, embed, recorded_encoder
from ..training import load_translator
from .arguments import EmbedArguments, TranslateArguments
from .parsing import parse


def run_embed(argv: list[str]) -> None:
    """Texts or images to vectors on disk."""
    (args,) = parse(run_embed, "(--texts FILE | --images PATH) --model MODEL --output PATH [flags]", argv, [EmbedArguments])
    if (args.texts is None) == (args.images is None):
        raise ValueError("`texts` or `images` must be given, and not both.")
    check_output(args.output, overwrite=args.overwrite)
    if args.images:
        data, what = _embed_images(args), "images"
    else:
        encoder = TextEncoder(
            args.model,
            pooling=args.pooling,
            layer=args.layer,
            prompt=args.prompt,
            max_length=args.max_length,
            device=args.device,
        )
        data, what = embed(args.texts, encoder, batch_size=args.batch_size, cache_dir=args.cache_dir), "texts"
    save_embeddings(data, args.output, overwrite=args.overwrite)
    print(f"{len(data):,} {what} → {args.output}, dimension {len(data[0][EMBEDDING])}")


def _embed_images(args: EmbedArguments) -> Dataset:
    from ..image_encoder import ImageEncoder, embed_images, load_images

    if given := [n for n in ("pooling", "prompt", "max_length") if getattr(args, n)] + ["layer"] * (args.layer != -1):
        raise ValueError(f"`{given[0]}` is for texts, but `images` are embedded. Leave it out.")
    images = load_images(args.images)
    encoder = ImageEncoder(args.model, device=args.device)
    return embed_images(images, encoder, batch_size=args.batch_size, cache_dir=args.cache_dir)


def run_translate(argv: list[str]) -> None:
    """Vectors of one space to vectors of the other, on disk."""
    args, folder = parse(
        run_translate,
        "DIR --source NAME --target NAME (--input PATH | --texts PATH) --output PATH [flags]",
        argv,
        [TranslateArguments],
        positional="DIR",
    )
    if (args.input is None) == (args.texts is None):
        raise ValueError("`input` or `texts` must be given, and not both: vectors, or texts for the recorded encoder.")
    check_output(args.output, overwrite=args.overwrite)
    model = load_translator(folder).to("cuda" if torch.cuda.is_available() else "cpu")
    if args.texts:
        data = embed(args.texts, recorded_encoder(model.config, args.source), cache_dir=args.cache_dir)
    else:
        data = load_embeddings(args.input)
    rows = vectors(data, "input", model.config.embedding_dims.get(args.source))
    translated = model.translate(rows, source=args.source, target=args.target, batch_size=args.batch_size)
    others = data.remove_columns(vector_column(data, "input"))  # ids, texts and whatever else belongs to the rows
    result = (
        concatenate_datasets([others, to_dataset(translated)], axis=1) if others.column_names else to_dataset(translated)
    )
    save_embeddings(result, args.output, overwrite=args.overwrite)
    print(f"{len(translated):,} vectors, {args.source} → {args.target}: {args.output}")
