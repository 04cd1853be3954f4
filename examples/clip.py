"""Find images with a text encoder that never saw one: its vectors, translated into CLIP's space, without a single pair.

    pip install pillow
    python examples/clip.py                                        # needs the Hub: 2 GB of images, CLIP, MiniLM
    python examples/clip.py --data FOLDER --clip MODEL_FOLDER      # an Arrow folder with images and captions; a local model
    python examples/clip.py --side image                           # align with vectors of images instead of captions

Captions of some images go through the text encoder; captions (or images, with `--side image`) of *other* images through
CLIP. An alignment learns the translator from these; its verdict is printed. Then captions of held-out images, translated,
look for their images among CLIP's vectors, beside CLIP's own text side (the best that a perfect translator into its text
space could do), a random rotation and chance. Published results for text into CLIP range from nothing to .35, so "not
aligned" is to be expected; the figures are printed then, too.

What has been run: this script, on a CLIP with random weights built from a config, to see that every step works. No CLIP
weights were at hand where it was written, so there are no figures of a real one yet.
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset, load_dataset, load_from_disk
from torch.nn.functional import normalize

from hf_vec2vec import ImageEncoder, TextEncoder, Vec2VecModel, align, embed, embed_images
from hf_vec2vec.data import vectors

CUTS = (1, 5, 10)


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    args = parse(argv)
    rows = load_from_disk(args.data) if Path(args.data).is_dir() else load_dataset(args.data, split="train")
    rows = rows.shuffle(args.seed)
    held_out = min(args.held_out, len(rows) // 5)
    half = (len(rows) - held_out) // 2
    test, ours, theirs = (
        rows.select(range(*bounds))
        for bounds in ((0, held_out), (held_out, held_out + half), (held_out + half, held_out + 2 * half))
    )
    # The same words may describe several images: no caption of the one side may be on the other.
    known = set(captions(ours, args))
    theirs = theirs.filter(lambda caption: caption not in known, input_columns=args.caption_column)
    print(f"{len(ours):,} captions for the text encoder, {len(theirs):,} other {args.side}s for CLIP, {held_out:,} held out")

    encoder, clip_texts = TextEncoder(args.text_model), TextEncoder(args.clip)
    clip_images = ImageEncoder(args.clip)
    source = vectors(embed(captions(ours, args), encoder), "text")
    if args.side == "text":
        target = vectors(embed(captions(theirs, args), clip_texts), "clip")
    else:
        target = vectors(embed_images(theirs, clip_images), "clip")
    alignment = align(source, target, source_name="text", target_name="clip", seed=args.seed)
    print(f"\nVerdict on the alignment: {alignment.report}")
    model = Vec2VecModel.from_alignment(alignment, allow_not_aligned=True)
    if args.output:
        model.save_pretrained(args.output)

    images = vectors(embed_images(test, clip_images), "images")
    asked = vectors(embed(captions(test, args), encoder), "captions")
    square = torch.randn(max(asked.shape[1], images.shape[1]), max(asked.shape[1], images.shape[1]))
    rotation = torch.linalg.qr(square)[0][: asked.shape[1], : images.shape[1]]
    queries = {
        "translated": model.translate(asked, source="text", target="clip"),
        "CLIP's own text side": vectors(embed(captions(test, args), clip_texts), "clip captions"),
        "random rotation": asked @ rotation,
    }
    found = {name: recalls(query, images) for name, query in queries.items()}
    found["chance"] = [cut / len(images) for cut in CUTS]
    print(f"\nImages found by their captions, among {len(images):,}:\n")
    print(f"| {'query':20} | {' | '.join(f'top-{cut:<2}' for cut in CUTS)} |")
    print(f"| {'-' * 20} | {' | '.join(['-----:'] * len(CUTS))} |")
    for name, values in found.items():
        print(f"| {name:20} | {' | '.join(f'{value:6.3f}' for value in values)} |")
    if alignment.report.verdict == "not aligned":
        print("\nThe alignment failed, as its verdict says; what it finds above chance, if anything, is no translation.")
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="jxie/flickr8k", help="Hub data set or Arrow folder with images and captions.")
    parser.add_argument("--caption_column", default="caption_0")
    parser.add_argument("--text_model", default="all-MiniLM-L6-v2")
    parser.add_argument("--clip", default="openai/clip-vit-base-patch32")
    parser.add_argument("--side", default="text", choices=("text", "image"), help="Of CLIP, which is aligned with.")
    parser.add_argument("--held_out", type=int, default=1000, help="Images that only measure.")
    parser.add_argument("--output", help="Folder for the translator.")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(argv)


def captions(rows: Dataset, args: argparse.Namespace) -> list[str]:
    return list(rows[args.caption_column])


def recalls(queries: torch.Tensor, images: torch.Tensor) -> list[float]:
    """How often a caption's own image is among the nearest, by cosine."""
    cosines = normalize(queries, dim=1) @ normalize(images, dim=1).T
    ranks = (cosines > cosines.diag()[:, None]).sum(1)
    return [(ranks < cut).float().mean().item() for cut in CUTS]


if __name__ == "__main__":
    main()
