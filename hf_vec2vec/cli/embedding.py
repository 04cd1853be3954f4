"""`embed`: vectors of texts."""

from datasets import Dataset

from ..data.columns import EMBEDDING
from ..data.files import check_output, save_embeddings
from ..encoders.text import TextEncoder, embed
from .arguments import EmbedArguments
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
    from ..encoders.images import ImageEncoder, embed_images, load_images

    if given := [n for n in ("pooling", "prompt", "max_length") if getattr(args, n)] + ["layer"] * (args.layer != -1):
        raise ValueError(f"`{given[0]}` is for texts, but `images` are embedded. Leave it out.")
    images = load_images(args.images)
    encoder = ImageEncoder(args.model, device=args.device)
    return embed_images(images, encoder, batch_size=args.batch_size, cache_dir=args.cache_dir)
