"""The folder that `query_encoder.py`, `query_teachers.py` and `migrated_store.py` read: texts, right answers, vectors.

    python benchmarks/query_folder.py --output wiki --passages passages.parquet --leave_out squad_validation nq_oracle \
        --questions nq=nq.parquet:passage squad=squad.parquet:context --train nq_train=nq_train.parquet \
        --encoders minilm=all-MiniLM-L6-v2 smol6=SmolLM2-135M-Instruct-Q4_1@6 --bf16
    python benchmarks/query_folder.py --output glosses --wordnet /usr/share/wordnet --encoders l3=paraphrase-MiniLM-L3-v2

Passages have the columns `text` and `source`; a set of questions has `question`, and the column behind the colon holds the
passage that answers. A question whose passage is not among them is left out. Passages of the sources of `--leave_out`, and
copies of them, may not train.

With `--wordnet` the passages are glosses, definitions of at least six words, drawn with seed 0. At most 1,000 of them ask
for the gloss of their hypernym, the next wider term: only such as have exactly one there, and answer none themselves. Of the
others 14,000 are the index, all of which may train, and the rest, `train`, is what students follow on.

An encoder is NAME=MODEL, or NAME=MODEL@LAYER. Whatever is there stays: a run that was interrupted goes on.
"""

import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import HfArgumentParser

from hf_vec2vec.data.overlap import normal_text
from hf_vec2vec.data.staging import staged_file
from hf_vec2vec.distillation.query_students import open_student, opening_prompt
from hf_vec2vec.encoders.text import TextEncoder

PART = 2048  # texts between two saves
GLOSSES, INDEXED, ASKING, FEWEST_WORDS = 24_192, 14_000, 1000, 6


@dataclass
class FolderArguments:
    """Where texts come from, and which encoders read them."""

    output: str = field(metadata={"help": "The folder."})
    passages: str = field(default="", metadata={"help": "Parquet file of passages."})
    leave_out: list[str] = field(default_factory=list, metadata={"help": "Sources that may not train."})
    questions: list[str] = field(default_factory=list, metadata={"help": "SET=FILE:COLUMN of questions that ask."})
    train: list[str] = field(default_factory=list, metadata={"help": "SET=FILE of questions that pairs are drawn from."})
    most_questions: int = field(default=ASKING, metadata={"help": "Of a set that asks, drawn with seed 0."})
    wordnet: str = field(default="", metadata={"help": "Folder of WordNet's data files, in place of all that."})
    encoders: list[str] = field(default_factory=list, metadata={"help": "NAME=MODEL or NAME=MODEL@LAYER."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens that encoders read; default: their own."})
    bf16: bool = field(default=False, metadata={"help": "Encode in bfloat16."})


def passages(args: FolderArguments, output: Path) -> None:
    """Texts, right answers, and what may train."""
    table = Dataset.from_parquet(args.passages)
    normal = [normal_text(text) for text in table["text"]]
    first = {text: place for place, text in reversed(list(enumerate(normal)))}
    left_out = {text for text, source in zip(normal, table["source"], strict=True) if source in args.leave_out}
    np.save(output / "may_train.npy", np.array(sorted(place for text, place in first.items() if text not in left_out)))
    for entry in args.questions:
        name, _, place = entry.partition("=")
        file, _, column = place.rpartition(":")
        rows = Dataset.from_parquet(file)
        asked: dict[str, str] = {}
        for question, text in zip(rows["question"], map(normal_text, rows[column]), strict=True):
            asked.setdefault(question, text)
        known = [(question, first[text]) for question, text in asked.items() if text in first]
        drawn = np.random.RandomState(0).permutation(len(known))[: args.most_questions]
        np.save(output / f"{name}_gold.npy", np.array([known[i][1] for i in drawn]))
        write(output / f"{name}.parquet", [known[i][0] for i in drawn])
    for entry in args.train:
        name, _, file = entry.partition("=")
        write(output / f"{name}.parquet", Dataset.from_parquet(file)["question"][:])
    write(output / "passages.parquet", table["text"][:])


def write(file: Path, texts: list[str]) -> None:
    """One column, as the benchmarks read it."""
    Dataset.from_dict({"question": texts}).to_parquet(file)


def synsets(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Key, definition and keys of hypernyms of each synset."""
    for part in ("noun", "verb", "adj", "adv"):
        for line in (folder / f"data.{part}").read_text(encoding="latin-1").splitlines():
            if line.startswith("  "):
                continue  # the licence
            facts, _, gloss = line.partition(" | ")
            key, kind = facts.split()[0], facts.split()[2]
            wider = re.findall(r" @i? (\d{8}) (\w) ", facts)
            yield kind + key, gloss.split('; "')[0].strip(), [kind + key for key, kind in wider]


def glosses(args: FolderArguments, output: Path) -> None:
    """Glosses that ask for those of their hypernyms."""
    found = [each for each in synsets(Path(args.wordnet)) if len(each[1].split()) >= FEWEST_WORDS]
    Random(0).shuffle(found)
    unique = list({normal_text(gloss): (key, gloss, wider) for key, gloss, wider in found}.values())[:GLOSSES]
    place = {key: number for number, (key, _, _) in enumerate(unique)}
    answer = {place[key]: [place[up] for up in wider if up in place] for key, _, wider in unique}
    asking = [number for number, wider in answer.items() if len(wider) == 1][:ASKING]
    needed = {answer[number][0] for number in asking}
    asking = [number for number in asking if number not in needed]  # whoever answers does not ask
    others = [number for number in range(len(unique)) if number not in needed and number not in set(asking)]
    index = sorted(needed) + others[: INDEXED - len(needed)]
    at = {number: row for row, number in enumerate(index)}
    np.save(output / "hypernyms_gold.npy", np.array([at[answer[number][0]] for number in asking]))
    np.save(output / "may_train.npy", np.arange(len(index)))
    sets = {
        "hypernyms": asking,
        "train": others[INDEXED - len(needed) :],
        "passages": index,
    }  # whose file says: all is there
    for name, numbers in sets.items():
        write(output / f"{name}.parquet", [unique[number][1] for number in numbers])


def encode(file: Path, name: str, encoder: TextEncoder) -> None:
    """`SET_ENCODER.npy`, float16, a part at a time."""
    texts = Dataset.from_parquet(str(file))["question"][:]
    begun, parts = time.perf_counter(), []
    for start in range(0, len(texts), PART):
        part = file.parent / "parts" / f"{file.stem}_{name}_{start}.npy"
        if not part.exists():
            rows = encoder.encode(texts[start : start + PART], progress=False).half().numpy()
            with staged_file(part) as partial:
                np.save(partial, rows)
            print(f"{file.stem}, {name}: {start + len(rows):,} of {len(texts):,}", flush=True)
        parts.append(np.load(part))
    with staged_file(file.parent / f"{file.stem}_{name}.npy") as partial:
        np.save(partial, np.concatenate(parts))
    print(f"{file.stem}, {name}: {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    (args,) = HfArgumentParser(FolderArguments).parse_args_into_dataclasses()
    if bool(args.passages) == bool(args.wordnet):
        sys.exit("Give one of `passages` and `wordnet`.")
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    if not (output / "passages.parquet").exists():
        (glosses if args.wordnet else passages)(args, output)
    for entry in args.encoders:
        name, _, model = entry.partition("=")
        model, _, layer = model.partition("@")
        wanted = [file for file in sorted(output.glob("*.parquet")) if not (output / f"{file.stem}_{name}.npy").exists()]
        if not wanted:
            continue
        options: dict[str, Any] = {"dtype": torch.bfloat16} if args.bf16 and "wordllama" not in model else {}
        if layer:
            options |= {"layer": int(layer), "prompt": opening_prompt(open_student(model, layer=int(layer)))}
        encoder = TextEncoder(model, max_length=args.max_length, **options)
        for file in sorted(wanted, key=lambda file: file.stat().st_size):  # questions first
            encode(file, name, encoder)


if __name__ == "__main__":
    main()
