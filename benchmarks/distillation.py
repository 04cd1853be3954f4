"""What a stored teacher costs a training run: the same loop with and without distillation, in turn.

    python benchmarks/distillation.py --student paraphrase-MiniLM-L3-v2
    python benchmarks/distillation.py --student SmolLM2-135M-Instruct-Q4_1 --kind causal_lm

The loop trains a LoRA adapter by the task's loss (a classifier) or by next-token cross-entropy (a language model); with
distillation a cosine loss to translated teacher vectors, stored in the data set, comes on top. Runs alternate, so that a
busy machine slows both; the ratio of medians is what counts.
"""

import json
import tempfile
import time
from dataclasses import dataclass, field
from statistics import median

import numpy as np
import torch
from peft import LoraConfig
from transformers import HfArgumentParser, TrainerCallback

from hf_vec2vec import Vec2VecConfig, Vec2VecModel
from hf_vec2vec.data import to_dataset
from hf_vec2vec.distillation import DistillationTrainer, DistillationTrainingArguments, load_student


@dataclass
class CostArguments:
    """Which loop is timed."""

    student: str = field(metadata={"help": "Model that is trained."})
    kind: str = field(default="classifier", metadata={"help": "Of its head.", "choices": ["classifier", "causal_lm"]})
    teacher_dim: int = field(default=768, metadata={"help": "Of the stored vectors."})
    words: int = field(default=25, metadata={"help": "In a text."})
    batch_size: int = field(default=32, metadata={"help": "Texts."})
    steps: int = field(default=20, metadata={"help": "Of a run, the first of which is not timed."})
    repeats: int = field(default=5, metadata={"help": "Runs of each loop."})


class Clock(TrainerCallback):
    """Seconds of every step."""

    def __init__(self):
        self.seconds, self.started = [], None

    def on_step_begin(self, args, state, control, **kwargs):
        self.started = time.perf_counter()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds.append(time.perf_counter() - self.started)


def main() -> None:
    (args,) = HfArgumentParser(CostArguments).parse_args_into_dataclasses()
    found = {False: [], True: []}
    for _ in range(args.repeats):
        for distils in found:
            found[distils] += run(args, distils)
    plain, distilled = (median(found[distils]) for distils in (False, True))
    result = {"step_seconds": plain, "with_distillation": distilled, "ratio": distilled / plain}
    print(json.dumps(vars(args) | result, indent=2))


def run(args: CostArguments, distils: bool) -> list[float]:
    generator = np.random.default_rng(0)
    words = ["alpha", "river", "seven", "cloud", "paper", "green", "music", "stone", "house", "train"]
    count = args.batch_size * args.steps
    texts = [" ".join(generator.choice(words, args.words)) for _ in range(count)]
    data = to_dataset(generator.standard_normal((count, args.teacher_dim), dtype=np.float32), texts)
    data = data.rename_column("embedding", "label").add_column("labels", generator.integers(2, size=count).tolist())
    model, tokenizer, known = load_student(args.student, args.kind, 2 if args.kind == "classifier" else None)
    spaces = {"teacher": args.teacher_dim, "student": model.config.get_text_config().hidden_size}
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        arguments = DistillationTrainingArguments(
            folder,
            **known,
            cosine_weight=float(distils),
            task_weight=float(args.kind == "classifier"),
            lm_loss_weight=float(args.kind == "causal_lm"),
            max_steps=args.steps,
            per_device_train_batch_size=args.batch_size,
            logging_steps=1000,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        trainer = DistillationTrainer(
            model,
            arguments,
            translator=Vec2VecModel(Vec2VecConfig(embedding_dims=spaces)) if distils else None,
            peft_config=LoraConfig(
                r=16, target_modules="all-linear", task_type="SEQ_CLS" if args.kind == "classifier" else None
            ),
            train_dataset=data,
            processing_class=tokenizer,
            callbacks=[clock],
        )
        trainer.train()
    return clock.seconds[1:]


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
