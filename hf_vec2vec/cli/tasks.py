"""`evaluate --task`: official figures of a model, or of an adapter on its base, on a benchmark."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path

from datasets import DatasetDict

from ..tasks import evaluate_task, load_task, load_trained_model
from .parsing import named_path, parse


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
    label_map: list[str] | None = field(
        default=None, metadata={"help": "MODEL_NAME=DATA_NAME for every class that the model names otherwise than the data."}
    )
    max_rows: int | None = field(default=None, metadata={"help": "At most so many rows, drawn at random with seed 0."})
    batch_size: int = field(default=32, metadata={"help": "Rows at a time."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens of a row; default: the task's."})
    json: str | None = field(default=None, metadata={"help": "Write the figures to this file, too."})


def run_evaluate_task(argv: list[str]) -> None:
    """Official figures of a model, or of an adapter's folder, on a task."""
    args, folder = parse(run_evaluate_task, "MODEL --task NAME [flags]", argv, [TaskArguments], positional="MODEL")
    label_map = dict(named_path("label_map", pair) for pair in args.label_map) if args.label_map else None
    task = load_task(args.task, args.task_source, language_model=args.language_model, label_map=label_map)
    rows = task.rows(args.split).shuffle(seed=0) if args.max_rows else task.rows(args.split)
    rows = rows.select(range(min(args.max_rows or len(rows), len(rows))))
    task = replace(task, splits=DatasetDict({args.split: rows}))
    model, tokenizer = load_trained_model(folder, task)
    found = evaluate_task(model, tokenizer, task, args.split, batch_size=args.batch_size, max_length=args.max_length)
    facts = {"model": folder, "task": task.name, "split": args.split, "rows": len(rows), "figures": found}
    if args.json:
        Path(args.json).parent.mkdir(parents=True, exist_ok=True)
        Path(args.json).write_text(json.dumps(facts, indent=2, ensure_ascii=False))
    print(f"\n{task.name}, {args.split}, {len(rows):,} rows: " + ", ".join(f"{name} {v:.4g}" for name, v in found.items()))
