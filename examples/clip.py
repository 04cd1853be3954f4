"""Find images with a text encoder that never saw one: its vectors, translated into CLIP's space, without a single pair.

    pip install pillow
    python examples/clip.py                                        # needs the Hub: 2 GB of images, CLIP, MiniLM
    python examples/clip.py --data FOLDER --clip MODEL_FOLDER      # an Arrow folder with images and captions; a local model
    python examples/clip.py --side image                           # align with vectors of images instead of captions
    python examples/clip.py --images image.npy --texts text.npy    # vectors that you have: CLIP's image and text side alone

Captions of some images go through the text encoder; captions (or images, with `--side image`) of *other* images through
CLIP. An alignment learns the translator from these; its verdict is printed. Then captions of held-out images, translated,
look for their images among CLIP's vectors, beside CLIP's own text side (the best that a perfect translator into its text
space could do), a random rotation and chance. Published results for text into CLIP range from nothing to .35, so "not
aligned" is to be expected; the figures are printed then, too.

With vectors of your own (row i of both files: an image and a caption) it asks how far CLIP's two sides lie apart: captions
look for images as they are, with the modality gap removed (each side's mean taken off), and by maps fitted on some pairs.

What has been run: the last way, on 500 pairs of CLIP ViT-B/32 (docs/measurements/other_vectors.md). The others on a CLIP of
random weights built from a config, to see that every step works: no CLIP weights were at hand where this was written.
"""

import argparse
from pathlib import Path

import torch
from datasets import Dataset, load_dataset, load_from_disk
from torch.nn.functional import normalize

import api_vectors
from hf_vec2vec import ImageEncoder, TextEncoder, Vec2VecModel, align, embed, embed_images
from hf_vec2vec.data import load_embeddings, vectors

CUTS = (1, 5, 10)
WITHOUT_PAIRS = {"as it is": lambda rows, own, other: rows, "gap removed": lambda rows, own, other: rows - own + other}


def main(argv: list[str] | None = None) -> dict[str, list[float]]:
    args = parse(argv)
    if args.images or args.texts:
        return within_clip(args)
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


def within_clip(args: argparse.Namespace) -> dict[str, list[float]]:
    """From the text side of CLIP to its image side, and back."""
    images, texts = (vectors(load_embeddings(path), path) for path in (args.images, args.texts))
    images, texts = normalize(images, dim=1), normalize(texts, dim=1)
    groups, found = api_vectors.groups_of(texts, images), {}
    gap = (images.mean(0) - texts.mean(0)).norm().item()
    print(f"The means of both sides lie {gap:.2f} apart; the vectors have length 1.")
    for source, target, way in ((texts, images, "text → image"), (images, texts, "image → text")):
        rows = []
        for name, shift in WITHOUT_PAIRS.items():
            answers = normalize(shift(source, source.mean(0), target.mean(0)), dim=1)
            folds = [api_vectors.fold_of(groups, seed) for seed in range(args.seeds)]
            runs = [api_vectors.judged(answers, target, fold, groups, centred=name != "as it is") for fold in folds]
            rows.append({"method": name, "pairs": 0} | api_vectors.summary(runs))
        rows += api_vectors.curve(source, target, args.seeds)
        print(f"\n{way}")
        api_vectors.show(rows, groups)
        found[way] = [row["top1"] for row in rows]
        if args.output:
            path = Path(args.output)
            api_vectors.draw(rows, str(path.with_name(f"{path.stem}-{way.split()[0]}{path.suffix}")))
    return found


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="jxie/flickr8k", help="Hub data set or Arrow folder with images and captions.")
    parser.add_argument("--caption_column", default="caption_0")
    parser.add_argument("--text_model", default="all-MiniLM-L6-v2")
    parser.add_argument("--clip", default="openai/clip-vit-base-patch32")
    parser.add_argument("--side", default="text", choices=("text", "image"), help="Of CLIP, which is aligned with.")
    parser.add_argument("--held_out", type=int, default=1000, help="Images that only measure.")
    parser.add_argument("--output", help="Folder for the translator; of your own vectors: file for pictures.")
    parser.add_argument("--images", help="Vectors of images, row by row with `texts`.")
    parser.add_argument("--texts", help="Vectors of their captions.")
    parser.add_argument("--seeds", type=int, default=5, help="Of folds and pairs, for your own vectors.")
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
