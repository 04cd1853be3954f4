"""The card of a translator, written from what its folder and its run know."""

import hashlib
import html
import json
import os
import platform
import re
from pathlib import Path

import torch
import transformers
from huggingface_hub import (
    _CACHED_NO_EXIST,
    EvalResult,
    ModelCard,
    ModelCardData,
    hf_hub_download,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from jinja2 import TemplateError

from ..data.json_files import read_object
from ..data.overlap import NOT_CHECKED, NOTHING_TO_COMPARE, ON_A_SAMPLE, TEXTS_COMPARED, VECTORS_COMPARED
from ..encoders.bundled import BUNDLED
from ..metrics.tables import markdown_table
from ..model.configuration_vec2vec import Vec2VecConfig
from ..version import __version__

TEMPLATE = Path(__file__).parent.parent / "templates" / "model_card.md"
FACTS = "training.json"
CARD_HASH = "card_sha256"
METRICS = {"cosine": "Cosine", "centred_cosine": "Centred cosine", "top1": "Top-1", "mean_rank": "Mean rank"}
METRICS |= {"foscttm": "FOSCTTM"}
UNLIMITED = 10**6  # tokens: what static embeddings have in place of a limit
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


def write_model_card(
    folder: Path, facts: dict | None = None, results: list[dict] | None = None, *, name: str | None = None
) -> None:
    """Write `README.md` of a translator's folder, and `training.json`, which it can be written from again.

    Args:
        folder: with the translator's `config.json`.
        facts: of [`Vec2VecTrainer.facts`]; those in `training.json` by default.
        results: rows of `evaluate_translation`, each with the name of its texts in `corpus` where there is one. They take
            the place of those of the same corpus and direction; others stay.
        name: what to load it by; the folder's name by default.

    Raises:
        ValueError: for facts that no run writes.
    """
    facts = read_facts(folder) if facts is None else facts
    if results is not None:
        new = {(row.get("corpus"), row["direction"]) for row in results}
        others = [row for row in facts.get("results") or [] if (row.get("corpus"), row["direction"]) not in new]
        facts = facts | {"results": others + results}
    write_card(folder, FACTS, facts, str(model_card(folder, facts, name=name)))


def write_card(folder: Path, record: str, facts: dict, text: str) -> None:
    """Write a card and the record of its facts, which keeps a hash of it: a later run replaces no card of another hand."""
    write_whole(folder / record, json.dumps(facts | {CARD_HASH: _hash(text)}, indent=2, ensure_ascii=False))
    write_whole(folder / "README.md", text)


def is_own_card(folder: Path, record: str) -> bool:
    """Whether the `README.md` of a folder, if there is one, is as this package wrote it."""
    card = folder / "README.md"
    if not card.exists():
        return True
    text = card.read_text(encoding="utf-8", errors="replace")
    facts = read_object(folder / record) if (folder / record).exists() else {}
    # Versions before this one kept no hash.
    return facts[CARD_HASH] == _hash(text) if CARD_HASH in facts else bool(facts) and "hf_vec2vec" in text


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_whole(file: Path, text: str) -> None:
    """Write text, or leave the file as it was: on a full disk too."""
    partial = file.with_name(f".partial-{file.name}")
    try:
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, file)
    except OSError as error:  # of a full disk, which names no file
        raise type(error)(error.errno, error.strerror, str(file)) from error
    finally:
        partial.unlink(missing_ok=True)


def write_published_facts(folder: Path, facts: dict, text: str) -> None:
    """Write `training.json` for others, with the hash of its card: it keeps a verdict where the translator goes.

    Of paths of this machine only the names are left.

    Args:
        folder: that is published.
        facts: see `write_model_card`.
        text: of the card.
    """
    encoders = {
        space: record | {"model": portable_name(record["model"])} if record and record.get("model") else record
        for space, record in (facts.get("encoders") or {}).items()
    }
    files = {space: Path(file).name for space, file in (facts.get("files") or {}).items()}
    known = facts | {"encoders": encoders, "files": files, CARD_HASH: _hash(text)}
    write_whole(folder / FACTS, json.dumps(known, indent=2, ensure_ascii=False))


def portable_name(model: str) -> str:
    """A model's name elsewhere. Of a folder of this machine, whose path is nobody's business, its own, as `./NAME`.

    Without the dot it would read as the id of whatever the Hub has under that name.
    """
    return f"./{Path(model).resolve().name}" if Path(model).is_dir() or Path(model).is_absolute() else model


def read_facts(folder: str | Path) -> dict:
    """What `training.json` of a translator says of the run; nothing where there is none.

    Args:
        folder: of the translator, or its Hub id.

    Raises:
        OSError: if the Hub does not give the file, and has not said either that there is none.
    """
    file = Path(folder) / FACTS
    if not Path(folder).is_dir():
        try:
            file = Path(hf_hub_download(str(folder), FACTS))
        except LocalEntryNotFoundError as error:  # without a network, and with one that fails
            if try_to_load_from_cache(str(folder), FACTS) is _CACHED_NO_EXIST:
                return {}
            reason = " ".join(str(error).split())
            raise OSError(f"{str(folder)!r}: its {FACTS} cannot be fetched from the Hub. {reason}") from error
        except EntryNotFoundError:
            return {}
    return read_object(file) if file.exists() else {}


def verdict_of(folder: str) -> str | None:
    """The verdict on the alignment that a translator began with, where it is recorded; arguments and errors as there."""
    report = read_facts(folder).get("report")
    return report.get("verdict") if isinstance(report, dict) else None


def model_card(folder: Path, facts: dict, *, name: str | None = None) -> ModelCard:
    """The card of the translator in a folder.

    Args:
        folder: with `config.json`.
        facts: see `write_model_card`. What they lack the card does not mention.
        name: what to load it by; the folder's name by default.

    Raises:
        ValueError: for facts that no run writes.
    """
    config = Vec2VecConfig.from_pretrained(folder)
    try:
        return _card(config, facts, name or folder.name)
    except (TypeError, KeyError, AttributeError, IndexError, ValueError, TemplateError) as error:
        raise ValueError(
            f"The card of {str(folder)!r} cannot be written, for what is recorded of the run (`{FACTS}`) or of the encoders "
            f"(`config.json`) is damaged: {type(error).__name__}: {' '.join(str(error).split())}."
        ) from error


def _card(config: Vec2VecConfig, facts: dict, name: str) -> ModelCard:
    results, texts = facts.get("results") or [], facts.get("texts") or ""
    shown = harmless(facts)
    known = config.encoders or facts.get("encoders", {})  # in the config since checkpoints record it
    recorded = {space: known.get(space) or {} for space in config.spaces}
    encoders = {space: record if isinstance(record.get("model"), str) else None for space, record in recorded.items()}
    data = ModelCardData(
        license="apache-2.0",
        library_name="hf_vec2vec",
        tags=["vec2vec", "embedding-translation", "unpaired", "sentence-similarity"],
        base_model=_base_models(encoders),
        model_name=name.split("/")[-1],
        eval_results=_eval_results(results) or None,
    )
    return ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        spaces=config.spaces,
        two_maps=config.linear_maps,
        dims=config.embedding_dims,
        rows={space: f"{count:,}{_of_file(facts, space)}" for space, count in facts.get("rows", {}).items()},
        made_by={space: _made_by(encoder) for space, encoder in encoders.items()},
        name=harmless(name),
        facts=shown,
        texts=_cell(texts),
        verdict=_alignment_verdict(shown.get("report")),
        unpaired=_unpaired(facts.get("unpaired", "not recorded")),
        texts_compared=facts.get("unpaired") == TEXTS_COMPARED,
        selection=_selection(facts.get("selection", {})),
        tables=_tables(shown["results"]) if results else [],
    )


def _tables(rows: list[dict]) -> list[dict[str, str]]:
    """A table for each corpus and number of pairs, which decides what a rank is worth, and its title."""
    groups: dict[str, list[dict]] = {}
    for row in rows:
        of = f"Held-out pairs of {_cell(row['corpus'])}" if row.get("corpus") else "Held-out pairs"
        groups.setdefault(f"{of}, pool of {row['pool_size']:,}", []).append(row)
    return [{"title": title, "table": markdown_table(group)} for title, group in groups.items()]


def surroundings() -> dict:
    """Versions and hardware, for the card."""
    threads = torch.get_num_threads()
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    versions = {"hf_vec2vec": __version__, "transformers": transformers.__version__, "torch": torch.__version__}
    return {
        "versions": versions | {"Python": platform.python_version()},
        "hardware": ", ".join(gpus) or f"{threads} thread{'s' * (threads > 1)} of a CPU ({platform.machine()})",
    }


def harmless(value):
    """A fact of a run, or what facts are in it: text in one line, and no mark-up of HTML in it."""
    if isinstance(value, dict):
        return {harmless(key): harmless(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [harmless(inner) for inner in value]
    return html.escape(" ".join(value.split()), quote=False) if isinstance(value, str) else value


def _base_models(encoders: dict[str, dict | None]) -> list[str] | None:
    models = [encoder["model"] for encoder in encoders.values() if encoder]
    ids = [BUNDLED[m].hub_id if m in BUNDLED else m for m in models if not Path(m).is_dir()]
    # A local folder, there or not, means nothing on another machine.
    return [i for i in ids if HUB_ID.fullmatch(i)] or None


def _eval_results(rows: list[dict]) -> list[EvalResult]:
    """The translator's own figures, each direction a data set of its own."""
    own = [row for row in rows if row["kind"] == "translator" and row["method"].endswith(("(kept)", "translator"))]
    return [
        EvalResult(
            task_type="embedding-translation",
            task_name="Translation between embedding spaces",
            dataset_type="held-out-pairs",
            dataset_name=f"{_of_corpus(row)}{row['pool_size']:,} held-out pairs, {row['direction']}",
            dataset_config=f"{_of_corpus(row)}{row['direction']}",  # results of one configuration are taken together
            metric_type=metric,
            metric_name=title,
            metric_value=round(row[metric], 6 if metric == "foscttm" else 4),
        )
        for row in own
        for metric, title in METRICS.items()
        if metric in row  # figures of earlier versions have fewer
    ]


def _of_corpus(row: dict) -> str:
    return f"{row['corpus']}: " if row.get("corpus") else ""


def _made_by(encoder: dict | None) -> str:
    if encoder is None:
        return "an encoder that was not recorded"
    name = encoder["model"] if HUB_ID.fullmatch(encoder["model"]) else Path(encoder["model"]).name
    norm = ["norm 1"] if encoder.get("normalize") else []
    if encoder.get("modality") == "image":
        return _cell(", ".join([name, "image side", *norm]))
    pooling = encoder.get("pooling", "mean")
    parts = [name, "text side" if pooling == "projection" else f"{pooling} pooling of layer {encoder.get('layer', -1)}"]
    if encoder.get("mask_first_token"):
        parts.append("first token masked")
    if encoder.get("prompt"):
        parts.append(f"prompt {encoder['prompt']!r}")
    parts += norm
    if (length := encoder.get("max_length", UNLIMITED)) < UNLIMITED:
        parts.append(f"at most {length:,} tokens")
    return _cell(", ".join(parts))


def _of_file(facts: dict, space: str) -> str:
    file = facts.get("files", {}).get(space)
    return f" of {_cell(file)}" if file else ""


def _cell(text: str) -> str:
    """Foreign text for a cell or a sentence: no mark-up of its own."""
    return re.sub(r"([|`*_\[\]\\])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def _unpaired(how: str) -> str:
    """What is known of texts that both sides may share: no more than what was compared."""
    where = " in a sample of the rows" if how.endswith(ON_A_SAMPLE) else ""
    unknown = "texts were not given with all vectors, so it could not be checked that none is on both sides."
    said = {
        TEXTS_COMPARED: f"no text was on both sides{where}; texts were compared without case, white space and Unicode "
        "forms.",
        VECTORS_COMPARED: f"{unknown} The vectors were compared{where}: they are not the same rows, nor the same ones "
        "scaled or rounded, nor, as a whole, rotated. Vectors of one text by two encoders would not be found so.",
        NOTHING_TO_COMPARE: unknown,
        NOT_CHECKED: "it was not checked whether texts were on both sides.",
    }
    found = said.get(how.removesuffix(ON_A_SAMPLE), "how the rows were chosen is not recorded.")
    return found[0].upper() + found[1:]


def _alignment_verdict(report: dict | None) -> str:
    if report is None:
        return ""
    return (
        f"Verdict on the alignment, from unpaired rows alone: **{report['verdict']}** (score {report['score']:.3f}, "
        f"{report['null_score']:.3f} by chance, {report['ceiling']:.3f} for two samples of one space; consensus of "
        f"independent guesses {report['consensus']:.2f})."
    )


def _selection(selection: dict) -> str:
    if "before" not in selection:
        return ""
    if "after" not in selection:
        return "No adversarial training followed."
    kept = "its result" if selection["kept"] == "trained" else "the alignment, for the score rose by less than two errors"
    return (
        f"Adversarial training took the alignment score on held-out unpaired rows from {selection['before']:.4f} "
        f"(standard error {selection['error']:.4f}) to {selection['after']:.4f}; kept: {kept}."
    )
