"""`evaluate` and `report`: figures, pictures and a page about a translator."""

import json
from functools import partial
from pathlib import Path

from datasets import Dataset

from ..data.files import load_embeddings
from ..data.spaces import PairedEmbeddings
from ..evaluation.translation import evaluate_translation
from ..metrics.tables import markdown_table
from ..model.modeling_vec2vec import Vec2VecModel
from ..sharing.translator_card import write_model_card
from ..training.recipe import load_translator
from .arguments import EvaluateArguments, ReportArguments
from .parsing import named_path, parse, peek
from .tasks import run_evaluate_task


def run_evaluate(argv: list[str]) -> None:
    """A table, pictures and a renewed card; with --task, official figures of a model on a benchmark."""
    if peek(argv, "--task")[0] is not None:
        run_evaluate_task(argv)
        return
    args, folder = parse(
        run_evaluate, "DIR --source NAME=PATH --target NAME=PATH [flags]", argv, [EvaluateArguments], positional="DIR"
    )
    model = load_translator(folder)
    source, target, loaded, other = _pairs(model, args)
    pairs, oracle_pairs = PairedEmbeddings(loaded), PairedEmbeddings(other) if other else None
    rows_of = _stages(folder) or {"translator": model}
    rows = evaluate_translation(rows_of, pairs, source=source, target=target, oracle_pairs=oracle_pairs, seed=args.seed)
    print(f"\n{len(pairs):,} held-out pairs; ranks of the true target among {len(pairs):,}, by raw cosine\n")
    print(markdown_table(rows))
    local = Path(folder).is_dir()
    output = Path(args.output_dir or (Path(folder) / "evaluation" if local else "evaluation"))
    for file in filter(None, [output / "results.json", args.json and Path(args.json)]):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"pool_size": len(pairs), "rows": rows}, indent=2, ensure_ascii=False))
    if local and (Path(folder) / "training.json").exists():  # a card that was not written here is left alone
        write_model_card(Path(folder), results=rows)
    _draw(model, pairs, source, target, output)


def run_report(argv: list[str]) -> None:
    """One page about one translator: translation, attributes, inversion, pictures."""
    args, folder = parse(
        run_report,
        "DIR --source NAME=PATH --target NAME=PATH --output_dir OUT [flags]",
        argv,
        [ReportArguments],
        positional="DIR",
    )
    try:
        from ..evaluation import report
    except ModuleNotFoundError as error:
        raise ImportError(f'A report needs {error.name}, which is missing: pip install "hf-vec2vec[report]"') from error

    model = load_translator(folder)
    source, target, loaded, other = _pairs(model, args)
    if other is None:
        half = len(loaded[source]) // 2
        other = {name: data.select(range(half, len(data))) for name, data in loaded.items()}
        loaded = {name: data.select(range(half)) for name, data in loaded.items()}
    subject = report.Subject(
        name=Path(folder).resolve().name,
        model=model,
        source=source,
        target=target,
        pairs=PairedEmbeddings(loaded),
        others=PairedEmbeddings(other),
        texts=report.texts_of(loaded[source]),
        other_texts=report.texts_of(other[source]),
        encode=report.recorded_encoders(model.config),
        **report.training_record(Path(folder)),
        seed=args.seed,
    )
    corpora = {name: partial(report.load_corpus, name, args.max_texts, args.seed) for name in args.labelled}
    output = Path(args.output_dir)
    sections = report.write_report(
        subject,
        corpora,
        output,
        foreign_texts=partial(report.load_foreign, args.out_of_domain) if args.out_of_domain else None,
        inverter=(args.inverter_model, args.inverter_steps) if args.inverter_model else None,
        with_privacy=args.privacy,
        show_texts=args.show_texts,
    )
    for section in sections:
        print(f"{section.title}: {'not made: ' + section.error if section.error else 'done'}")
    print(f"\n{output}/report.html, report.json")


def _pairs(
    model: Vec2VecModel, args: EvaluateArguments | ReportArguments
) -> tuple[str, str, dict[str, Dataset], dict[str, Dataset] | None]:
    """Both spaces' names, held-out pairs and, if given, other pairs for the oracles."""
    (source, source_path), (target, target_path) = named_path("source", args.source), named_path("target", args.target)
    if source == target:
        raise ValueError(f"`source` and `target` both name {source!r}; they must be two spaces of the model.")
    for argument, name in (("source", source), ("target", target)):
        if name not in model.config.spaces:
            raise ValueError(f"`{argument}` names {name!r}, which this model does not know. It has {model.config.spaces}.")
    loaded, other = {source: load_embeddings(source_path), target: load_embeddings(target_path)}, None
    if (args.oracle_source is None) != (args.oracle_target is None):
        raise ValueError("`oracle_source` and `oracle_target` go together: give both or neither.")
    if args.oracle_source:
        paths = dict([named_path("oracle_source", args.oracle_source), named_path("oracle_target", args.oracle_target)])
        if set(paths) != {source, target}:
            raise ValueError(f"`oracle_source` and `oracle_target` must name {source!r} and {target!r}, got {list(paths)}.")
        other = {name: load_embeddings(path) for name, path in paths.items()}
    return source, target, loaded, other


def _stages(folder: str) -> dict[str, Vec2VecModel]:
    """Both stages of a translator that was trained here, the one that became the translator marked."""
    facts = Path(folder) / "training.json"
    if not facts.exists():
        return {}
    kept = json.loads(facts.read_text()).get("selection", {}).get("kept")
    names = {"alignment": "alignment alone", "trained": "after adversarial training"}
    found = {stage: Path(folder) / stage for stage in names if (Path(folder) / stage).is_dir()}
    return {names[stage] + (" (kept)" if stage == kept else ""): load_translator(str(path)) for stage, path in found.items()}


def _draw(model: Vec2VecModel, pairs: PairedEmbeddings, source: str, target: str, output: Path) -> None:
    try:
        from ..evaluation.figures import heatmap, projection
    except ImportError:
        print('\nNo pictures: matplotlib is missing. Install it with `pip install "hf-vec2vec[figures]"`.')
        return
    heatmap(model, pairs, source, target, output / "heatmap.png")
    projection(model, pairs, source, target, output / "projection.png")
    print(f"\nPictures and figures: {output}/heatmap.png, projection.png, results.json")
