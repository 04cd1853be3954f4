"""`evaluate`: figures and pictures of a translator; with --task, figures of a model on a benchmark."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from .checks import check_file, check_folder, check_input, check_model, named_path
from .columns import ColumnFlags
from .flags import flag
from .pairs import PairFlags, load_pairs

if TYPE_CHECKING:
    from ..data.spaces import PairedEmbeddings
    from ..model.modeling_vec2vec import Vec2VecModel
    from ..tasks import Task

SYNOPSIS = "DIR --source NAME=PATH --target NAME=PATH [flags]   or   MODEL --task NAME [flags]"

HUB_SAMPLE = 10  # rows that tell how much of a hub another is


@dataclass(kw_only=True)
class TaskFlags(PairFlags):
    """What a model is asked, instead of a translator."""

    title: ClassVar[str] = "of a model, on a task"

    task: str | None = flag(
        "A GLUE task (sst2, mnli, ...), squad, squad_v2, commonsense_qa, social_iqa, or labelled texts: bbc, "
        "rotten_tomatoes, imdb, sarcasm, a file.",
        None,
    )
    task_source: str | None = flag("Folder with the task's data; default: Hub or wheel.", None)
    split: str = flag("Of the task.", "validation")
    probe: bool = flag("Ask an encoder without a head, by a probe on its frozen vectors that fits the task.", False)
    language_model: bool = flag("Answer without a head: SQuAD in writing, choices by likelihood.", False)
    label_map: list[str] | None = flag(
        "MODEL_NAME=DATA_NAME for every class that the model names otherwise than the data.", None
    )
    max_rows: int | None = flag(
        "At most so many rows (of training rows, too), drawn at random with seed 0.", None, minimum=1
    )
    batch_size: int = flag("Rows at a time.", 32, minimum=1)
    max_length: int | None = flag("Tokens of a row; default: the task's.", None, minimum=1)
    trust_remote_code: bool = flag("Run the code that the model's repository brings along.", False)


@dataclass(kw_only=True)
class EvaluateFlags(TaskFlags):
    """Where the figures go."""

    title: ClassVar[str] = "results"

    output_dir: str | None = flag("For pictures and figures; default: DIR/evaluation (./evaluation for a Hub id).", None)
    corpus: str | None = flag("What the texts are, in a word or two: the card keeps the figures of each corpus.", None)
    correct_hubs: bool = flag("Also top-1 of a search that corrects hubs, rows that lie near to everything.", False)
    json: str | None = flag("Write the figures as JSON to this file, too.", None)

    def __post_init__(self) -> None:
        of_task = set(TaskFlags.__annotations__) - {"title", "task"}
        of_pairs = {*PairFlags.__annotations__, *ColumnFlags.__annotations__, "corpus", "correct_hubs", "output_dir"} - {
            "title"
        }
        if self.probe and (wrong := self.given & {"language_model", "label_map", "batch_size", "max_length"}):
            raise ValueError(
                f"`{min(wrong)}` is for a model with a head, and `probe` asks one without. Leave one of them out."
            )
        if wrong := self.given & (of_pairs if self.task else of_task):
            verb = "is not for a `task`" if self.task else "needs a `task`"
            raise ValueError(f"`{min(wrong)}` {verb}. Leave it out.")


def run(flags: EvaluateFlags) -> None:
    """A table, pictures and a renewed card; with --task, official figures of a model, or an adapter, on a benchmark."""
    if flags.json:
        _check_figures("json", check_file("json", flags.json))
    if flags.task:
        _evaluate_task(flags, flags.task)
    else:
        _evaluate_translator(flags)


def _evaluate_translator(flags: EvaluateFlags) -> None:
    flags.check_folder()
    paths, oracle_paths = flags.paths()
    folder = Path(flags.folder)
    output = Path(flags.output_dir or (folder / "evaluation" if folder.is_dir() else "evaluation"))
    check_folder("output_dir", str(output))
    _check_figures("output_dir", output / "results.json")
    from ..data.spaces import PairedEmbeddings
    from ..data.staging import locked, staged_entries
    from ..evaluation.translation import evaluate_translation
    from ..metrics.tables import markdown_table
    from ..sharing.translator_card import write_model_card
    from ..training.start import load_translator

    model = load_translator(flags.folder)
    pairs = PairedEmbeddings(load_pairs(model, paths, flags))
    oracle_pairs = PairedEmbeddings(load_pairs(model, oracle_paths, flags)) if oracle_paths else None
    if flags.correct_hubs and len(pairs) < HUB_SAMPLE:
        raise ValueError(f"`correct_hubs` needs {HUB_SAMPLE} pairs at least, better 1,000, got {len(pairs)}.")
    source, target = paths
    rows = evaluate_translation(
        _stages(folder) or {"translator": model},
        pairs,
        source=source,
        target=target,
        oracle_pairs=oracle_pairs,
        correct_hubs=flags.correct_hubs,
        seed=flags.seed,
    )
    rows = [row | {"corpus": flags.corpus} for row in rows] if flags.corpus else rows
    print(
        f"\n{len(pairs):,} held-out pairs; ranks of the true target among {len(pairs):,}, by raw cosine. FOSCTTM: fraction "
        "of samples closer than the true match, 0 at best, .5 by chance\n"
    )
    print(markdown_table(rows))
    facts = {"pool_size": len(pairs), "rows": rows}
    with locked(output, argument="output_dir"), staged_entries(output) as beside:
        _write(beside / "results.json", facts)
        drawn = _draw(model, pairs, source, target, beside)
    if flags.json:
        _write(Path(flags.json), facts)
    if (folder / "training.json").exists():  # a card that was not written here is left alone
        write_model_card(folder, results=rows)
    if drawn:
        print(f"\nPictures and figures: {output}/heatmap.png, projection.png, results.json")
    else:
        print('\nNo pictures: matplotlib is missing. Install it with `pip install "hf-vec2vec[figures]"`.')


def _evaluate_task(flags: EvaluateFlags, name: str) -> None:
    check_model("MODEL", flags.folder)
    if flags.task_source:
        check_input("task_source", flags.task_source)
    from dataclasses import replace

    from datasets import DatasetDict

    from ..tasks import evaluate_task, load_task, load_trained_model
    from ..tasks.choice_pairs import suited_to

    label_map = dict(named_path("label_map", pair, exists=False) for pair in flags.label_map) if flags.label_map else None
    task = load_task(name, flags.task_source, language_model=flags.language_model, label_map=label_map)
    if flags.probe:
        _probe(flags, task)
        return
    rows = task.rows(flags.split)
    if flags.max_rows:
        rows = rows.shuffle(seed=0).select(range(min(flags.max_rows, len(rows))))
    task = replace(task, splits=DatasetDict({flags.split: rows}))
    task = suited_to(task, flags.folder, trust_remote_code=flags.trust_remote_code)
    model: Any
    model, tokenizer = load_trained_model(flags.folder, task, trust_remote_code=flags.trust_remote_code)
    found = evaluate_task(
        model,
        tokenizer,
        task,
        flags.split,
        batch_size=flags.batch_size,
        max_length=flags.max_length,
        progress=flags.progress,
    )
    _tell(flags, {"model": flags.folder, "task": task.name, "split": flags.split, "rows": len(rows), "figures": found})


def _probe(flags: EvaluateFlags, task: "Task") -> None:
    from ..encoders.text import TextEncoder
    from ..tasks import TaskVectors, judge

    encoder = TextEncoder(flags.folder, trust_remote_code=flags.trust_remote_code)
    found = judge(TaskVectors(encoder), task, split=flags.split, max_train_rows=flags.max_rows, max_rows=flags.max_rows)
    facts = {"model": flags.folder, "task": task.name, "split": flags.split, "rows": len(found.predictions)}
    _tell(flags, facts | {"figures": found.figures, "probe": True, "train_rows": found.train_rows, "part": found.part})
    if found.part:
        print(f"A part: {found.part}.")


def _tell(flags: EvaluateFlags, facts: dict[str, Any]) -> None:
    """Figures on a task, on the terminal and as JSON."""
    if flags.json:
        _write(Path(flags.json), facts)
    figures = ", ".join(f"{name} {value:.4g}" for name, value in facts["figures"].items())
    print(f"\n{facts['task']}, {facts['split']}, {facts['rows']:,} rows: {figures}")


def _check_figures(argument: str, file: Path) -> None:
    """Raise if a file holds something else than figures of an earlier run, which may be replaced."""
    if not file.exists() or file.stat().st_size == 0:
        return
    try:
        known = "rows" in json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, TypeError, RecursionError):
        known = False
    if not known:
        raise FileExistsError(
            f"`{argument}`: {str(file)!r} holds no figures of an earlier evaluation; it stays. Choose another."
        )


def _write(file: Path, facts: dict[str, Any]) -> None:
    """JSON to a file, which is whole or not there."""
    from ..data.staging import locked, staged_file

    with locked(file, argument="json"), staged_file(file) as beside:
        beside.write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")


def _stages(folder: Path) -> "dict[str, Vec2VecModel]":
    """Both stages of a translator that was trained here, the one that became the translator marked."""
    from ..data.json_files import read_part
    from ..training.start import load_translator

    facts = folder / "training.json"
    if not facts.exists():
        return {}
    kept = read_part(facts, "selection", dict).get("kept")
    names = {"alignment": "alignment alone", "trained": "after adversarial training"}
    found = {stage: folder / stage for stage in names if (folder / stage).is_dir()}
    return {names[stage] + (" (kept)" if stage == kept else ""): load_translator(str(path)) for stage, path in found.items()}


def _draw(model: "Vec2VecModel", pairs: "PairedEmbeddings", source: str, target: str, output: Path) -> bool:
    """Pictures, where matplotlib is installed."""
    try:
        from ..evaluation.figures import heatmap, projection
    except ImportError:
        return False
    heatmap(model, pairs, source, target, output / "heatmap.png")
    projection(model, pairs, source, target, output / "projection.png")
    return True
