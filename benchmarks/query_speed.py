"""Query encoders on one core: a query, many, and the first answer of a new process; by torch, by ONNX and in int8.

    python benchmarks/query_speed.py --output OUT --models l3=paraphrase-MiniLM-L3-v2 wl=wordllama-256 --texts nq.parquet

Each student gets a projection to `--dim`, and is saved. Times are of the processor (user and system, one thread), which
other work on the machine changes less than the clock's. The first answer is a new interpreter's: it imports, opens the
encoder and an index of `--rows` vectors, encodes one query and multiplies. Cosines are of query vectors to torch's. Writes
`speed.md`.
"""

import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from transformers import HfArgumentParser

from hf_vec2vec.data import load_texts
from hf_vec2vec.deployment.query_export import export_query_encoder
from hf_vec2vec.distillation.query_encoder import query_encoder
from hf_vec2vec.distillation.query_starts import random_projection
from hf_vec2vec.distillation.query_students import open_student

COMPARED = 64  # texts that the export looks at
TORCH = """
from sentence_transformers import SentenceTransformer

encoder = SentenceTransformer({encoder!r}, device="cpu", local_files_only=True)
ask = encoder.encode_query
"""
ONNX = """
import numpy, onnxruntime
from tokenizers import Tokenizer

tokenizer = Tokenizer.from_file({encoder!r} + "/tokenizer.json")
tokenizer.enable_padding()
options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({graph!r}, options)

def ask(texts):
    tokens = tokenizer.encode_batch(texts, add_special_tokens={special!r})
    ids = numpy.array([each.ids for each in tokens])
    mask = numpy.array([each.attention_mask for each in tokens])
    return session.run(["embeddings"], {{"input_ids": ids, "attention_mask": mask}})[0]
"""
SEARCH = """
import numpy

(rows := numpy.load({index!r}) @ ask([{query!r}])[0]).argpartition(-10)[-10:]
"""


@dataclass
class SpeedArguments:
    """What is timed, and where results go."""

    output: str = field(metadata={"help": "Folder of the results, and of the encoders."})
    models: list[str] = field(metadata={"help": "NAME=MODEL."})
    texts: str = field(metadata={"help": "Queries."})
    column: str = field(default="question", metadata={"help": "Of the texts."})
    queries: int = field(default=256, metadata={"help": "That are timed."})
    repeats: int = field(default=3, metadata={"help": "Of a first answer; the median counts."})
    dim: int = field(default=384, metadata={"help": "Of the index."})
    rows: int = field(default=33365, metadata={"help": "Of the index."})


def first_answer(code: str, repeats: int) -> float:
    """Processor seconds of a new interpreter that runs `code`."""
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-c", code], check=True, stderr=subprocess.DEVNULL, env=os.environ)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    return median(found)


def timed(ask: Callable[[list[str]], np.ndarray], texts: list[str]) -> list[float]:
    """Processor seconds a query: one at a time, and 64 at a time."""
    ask(texts[:8])
    seconds = []
    for size in (1, 64):
        begun = time.process_time()
        for first in range(0, len(texts), size):
            ask(texts[first : first + size])
        seconds.append((time.process_time() - begun) / len(texts))
    return seconds


def by_onnx(code: str) -> Callable[[list[str]], np.ndarray]:
    names: dict = {}
    exec(code, names)
    return names["ask"]


def rows_of(args: SpeedArguments, name: str, model: str, texts: list[str]) -> list[str]:
    """Lines of the table for one student."""
    folder, index = Path(args.output) / name, str(Path(args.output) / "index.npy")
    student = open_student(model)
    encoder = query_encoder(student, random_projection(student.get_embedding_dimension() or 0, args.dim))
    encoder.save(str(folder))
    encoder = SentenceTransformer(str(folder), device="cpu")
    exact = encoder.encode_query(texts, show_progress_bar=False)
    special = hasattr(encoder[0], "model")  # a static encoder has none
    ways = {"torch": (TORCH.format(encoder=str(folder)), lambda some: encoder.encode_query(some, show_progress_bar=False))}
    size = {"torch": sum(file.stat().st_size for file in folder.rglob("*.safetensors"))}
    for kind in ("onnx", "int8"):
        graph = folder / f"{kind}.onnx"
        export_query_encoder(encoder, graph, texts[:COMPARED], format=kind, overwrite=True)
        code = ONNX.format(encoder=str(folder), graph=str(graph), special=special)
        ways[kind], size[kind] = (code, by_onnx(code)), graph.stat().st_size
    lines = []
    for kind, (code, ask) in ways.items():
        single, many = timed(ask, texts)
        first = first_answer(code + SEARCH.format(index=index, query=texts[0]), args.repeats)
        cosines = (ask(texts) * exact).sum(1)
        figures = (
            f"{size[kind] / 1e6:.0f}",
            f"{1000 * single:.2f}",
            f"{1 / many:,.0f}",
            f"{1000 * first:,.0f}",
            f"{np.median(cosines):.4f}",
            f"{cosines.min():.4f}",
        )
        lines.append(f"| {name}, {kind} | " + " | ".join(figures) + " |")
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    (args,) = HfArgumentParser(SpeedArguments).parse_args_into_dataclasses()
    torch.set_num_threads(1)
    os.environ |= {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    output = Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    np.save(output / "index.npy", np.random.default_rng(0).standard_normal((args.rows, args.dim), dtype=np.float32))
    texts = load_texts(args.texts, column=args.column)[: args.queries]
    head = ("", "MB", "ms a query", "queries a second, 64 at a time", "ms to the first answer", "cosine: median", "least")
    lines = ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
    for entry in args.models:
        lines += rows_of(args, *entry.split("="), texts)
    (output / "speed.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
