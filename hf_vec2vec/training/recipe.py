"""From unpaired vectors to a translator on disk: align, train, select without pairs, save."""

import json
import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from transformers import set_seed

from ..alignment.aligner import align
from ..alignment.options import PROTOTYPES
from ..alignment.statistics import fit_statistics
from ..data.spaces import UnpairedEmbeddings
from ..data.streaming import StreamedEmbeddings
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel
from .arguments import Vec2VecTrainingArguments
from .checkpoints import STATE, check_checkpoint, newest_checkpoint
from .energy import EnergyMeter
from .trainer import Vec2VecTrainer

REPORT = "report.json"
KEPT = {"alignment": "alignment alone", "trained": "model after adversarial training"}


@dataclass
class TranslatorArguments:
    """How the translator starts and what it looks like."""

    _argument_group_name = "start and shape"

    init: str = field(
        default="alignment",
        metadata={
            "help": "Start from the geometry of the two spaces, or at random.",
            "choices": ["alignment", "random"],
        },
    )
    align_starts: int = field(default=24, metadata={"help": "First guesses that the alignment tries at most."})
    align_steps: int = field(default=20, metadata={"help": "Fine steps that refine the best guesses."})
    allow_not_aligned: bool = field(
        default=False, metadata={"help": "Go on where the alignment's verdict is 'not aligned'."}
    )
    standardize: str = field(
        default="auto",
        metadata={
            "help": "Scale each dimension by itself, as language models need.",
            "choices": ["auto", "true", "false"],
        },
    )
    architecture: str = field(default="default", metadata={"help": "Of the network.", "choices": ["default", "paper"]})
    hidden_dim: int | None = field(default=None, metadata={"help": "Width of hidden layers; an alignment's: prototypes."})
    adapter_layers: int | None = field(default=None, metadata={"help": "Hidden layers of each adapter."})
    backbone_layers: int | None = field(default=None, metadata={"help": "Hidden layers of the backbone."})
    dropout: float | None = field(default=None, metadata={"help": "Dropout after hidden layers."})
    validation_rows: int = field(
        default=1000, metadata={"help": "Unpaired rows of each space kept out of training, to choose a checkpoint."}
    )
    align_rows: int = field(
        default=50_000, metadata={"help": "Rows of each stream that the alignment sees, drawn from all over it."}
    )
    texts: str | None = field(default=None, metadata={"help": "What the texts were, in a few words: for the card."})
    overwrite: bool = field(default=False, metadata={"help": "Replace the model in `output_dir` if there is one."})

    def config_kwargs(self) -> dict:
        """The fields of `Vec2VecConfig` that were set."""
        names = ("hidden_dim", "adapter_layers", "backbone_layers", "dropout")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


def train_translator(
    spaces: UnpairedEmbeddings | StreamedEmbeddings,
    translator_args: TranslatorArguments,
    training_args: Vec2VecTrainingArguments,
    encoders: dict[str, dict | None],
    files: dict[str, str] | None = None,
) -> Vec2VecModel:
    """Train a translator and leave it, its card and its log in `training_args.output_dir`.

    Both stages are saved beside it, in `alignment/` and `trained/`. What comes out of adversarial training becomes the
    translator only if it raises the alignment score, on held-out unpaired rows, by more than two standard errors. (Its
    checkpoint was chosen on the same rows, which favours it a little; the bar is high for that reason, too.)

    Args:
        spaces: training vectors. Of streams the alignment sees a sample, and what chooses a checkpoint is told by its hash.
        translator_args: start and shape.
        training_args: of the trainer; `num_train_epochs=0` leaves the alignment as it is.
        encoders: how the vectors of each space were made, where that is known; for the config.
        files: names of the files that they came from; for the card.

    Raises:
        FileExistsError, FileNotFoundError: see `check_output_dir`.
        ValueError: if there are too few rows, or arguments that do not go together.
    """
    output = Path(training_args.output_dir)
    resume = check_output_dir(translator_args, training_args)
    trains = training_args.num_train_epochs > 0 or training_args.max_steps > 0
    training, aligned_on, validation = _split(spaces, translator_args, training_args.seed)
    if trains and training is not aligned_on:
        Vec2VecTrainer.check_streaming(training_args)  # before the alignment, not after
    aligned = translator_args.init == "alignment"
    replaced, before = output / ".replaced", EnergyMeter.start()
    with training_args.main_process_first(local=False):
        if resume and aligned:
            model, report = _saved_alignment(resume.parent / "alignment")
        elif training_args.should_save or not aligned:
            model, report = _starting_model(aligned_on, translator_args, training_args.seed)
        else:
            model, report = _saved_alignment(output / "alignment")
        model.config.encoders = encoders
        if training_args.should_save and not resume:
            _move_aside(output, replaced)
        if aligned and training_args.should_save:
            _save_alignment(model, report, output)
    cost = before.cost()
    set_seed(training_args.seed)  # so that discriminators start alike, whether the alignment was computed or loaded
    trainer = Vec2VecTrainer(model, training_args, train_dataset=training if trains else aligned_on, eval_dataset=validation)
    trainer.record = {
        "rows": {name: len(rows) for name, rows in aligned_on.spaces.items()},
        "validation_rows": min(map(len, validation.spaces.values())),
        "files": files or {},
        "texts": translator_args.texts,
        "unpaired": aligned_on.checked,
        "init": translator_args.init,
        "report": report,
    }
    if aligned and not resume:
        trainer.record |= {"alignment_seconds": cost["seconds"], "alignment_watt_hours": cost["watt_hours"]}
    start = trainer.evaluate()
    selection = {"before": start["eval_alignment_score"], "error": start["eval_alignment_score_error"]}
    selection["kept"] = "alignment" if aligned else "trained"
    if trains:
        trainer.train(resume_from_checkpoint=str(resume) if resume and (resume / STATE).exists() else None)
        selection["after"] = trainer.evaluate()["eval_alignment_score"]
        if training_args.should_save:
            trainer.translator.save_pretrained(output / "trained")
        if selection["after"] > selection["before"] + 2 * selection["error"]:
            selection["kept"] = "trained"
    if training_args.should_save:
        if selection["kept"] == "alignment":
            trainer.model.vec2vec = load_translator(str(output / "alignment"))
        trainer.translator.save_pretrained(output)
        trainer.state.save_to_json(str(output / "trainer_state.json"))
        trainer.record["selection"] = selection
        trainer.create_model_card()
        shutil.rmtree(replaced, ignore_errors=True)
        print(_verdict(selection))
        if training_args.push_to_hub:
            trainer.push_to_hub()
    return trainer.translator


def _split(
    spaces: UnpairedEmbeddings | StreamedEmbeddings, args: TranslatorArguments, seed: int
) -> tuple[UnpairedEmbeddings | StreamedEmbeddings, UnpairedEmbeddings, UnpairedEmbeddings]:
    """What is trained on, what is aligned (the same, or a sample of it), and what chooses a checkpoint."""
    if isinstance(spaces, StreamedEmbeddings):
        return spaces.split(args.validation_rows, sample_rows=args.align_rows, seed=seed)
    held_out = min(args.validation_rows, min(map(len, spaces.spaces.values())) // 5)
    if held_out < 2:
        raise ValueError(f"`validation_rows` leaves {held_out} rows to choose a checkpoint on; it needs at least 2.")
    training, validation = spaces.split(held_out, seed=seed)
    training.checked = spaces.checked
    return training, training, validation


def check_output_dir(translator_args: TranslatorArguments, training_args: Vec2VecTrainingArguments) -> Path | None:
    """Raise, before any work, if the output folder holds what would be lost; give what to go on from.

    Returns:
        The checkpoint to resume from; the alignment, if the run was stopped before its first checkpoint; or `None`.

    Raises:
        FileExistsError: if the folder holds a model or parts of one, and neither `overwrite` nor resuming was asked for.
        FileNotFoundError: if there is nothing to resume from.
        ValueError: if the checkpoint is truncated; with several, if all are.
    """
    output = Path(training_args.output_dir)
    resume = _place_to_resume(output, training_args)
    goes_on_here = resume is not None and resume.resolve().parent == output.resolve()
    if (found := _parts(output)) and not (translator_args.overwrite or goes_on_here):
        raise FileExistsError(
            f"`output_dir` {str(output)!r} holds a model already ({found[0].name}). Choose another folder, go on with "
            "--resume_from_checkpoint true, or pass --overwrite."
        )
    return resume


def _parts(output: Path) -> list[Path]:
    """What earlier runs left in an output folder. Nothing else in it is ever touched."""
    names = ("config.json", "model.safetensors", "alignment", "trained", "evaluation", "README.md", "training.json")
    code = ("configuration_vec2vec.py", "modeling_vec2vec.py", "layers_vec2vec.py", "checkpoint_vec2vec.py")
    parts = [output / name for name in (*names, *code, "trainer_state.json") if (output / name).exists()]
    return parts + sorted(output.glob("checkpoint-*"))


def _move_aside(output: Path, replaced: Path) -> None:
    """Keep the old model until the new one is whole: a run that fails leaves it in `.replaced`."""
    parts = _parts(output)
    if replaced.exists():  # the last whole model already; these are the remains of a run that failed
        for part in parts:
            shutil.rmtree(part) if part.is_dir() else part.unlink()
    elif parts:
        replaced.mkdir()
        for part in parts:
            os.replace(part, replaced / part.name)
    if replaced.exists():
        print(f"The model that was in {output} is kept in {replaced} until the new one is whole.")


def load_translator(folder: str) -> Vec2VecModel:
    """`Vec2VecModel.from_pretrained` with an error that says what a folder lacks.

    Raises:
        FileNotFoundError: if the folder has no config.
        ValueError: if weights are truncated or damaged, or do not fit the config.
    """
    path = Path(folder)
    if path.is_dir() and not (path / "config.json").exists():
        raise FileNotFoundError(f"`DIR` {folder!r} holds no translator: there is no config.json in it.")
    return Vec2VecModel.from_pretrained(folder)


def _save_alignment(model: Vec2VecModel, report: dict | None, output: Path) -> None:
    """Leave the alignment in `output`, whole: a run that is stopped early goes on from it."""
    partial, folder = output / ".partial-alignment", output / "alignment"
    shutil.rmtree(partial, ignore_errors=True)
    model.save_pretrained(partial)
    (partial / REPORT).write_text(json.dumps(report, indent=2))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _saved_alignment(folder: Path) -> tuple[Vec2VecModel, dict | None]:
    """The alignment that an earlier run left, and its report, which alignments of earlier versions lack."""
    report = folder / REPORT
    return load_translator(str(folder)), json.loads(report.read_text()) if report.exists() else None


def _starting_model(training: UnpairedEmbeddings, args: TranslatorArguments, seed: int) -> tuple[Vec2VecModel, dict | None]:
    standardize = {"auto": "auto", "true": True, "false": False}[args.standardize]
    dims = training.dims
    build = Vec2VecConfig.paper if args.architecture == "paper" else Vec2VecConfig
    config = build(embedding_dims=dims, **args.config_kwargs())  # bad values fail before the alignment, not after
    if args.init == "alignment":
        if args.architecture == "paper":
            raise ValueError("`architecture` 'paper' starts at random: pass --init random, too.")
        (source, x), (target, y) = training.spaces.items()
        alignment = align(
            x,
            y,
            source_name=source,
            target_name=target,
            standardize=standardize,
            num_starts=args.align_starts,
            steps=args.align_steps,
            # The alignment's networks become the hidden layer of the adapters: with none or several it stays linear.
            hidden_dim=(args.hidden_dim or PROTOTYPES) if config.adapter_layers == 1 else 0,
            seed=seed,
        )
        print(f"Alignment: {alignment.report}")
        kwargs = args.config_kwargs() | {"allow_not_aligned": args.allow_not_aligned}
        if alignment.residuals:
            kwargs.pop("hidden_dim", None)  # it is that of the networks, which few rows make narrower
        return Vec2VecModel.from_alignment(alignment, **kwargs), alignment.report.to_dict()
    model = Vec2VecModel(config)
    for name, rows in training.spaces.items():
        mean, scale = fit_statistics(rows, standardize)
        model.normalizers[name].mean.copy_(mean)
        model.normalizers[name].scale.copy_(scale)
    return model, None


def _place_to_resume(output: Path, args: Vec2VecTrainingArguments) -> Path | None:
    asked = args.resume_from_checkpoint
    if asked is None or str(asked).lower() == "false":
        return None
    if str(asked).lower() != "true":
        check_checkpoint(Path(asked))
        return Path(asked)
    if newest := newest_checkpoint(output):
        return newest
    if (output / "alignment").is_dir():
        return output / "alignment"
    raise FileNotFoundError(
        f"`resume_from_checkpoint` is true, but {str(output)!r} holds no checkpoint. Leave it out to start anew."
    )


def _verdict(selection: dict) -> str:
    before = (
        f"Alignment score on held-out unpaired rows: {selection['before']:.4f} ± {selection['error']:.4f} before training"
    )
    if "after" not in selection:
        return f"{before}; no training was asked for."
    reason = "" if selection["kept"] == "trained" else ", for training did not raise the score by two standard errors"
    return f"{before}, {selection['after']:.4f} after. Kept: the {KEPT[selection['kept']]}{reason}."
