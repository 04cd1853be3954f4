"""From unpaired vectors to a translator on disk: align, train, select without pairs, save."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import TrainerCallback, set_seed

from ..alignment.verdict import AlignmentReport
from ..data.overlap import row_hashes
from ..data.spaces import UnpairedEmbeddings
from ..data.streaming import StreamedEmbeddings
from ..model.modeling_vec2vec import Vec2VecModel
from .arguments import Vec2VecTrainingArguments
from .before_work import check_before_work
from .checkpoints import STATE
from .data_checks import check_batch, check_selection
from .energy import EnergyMeter
from .finite import check_magnitudes
from .run_folder import CHECKPOINTS, RunFolder
from .start import load_translator, save_start, saved_start, start_fingerprint, starting_model
from .trainer import Vec2VecTrainer
from .translator_arguments import TranslatorArguments

START, TRAINED = "alignment", "trained"  # folders of both stages
MADE = (
    *("config.json", "model.safetensors", "training.json", STATE, START, TRAINED, CHECKPOINTS),
    *(f"{part}_vec2vec.py" for part in ("configuration", "modeling", "layers", "modes", "checkpoint")),
)
KEPT = {START: "alignment alone", TRAINED: "model after adversarial training"}
CHOOSE = ("alignment_score", "loss")  # figures of held-out rows, by which a checkpoint may be chosen
DEVIATIONS = 2  # by which training must raise the score: the checkpoint was chosen on the same rows, which favours it


@dataclass(frozen=True)
class Selection:
    """Which stage became the translator, by the alignment score on held-out unpaired rows.

    Args:
        before: score of the start.
        error: standard error of that.
        kept: "alignment" or "trained".
        rows: of each space, held out from alignment and training, that tell it.
        after: score of the best checkpoint; `None` if nothing was trained.
    """

    before: float
    error: float
    kept: str
    rows: int
    after: float | None = None

    def to_dict(self) -> dict[str, float | str]:
        """What is known, for JSON."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    def __str__(self) -> str:
        held_out = f"{self.rows:,} unpaired rows a side, held out from alignment and training"
        before = f"Alignment score on {held_out}: {self.before:.4f} ± {self.error:.4f} before training"
        if self.after is None:
            return f"{before}; no training was asked for."
        reason = "" if self.kept == TRAINED else ", for training did not raise the score by two standard errors"
        return f"{before}, {self.after:.4f} after. Kept: the {KEPT[self.kept]}{reason}."


@dataclass(frozen=True)
class TrainedTranslator:
    """What `train_translator` gives.

    Args:
        model: the translator.
        report: of the alignment; `None` for a random start.
        selection: which stage was kept, and why.
    """

    model: Vec2VecModel
    report: AlignmentReport | None
    selection: Selection


def train_translator(
    spaces: UnpairedEmbeddings | StreamedEmbeddings,
    translator_args: TranslatorArguments,
    training_args: Vec2VecTrainingArguments,
    encoders: dict[str, dict | None],
    files: dict[str, str] | None = None,
    anchors: tuple[Tensor, Tensor] | None = None,
) -> TrainedTranslator:
    """Train a translator and leave it, its card and its log in `training_args.output_dir`.

    Both stages are saved beside it, in `alignment/` and `trained/`. What comes out of adversarial training becomes the
    translator only if it raises the alignment score, on held-out unpaired rows, by more than two standard errors. What was
    in the folder stays until all is complete, and what no run made stays for good.

    Args:
        spaces: training vectors. Of streams the alignment sees a sample, and what chooses a checkpoint is told by its hash.
        translator_args: start and shape.
        training_args: of the trainer; `num_train_epochs=0` leaves the alignment as it is.
        encoders: how the vectors of each space were made, where that is known; for the config.
        files: names of the files that they came from; for the card.
        anchors: known pairs, raw vectors `(p, d_a)` and `(p, d_b)` in the order of `spaces`, which guide the alignment.

    Raises:
        FileExistsError, FileNotFoundError: see `check_output_dir`.
        ValueError: if there are too few rows, or arguments that do not go together, or a checkpoint of another run.
        TrainingDivergedError: if a loss is not finite; checkpoints before that are kept.
    """
    resume = check_output_dir(translator_args, training_args, streams=isinstance(spaces, StreamedEmbeddings))
    if anchors is not None and translator_args.init != "alignment":
        raise ValueError(f"`anchors` guide an alignment, but `init` is {translator_args.init!r}.")
    folder = run_folder(training_args)
    training, aligned_on, validation = _split(spaces, translator_args, training_args.seed)
    trains = training_args.num_train_epochs > 0 or training_args.max_steps > 0
    if trains and isinstance(training, UnpairedEmbeddings):
        check_batch(training_args, training)
    check_magnitudes((spaces if isinstance(spaces, UnpairedEmbeddings) else aligned_on).spaces, "spaces")
    with folder.working(training_args, resume):
        meter = EnergyMeter.start()
        model, report = _start(aligned_on, translator_args, training_args, encoders, folder, resume, anchors)
        cost = meter.cost()
        set_seed(training_args.seed)  # so that discriminators start alike, whether the alignment was computed or loaded
        trainer = Vec2VecTrainer(
            model, folder.arguments(training_args), training if trains else aligned_on, eval_dataset=validation
        )
        trainer.record = _known(aligned_on, validation, translator_args, report, files)
        if anchors is not None:
            trainer.record["anchors"] = len(anchors[0])
        if report is not None and not resume:
            trainer.record |= {"alignment_seconds": cost["seconds"], "alignment_watt_hours": cost["watt_hours"]}
        selection = _train_and_select(trainer, translator_args, resume, trains=trains)
        if training_args.should_save:
            _save(trainer, selection, folder)
            folder.finish(resume)
    if training_args.should_save and training_args.push_to_hub:
        trainer.publish("End of training")
    return TrainedTranslator(trainer.translator, report, selection)


def check_output_dir(
    translator_args: TranslatorArguments, training_args: Vec2VecTrainingArguments, *, streams: bool = False
) -> Path | None:
    """Raise, before any work, whatever can fail without it; give what to go on from.

    Returns:
        The checkpoint to resume from; the alignment, if the run was stopped before its first checkpoint; or `None`.

    Raises:
        FileExistsError, FileNotFoundError, OSError: see [`RunFolder.check`].
        ImportError, ValueError: see `check_before_work`; also for streams without a number of updates.
    """
    check_selection(training_args)
    if (chosen_by := training_args.metric_for_best_model) and chosen_by.removeprefix("eval_") not in CHOOSE:
        raise ValueError(f"`metric_for_best_model` must be one of {', '.join(CHOOSE)}, got {chosen_by!r}.")
    if streams and (training_args.num_train_epochs > 0 or training_args.max_steps > 0):
        Vec2VecTrainer.check_streaming(training_args)
    resume = run_folder(training_args).check(
        overwrite=translator_args.overwrite, resume=training_args.resume_from_checkpoint
    )
    check_before_work(training_args)
    return resume


def run_folder(args: Vec2VecTrainingArguments) -> RunFolder:
    """The folder of a translator."""
    return RunFolder(Path(str(args.output_dir)), "training.json", MADE, start=START)


def _split(
    spaces: UnpairedEmbeddings | StreamedEmbeddings, args: TranslatorArguments, seed: int
) -> tuple[UnpairedEmbeddings | StreamedEmbeddings, UnpairedEmbeddings, UnpairedEmbeddings]:
    """What is trained on, what is aligned (the same, or a sample of it), and what chooses a checkpoint."""
    if isinstance(spaces, StreamedEmbeddings):
        return spaces.split(args.validation_rows, sample_rows=args.align_rows, seed=seed)
    different = min(len(row_hashes(rows).unique()) for rows in spaces.spaces.values())  # copies go with their row
    held_out = min(args.validation_rows, different // 5)
    if held_out < 2:
        raise ValueError(f"`validation_rows` leaves {held_out} rows to choose a checkpoint on; it needs at least 2.")
    training, validation = spaces.split(held_out, seed=seed)
    return training, training, validation


def _start(
    rows: UnpairedEmbeddings,
    args: TranslatorArguments,
    training_args: Vec2VecTrainingArguments,
    encoders: dict[str, dict | None],
    folder: RunFolder,
    resume: Path | None,
    anchors: tuple[Tensor, Tensor] | None,
) -> tuple[Vec2VecModel, AlignmentReport | None]:
    """The model before training: made here, or by the first process, or by the run that is resumed."""
    seed, first = training_args.seed, training_args.should_save
    earlier = resume.parent / START if resume else None
    device, progress = "cpu" if training_args.use_cpu else None, not training_args.disable_tqdm
    with training_args.main_process_first(local=False):
        if args.init == "random":
            model, report = starting_model(rows, args, seed)
        elif earlier or not first:
            model, report = saved_start(earlier or folder.work / START)
        else:
            model, report = starting_model(rows, args, seed, anchors, device=device, progress=progress)
        model.config.encoders = encoders
        if args.init == "alignment" and first:
            made_of = start_fingerprint(rows, args, seed, anchors)
            if earlier:
                made_of.check(earlier)
            save_start(model, report, made_of, folder.work / START)
    return model, report


def _known(
    rows: UnpairedEmbeddings,
    validation: UnpairedEmbeddings,
    args: TranslatorArguments,
    report: AlignmentReport | None,
    files: dict[str, str] | None,
) -> dict[str, Any]:
    """What a card says that a trainer does not know."""
    return {
        "rows": {name: len(values) for name, values in rows.spaces.items()},
        "validation_rows": min(map(len, validation.spaces.values())),
        "files": files or {},
        "texts": args.texts,
        "unpaired": rows.checked,
        "init": args.init,
        "report": report and report.to_dict(),
    }


class _LastLook(TrainerCallback):
    """Measures what training made when it ends: some places to log to take what comes later for another run."""

    def __init__(self, evaluate: Callable[[], dict[str, float]]):
        self.evaluate = evaluate
        self.figures: dict[str, float] = {}

    def on_train_end(self, *args: Any, **kwargs: Any) -> None:
        """Of the callback's contract; the best checkpoint is loaded by now."""
        self.figures = self.evaluate()


def _train_and_select(trainer: Vec2VecTrainer, args: TranslatorArguments, resume: Path | None, *, trains: bool) -> Selection:
    """Train, and compare the best checkpoint with the start."""
    start = trainer.evaluate()
    before, error = start["eval_alignment_score"], start["eval_alignment_score_error"]
    first = START if args.init == "alignment" else TRAINED
    rows = int(trainer.record["validation_rows"])
    if not trains:
        return Selection(before, error, first, rows)
    look = _LastLook(trainer.evaluate)
    trainer.callback_handler.callbacks.insert(0, look)  # before places to log to end their runs
    trainer.train(resume_from_checkpoint=str(resume) if resume and (resume / STATE).exists() else None)
    after = look.figures["eval_alignment_score"]
    return Selection(before, error, TRAINED if after > before + DEVIATIONS * error else first, rows, after)


def _save(trainer: Vec2VecTrainer, selection: Selection, folder: RunFolder) -> None:
    """Leave the model that was chosen, the other stage, log and card in the folder where the run works."""
    if selection.after is not None:
        trainer.translator.save_pretrained(folder.work / TRAINED)
    if selection.kept == START:
        trainer.translator = load_translator(str(folder.work / START))
    trainer.translator.save_pretrained(folder.work)
    trainer.state.save_to_json(str(folder.work / STATE))
    trainer.record["selection"] = selection.to_dict()
    trainer.write_card(folder.work)


__all__ = [
    "Selection",
    "TrainedTranslator",
    "check_output_dir",
    "train_translator",
]
