"""`train`: a translator from unpaired vectors."""

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from .anchors import Anchors
from .checks import check_device, check_model, named_pair
from .columns import ColumnFlags, Columns
from .dry_run import ADVERSARIAL_PASSES, DryRunFlags, Plan, alignment_seconds, seconds_a_product
from .flags import DeviceFlags, flag
from .trainer_flags import RunFlags, training_arguments

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from ..training.arguments import Vec2VecTrainingArguments
    from ..training.translator_arguments import TranslatorArguments

SYNOPSIS = "--source NAME=PATH --target NAME=PATH --output_dir DIR [flags]"
# `train` evaluates, saves and selects by the unpaired score, unless flags say otherwise.
TRAIN_DEFAULTS = {
    "eval_strategy": "epoch",
    "save_strategy": "epoch",
    "save_total_limit": 1,
    "load_best_model_at_end": True,
    "metric_for_best_model": "alignment_score",
    "logging_steps": 50,
}
# Streams have no epochs.
STREAM_DEFAULTS = {"eval_strategy": "steps", "eval_steps": 500, "save_strategy": "steps", "save_steps": 500}


@dataclass(kw_only=True)
class AdversarialFlags(RunFlags):
    """The two-sided game that bends an alignment into a better map."""

    title: ClassVar[str] = "adversarial training"

    num_train_epochs: float | None = flag(
        "Passes over the larger space's rows. Default: 0 after an alignment, which no training has improved so far; 3 from "
        "random weights, or where `preset` or another flag of this group is given.",
        None,
        minimum=0,
    )
    learning_rate: float = flag("Learning rate of the translator.", 1e-5, minimum=0)
    per_device_train_batch_size: int = flag("Rows of each space in a batch.", 256, minimum=1)
    logging_steps: int = flag("Updates between two lines of the log.", 50, minimum=1)
    discriminator_learning_rate: float = flag(
        "Learning rate of the discriminators; `learning_rate` is the translator's.", 5e-4, minimum=0
    )
    discriminator_steps: int = flag("Discriminator updates for each translator update.", 1, minimum=1)
    discriminator_norm: Literal["layer", "none"] = flag("Of hidden layers; penalties on gradients want none.", "layer")
    discriminator_dim: int | None = flag(
        "Widest directions, whitened, that discriminators of outputs see; default: all.", None, minimum=1
    )
    objective: Literal["game", "energy", "sliced_wasserstein", "mmd", "sinkhorn", "hubs"] = flag(
        "What makes translations look like real rows: discriminators, or a distance between two batches.", "game"
    )
    gan_loss: Literal["least_squares", "vanilla", "hinge", "relativistic"] = flag("Adversarial loss.", "least_squares")
    adversarial_weight: float = flag("Weight of the loss on translations.", 1.0, minimum=0)
    latent_adversarial_weight: float = flag("Weight of the loss on latents.", 1.0, minimum=0)
    r1_penalty_weight: float = flag("Weight of the discriminators' penalty at real rows (R1); 0 is off.", 0.0, minimum=0)
    r2_penalty_weight: float = flag("Weight of the discriminators' penalty at translations (R2); 0 is off.", 0.0, minimum=0)
    penalty_decay: float = flag("Share of both penalties that is left at the end, along half a cosine.", 1.0, minimum=0)
    adam_beta2_end: float | None = flag("AdamW beta2 at the end, along half a cosine; default: it stays.", None, minimum=0)
    ema_decay: float = flag("Keep a moving average of the translator's weights; 0: its last weights.", 0.0, minimum=0)
    reconstruction_weight: float = flag("Weight of the reconstruction loss.", 1.0, minimum=0)
    cycle_weight: float = flag("Weight of the cycle-consistency loss.", 0.1, minimum=0)
    vsp_weight: float = flag("Weight of vector-space preservation on translations.", 0.1, minimum=0)
    reconstruction_vsp_weight: float = flag("Weight of vector-space preservation on reconstructions.", 0.0, minimum=0)
    cycle_vsp_weight: float = flag("Weight of vector-space preservation on round trips.", 0.0, minimum=0)
    trust_weight: float = flag("Weight of the loss on translations that leave those of the start.", 0.0, minimum=0)
    distance: Literal["mse", "cosine"] = flag("Of reconstructions and cycles: squared error or 1 - cosine.", "mse")
    detach_cycle: bool = flag("Let the cycle loss train the way back only.", False)

    @classmethod
    def arguments_class(cls) -> "type[Vec2VecTrainingArguments]":
        """Arguments of adversarial training."""
        from ..training.arguments import Vec2VecTrainingArguments

        return Vec2VecTrainingArguments


@dataclass(kw_only=True)
class ShapeFlags(AdversarialFlags):
    """How the translator starts and what it looks like."""

    title: ClassVar[str] = "start and shape"

    init: Literal["alignment", "random"] = flag("Start from the geometry of the two spaces, or at random.", "alignment")
    effort: Literal["quick", "default", "thorough"] = flag(
        "How long the alignment looks on where it is not settled early; thorough also tries halves of the rows.", "default"
    )
    align_starts: int = flag("First guesses that the alignment tries at most.", 24, minimum=1)
    align_steps: int = flag("Fine steps that refine the best guesses, at a time.", 20, minimum=1)
    back_translation_rounds: int = flag(
        "Rounds that free the map from being a rotation; 0 keeps the rotation.", 2, minimum=0
    )
    allow_not_aligned: bool = flag("Go on where the alignment's verdict is 'not aligned'.", False)
    standardize: Literal["auto", "true", "false"] = flag("Scale each dimension by itself, as language models need.", "auto")
    architecture: Literal["default", "paper"] = flag("Of the network.", "default")
    hidden_dim: int | None = flag("Width of hidden layers; an alignment's: prototypes.", None, minimum=0)
    adapter_layers: int | None = flag("Hidden layers of each adapter.", None, minimum=0)
    backbone_layers: int | None = flag("Hidden layers of the backbone.", None, minimum=0)
    dropout: float | None = flag("Dropout after hidden layers.", None, minimum=0, maximum=1)
    validation_rows: int = flag(
        "Unpaired rows of each space, at most a fifth, that neither alignment nor training sees: they choose a checkpoint "
        "and score the result. Of few rows 2 leave nearly all to the alignment.",
        1000,
        minimum=0,
    )
    align_rows: int = flag("Rows of each stream that the alignment sees, drawn from all over it.", 50_000, minimum=1)
    texts: str | None = flag("What the texts were, in a few words: for the card.", None)
    overwrite: bool = flag("Replace the model in `output_dir` if there is one.", False)


@dataclass(kw_only=True)
class TrainFlags(ShapeFlags, ColumnFlags, DeviceFlags, DryRunFlags):
    """Which vectors to train on."""

    title: ClassVar[str] = "data"

    source: str = flag("NAME=PATH: a short name for the one space, and its vectors (or texts).")
    target: str = flag("NAME=PATH of the other space. No text may be on both sides.")
    source_encoder: str | None = flag("If the source PATH holds texts: the encoder that embeds them.", None)
    target_encoder: str | None = flag("The same for the target.", None)
    device: str | None = flag("Where they embed, for instance cpu or cuda; default: a GPU if there is one.", None)
    anchors: list[str] | None = flag(
        "Known pairs, if there are any: NAME=PATH NAME=PATH of vectors, row by row the same texts; or a CSV, TSV or JSONL "
        "file with two columns of ids (of `id_column`, else row numbers in the files, from 0); or same_ids: rows whose ids "
        "are alike.",
        None,
    )
    invalid_rows: Literal["stop", "drop"] = flag("Rows without a vector, zero, NaN or infinite: stop, or drop them.", "stop")
    strict_unpaired: bool = flag("Refuse data sets that share texts, where texts are known.", True)
    streaming: bool = flag(
        "Read vectors as they are needed, for stores that do not fit into memory; PATH may then be a folder or pattern of "
        "files, too, or ORG/NAME[:SPLIT] on the Hub. To train on one needs max_steps.",
        False,
    )
    buffer_rows: int = flag("Rows of a stream that are shuffled together.", 16_384, minimum=1)
    preset: Literal["paper", "public_code", "r3gan"] | None = flag("Published weights and learning rates.", None)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streaming and (self.source_encoder or self.target_encoder):
            raise ValueError("`streaming` reads vectors, but an encoder was given for texts: embed them first.")
        if not self.streaming and (given := self.given & {"align_rows", "buffer_rows"}):
            raise ValueError(f"`{min(given)}` is of streams, and `streaming` is not set. Set it, or leave this out.")
        if self.device is not None and not (self.source_encoder or self.target_encoder):
            raise ValueError(
                f"`device` is {self.device!r}: there texts are embedded, but no encoder is given. For the rest "
                "`use_cpu` leaves a GPU alone."
            )
        if self.anchors and self.init == "random":
            raise ValueError("`anchors` guide an alignment, but `init` is random. Leave one of them out.")

    def after_interrupt(self) -> str:
        """The alignment and checkpoints are whole."""
        return (
            f"The alignment and checkpoints that are complete are kept in {self.output_dir}: the same command with "
            "--resume_from_checkpoint true goes on from them, with --overwrite it starts anew."
        )


def run(flags: TrainFlags) -> None:
    """Unpaired vectors to a translator on disk, its card, both stages and checkpoints."""
    paths = named_pair(("source", "target"), (flags.source, flags.target), exists=not flags.streaming)
    encoders = dict(zip(paths, (flags.source_encoder, flags.target_encoder), strict=True))
    for argument, encoder in (("source_encoder", flags.source_encoder), ("target_encoder", flags.target_encoder)):
        if encoder is not None:
            check_model(argument, encoder)
    anchors = Anchors.of(flags.anchors, list(paths), has_ids=bool(flags.id_column)) if flags.anchors else None
    if flags.streaming and anchors and not anchors.vectors:
        raise ValueError("`anchors` must be NAME=PATH NAME=PATH with `streaming`: a stream has no rows to look up.")
    columns = flags.columns(paths)
    _check_columns_of_texts(columns, [name for name, encoder in encoders.items() if encoder])
    flags.check_run()
    import numpy as np
    from transformers import set_seed

    from ..data.files import load_numbered
    from ..data.spaces import UnpairedEmbeddings
    from ..data.stream_files import open_stream
    from ..data.streaming import StreamedEmbeddings
    from ..encoders.text import TextEncoder, embed
    from ..training.arguments import PRESETS, Vec2VecTrainingArguments
    from ..training.recipe import check_output_dir, train_translator
    from ..training.translator_arguments import TranslatorArguments

    defaults: dict[str, Any] = TRAIN_DEFAULTS | (STREAM_DEFAULTS if flags.streaming else {})
    defaults["num_train_epochs"] = 3.0 if _trains(flags) else 0.0
    if flags.preset:
        defaults |= PRESETS[flags.preset]
    translator_args = TranslatorArguments(**_shape(flags))
    training_args = training_arguments(Vec2VecTrainingArguments, flags, defaults)
    check_output_dir(translator_args, training_args)  # before texts are embedded
    check_device(flags.device)
    if flags.dry_run:
        print(_plan(flags, paths, translator_args, training_args))
        return
    loaded: dict[str, Any] = {}
    numbers: dict[str, np.ndarray] = {}
    for name, path in paths.items():
        if flags.streaming:
            loaded[name] = open_stream(path, **columns[name], invalid_rows=flags.invalid_rows)
        elif encoder := encoders[name]:
            made = TextEncoder(encoder, device=flags.device, trust_remote_code=flags.trust_remote_code)
            loaded[name] = embed(path, made, progress=flags.progress)
            numbers[name] = np.arange(len(loaded[name]))
        else:
            argument = "source" if name == next(iter(paths)) else "target"
            loaded[name], numbers[name] = load_numbered(
                path, **columns[name], invalid_rows=flags.invalid_rows, argument=argument
            )
    encoded = {name: _encoder_settings(data) for name, data in loaded.items()}
    pairs = None
    if anchors:
        pairs, loaded = anchors.load(loaded, columns, numbers)
    spaces = (
        StreamedEmbeddings(loaded, buffer_rows=flags.buffer_rows, strict_unpaired=flags.strict_unpaired)
        if flags.streaming
        else UnpairedEmbeddings(loaded, strict_unpaired=flags.strict_unpaired)
    )
    set_seed(training_args.seed)
    files = {name: Path(path).name for name, path in paths.items()}
    trained = train_translator(spaces, translator_args, training_args, encoded, files, pairs)
    if trained.report:
        print(f"Alignment: {trained.report}")
    print(trained.selection)


def _check_columns_of_texts(columns: dict[str, Columns], embedded: list[str]) -> None:
    """Raise if a column is named of texts that are embedded here."""
    for name in embedded:
        for argument, column in columns[name].items():
            if column is not None:
                raise ValueError(
                    f"`{argument}` is {column!r}, but of the texts of {name!r} only the column `text` is read. "
                    "Name that of the other side alone (NAME=COLUMN), or run `embed` first, which reads both columns."
                )


def _plan(
    flags: TrainFlags, paths: dict[str, str], shape: "TranslatorArguments", training: "Vec2VecTrainingArguments"
) -> Plan:
    """What would be done: rows are counted, seconds estimated by the speed of a product of matrices."""
    from ..data.vector_files import open_files
    from ..model.modeling_vec2vec import Vec2VecModel

    if flags.source_encoder or flags.target_encoder:
        raise ValueError("`dry_run` knows the rows of vectors: embed the texts first, of which `embed` has a dry run, too.")
    columns = flags.columns(paths)
    stores = {name: open_files(path, columns[name]["column"], argument=name) for name, path in paths.items()}
    dims = {name: store.dim for name, store in stores.items()}
    rows = {name: min(store.rows, flags.align_rows if flags.streaming else store.rows) for name, store in stores.items()}
    weights = sum(parameter.numel() for parameter in Vec2VecModel(shape.config(dims)).parameters())
    batch = training.per_device_train_batch_size
    updates = training.max_steps
    if updates <= 0:
        updates = int(training.num_train_epochs * max(store.rows for store in stores.values()) / batch)
    least, most = alignment_seconds(rows, dims, shape)
    trained = updates * batch * weights * ADVERSARIAL_PASSES * seconds_a_product()
    reads = [f"{paths[name]}: {store.rows:,} vectors of dimension {store.dim}" for name, store in stores.items()]
    copies = 5 if updates else 2  # the translator, both stages, a checkpoint with the optimizer's two moments
    notes = [f"{updates:,} updates of adversarial training with batches of {batch:,} rows."]
    return Plan(reads, {flags.output_dir: 4.0 * weights * copies}, (least + trained, most + trained), notes)


def _trains(flags: TrainFlags) -> bool:
    """Whether to train where nobody says for how long."""
    asked = flags.preset is not None or any(name in flags.given for name in AdversarialFlags.__annotations__)
    return asked or flags.init == "random"


def _shape(flags: TrainFlags) -> dict[str, Any]:
    """What `TranslatorArguments` takes. Presets of the paper start at random, with its network, unless flags say else."""
    values = {f.name: getattr(flags, f.name) for f in fields(flags) if f.name in ShapeFlags.__annotations__}
    published = {"init": "random", "architecture": "paper"} if flags.preset in ("paper", "public_code") else {}
    return values | {name: value for name, value in published.items() if name not in flags.given}


def _encoder_settings(data: "Dataset | IterableDataset") -> dict[str, Any] | None:
    """How `embed` made the vectors, if it did."""
    try:
        settings = json.loads(data.info.description)
    except (TypeError, ValueError):
        return None
    return settings if isinstance(settings, dict) and {"model", "pooling"} <= settings.keys() else None
