"""The task `embedding-translation` of `transformers.pipeline`."""

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .model.modeling_vec2vec import Map, Vec2VecModel

if TYPE_CHECKING:
    from .encoders.text import TextEncoder

TASK = "embedding-translation"


class EmbeddingTranslationPipeline(Pipeline):
    """Vectors of one space, or texts, to vectors of another.

    Args:
        source: name of the space that vectors come from, or whose recorded encoder embeds texts.
        target: name of the space to translate into.
        map: see [`Vec2VecModel.translate`].
        queries: the same.

    Example:
    ```python
    >>> from transformers import pipeline
    >>> import hf_vec2vec

    >>> translate = pipeline("embedding-translation", model="org/name", source="minilm", target="wordllama")
    >>> translate(vectors)  # array or tensor (n, 384), or one vector, or a list of vectors
    >>> translate("A sentence.")
    ```
    """

    # transformers declares all four as None, and reads them as truth values.
    _load_processor = False  # type: ignore[assignment]
    _load_image_processor = False  # type: ignore[assignment]
    _load_feature_extractor = False  # type: ignore[assignment]
    _load_tokenizer = False  # type: ignore[assignment]

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._encoders: dict[str, TextEncoder] = {}

    def __call__(
        self, inputs: str | Sequence | Iterator | Tensor | np.ndarray, *args: Any, **kwargs: Any
    ) -> Tensor | list[Tensor]:
        """Translate a text, texts (which gives a list), a vector `(d,)` or vectors `(n, d)`.

        Args:
            inputs: an array or tensor; or a list, a tuple or an iterator of texts, of vectors or of a vector's numbers.
            args, kwargs: of the parent.

        Raises:
            TypeError, ValueError: for what is no text and no finite vector, or unknown spaces.
        """
        if isinstance(inputs, np.ndarray) and inputs.dtype.kind in "OU":
            inputs = inputs.tolist()
        if isinstance(inputs, Sequence | Iterator) and not isinstance(inputs, str | bytes | bytearray):
            inputs = list(inputs)
        if not isinstance(inputs, str | list | Tensor | np.ndarray) or getattr(inputs, "ndim", 1) == 0:
            raise TypeError(
                f"`inputs` must be a text, a vector, or several of one kind, got a {type(inputs).__name__}. Of a data set "
                "give one column."
            )
        if len(inputs) == 0:
            raise ValueError("`inputs` is empty.")
        if isinstance(inputs, list) and not all(isinstance(text, str) for text in inputs):
            inputs = _as_array(inputs)  # to the parent each number is an input
        return super().__call__(inputs, *args, **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike, **kwargs: Any) -> None:  # type: ignore[override]
        """Save the translator, of which `pipeline` makes this again; see [`Vec2VecModel.save_pretrained`].

        The parent's would put a copy of this file beside it, which does not run without the package.
        """
        self._translator.save_pretrained(save_directory, **kwargs)

    def push_to_hub(self, repo_id: str, **kwargs: Any) -> Any:
        """Publish the translator; see [`Vec2VecModel.push_to_hub`]."""
        return self._translator.push_to_hub(repo_id, **kwargs)

    def _sanitize_parameters(self, **pipeline_parameters: Any) -> tuple[dict, dict, dict]:
        unknown = sorted(set(pipeline_parameters) - {"source", "target", "map", "queries", "trust_encoder_code"})
        if unknown:
            known = "`source`, `target`, `map`, `queries` and `trust_encoder_code`"
            raise TypeError(f"`{unknown[0]}` is no argument of this pipeline: give {known}.")
        given = {name: value for name, value in pipeline_parameters.items() if value is not None}
        before = {name: given[name] for name in given if name in ("source", "trust_encoder_code")}
        return before, {name: given[name] for name in given if name != "trust_encoder_code"}, {}

    def preprocess(  # type: ignore[override]
        self, input_: str | Tensor, source: str | None = None, trust_encoder_code: bool = False
    ) -> dict:
        """One text, one vector `(d,)` or several `(n, d)` as rows."""
        source = self._checked_space("source", source)
        if isinstance(input_, str):
            return {"rows": self._embed(input_, source, trust_encoder_code), "single": True}
        rows = torch.as_tensor(input_)
        return {"rows": rows[None] if rows.ndim == 1 else rows, "single": rows.ndim == 1}

    @property
    def _translator(self) -> Vec2VecModel:
        return cast(Vec2VecModel, self.model)

    def _checked_space(self, argument: str, space: str | None) -> str:
        spaces = self._translator.config.spaces
        if space is None or space not in spaces:
            raise ValueError(f"`{argument}` must be one of {spaces}, got {space!r}.")
        return space

    def _forward(  # type: ignore[override]
        self, inputs: dict, source: str, target: str | None = None, map: Map = "auto", queries: bool = False
    ) -> Any:
        target = self._checked_space("target", target)
        rows = self._translator.translate(inputs["rows"], source=source, target=target, map=map, queries=queries)
        return inputs | {"rows": rows}

    def postprocess(self, model_outputs: Any, **postprocess_parameters: Any) -> Tensor:
        """A vector for a text or a vector, rows for rows; float32, on the CPU."""
        return model_outputs["rows"][0] if model_outputs["single"] else model_outputs["rows"]

    def _embed(self, text: str, source: str, trust_encoder_code: bool) -> Tensor:
        from .encoders.recorded import recorded_encoder  # brings data sets, which vectors do not need

        if source not in self._encoders:
            self._encoders[source] = recorded_encoder(
                self._translator.config, source, device=str(self.device), trust_remote_code=trust_encoder_code
            )
        return self._encoders[source].encode([text], progress=False)


def _as_array(rows: list) -> np.ndarray:
    """A list of numbers, or of lists, arrays or tensors of one length each, as an array."""
    try:
        found = np.asarray([_numbers(row) for row in rows])
    except ValueError as error:
        raise ValueError("`inputs` must be texts, or vectors that all have one length.") from error
    if found.dtype.kind not in "iuf":
        raise TypeError("`inputs` must be texts, or vectors of numbers, and not both.")
    return found


def _numbers(row: Any) -> np.ndarray:
    """One vector, or one number of it; NumPy knows no bfloat16 and no gradients."""
    if not isinstance(row, Tensor):
        return np.asarray(row)
    row = row.detach().cpu()
    return (row.float() if row.dtype == torch.bfloat16 else row).numpy()


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=EmbeddingTranslationPipeline, pt_model=AutoModel)
