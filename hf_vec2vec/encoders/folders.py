"""Folders of encoders: where they lie, and what sentence-transformers wrote into them."""

import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForTextEncoding, PreTrainedModel, PreTrainedTokenizerBase
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES
from transformers.utils import logging

from ..data.json_files import read_object
from .bundled import find_encoder
from .pooling import POOLINGS, has_decoder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

UNLIMITED = 10**6  # tokens; what is recorded where nothing is cut. Tokenizers that know no limit claim 10^30
PLAIN_LENGTH = 512  # tokens, of a plain model whose makers say nothing: attention costs the square
OWN_PROMPTS = {"query": "", "document": ""}  # that sentence-transformers gives folders that name none
MODULES = "modules.json"  # the file that makes a folder a SentenceTransformer
# What a pooling module calls its modes, today and in the flags `pooling_mode_*` of older files.
POOLING_NAMES = {"lasttoken": "last", "weightedmean": "weighted_mean"}
FLAG_NAMES = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last", "weightedmean_tokens": "weighted_mean"}


def model_folder(model: str, *, trust_remote_code: bool = False) -> Path:
    """Local folder of an encoder: a bundled one, a folder as it is, or a Hub repository, downloaded without pickles.

    Args:
        model: short name of a bundled encoder, local folder or Hub id.
        trust_remote_code: download the repository's code, too.

    Raises:
        OSError: if it is nowhere.
    """
    if (bundled := find_encoder(model)) is not None:
        return bundled
    if Path(model).is_dir():
        return Path(model)
    allowed = ["*.json", "*.safetensors", "*.txt", "*.model", *(["*.py"] if trust_remote_code else [])]
    try:
        return Path(snapshot_download(model, allow_patterns=allowed, ignore_patterns=["onnx/*", "openvino/*"]))
    except (OSError, HFValidationError) as error:
        reason = " ".join(str(error).split())
        raise OSError(f"`model` is {model!r}, which is no folder here and cannot be had from the Hub: {reason}") from error


def model_class(folder: Path, *, trust_remote_code: bool = False) -> type[AutoModel | AutoModelForTextEncoding]:
    """What opens an encoder's folder: an encoder that was saved without its decoder, as those of T5, has none to load."""
    config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
    # By the kind of model, not by the class alone: code of a repository's own has kinds that only `AutoModel` opens.
    alone = MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES.get(config.model_type)
    return AutoModelForTextEncoding if alone in (config.architectures or ()) else AutoModel


def is_sentence_transformer(folder: Path) -> bool:
    """Whether sentence-transformers wrote the folder, so that its own settings say how its vectors are made."""
    return (folder / MODULES).exists()


@contextmanager
def opening(folder: Path) -> Iterator[None]:
    """Name a model's folder in whatever error its files lead to: those of other packages may be a bare `KeyError`.

    Raises:
        ValueError: in place of other errors than those of the system and of missing packages.
    """
    try:
        yield
    except (OSError, ImportError, MemoryError):
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
            raise ValueError(
                f"`model` folder {str(folder)!r} holds an adapter alone, not a whole model. Merge it into its model first: "
                "`save_as_sentence_transformer` writes that for a student, and `merge_and_unload` of PEFT makes it."
            ) from error
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        raise ValueError(f"`model` folder {str(folder)!r} cannot be opened: {kind}{reason}") from error


def refuse_pickles(folder: Path) -> None:
    """Raise a ValueError if a part of the model has its weights in pickles only, which can run code."""
    for file in sorted(folder.rglob("pytorch_model*.bin")):
        if not list(file.parent.glob("*.safetensors")):
            raise ValueError(
                f"`model` folder {str(folder)!r} has pickled weights, {str(file.relative_to(folder))!r}, which are not "
                "read: save it anew with `safe_serialization=True`."
            )


def folder_settings(folder: Path) -> dict[str, Any]:
    """Pooling, prompt and the like, for those who run a folder's transformer themselves; mean pooling without modules.

    Returns:
        `pooling`, `normalize`, `prompt`, `max_length` (tokens, `None` where the folder does not say), `mask_first_token`
        (`None`: as fits the model), `static_folder` (of a static embedding, else `None`), `lower_case` (whether texts are
        put in lower case, whatever the tokenizer does).

    Raises:
        ValueError: for a module that is more than a transformer, its pooling and a normalisation; a pooling without the
            prompt's tokens; vectors that are cut.
    """
    found: dict[str, Any] = {"pooling": "mean", "normalize": False, "prompt": "", "max_length": None}
    found |= {"mask_first_token": None, "static_folder": None, "lower_case": False}
    if not is_sentence_transformer(folder):
        return found
    found["mask_first_token"] = False
    found["prompt"], _ = chosen_prompt(*folder_prompts(folder))
    if (kept := _content(folder / "config_sentence_transformers.json").get("truncate_dim")) is not None:
        raise _untrainable(folder, f"keeps {kept} dimensions of its vectors (`truncate_dim`)")
    for module, subfolder in _modules(folder / MODULES):
        kind, path = module.rsplit(".", 1)[-1], folder / subfolder
        if kind == "Pooling":
            said = _content(path / "config.json")
            if said.get("include_prompt") is False:
                raise _untrainable(folder, "leaves its prompt's tokens out of the pooling (`include_prompt`)")
            found["pooling"] = _pooling(said)
        elif kind == "Normalize":
            found["normalize"] = True
        elif kind == "StaticEmbedding":
            found["static_folder"] = path
        elif kind == "Transformer":
            said = _content(path / "sentence_bert_config.json")
            found["lower_case"] = said.get("do_lower_case") is True
            length = said.get("max_seq_length")
            found["max_length"] = length or _content(path / "tokenizer_config.json").get("model_max_length")
        else:
            raise _untrainable(folder, f"has a {kind} module behind its layers")
    return found


def _untrainable(folder: Path, reason: str) -> ValueError:
    return ValueError(f"`model` folder {str(folder)!r} {reason}: its vectors can be made, but not trained here.")


def folder_prompts(folder: Path) -> tuple[dict[str, str], str | None]:
    """Prompts of a folder by name, and the name of the one that texts get where none is asked for, if any.

    Raises:
        ValueError: for a prompt that is no text, or a name that no prompt has.
    """
    if not is_sentence_transformer(folder):
        return {}, None
    said = _content(folder / "config_sentence_transformers.json")
    prompts, default = said.get("prompts") or {}, said.get("default_prompt_name")
    if wrong := [name for name, text in prompts.items() if not isinstance(text, str | None)]:
        raise ValueError(f"`model` folder {str(folder)!r} has a prompt {wrong[0]!r} that is no text.")
    known = OWN_PROMPTS | {name: text or "" for name, text in prompts.items()}
    if default is not None and default not in known:
        raise ValueError(
            f"`model` folder {str(folder)!r} has the default prompt {default!r}, which is none of {list(known)}."
        )
    return known, default


def chosen_prompt(
    known: dict[str, str], default: str | None, prompt: str | None = None, prompt_name: str | None = None
) -> tuple[str, str]:
    """The prompt that is asked for and its name, empty where it has none.

    Args:
        known: prompts of the model's folder, by name.
        default: name of the one that texts get where none is asked for.
        prompt: text put before each text.
        prompt_name: name of a prompt.

    Raises:
        ValueError: for an unknown name, or one whose prompt is not `prompt`.
    """
    if prompt_name:
        if prompt_name not in known:
            raise ValueError(
                f"`prompt_name` must be one of {list(known)}, which the model's folder names, got {prompt_name!r}."
            )
        if prompt is not None and prompt != known[prompt_name]:
            raise ValueError(
                f"`prompt` {prompt!r} and `prompt_name` {prompt_name!r}, which is {known[prompt_name]!r} in the model's "
                "folder, differ: give one of them."
            )
        return known[prompt_name], prompt_name
    if prompt is not None or default is None:
        return prompt or "", ""
    return known[default], default


def check_whole(folder: Path, model: PreTrainedModel, missing: Iterable[str], unused: Sequence[str] = ()) -> None:
    """Raise if a model's folder lacks weights that make its vectors: they would be random numbers, new each time.

    The decoder behind an encoder is none of them.

    Args:
        folder: of the model.
        model: as it was loaded; of one with a head, which may be new, the body counts.
        missing: names of weights that were not in the folder, as `from_pretrained` reports them.
        unused: parts of names of weights that are not needed, besides poolers.

    Raises:
        ValueError: then.
    """
    body = f"{model.base_model_prefix}." if hasattr(model, model.base_model_prefix) else ""
    weights = {name for name, _ in model.named_parameters()}
    # Language models such as OPT are decoders, and call themselves so.
    parts = ("pooler", "logit_", *(["decoder"] if has_decoder(model.config) else []), *unused)
    lacking = sorted(n for n in missing if n in weights and n.startswith(body) and not any(part in n for part in parts))
    if lacking:
        raise ValueError(
            f"`model` folder {str(folder)!r} lacks {len(lacking)} weight(s), such as {lacking[0]!r}, which would be random: "
            "its config.json is of another model, or its weights were saved under other names. Get its files anew."
        )


def check_module_whole(folder: Path, model: object) -> None:
    """`check_whole` of the transformer in a SentenceTransformer, which keeps no report. No weight is read for it."""
    if not isinstance(model, PreTrainedModel):  # one with adapters, say
        return
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it was reported when the model was loaded
    try:
        subfolder = next(path for kind, path in _modules(folder / MODULES))
        kind: Any = type(model)
        _, report = kind.from_pretrained(
            folder / subfolder, config=model.config, device_map="meta", use_safetensors=True, output_loading_info=True
        )
    finally:
        logging.set_verbosity(verbosity)
    check_whole(folder, model, report["missing_keys"])


def places(model: nn.Module) -> int | None:
    """How many tokens a model has vectors of positions for; `None` where it has no table of these, and so no end.

    RoBERTa and its kin count them from behind the padding on.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "position_embedding", "wpe")):
            return module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
    return None


def fit(chain: "SentenceTransformer", model: object, *, pad_right: bool) -> None:
    """Where a SentenceTransformer's settings ask for what its transformer cannot do, ask for what it can.

    Args:
        chain: the SentenceTransformer.
        model: its transformer.
        pad_right: put the padding behind the text, where the first token and the positions of an encoder are the text's own,
            whatever else is in the batch.
    """
    if not isinstance(model, PreTrainedModel):
        return
    limit = places(model)
    if limit is not None and (chain.max_seq_length is None or chain.max_seq_length > limit):
        chain.max_seq_length = limit  # longer texts would be an error
    if pad_right:
        chain.tokenizer.padding_side = "right"


def check_length(model: str, length: int | None, limit: int | None) -> None:
    """Raise a ValueError for a length, of a flag or a folder, that is no number of tokens, or more than there are places."""
    if isinstance(length, bool) or not isinstance(length, int | None) or (length is not None and length < 1):
        raise ValueError(f"`model` {model!r}: its maximal length is {length!r}, which must be at least 1 token.")
    if length is not None and limit is not None and length > limit:
        raise ValueError(f"`max_length` is {length:,}, but `model` {model!r} reads {limit:,} tokens at most.")


def check_room(tokenizer: object, prompt: str, length: int) -> None:
    """Raise a ValueError if a prompt, and what a tokenizer puts around each text, take all `length` tokens that are read."""
    if isinstance(tokenizer, Tokenizer):  # of a static embedding
        taken = len(tokenizer.encode(prompt, add_special_tokens=False))
    elif isinstance(tokenizer, PreTrainedTokenizerBase):
        taken = len(tokenizer(prompt)["input_ids"])
    else:
        return
    if taken >= length:
        raise ValueError(
            f"`max_length` is {length:,}, of which the prompt and the tokens around a text take {taken:,}: nothing of a "
            "text would be read, and all would get one vector. Give more, or a shorter `prompt`."
        )


def own_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, said: int | None = None) -> int:
    """Tokens that a model reads at most, by its positions, its tokenizer and what its folder `said`, the least of them.

    512 where nobody says.
    """
    limits = (_positions(model), tokenizer.model_max_length, said)
    return min((length for length in limits if length and 0 < length < UNLIMITED), default=PLAIN_LENGTH)


def _positions(model: PreTrainedModel) -> int | None:
    """How many tokens there are positions for, by a table of these or by the config."""
    if (found := places(model)) is not None:
        return found
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)  # those without have no limit


def _modules(file: Path) -> list[tuple[str, str]]:
    """Type and folder of each module, in order."""
    try:
        found = [(module["type"], module["path"]) for module in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"{str(file)!r} is damaged: {type(error).__name__}: {' '.join(str(error).split())}.") from error
    if not all(isinstance(value, str) for module in found for value in module):
        raise ValueError(f"{str(file)!r} is damaged: `type` and `path` of a module must be texts.")
    return found


def _content(file: Path) -> dict[str, Any]:
    return read_object(file) if file.exists() else {}


def _pooling(config: dict[str, Any]) -> str:
    if "pooling_mode" in config:
        modes = [config["pooling_mode"]] if isinstance(config["pooling_mode"], str) else list(config["pooling_mode"])
    else:
        on = [key.removeprefix("pooling_mode_") for key, value in config.items() if value is True]
        modes = [FLAG_NAMES.get(key, key) for key in on if key != "include_prompt"]
    modes = [POOLING_NAMES.get(mode, mode) for mode in modes]
    if len(modes) != 1 or modes[0] not in POOLINGS:
        raise ValueError(f"The model's own pooling {modes} is not supported here; set `pooling` to one of {POOLINGS}.")
    return modes[0]
