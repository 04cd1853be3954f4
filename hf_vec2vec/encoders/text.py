"""Vectors of texts, from sentence encoders, language models and static embeddings."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import AutoTokenizer, PreTrainedModel
from transformers.utils import logging

from ..data.columns import to_dataset
from ..data.devices import chosen_device
from ..data.progress import progress_bar
from ..data.texts import checked_texts, load_texts
from ..model.modeling_vec2vec import check_embeddings
from ..model.modes_vec2vec import evaluating
from .cache import computed_once, model_digest
from .folders import (
    POOLING_NAMES,
    UNLIMITED,
    check_length,
    check_module_whole,
    check_room,
    check_whole,
    chosen_prompt,
    fit,
    is_sentence_transformer,
    model_class,
    model_folder,
    opening,
    own_length,
    places,
    refuse_pickles,
)
from .memory import in_batches
from .pooling import POOLINGS, PROJECTION, first_layers, is_decoder, is_dual, pool
from .settings import EncoderSettings

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

logger = logging.get_logger(__name__)
CHUNK = 16_384  # texts that are encoded between two saves of the cache
ROUTES = ("query", "document")  # names of prompts that also choose the route through a model with two


class TextEncoder:
    """A frozen encoder.

    A folder or repository of sentence-transformers is run by sentence-transformers, with all its modules: what is not given
    is as its makers say. Of other models the token vectors are pooled here.

    Args:
        model: short name of a bundled encoder (`hf_vec2vec.encoders.bundled.BUNDLED`), local folder or Hub id.
        pooling, layer, normalize, mask_first_token: see [`EncoderSettings`]. Default: the folder's own; of a plain model
            mean pooling of the last layer, in decoders without the first token.
        prompt: text put before each text; default: the folder's default prompt, which most have not.
        prompt_name: one of the prompts that the folder names instead, such as `"query"` or `"document"`.
        max_length: tokens; default: the folder's own, of a plain model as many as it has positions and its tokenizer allows,
            or 512 where neither says.
        device: where it runs; a GPU if there is one.
        dtype: of the weights. Vectors are returned in float32.
        trust_remote_code: run the code that the model's repository brings along.

    Raises:
        ValueError: for settings that the model cannot have, pickled weights, or code that is not trusted.
    """

    model: Any  # a transformer of any class, or the table of a static embedding
    tokenizer: Any
    chain: "SentenceTransformer | None" = None  # the modules that run where the folder's own settings are kept

    def __init__(
        self,
        model: str,
        *,
        pooling: str | None = None,
        layer: int = -1,
        prompt: str | None = None,
        prompt_name: str | None = None,
        max_length: int | None = None,
        normalize: bool | None = None,
        mask_first_token: bool | None = None,
        device: str | torch.device | None = None,
        dtype: torch.dtype = torch.float32,
        trust_remote_code: bool = False,
    ):
        if max_length is not None and max_length < 1:
            raise ValueError(f"`max_length` must be at least 1 token, got {max_length}.")
        self.device = chosen_device(device)
        self.folder = model_folder(model, trust_remote_code=trust_remote_code)
        if is_sentence_transformer(self.folder):
            own = self._load_modules(dtype, trust_remote_code)
        else:
            own = self._load_transformer(dtype, trust_remote_code)
        check_length(model, max_length, None if self.is_static else places(self.model))
        known, default = {}, None
        if self.chain is not None:
            known = {name: text or "" for name, text in self.chain.prompts.items()}
            default = self.chain.default_prompt_name
        prompt, prompt_name = chosen_prompt(known, default, prompt, prompt_name)
        self.settings = EncoderSettings(
            model=model,
            pooling=pooling or own["pooling"],
            layer=layer,
            prompt=prompt,
            max_length=max_length or own["max_length"],
            normalize=own["normalize"] if normalize is None else normalize,
            mask_first_token=own["mask_first_token"] if mask_first_token is None else mask_first_token,
            prompt_name=prompt_name,
        )
        self._check_pooling(own["pooling"])
        if self.chain is not None:
            self._take_apart_if_changed(own)
        self._check_layer()
        if self.is_static and self.settings.max_length != own["max_length"]:
            self.tokenizer.enable_truncation(self.settings.max_length)
        elif self.chain is not None and self.settings.max_length != own["max_length"]:
            self.chain.max_seq_length = self.settings.max_length
        check_room(self.tokenizer, prompt, self.settings.max_length)

    def _load_modules(self, dtype: torch.dtype, trust_remote_code: bool) -> dict[str, Any]:
        """Load the modules of a SentenceTransformer; what they say of themselves."""
        from sentence_transformers import SentenceTransformer  # slow to import
        from sentence_transformers.base.modules import Normalize
        from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding

        refuse_pickles(self.folder)
        with opening(self.folder):
            chain = SentenceTransformer(
                str(self.folder),
                device=str(self.device),
                trust_remote_code=trust_remote_code,
                model_kwargs={"dtype": dtype, "use_safetensors": True},
            )
        if wrong := [name for name, text in chain.prompts.items() if not isinstance(text, str | None)]:
            raise ValueError(f"`model` folder {str(self.folder)!r} has a prompt {wrong[0]!r} that is no text.")
        self.chain = chain.to(dtype=dtype).eval()
        self.tokenizer = chain.tokenizer
        first = chain[0]
        self.model = first.embedding if isinstance(first, StaticEmbedding) else getattr(first, "auto_model", first)
        self.is_static = isinstance(first, StaticEmbedding)
        poolings = [module for module in chain if isinstance(module, Pooling)]
        modes = [mode for module in poolings for mode in np.atleast_1d(module.pooling_mode).tolist()]
        named = "+".join(POOLING_NAMES.get(mode, mode) for mode in modes)
        if not self.is_static:
            check_module_whole(self.folder, self.model)
            check_length(str(self.folder), chain.max_seq_length, None)
            fit(chain, self.model, pad_right=not self.is_decoder)
        length = chain.max_seq_length
        return {
            "pooling": named or ("mean" if self.is_static else "own"),
            # Behind a module that comes after it, or a cut, vectors are of other lengths again.
            "normalize": isinstance(chain[-1], Normalize) and chain.truncate_dim is None,
            "max_length": UNLIMITED if length is None else int(min(length, UNLIMITED)),
            "mask_first_token": False,
        }

    def _load_transformer(self, dtype: torch.dtype, trust_remote_code: bool) -> dict[str, Any]:
        """Load a model without modules; how its vectors are made where nobody says otherwise."""
        # The slow route through pickled weights stays closed: safetensors only.
        with opening(self.folder):
            self.model, report = model_class(self.folder, trust_remote_code=trust_remote_code).from_pretrained(
                self.folder,
                dtype=dtype,
                use_safetensors=True,
                trust_remote_code=trust_remote_code,
                output_loading_info=True,
            )
            self.tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=trust_remote_code)
            length = own_length(self.model, self.tokenizer)
        check_whole(self.folder, self.model, report["missing_keys"], unused=("vision", "visual"))
        if self.model.config.is_encoder_decoder:
            self.model = self.model.get_encoder()
        self.model.to(self.device).eval()
        self._pad_on_the_right()
        if self.is_dual:
            length = self.model.config.text_config.max_position_embeddings
        return {
            "pooling": PROJECTION if self.is_dual else "mean",
            "normalize": False,
            "max_length": length,
            "mask_first_token": self.is_decoder,
        }

    def _pad_on_the_right(self) -> None:
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token

    is_static = False  # an embedding of tokens, which has no layers

    @property
    def is_dual(self) -> bool:
        """Whether the model has a text and an image side, and runs outside of sentence-transformers."""
        return self.chain is None and is_dual(self.model)

    @property
    def is_decoder(self) -> bool:
        """Whether the model reads from left to right, as language models do."""
        return isinstance(self.model, PreTrainedModel) and is_decoder(self.model.config.model_type)

    def _check_pooling(self, own: str) -> None:
        pooling, model = self.settings.pooling, self.settings.model
        if pooling == own:
            return
        if own == PROJECTION:
            raise ValueError(f"`model` {model!r} has a text and an image side: its `pooling` is {PROJECTION!r}.")
        if pooling == PROJECTION:
            raise ValueError(f"`pooling` {PROJECTION!r} is for CLIP-like models, which {model!r} is not.")
        if pooling not in POOLINGS:
            raise ValueError(f"`pooling` must be one of {POOLINGS}, got {pooling!r}.")

    def _take_apart_if_changed(self, own: dict[str, Any]) -> None:
        """Leave the modules where a setting asks for what they cannot do, if a transformer is all that has weights."""
        from sentence_transformers.sentence_transformer.modules import Pooling

        settings = self.settings
        changed = [name for name in ("pooling", "mask_first_token") if getattr(settings, name) != own[name]]
        changed += ["layer"] if settings.layer != -1 else []
        changed += ["normalize"] if own["normalize"] and not settings.normalize else []
        if not changed:
            return
        if self.is_static:
            raise ValueError(
                f"`model` {settings.model!r} is a static embedding: it has one layer and `pooling` 'mean' only."
            )
        reasons = self.other_modules()
        if not all(module.include_prompt for module in self.chain or () if isinstance(module, Pooling)):
            reasons.append("a pooling that leaves out the prompt")
        if self.chain is not None and self.chain.truncate_dim is not None:
            reasons.append(f"a cut to {self.chain.truncate_dim} dimensions")
        if reasons:
            raise ValueError(
                f"`{changed[0]}` cannot be changed: {settings.model!r} makes its vectors with modules of its own "
                f"({', '.join(reasons)})."
            )
        self.chain = None
        self._pad_on_the_right()

    def other_modules(self) -> list[str]:
        """Kinds of a SentenceTransformer's modules that do more than pool a transformer's token vectors."""
        from sentence_transformers.base.modules import Normalize, Transformer
        from sentence_transformers.sentence_transformer.modules import Pooling

        own = (Transformer, Pooling, Normalize)
        return [type(module).__name__ for module in self.chain or () if not isinstance(module, own)]

    def _check_layer(self) -> None:
        layer = self.settings.layer
        if layer == -1:
            return
        if self.is_dual:
            raise ValueError(
                f"`model` {self.settings.model!r} has a text and an image side: its `pooling` is {PROJECTION!r}; `layer` "
                "must be left out."
            )
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
            TypeError: for one text in place of a list, or something in it that is no text.
            ValueError: for no texts, an empty text, or one that gets no token.
        """
        texts = checked_texts(texts)
        # Longest first: a batch that does not fit into memory fails at once.
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        done = []

        def run(indices: Sequence[int]) -> Tensor:
            rows = self._rows([texts[i] for i in indices]).float()
            return (F.normalize(rows, dim=1) if self.settings.normalize else rows).cpu()

        bar = progress_bar(total=len(texts), desc="embed", unit="text", shown=progress)
        with torch.inference_mode(), evaluating(self.model), bar:  # a model that was trained since would drop units
            for batch, rows in in_batches(run, order, batch_size):
                done.append(rows)
                bar.update(len(batch))
        rows = torch.cat(done)
        vectors = torch.empty_like(rows)
        vectors[torch.tensor(order)] = rows
        if not vectors.isfinite().all():
            raise ValueError(
                f"`model` {self.settings.model!r} makes NaN or infinite values of {texts[_first_wrong(vectors)][:80]!r}. "
                "Its weights are damaged, or it cannot run in this precision."
            )
        if not (told := vectors.any(1)).all():
            raise ValueError(
                f"`model` {self.settings.model!r} makes only zeros of {texts[int(told.int().argmin())][:80]!r}: its "
                "tokenizer may know nothing of it. Leave the text out."
            )
        return check_embeddings(vectors, "texts")

    def _rows(self, batch: list[str]) -> Tensor:
        """Vectors `(n, d)` of one batch."""
        prompt = self.settings.prompt
        options: dict[str, Any] = {"task": self.settings.prompt_name} if self.settings.prompt_name in ROUTES else {}
        options |= {"batch_size": len(batch), "show_progress_bar": False, "convert_to_tensor": True}
        try:
            if self.chain is None:
                return self._contextual([prompt + text for text in batch])
            return cast(Tensor, self.chain.encode(batch, prompt=prompt, **options))
        except IndexError as error:
            raise ValueError(
                f"`model` {self.settings.model!r}: its tokenizer gives tokens or lengths that the model has no vectors for. "
                "Its files are damaged, or of two models: get them anew."
            ) from error

    def _contextual(self, batch: list[str]) -> Tensor:
        settings = self.settings
        # SigLIP was trained on texts of full length and has no mask.
        padding = "max_length" if self.model.config.model_type.startswith("siglip") else True
        inputs = self.tokenizer(
            batch, padding=padding, truncation=True, max_length=settings.max_length, return_tensors="pt"
        ).to(self.device)
        self._say_if_cut(inputs["input_ids"].shape[1])
        if self.is_dual:
            return self.model.get_text_features(**inputs).pooler_output
        if settings.layer == -1:
            states = self.model(**inputs).last_hidden_state
        else:
            with first_layers(self.model, settings.layer):
                states = self.model(**inputs, output_hidden_states=True).hidden_states[settings.layer]
        return pool(states, inputs["attention_mask"], settings.pooling, settings.mask_first_token)

    def _say_if_cut(self, length: int) -> None:
        """A plain model's folder does not say how its texts are cut, as that of a SentenceTransformer does."""
        if length == self.settings.max_length and not self.is_dual:
            logger.warning_once(f"{self.settings.model!r}: texts of more than {length:,} tokens are cut: see `max_length`.")

    def fingerprint(self) -> str:
        """Hash of the weights, of the folder's other files and of all settings: what the vectors depend on."""
        settings = asdict(self.settings) | {"model": None}
        dtype, device = next(self.model.parameters()).dtype, self.device.type
        if torch.is_autocast_enabled(device):
            dtype = torch.get_autocast_dtype(device)
        return model_digest(self.folder, self.model if self.chain is None else self.chain, [settings, str(dtype)])


def _first_wrong(vectors: Tensor) -> int:
    return int((~vectors.isfinite()).any(1).int().argmax())


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
    texts = load_texts(texts) if isinstance(texts, str | Path) else checked_texts(list(texts))  # before any work
    key = hashlib.sha256(json.dumps([encoder.fingerprint(), texts]).encode()).hexdigest()[:32]

    def encode(start: int, stop: int) -> Tensor:
        return encoder.encode(texts[start:stop], batch_size=batch_size, progress=progress)

    def finish(rows: np.ndarray) -> Dataset:
        return to_dataset(rows, texts)

    return computed_once(key, len(texts), CHUNK, encode, finish, asdict(encoder.settings), cache_dir)
