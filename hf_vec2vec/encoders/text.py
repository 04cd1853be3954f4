"""Vectors of texts, from sentence encoders, language models and static embeddings."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from datasets import Dataset
from huggingface_hub import snapshot_download
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F
from tqdm.auto import tqdm
from transformers import AutoModel, AutoTokenizer, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from ..data.columns import to_dataset
from ..data.texts import load_texts
from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import check_embeddings
from .bundled import find_encoder
from .cache import CACHE_VERSION, computed_once, files_digest

Pooling = Literal["mean", "cls", "last", "weighted_mean", "projection"]
POOLINGS = ("mean", "cls", "last", "weighted_mean")
PROJECTION = "projection"  # into the space that texts and images share: what CLIP-like models have for a pooling
CHUNK = 16_384  # texts that are encoded between two saves of the cache


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that decides which vector a text gets, apart from the weights.

    Args:
        model: short name of a bundled encoder, local folder or Hub id.
        pooling: how token vectors become one: `"mean"`, `"cls"` (first token), `"last"`, or `"weighted_mean"` (weights
            1, 2, 3, … by position). Of the text side of a CLIP-like model always `"projection"`.
        layer: index into the hidden states, 0 the embeddings, -1 the last (after the model's final norm).
        prompt: text put before each text.
        max_length: tokens; the rest is cut. Default: what the model's folder names for sentence-transformers, else the
            tokenizer's limit or 512, whichever is less.
        normalize: scale vectors to norm 1.
        mask_first_token: leave the first token out of the pooling. In decoders it is an attention sink, whose vector is
            hundreds of times longer than the others.
    """

    model: str
    pooling: Pooling
    layer: int
    prompt: str
    max_length: int
    normalize: bool
    mask_first_token: bool


RECORDED = {field.name: str if field.type is Pooling else field.type for field in fields(EncoderSettings)}


class TextEncoder:
    """A frozen encoder. What is not given is read from the model's own folder, as sentence-transformers writes it.

    Args:
        model: short name of a bundled encoder (`hf_vec2vec.bundled.BUNDLED`), local folder or Hub id.
        pooling, layer, prompt, max_length, normalize, mask_first_token: see [`EncoderSettings`].
        device: where it runs; a GPU if there is one.
        dtype: of the weights. Vectors are returned in float32.

    Raises:
        ValueError: for an unknown pooling or layer, or a folder with a module that is not supported.
    """

    def __init__(
        self,
        model: str,
        *,
        pooling: Pooling | None = None,
        layer: int = -1,
        prompt: str = "",
        max_length: int | None = None,
        normalize: bool | None = None,
        mask_first_token: bool | None = None,
        device: str | None = None,
        dtype: torch.dtype = torch.float32,
    ):
        if pooling is not None and pooling not in (*POOLINGS, PROJECTION):
            raise ValueError(f"`pooling` must be one of {POOLINGS}, got {pooling!r}.")
        self.folder = model_folder(model)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        own = folder_settings(self.folder)
        self.static_folder = own.pop("static_folder")
        if self.static_folder is not None:
            if layer != -1 or pooling not in (None, "mean"):
                raise ValueError(f"`model` {model!r} is a static embedding: it has one layer and `pooling` 'mean' only.")
            self._load_static()
            decoder, own_length = False, 10**6
        else:
            self._load_transformer(dtype)
            self._check_layer(model, layer, pooling)
            if self.is_dual:
                positions = self.model.config.text_config.max_position_embeddings
                own |= {"pooling": PROJECTION, "max_length": own["max_length"] or positions}
            decoder = is_decoder(self.model.config.model_type)
            # Where the folder names no length, 512: tokenizers may claim 10^30, and attention costs the square.
            own_length = own["max_length"] or min(self.tokenizer.model_max_length, 512)
        self.settings = EncoderSettings(
            model=model,
            pooling=pooling or own["pooling"],
            layer=layer,
            prompt=prompt,
            max_length=max_length or own_length,
            normalize=own["normalize"] if normalize is None else normalize,
            mask_first_token=decoder if mask_first_token is None else mask_first_token,
        )

    def _load_static(self) -> None:
        self.tokenizer = Tokenizer.from_file(str(self.static_folder / "tokenizer.json"))
        self.tokenizer.no_padding()
        (weight,) = load_file(self.static_folder / "model.safetensors").values()
        self.model = torch.nn.EmbeddingBag.from_pretrained(weight.float(), mode="mean").to(self.device)

    def _load_transformer(self, dtype: torch.dtype) -> None:
        # The slow route through pickled weights stays closed: safetensors only.
        self.model = AutoModel.from_pretrained(self.folder, dtype=dtype, use_safetensors=True)
        if self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        self.is_dual = is_dual(self.model)
        self.model.to(self.device).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    def _check_layer(self, model: str, layer: int, pooling: Pooling | None) -> None:
        if self.is_dual:
            if layer != -1 or pooling not in (None, PROJECTION):
                raise ValueError(f"`model` {model!r} has a text and an image side: its `pooling` is {PROJECTION!r}.")
            return
        if pooling == PROJECTION:
            raise ValueError(f"`pooling` {PROJECTION!r} is for CLIP-like models, which {model!r} is not.")
        layers = self.model.config.num_hidden_layers
        if not -layers - 1 <= layer <= layers:
            raise ValueError(f"`layer` must be between {-layers - 1} and {layers} for this model, got {layer}.")

    def encode(self, texts: list[str], *, batch_size: int = 64, progress: bool = True) -> Tensor:
        """Vectors of texts, in their order.

        Args:
            texts: none of them empty.
            batch_size: texts at a time; like lengths go together, so that little is padded.
            progress: show a bar.

        Returns:
            `(len(texts), d)`, float32, on the CPU.

        Raises:
            ValueError: for no texts, an empty text, or one that gets no token.
        """
        empty = [i for i, text in enumerate(texts) if not text.strip()]
        if empty or not texts:
            raise ValueError(
                f"`texts` has {len(empty)} empty text(s), the first at index {empty[0]}." if texts else "`texts` is empty."
            )
        # Longest first: a batch that does not fit into memory fails at once.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        done = []
        with torch.inference_mode(), tqdm(total=len(texts), desc="embed", unit="text", disable=not progress) as bar:
            for start in range(0, len(order), batch_size):
                batch = [self.settings.prompt + texts[i] for i in order[start : start + batch_size]]
                rows = (self._static(batch) if self.static_folder else self._contextual(batch)).float()
                done.append((F.normalize(rows, dim=1) if self.settings.normalize else rows).cpu())
                bar.update(len(batch))
        rows = torch.cat(done)
        vectors = torch.empty_like(rows)
        vectors[torch.tensor(order)] = rows
        return check_embeddings(vectors, "texts")

    def _static(self, batch: list[str]) -> Tensor:
        ids = [e.ids[: self.settings.max_length] for e in self.tokenizer.encode_batch(batch, add_special_tokens=False)]
        offsets = torch.tensor([0, *map(len, ids)]).cumsum(0)[:-1].to(self.device)
        return self.model(torch.tensor([i for row in ids for i in row], device=self.device, dtype=torch.long), offsets)

    def _contextual(self, batch: list[str]) -> Tensor:
        settings = self.settings
        # SigLIP was trained on texts of full length and has no mask.
        padding = "max_length" if self.model.config.model_type.startswith("siglip") else True
        inputs = self.tokenizer(
            batch, padding=padding, truncation=True, max_length=settings.max_length, return_tensors="pt"
        ).to(self.device)
        if self.is_dual:
            return self.model.get_text_features(**inputs).pooler_output
        if settings.layer == -1:
            states = self.model(**inputs).last_hidden_state
        else:
            with first_layers(self.model, settings.layer):
                states = self.model(**inputs, output_hidden_states=True).hidden_states[settings.layer]
        return pool(states, inputs["attention_mask"], settings.pooling, settings.mask_first_token)

    def fingerprint(self) -> str:
        """Hash of the weights' and the tokenizer's files and of all settings: what the vectors depend on."""
        settings = asdict(self.settings) | {"model": None}
        return files_digest(self.folder, json.dumps([CACHE_VERSION, settings, str(self._dtype())]))

    def _dtype(self) -> torch.dtype:
        return next(self.model.parameters()).dtype


def recorded_encoder(config: Vec2VecConfig, space: str, *, device: str | None = None) -> TextEncoder:
    """The encoder that made the vectors of a translator's space, with the settings that its config records.

    Args:
        config: of the translator.
        space: name of the space.
        device: see [`TextEncoder`].

    Raises:
        ValueError: if the config does not record it, the record is broken, or the encoder cannot be found here.
    """
    settings = (config.encoders or {}).get(space)
    if settings is None:
        raise ValueError(
            f"`space` {space!r}: the translator does not record which encoder made it. Embed the texts yourself and pass "
            "the vectors."
        )
    if settings.get("modality") == "image":
        raise ValueError(f"`space` {space!r} is of images, by {settings['model']!r}. Embed images and pass the vectors.")
    if {name: type(value) for name, value in settings.items()} != RECORDED:
        raise ValueError(
            f"`space` {space!r}: its encoder's record is incomplete, broken or of another version: {settings}. Embed the "
            "texts yourself and pass the vectors."
        )
    try:
        return TextEncoder(**settings, device=device)
    except (OSError, ValueError) as error:  # a folder that is gone is no valid Hub id: the latter
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`space` {space!r} was made by {settings['model']!r}, which cannot be loaded here. Put that encoder there, or "
            f"embed the texts yourself and pass the vectors. {reason}"
        ) from error


@contextmanager
def first_layers(model: PreTrainedModel, layer: int) -> Iterator[None]:
    """Run no layer that hidden state `layer` does not need, in models that go by their config: the language models.

    One more than that is run, for models put their final norm on the last state. Negative layers change nothing.
    """
    config = model.config.get_text_config()
    before = vars(config).copy()
    if 0 <= layer < config.num_hidden_layers:
        config.num_hidden_layers = layer + 1
        config.use_cache = False  # GPT-2 runs all its layers, but would make a cache for those of its config only
    try:
        yield
    finally:
        vars(config).clear()  # a config may have had no `use_cache`
        vars(config).update(before)


def pool(states: Tensor, mask: Tensor, pooling: Pooling, mask_first_token: bool = False) -> Tensor:
    """One vector a text from its tokens' vectors.

    Args:
        states: `(n, tokens, d)`, padded on the right.
        mask: `(n, tokens)`, 1 for tokens, 0 for padding.
        pooling: see [`EncoderSettings`].
        mask_first_token: leave out the first token, except from texts that have no other.

    Returns:
        `(n, d)`.
    """
    if pooling == "cls":
        return states[:, 0]
    if pooling == "last":
        return states[torch.arange(len(states), device=states.device), mask.sum(1) - 1]
    weights = mask.to(states.dtype)
    if mask_first_token:
        weights[:, 0] = (mask.sum(1) == 1).to(weights.dtype)
    if pooling == "weighted_mean":
        weights = weights * torch.arange(1, weights.shape[1] + 1, device=weights.device)
    return (states * weights[:, :, None]).sum(1) / weights.sum(1, keepdim=True)


def model_folder(model: str) -> Path:
    """Local folder of an encoder: a bundled one, a folder as it is, or a Hub repository, downloaded without pickles."""
    if (bundled := find_encoder(model)) is not None:
        return bundled
    if Path(model).is_dir():
        return Path(model)
    allowed = ["*.json", "*.safetensors", "*.txt", "*.model"]
    return Path(snapshot_download(model, allow_patterns=allowed, ignore_patterns=["onnx/*", "openvino/*"]))


def folder_settings(folder: Path) -> dict:
    """Pooling, normalisation and length as sentence-transformers writes them beside a model; mean pooling without."""
    found = {"pooling": "mean", "normalize": False, "max_length": None, "static_folder": None}
    if not (folder / "modules.json").exists():
        return found
    for module in json.loads((folder / "modules.json").read_text()):
        kind, path = module["type"].rsplit(".", 1)[-1], folder / module["path"]
        if kind == "Pooling":
            found["pooling"] = _pooling_mode(json.loads((path / "config.json").read_text()))
        elif kind == "Normalize":
            found["normalize"] = True
        elif kind == "StaticEmbedding":
            found["static_folder"] = path
        elif kind == "Transformer":
            config = path / "sentence_bert_config.json"
            found["max_length"] = json.loads(config.read_text()).get("max_seq_length") if config.exists() else None
        else:
            raise ValueError(
                f"`model` folder {str(folder)!r} has a {kind} module, which is not supported. Embed the texts with "
                "sentence-transformers and pass the vectors."
            )
    return found


def _pooling_mode(config: dict) -> Pooling:
    names = {"cls": "cls", "mean": "mean", "lasttoken": "last", "weightedmean": "weighted_mean"}
    if isinstance(mode := config.get("pooling_mode"), str):
        chosen = [mode]
    else:
        flags = {
            "cls_token": "cls",
            "mean_tokens": "mean",
            "lasttoken": "lasttoken",
            "weightedmean_tokens": "weightedmean",
        }
        chosen = [flags.get(key.removeprefix("pooling_mode_"), key) for key, on in config.items() if on is True]
        chosen = [mode for mode in chosen if mode != "include_prompt"]
    if len(chosen) != 1 or chosen[0] not in names:
        raise ValueError(f"The model's own pooling {chosen} is not supported; set `pooling` to one of {POOLINGS}.")
    return names[chosen[0]]


def is_decoder(model_type: str) -> bool:
    """Whether a model reads from left to right only, so that its first token tells nothing."""
    return model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and model_type not in MODEL_FOR_MASKED_LM_MAPPING_NAMES


def is_dual(model: torch.nn.Module) -> bool:
    """Whether a model has a text and an image side that meet in one space, like CLIP."""
    return hasattr(model, "get_text_features") and hasattr(model, "get_image_features")


def embed(
    texts: list[str] | str | Path,
    encoder: TextEncoder,
    *,
    batch_size: int = 64,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Dataset:
    """Texts and their vectors as an Arrow data set, computed once and cached by everything that changes the vectors.

    Work that was interrupted goes on after the last whole chunk.

    Args:
        texts: the texts, or a file of them (see `hf_vec2vec.data.load_texts`).
        encoder: what makes the vectors.
        batch_size: texts at a time.
        cache_dir: defaults to `hf_vec2vec/embeddings` in the Hugging Face cache.
        progress: show a bar.

    Returns:
        A memory-mapped data set with the columns `text` and `embedding`; the encoder's settings, as JSON, are its
        `info.description`.
    """
    texts = load_texts(texts) if isinstance(texts, str | Path) else list(texts)
    if not texts:
        raise ValueError("`texts` is empty.")
    key = hashlib.sha256(json.dumps([encoder.fingerprint(), texts]).encode()).hexdigest()[:32]

    def encode(start: int, stop: int) -> Tensor:
        return encoder.encode(texts[start:stop], batch_size=batch_size, progress=progress)

    def finish(rows: np.ndarray) -> Dataset:
        return to_dataset(rows, texts)

    return computed_once(key, len(texts), CHUNK, encode, finish, asdict(encoder.settings), cache_dir)
