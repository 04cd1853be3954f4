"""Flags of the commands, one class a command."""

from dataclasses import dataclass, field

from ..encoders.pooling import POOLINGS
from ..training.arguments import PRESETS


@dataclass
class EmbedArguments:
    """Texts or images to vectors, cached by everything that changes them."""

    _argument_group_name = "flags"

    model: str = field(metadata={"help": "Local folder, Hub id, or the short name of a bundled encoder."})
    output: str = field(metadata={"help": "Where the vectors go: Arrow folder (no suffix), .parquet, .npy, .safetensors."})
    texts: str | None = field(
        default=None,
        metadata={"help": "Texts: .txt (one a line), or .jsonl, .csv, .parquet, Arrow with a column `text`."},
    )
    images: str | None = field(
        default=None,
        metadata={
            "help": "Images, for the image side of a CLIP-like model: a folder; .parquet, Arrow with a column of them."
        },
    )
    pooling: str | None = field(
        default=None, metadata={"help": "How token vectors become one; default: the model's own.", "choices": POOLINGS}
    )
    layer: int = field(default=-1, metadata={"help": "Hidden layer, 0 the embeddings, -1 the last."})
    prompt: str = field(default="", metadata={"help": "Text put before each text."})
    max_length: int | None = field(default=None, metadata={"help": "Tokens; the rest of a text is cut."})
    batch_size: int = field(default=64, metadata={"help": "Texts or images at a time."})
    device: str | None = field(default=None, metadata={"help": "For instance cpu or cuda; default: a GPU if there is one."})
    cache_dir: str | None = field(default=None, metadata={"help": "Where embeddings are cached."})
    overwrite: bool = field(default=False, metadata={"help": "Replace `output` if it exists."})


@dataclass
class DataArguments:
    """Which vectors to train on."""

    _argument_group_name = "data"

    source: str = field(metadata={"help": "NAME=PATH: a short name for the one space, and its vectors (or texts)."})
    target: str = field(metadata={"help": "NAME=PATH of the other space. No text may be on both sides."})
    source_encoder: str | None = field(
        default=None, metadata={"help": "If the source PATH holds texts: the encoder that embeds them."}
    )
    target_encoder: str | None = field(default=None, metadata={"help": "The same for the target."})
    strict_unpaired: bool = field(
        default=True, metadata={"help": "Refuse data sets that share texts, where texts are known."}
    )
    streaming: bool = field(
        default=False,
        metadata={
            "help": "Read vectors as they are needed, for stores that do not fit into memory; PATH may then be a folder or "
            "pattern of files, too, or ORG/NAME[:SPLIT] on the Hub. Needs max_steps."
        },
    )
    buffer_rows: int = field(default=16_384, metadata={"help": "Rows of a stream that are shuffled together."})
    preset: str | None = field(
        default=None, metadata={"help": "Published weights and learning rates.", "choices": list(PRESETS)}
    )


@dataclass
class AblateArguments:
    """What is trained again and again."""

    _argument_group_name = "flags"

    source: str = field(metadata={"help": "NAME=PATH: the one space, and its training vectors."})
    target: str = field(metadata={"help": "NAME=PATH of the other."})
    held_out_source: str = field(metadata={"help": "NAME=PATH: vectors of held-out texts, which only measure."})
    held_out_target: str = field(metadata={"help": "NAME=PATH of the other; row i of both is the same text."})
    variants: str = field(metadata={"help": "YAML file: a line `name: {flag of train: value, ...}` for each variant."})
    output_dir: str = field(metadata={"help": "Folder for runs, table and JSON; an interrupted ablation goes on there."})
    seeds: int = field(default=3, metadata={"help": "Runs of each variant: seeds 0, 1, ..."})
    keep_models: bool = field(default=False, metadata={"help": "Keep every trained model."})


@dataclass
class EvaluateArguments:
    """Which pairs to judge a translator on."""

    _argument_group_name = "flags"

    source: str = field(metadata={"help": "NAME=PATH: a space of the model, and vectors of held-out texts."})
    target: str = field(metadata={"help": "NAME=PATH of the other; row i of both is the same text."})
    oracle_source: str | None = field(
        default=None,
        metadata={"help": "NAME=PATH: other pairs, to fit the paired oracles on; default: five folds of the pairs."},
    )
    oracle_target: str | None = field(default=None, metadata={"help": "NAME=PATH: their other side."})
    output_dir: str | None = field(
        default=None, metadata={"help": "For pictures and figures; default: DIR/evaluation (./evaluation for a Hub id)."}
    )
    json: str | None = field(default=None, metadata={"help": "Write the table as JSON to this file, too."})
    seed: int = field(default=0, metadata={"help": "Of the random-rotation baseline."})


@dataclass
class ReportArguments:
    """What a translator is reported on with."""

    _argument_group_name = "flags"

    source: str = field(metadata={"help": "NAME=PATH: a space of the model, and vectors (with texts) of held-out texts."})
    target: str = field(metadata={"help": "NAME=PATH of the other; row i of both is the same text."})
    output_dir: str = field(metadata={"help": "Folder for report.html, report.json and the pictures."})
    oracle_source: str | None = field(
        default=None,
        metadata={
            "help": "NAME=PATH: other pairs, for oracles and as the attacker's texts; default: half of the held-out ones."
        },
    )
    oracle_target: str | None = field(default=None, metadata={"help": "NAME=PATH: their other side."})
    labelled: list[str] = field(
        default_factory=lambda: ["bbc", "rotten_tomatoes"],
        metadata={
            "help": "Corpora for attributes: bbc, rotten_tomatoes, imdb, sarcasm; a data set; a file with `text` and "
            "`label`; a .yaml file (source, split, label_column, descriptions, ...)."
        },
    )
    max_texts: int = field(default=1000, metadata={"help": "Texts of each labelled corpus, drawn at random."})
    out_of_domain: str | None = field(
        default=None, metadata={"help": "Texts of another kind than those trained on, a file or one of these corpora."}
    )
    inverter_model: str | None = field(
        default=None, metadata={"help": "A causal language model that is trained to write texts from vectors (minutes)."}
    )
    inverter_steps: int = field(default=200, metadata={"help": "Its training steps, of 16 texts each."})
    privacy: bool = field(
        default=False, metadata={"help": "Attack the vectors under noise, rounding and a secret rotation, too (minutes)."}
    )
    show_texts: bool = field(default=False, metadata={"help": "Print texts that translations find."})
    seed: int = field(default=0, metadata={"help": "Of everything random."})


@dataclass
class TranslateArguments:
    """Which vectors to translate."""

    _argument_group_name = "flags"

    source: str = field(metadata={"help": "Name of the space that the vectors come from."})
    target: str = field(metadata={"help": "Name of the space to translate into."})
    output: str = field(
        metadata={
            "help": "Folder of shards (no suffix; resumable), or one file .npy, .fbin, .parquet, .safetensors. Arrow and "
            "Parquet keep other columns."
        }
    )
    input: str | None = field(
        default=None,
        metadata={"help": "Vectors: .parquet, .npy, .fbin, .safetensors, .arrow, a folder of these, a saved data set."},
    )
    texts: str | None = field(
        default=None, metadata={"help": "Texts instead of vectors; the encoder that the translator records embeds them."}
    )
    dataset: str | None = field(
        default=None, metadata={"help": "A data set that is streamed instead: Hub name, or parquet, json, ... (data_files)."}
    )
    dataset_config: str | None = field(default=None, metadata={"help": "Its configuration."})
    data_files: list[str] | None = field(default=None, metadata={"help": "Its files."})
    split: str = field(default="train", metadata={"help": "Its split."})
    column: str | None = field(
        default=None, metadata={"help": "Column with the vectors; default: `embedding`, or the only one that holds lists."}
    )
    output_format: str | None = field(
        default=None,
        metadata={
            "help": "Of the shards in a folder; default: arrow, a saved data set.",
            "choices": ["arrow", "parquet", "npy", "fbin", "safetensors"],
        },
    )
    dtype: str = field(
        default="float32",
        metadata={
            "help": "Of translations. int8: a vector is its values times its `scale`. bfloat16: safetensors only.",
            "choices": ["float32", "float16", "bfloat16", "int8"],
        },
    )
    shard_rows: int = field(default=1 << 18, metadata={"help": "Rows of a shard, about."})
    invalid_rows: str = field(
        default="stop",
        metadata={
            "help": "Rows that are missing, zero, NaN or infinite: stop, drop them, or mark them (NaN, column `valid`).",
            "choices": ["stop", "drop", "mark"],
        },
    )
    cache_dir: str | None = field(default=None, metadata={"help": "Where embeddings of `texts` are cached."})
    batch_size: int = field(default=2048, metadata={"help": "Rows at a time; a GPU likes more."})
    verify: bool = field(default=False, metadata={"help": "Compare checksums of shards that are there; mend damaged ones."})
    overwrite: bool = field(default=False, metadata={"help": "Replace `output` if it exists, once the new one is complete."})
