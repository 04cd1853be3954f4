"""`query-encoder`: a small encoder for an index that a large one made."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from .checks import check_folder, check_input, check_model, check_verdict
from .flags import Flags, flag

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from ..distillation.query_recipe import Pairs, Translation
    from ..distillation.query_training import QueryTraining

SHORT = ["a small dog", "the old chair near the sea", "she wrote it down"]  # texts that settings are compared on
INDEX_ROWS = 100_000  # that stand for the index: more tell nothing more of its mean
SAME = 0.9999  # cosine of two vectors of one text by the same weights and settings, or above
SYNOPSIS = "--student MODEL --index VECTORS (--translator DIR | --pairs FILE) --output_dir OUT [flags]"


@dataclass(kw_only=True)
class QueryTrainingFlags(Flags):
    """How student and projection are trained together, if at all."""

    title: ClassVar[str] = "training"

    train: Literal["none", "lora", "whole"] = flag(
        "none: the student stays as it is. lora: an adapter, merged at the end, and the projection. whole: all weights.",
        "none",
    )
    queries: str | None = flag(
        "Unlabelled queries, to train on where there are no pairs: their targets are guessed from the index.", None
    )
    loss: Literal["squared_error", "cosine", "gram", "contrastive"] = flag(
        "To the targets; gram and contrastive look at rows of the index, too.", "squared_error"
    )
    steps: int = flag("Updates. Few of them make answers worse.", 2000, minimum=1)
    batch_size: int = flag("Texts of an update.", 32, minimum=1)
    learning_rate: float = flag("Of the student. Measured with lora; a whole transformer wants less.", 1e-3, above=0)
    projection_rate: float = flag("Learning rate of the projection, by `learning_rate`.", 0.3, minimum=0)
    lora_r: int = flag("Rank of the adapter.", 32, minimum=1)
    bf16: bool = flag("Train in bfloat16: half the time on GPUs and some processors.", False)
    seed: int = flag("Of everything random.", 0, minimum=0, maximum=2**32 - 1)

    def training(self) -> "QueryTraining | None":
        """What the flags say; nothing if there is no training."""
        from ..distillation.query_training import QueryTraining

        if self.train == "none":
            return None
        names = {field.name for field in fields(QueryTraining)} - {"trained"}
        return QueryTraining(trained=self.train, **{name: getattr(self, name) for name in names})


@dataclass(kw_only=True)
class QueryEncoderFlags(QueryTrainingFlags):
    """The index, who asks it, and what is known of both."""

    title: ClassVar[str] = "index and student"

    student: str = flag("The small model: short name, local folder or Hub id.")
    index: str = flag(
        "Vectors of the index: .npy, .parquet, Arrow and more. It is only read; of more than 100,000 rows a sample is used."
    )
    output_dir: str = flag("Folder for the new encoder, which SentenceTransformer opens.")
    translator: str | None = flag("Folder or Hub id of a translator from the student's space to the index's.", None)
    allow_not_aligned: bool = flag("Use a translator whose alignment's verdict is 'not aligned'.", False)
    student_space: str | None = flag("Its space of the student; default: the other one.", None)
    index_space: str | None = flag("Its space of the index; default: the other one.", None)
    pairs: list[str] | None = flag(
        "Queries in the column `text`, with vectors in the index's space beside them. Several files, of the same texts by "
        "several encoders: the mean of their vectors' directions counts.",
        None,
    )
    max_pairs: int | None = flag("So many of the pairs, drawn at random; default: all.", None, minimum=1)
    start: Literal["translator", "ridge", "random"] | None = flag(
        "Where the projection starts: the translator, bent by pairs if there are any; a regression on pairs; or random "
        "numbers. Default: the first for which all is there.",
        None,
    )
    prompt: str = flag("Text that the student puts before each query.", "", may_be_empty=True)
    centre: bool = flag(
        "Take the index's mean off each query: better answers, but cosines are no longer those of the index's encoder.", True
    )
    layer: int | None = flag(
        "Hidden state that is pooled, if the student is a plain transformer, 0 being the embeddings; later layers are left "
        "out. Default: the last.",
        None,
        minimum=0,
    )
    max_length: int | None = flag("Tokens of a query that the student reads; default: its own.", None, minimum=1)
    trust_remote_code: bool = flag("Run the code that a model's repository brings along.", False)
    overwrite: bool = flag("Replace the query encoder in `output_dir` if there is one.", False)

    def __post_init__(self) -> None:
        if self.translator is None and self.pairs is None:
            raise ValueError("give `translator`, `pairs` or both: nothing else says how student and index belong together.")
        if self.translator is None and (wrong := self.given & {"student_space", "index_space", "allow_not_aligned"}):
            raise ValueError(f"`{min(wrong)}` is of a `translator`, and none is given. Give one, or leave it out.")
        if self.max_pairs is not None and self.pairs is None:
            raise ValueError(f"`max_pairs` is {self.max_pairs}, but there are no `pairs`. Leave it out, or give them.")
        if self.queries is not None and (self.train == "none" or self.pairs is not None):
            raise ValueError(
                "`queries` are for a training without pairs: set `train`, leave out `pairs`, or leave them out."
            )
        of_training = set(QueryTrainingFlags.__annotations__) - {"title", "train", "queries", "seed"}
        if self.train == "none" and (wrong := self.given & of_training):
            raise ValueError(f"`{min(wrong)}` is for a training, and `train` is 'none'. Set `train`, or leave it out.")
        if self.train == "whole" and "lora_r" in self.given:
            raise ValueError("`lora_r` is of an adapter, and `train` is 'whole', which has none. Leave one of them out.")
        if self.translator is not None and self.start in ("ridge", "random"):
            raise ValueError(f"`start` is {self.start!r}, to which the `translator` adds nothing. Leave one of them out.")


def run(flags: QueryEncoderFlags) -> None:
    """A small encoder of queries for an index that a large one made; documents are not embedded again."""
    check_model("student", flags.student)
    if flags.translator is not None:
        check_model("translator", flags.translator, ())
        check_verdict(flags.translator, allowed=flags.allow_not_aligned, argument="translator")
    files = [("index", flags.index), ("queries", flags.queries), *(("pairs", path) for path in flags.pairs or ())]
    read = [(argument, path) for argument, path in files if path is not None]
    for argument, path in read:
        check_input(argument, path)
    check_folder("output_dir", flags.output_dir)
    from ..data.columns import vectors
    from ..data.files import sample_embeddings
    from ..data.staging import check_apart
    from ..data.texts import load_texts
    from ..distillation.query_encoder import save_query_encoder
    from ..distillation.query_recipe import make_query_encoder
    from ..distillation.query_students import open_student
    from ..distillation.students import check_export_dir

    translators = [] if flags.translator is None else [flags.translator]
    check_apart(flags.output_dir, [path for _, path in read] + translators)
    check_export_dir(flags.output_dir, overwrite=flags.overwrite, argument="output_dir")
    training = flags.training()
    stored, rows = sample_embeddings(flags.index, INDEX_ROWS, argument="index")
    index = vectors(stored, "index")
    translation = _translation(flags, stored.info.description or "")
    pairs = _pairs(flags, index.shape[1], stored.info.description or "")
    student = open_student(
        flags.student, layer=flags.layer, max_length=flags.max_length, trust_remote_code=flags.trust_remote_code
    )
    if translation is not None:
        _check_settings(flags, student, translation)
    encoder, facts = make_query_encoder(
        student,
        index,
        start=flags.start or ("translator" if translation else "ridge"),
        translation=translation,
        pairs=pairs,
        queries=load_texts(flags.queries) if flags.queries else None,
        training=training,
        prompt=flags.prompt,
        centre=flags.centre,
        progress=flags.progress,
    )
    facts |= {"student": flags.student, "translator": flags.translator}
    save_query_encoder(encoder, flags.output_dir, facts, overwrite=flags.overwrite)
    way = "not trained"
    if training is not None:
        kind = "by lora" if training.trained == "lora" else "as a whole"
        way = f"trained {kind}, {training.steps:,} updates"
    alone = "" if facts["linear"] else ", with trust_remote_code=True and this package"
    if rows > len(index):
        print(f"{len(index):,} of the index's {rows:,} rows, drawn at random, stand for all.")
    print(
        f"{flags.student} for an index of dimension {index.shape[1]}, {facts['start']} start, {facts['pairs']:,} pairs, "
        f"{way} → {flags.output_dir}\nSentenceTransformer({flags.output_dir!r}) opens it{alone}."
    )


def _translation(flags: QueryEncoderFlags, description: str) -> "Translation | None":
    """The translator and its spaces, which must be of the student and of the index."""
    from ..distillation.query_recipe import Translation
    from ..encoders.recorded import check_description, same_model
    from ..training.start import load_translator

    if flags.translator is None:
        return None
    model = load_translator(flags.translator)
    spaces, recorded = model.config.spaces, model.config.encoders or {}
    student, index = flags.student_space, flags.index_space
    for argument, space in (("student_space", student), ("index_space", index)):
        if space is not None and space not in spaces:
            raise ValueError(f"`{argument}` must be one of {spaces}, got {space!r}.")
    made = [name for name in spaces if (known := recorded.get(name)) and same_model(flags.student, known["model"])]
    student = student or (made[0] if len(made) == 1 else None)
    others = [name for name in spaces if name != student]
    if index is None and student is not None and len(others) == 1:
        index = others[0]
    if student is None and index is not None and len(spaces) == 2:
        student = next(name for name in spaces if name != index)
    if student is None or index is None or student == index:
        raise ValueError(
            f"`student_space` and `index_space` must name two of {spaces}: the translator does not tell which is which."
        )
    check_description(model.config, index, description)
    if (prompt := (recorded.get(student) or {}).get("prompt", flags.prompt)) != flags.prompt:
        raise ValueError(
            f"`prompt` is {flags.prompt!r}, but the translator learned from vectors of {student!r} with the prompt "
            f"{prompt!r}. Give that one."
        )
    return Translation(model, student, index)


def _check_settings(flags: QueryEncoderFlags, student: "SentenceTransformer", translation: "Translation") -> None:
    """Raise ValueError for a student with another layer or pooling than that of the vectors that the translator knows."""
    from torch.nn.functional import cosine_similarity

    from ..distillation.query_encoder import student_vectors
    from ..encoders.recorded import recorded_encoder

    config, space = translation.model.config, translation.student
    if (recorded := (config.encoders or {}).get(space)) is None:
        return
    then = recorded_encoder(
        config, space, model=flags.student, device="cpu", trust_remote_code=flags.trust_remote_code
    ).encode(SHORT, progress=False)
    now = student_vectors(student, SHORT, prompt=flags.prompt)
    if now.shape != then.shape or cosine_similarity(now, then).min() < SAME:
        raise ValueError(
            f"`student` {flags.student!r} makes other vectors here than those of {space!r} that the translator learned "
            f"from, which were made so: {recorded}. Set `layer` as there; if that does not help, embed with the student's "
            "own settings and train a translator of these vectors."
        )


def _pairs(flags: QueryEncoderFlags, dim: int, description: str) -> "Pairs | None":
    """The pairs, made by the encoder of the index or translated into its space."""
    from ..distillation.query_recipe import averaged, drawn

    if flags.pairs is None:
        return None
    return drawn(averaged([_pairs_of(path, dim, description) for path in flags.pairs]), flags.max_pairs, flags.seed)


def _pairs_of(path: str, dim: int, description: str) -> "Pairs":
    """Those of one file; queries may have another prompt than documents."""
    from ..data.columns import TEXT, vectors
    from ..data.files import load_embeddings
    from ..distillation.query_recipe import Pairs
    from ..encoders.recorded import described, differences

    loaded = load_embeddings(path, argument="pairs")
    if TEXT not in loaded.column_names:
        raise ValueError(f"`pairs` {path!r} has {loaded.column_names}; it needs the column '{TEXT}', too.")
    now, then = described(loaded.info.description or ""), described(description)
    if now.get("prompt_name") == "query":  # asked on purpose: its folder has one prompt for queries, another for documents
        now = {name: value for name, value in now.items() if name not in ("prompt", "prompt_name")}
    if differing := differences(now, then):
        raise ValueError(
            f"`pairs` {path!r} were made otherwise than `index`: {'; '.join(differing)}. Embed them with the encoder of the "
            "index; a prompt may differ where the encoder names it 'query'."
        )
    return Pairs(loaded[TEXT], vectors(loaded, "pairs", dim))
