"""What a translator starts from: an alignment of the two spaces, or random weights."""

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import set_seed

from ..alignment.aligner import align
from ..alignment.statistics import fit_statistics
from ..alignment.usable_rows import usable_rows
from ..alignment.verdict import AlignmentReport
from ..data.json_files import read_object
from ..data.spaces import UnpairedEmbeddings
from ..data.staging import staged_folder
from ..encoders.folders import is_sentence_transformer
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel
from .fingerprint import Fingerprint, tensors_digest
from .translator_arguments import TranslatorArguments

REPORT = "report.json"


def starting_model(
    rows: UnpairedEmbeddings,
    args: TranslatorArguments,
    seed: int,
    anchors: tuple[Tensor, Tensor] | None = None,
    *,
    device: str | None = None,
    progress: bool = True,
) -> tuple[Vec2VecModel, AlignmentReport | None]:
    """A translator that has not been trained, and the report of its alignment if it is one.

    Args:
        rows: to align.
        args: start and shape.
        seed: of everything random.
        anchors: known pairs, for the alignment.
        device: where it runs; default: a GPU if there is one.
        progress: show its bar.
    """
    set_seed(seed)  # hidden weights that have no effect yet are drawn at random
    config = args.config(rows.dims)  # names that a model cannot have fail before the alignment, not after
    if args.init == "alignment":
        (source, x), (target, y) = rows.spaces.items()
        options = replace(args.alignment_options(seed), device=device, progress=progress)
        alignment = align(x, y, options, source_name=source, target_name=target, anchors=anchors)
        if alignment.interrupted:  # half of an alignment must not be taken for a whole one when the run is resumed
            raise KeyboardInterrupt
        shape = args.shape()
        if alignment.residuals:
            shape.pop("hidden_dim", None)  # it is that of the networks, which few rows make narrower
        model = Vec2VecModel.from_alignment(alignment, allow_not_aligned=args.allow_not_aligned, **shape)
        return model, alignment.report
    model = Vec2VecModel(config)
    for name, values in rows.spaces.items():
        usable = usable_rows(values, name, values.device).rows  # none twice, no garbage, as an alignment has them
        mean, scale = fit_statistics(usable, args.standardizes)
        model.normalizers[name].load_state_dict({"mean": mean, "scale": scale})
    return model, None


def start_fingerprint(
    rows: UnpairedEmbeddings, args: TranslatorArguments, seed: int, anchors: tuple[Tensor, Tensor] | None = None
) -> Fingerprint:
    """What a starting model is made of."""
    hashes = {f"rows of {name!r}": tensors_digest([(name, values)]) for name, values in rows.spaces.items()}
    if anchors is not None:
        hashes["known pairs"] = tensors_digest(zip(rows.spaces, anchors, strict=True))
    return Fingerprint(hashes, {"seed": seed} | args.shaping())


def save_start(model: Vec2VecModel, report: AlignmentReport | None, made_of: Fingerprint, folder: Path) -> None:
    """Leave a start in a folder, whole: a run that is stopped early goes on from it."""
    with staged_folder(folder, ours=["*"]) as partial:
        model.save_pretrained(partial)
        (partial / REPORT).write_text(json.dumps(report and report.to_dict(), indent=2))
        made_of.save(partial)


def saved_start(folder: Path) -> tuple[Vec2VecModel, AlignmentReport | None]:
    """The start that an earlier run left, and its report, which starts of earlier versions lack."""
    file = folder / REPORT
    return load_translator(str(folder)), _saved_report(file) if file.exists() else None


def _saved_report(file: Path) -> AlignmentReport | None:
    if file.read_bytes().strip() == b"null":
        return None
    known = {"shares": {}} | read_object(file)  # which starts of earlier versions lack
    try:
        return AlignmentReport(**{field.name: known[field.name] for field in fields(AlignmentReport)})
    except KeyError as error:
        raise ValueError(f"{str(file)!r} is damaged: {error} is missing. Start the run anew.") from error


def load_translator(folder: str, dtype: torch.dtype | Literal["auto"] = torch.float32) -> Vec2VecModel:
    """`Vec2VecModel.from_pretrained` with an error that says what a folder lacks.

    Args:
        folder: of the translator, or its Hub id.
        dtype: of the weights; `auto` is that of the files.

    Raises:
        FileNotFoundError: if the folder has no config.
        ValueError: if it is another model, or weights are truncated or damaged, or do not fit the config.
    """
    path = Path(folder)
    if is_sentence_transformer(path):
        raise ValueError(f"{folder!r} holds an encoder of sentence-transformers, and no translator.")
    if path.is_dir() and not (path / "config.json").exists():
        raise FileNotFoundError(f"{folder!r} holds no translator: there is no config.json in it.")
    if path.is_dir() and (kind := _model_type(path / "config.json")) != Vec2VecConfig.model_type:
        raise ValueError(f"{folder!r} holds a model of the kind {kind!r}, and no translator.")
    return Vec2VecModel.from_pretrained(folder, dtype=dtype)


def _model_type(file: Path) -> str:
    """What a config says of its model; a translator's, where it says nothing or is damaged, which loading tells better."""
    try:
        return read_object(file).get("model_type", Vec2VecConfig.model_type)
    except ValueError:
        return Vec2VecConfig.model_type
