"""Students: loading them, their vectors, and how they leave again."""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
from transformers.utils.quantization_config import QuantizationConfigMixin

from ..data.staging import locked, staged_entries
from ..encoders.bundled import BUNDLED
from ..encoders.folders import check_whole, folder_settings, model_class, model_folder, opening, own_length
from ..encoders.pooling import first_layers, has_decoder, is_decoder, pool, token_states
from ..encoders.text import EncoderSettings, TextEncoder
from ..model.checkpoint_vec2vec import not_finite
from ..model.modes_vec2vec import evaluating
from ..tasks.base import check_head
from ..training.run_folder import MODELS
from ..version import __version__
from .arguments import DistillationTrainingArguments

Kind = Literal["encoder", "causal_lm", "classifier"]
HEADS = {"encoder": AutoModel, "causal_lm": AutoModelForCausalLM, "classifier": AutoModelForSequenceClassification}
CASES = "A The THE Berlin"  # of which a tokenizer makes the same in lower case, if it puts all texts in that
EXPORT_RECORD = "hf_vec2vec.json"  # in a folder that a student was exported to, which may be replaced


def load_student(
    model: str,
    kind: Kind = "encoder",
    num_labels: int | None = None,
    *,
    labels: Sequence[str] | None = None,
    quantization_config: QuantizationConfigMixin | None = None,
    trust_remote_code: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict]:
    """A student to adapt, its tokenizer, and how its vectors are made.

    Args:
        model: short name of a bundled model, local folder or Hub id; a sentence-transformers folder is read as one.
        kind: without a head, with that of a language model, or with a new one for classes.
        num_labels: of a classifier; default: those that it has.
        labels: names of its classes, in order, in place of their number; the config records them.
        quantization_config: for instance `BitsAndBytesConfig(load_in_4bit=True)`; such a student needs an adapter.
        trust_remote_code: run the code that a model brings along.

    Returns:
        The model in float32 (what is quantised apart), its tokenizer, and the arguments of `DistillationTrainingArguments`
        that its folder knows: `pooling`, `normalize`, `prompt`, `max_length`, `mask_first_token`.

    Raises:
        ValueError: for a static embedding, which has no layers to adapt, a head that the folder lacks or that reads padding,
            or a folder whose settings make other vectors than a student's could be.
    """
    folder = model_folder(model, trust_remote_code=trust_remote_code)
    settings = _folder_settings(model, folder)
    with opening(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if has_decoder(config) if kind == "classifier" else kind != "encoder" and config.is_encoder_decoder:
        raise ValueError(
            f"`kind` is {kind!r}, but `model` {model!r} is an encoder-decoder, of which the encoder alone can be a student: "
            "use 'encoder'."
        )
    extra: dict[str, Any] = {"num_labels": num_labels} if kind == "classifier" and num_labels is not None else {}
    if kind == "classifier" and labels is not None:
        if num_labels not in (None, len(labels)):
            raise ValueError(f"`num_labels` is {num_labels}, but `labels` names {len(labels)}: leave out the number.")
        extra = {"id2label": dict(enumerate(labels)), "label2id": {name: i for i, name in enumerate(labels)}}
    if extra:
        extra["ignore_mismatched_sizes"] = True  # a head that the folder has for other classes makes room for a new one
    with opening(folder):
        opened_by = model_class(folder, trust_remote_code=trust_remote_code) if kind == "encoder" else HEADS[kind]
        loaded, report = opened_by.from_pretrained(
            folder,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,  # not said, a student with code of its own would ask on the terminal
            quantization_config=quantization_config,
            **extra,
        )
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    check_whole(folder, loaded, {*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])})
    check_head(loaded)
    _complete(settings, loaded, tokenizer)
    if kind == "causal_lm" and report["missing_keys"]:
        raise ValueError(f"`model` {model!r} is no language model: its folder lacks {sorted(report['missing_keys'])[0]!r}.")
    for module in loaded.modules() if quantization_config is not None else ():
        # At the first evaluation on a CPU, bitsandbytes packs weights into a form that has no gradient.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    # What adapters record as their base: a name that others can load, not a folder of this machine's cache.
    loaded.name_or_path = loaded.config._name_or_path = BUNDLED[model].hub_id if model in BUNDLED else model
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    loaded.config.pad_token_id = tokenizer.pad_token_id  # heads for classes look for the last token before padding
    return loaded, tokenizer, settings


def check_answers(student: str, *, trust_remote_code: bool = False) -> None:
    """Raise, before anything is loaded, if a student cannot answer by a head on the states that a teacher moves.

    Raises:
        ValueError: for an encoder-decoder, whose head reads the decoder.
    """
    folder = model_folder(student, trust_remote_code=trust_remote_code)
    with opening(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    if has_decoder(config):
        raise ValueError(
            f"`student` {student!r} is an encoder-decoder, whose head would read its decoder, where the teacher moves its "
            "encoder. Take an encoder or a language model."
        )


def student_settings(model: str, *, trust_remote_code: bool = False) -> dict[str, Any]:
    """The settings that `load_student` gives, without the weights. Arguments and errors: the same."""
    folder = model_folder(model, trust_remote_code=trust_remote_code)
    settings = _folder_settings(model, folder)
    with opening(folder):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        kind: Any = model_class(folder, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            empty = kind.from_config(config, trust_remote_code=trust_remote_code)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    _complete(settings, empty, tokenizer)
    return settings


def _folder_settings(model: str, folder: Path) -> dict[str, Any]:
    settings = folder_settings(folder)
    if settings.pop("static_folder") is not None:
        raise ValueError(f"`model` {model!r} is a static embedding: it has no layers that an adapter could change.")
    return settings


def _complete(settings: dict[str, Any], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """What a folder does not say, the model and its tokenizer do."""
    if settings.pop("lower_case") and tokenizer(CASES)["input_ids"] != tokenizer(CASES.lower())["input_ids"]:
        raise ValueError(
            f"`model` {str(model.name_or_path)!r} puts texts in lower case before its tokenizer (`do_lower_case`), which "
            "tells cases apart: its vectors can be made, but not trained here."
        )
    settings["max_length"] = own_length(model, tokenizer, settings["max_length"])
    if settings["mask_first_token"] is None:
        settings["mask_first_token"] = is_decoder(model.config.model_type)


def padded(tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int | None) -> BatchEncoding:
    """A batch of texts as students read them: cut at `max_length` tokens, padded on the right, without token types."""
    return tokenizer(
        texts,
        padding=True,
        truncation=True,
        max_length=max_length,
        padding_side="right",
        return_token_type_ids=False,
        return_tensors="pt",
    )


def pooled(states: tuple[Tensor, ...], mask: Tensor, made: EncoderSettings | DistillationTrainingArguments) -> Tensor:
    """Vectors `(n, d)` of hidden states, each `(n, tokens, d)`, and a mask `(n, tokens)`; differentiable."""
    rows = pool(states[made.layer], mask, made.pooling, made.mask_first_token)
    return F.normalize(rows, dim=1) if made.normalize else rows


def is_encoder_decoder(model: nn.Module) -> bool:
    """Whether a model has an encoder, which makes the vectors, and a decoder, which is left alone."""
    return bool(cast(PreTrainedConfig, model.config).is_encoder_decoder)


def with_decoder_start(model: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inputs of a student; an encoder-decoder, which does not run without, gets one token to decode that nobody looks at."""
    if not is_encoder_decoder(model):
        return dict(inputs)
    config = cast(PreTrainedConfig, model.config)
    start = getattr(config, "decoder_start_token_id", None)  # T5's has it only where it was set
    ids, start = inputs["input_ids"], (config.pad_token_id or 0) if start is None else start
    return dict(inputs) | {"decoder_input_ids": ids.new_full((len(ids), 1), start)}


class StudentEncoder(TextEncoder):
    """A loaded model as an encoder.

    Args:
        model: with or without a head, adapted or not.
        tokenizer: its own.
        settings: what its vectors are made of.
    """

    def __init__(self, model: nn.Module, tokenizer: PreTrainedTokenizerBase, settings: EncoderSettings):
        self.model, self.tokenizer, self.settings = model, tokenizer, settings
        self.device = next(model.parameters()).device

    def encode(self, texts: list[str], *, batch_size: int = 64, progress: bool = False) -> Tensor:
        """As the parent's; the model is left in the mode that it was in."""
        with evaluating(self.model):
            return super().encode(texts, batch_size=batch_size, progress=progress)

    def fingerprint(self) -> str:
        """None: it is made of a folder's files.

        Raises:
            TypeError: always.
        """
        raise TypeError(
            f"`encoder` is a {type(self).__name__}, a model in memory, and vectors are cached by a model's files: call its "
            "`encode`, or save the student first and open the folder with `TextEncoder`."
        )

    def _contextual(self, batch: list[str]) -> Tensor:
        return self.vectors_of(self.tokens(batch).to(self.device))

    def tokens(self, texts: list[str]) -> BatchEncoding:
        """A padded batch of texts that have their prompt."""
        return padded(self.tokenizer, texts, self.settings.max_length)

    def vectors_of(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Vectors `(n, d)` of a batch of tokens, differentiably."""
        with first_layers(self.model, self.settings.layer):
            states = token_states(self.model(**with_decoder_start(self.model, inputs), output_hidden_states=True))
        return pooled(states, inputs["attention_mask"], self.settings)


@torch.no_grad()
def perplexity(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, texts: list[str], max_length: int, *, batch_size: int = 16
) -> float:
    """The exponential of a language model's mean cross-entropy a token (nats), over all tokens but the first of each text.

    Raises:
        ValueError: if no text has two tokens.
    """
    was_training, total, count = model.training, 0.0, 0
    model.eval()
    for start in range(0, len(texts), batch_size):
        batch = padded(tokenizer, texts[start : start + batch_size], max_length).to(next(model.parameters()).device)
        labels = batch["input_ids"][:, 1:].masked_fill(batch["attention_mask"][:, 1:] == 0, -100)
        logits = model(**batch).logits[:, :-1]
        total += F.cross_entropy(logits.transpose(1, 2).float(), labels, reduction="sum").item()
        count += int((labels != -100).sum())
    model.train(was_training)
    if count == 0:
        raise ValueError("`texts` has no text with two tokens, so nothing can be predicted.")
    return math.exp(total / count)


def check_export_dir(
    folder: str | Path, *, overwrite: bool = False, argument: str = "export_dir", record: str = EXPORT_RECORD
) -> None:
    """Raise FileExistsError if a folder that a student would be exported to holds a model already.

    Args:
        folder: to write into.
        overwrite: a model that an earlier export made may be replaced; never another one.
        argument: that named the folder, for the error.
        record: file that such an export leaves.
    """
    found = [name for name in (*MODELS, "modules.json") if (Path(folder) / name).exists()]
    if found and overwrite and not (Path(folder) / record).exists():
        raise FileExistsError(
            f"`{argument}` {str(folder)!r} holds a model that no run of this kind made ({found[0]}; there is no {record}). "
            "Choose another folder."
        )
    if found and not overwrite:
        raise FileExistsError(
            f"`{argument}` {str(folder)!r} holds a model already ({found[0]}). Choose another folder, or replace it "
            "(`overwrite`)."
        )


def save_as_sentence_transformer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: EncoderSettings,
    folder: str | Path,
    *,
    overwrite: bool = False,
) -> None:
    """Write a folder that `SentenceTransformer(folder)` opens; its `encode` gives the same vectors.

    All files appear together, when they are complete; others in the folder stay.

    Args:
        model: a bare encoder, adapters merged.
        tokenizer: its own.
        settings: of its vectors. The folder's format knows the last layer and all tokens only.
        folder: to write into.
        overwrite: replace what an earlier call made.

    Raises:
        FileExistsError: if the folder holds a model already, or another process writes there.
        ValueError: for settings that the format cannot express, or weights that are not finite.
    """
    check_export_dir(folder, overwrite=overwrite)
    if settings.layer != -1 or settings.mask_first_token:
        raise ValueError(
            f"`settings` have layer {settings.layer} and mask_first_token {settings.mask_first_token}; a folder of "
            "sentence-transformers can only express layer -1 and all tokens."
        )
    if is_encoder_decoder(model) and model.config.model_type not in MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES:
        raise ValueError(
            f"`model` is a {type(model).__name__}, of which sentence-transformers would pool the decoder, not the encoder. "
            "Save it with `save_pretrained`; `TextEncoder` reads that."
        )
    if broken := not_finite(model.state_dict()):
        raise ValueError(f"`model` has weights that are not finite ({broken[0]}): it was not saved.")
    with locked(folder, argument="export_dir"), staged_entries(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.padding_side = "right"
        tokenizer.save_pretrained(partial)
        _write_modules(partial, settings, model.config.hidden_size)


def _write_modules(folder: Path, settings: EncoderSettings, width: int) -> None:
    """What sentence-transformers reads beside a model."""
    modules = ["Transformer", "Pooling", *(["Normalize"] if settings.normalize else [])]
    listed = [
        {"idx": i, "name": str(i), "path": f"{i}_{name}" if i else "", "type": f"sentence_transformers.models.{name}"}
        for i, name in enumerate(modules)
    ]
    _write(folder / "modules.json", listed)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": settings.max_length, "do_lower_case": False})
    modes = {"cls": "cls", "mean": "mean", "last": "lasttoken", "weighted_mean": "weightedmean"}
    _write(folder / "1_Pooling" / "config.json", {"embedding_dimension": width, "pooling_mode": modes[settings.pooling]})
    if settings.normalize:
        (folder / "2_Normalize").mkdir(exist_ok=True)
    prompts = {"prompts": {"text": settings.prompt}, "default_prompt_name": "text"} if settings.prompt else {}
    _write(folder / "config_sentence_transformers.json", prompts)
    _write(folder / EXPORT_RECORD, {"made_by": "hf_vec2vec", "version": __version__})


def _write(file: Path, content) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=2))


__all__ = [
    "HEADS",
    "StudentEncoder",
    "check_answers",
    "check_export_dir",
    "load_student",
    "padded",
    "perplexity",
    "pooled",
    "save_as_sentence_transformer",
    "student_settings",
]
