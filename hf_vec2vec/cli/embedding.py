"""`embed`: vectors of texts."""

from ..data import EMBEDDING, check_output, save_embeddings
from ..encoders import TextEncoder, embed
from .arguments import EmbedArguments
from .parsing import parse


def run_embed(argv: list[str]) -> None:
    """Texts to vectors on disk."""
    (args,) = parse(run_embed, "--texts FILE --model MODEL --output PATH [flags]", argv, [EmbedArguments])
    check_output(args.output, overwrite=args.overwrite)
    encoder = TextEncoder(
        args.model,
        pooling=args.pooling,
        layer=args.layer,
        prompt=args.prompt,
        max_length=args.max_length,
        device=args.device,
    )
    data = embed(args.texts, encoder, batch_size=args.batch_size, cache_dir=args.cache_dir)
    save_embeddings(data, args.output, overwrite=args.overwrite)
    print(f"{len(data):,} texts → {args.output}, dimension {len(data[0][EMBEDDING])}")
