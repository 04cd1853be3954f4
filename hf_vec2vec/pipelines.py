"""The task `embedding-translation` of `transformers.pipeline`."""

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModel, Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

TASK = "embedding-translation"


class EmbeddingTranslationPipeline(Pipeline):
    """Vectors of one space, or texts, to vectors of another.

    Args:
        source: name of the space that vectors come from, or whose recorded encoder embeds texts.
        target: name of the space to translate into.

    Example:
    ```python
    >>> from transformers import pipeline
    >>> import hf_vec2vec

    >>> translate = pipeline("embedding-translation", model="org/name", source="minilm", target="wordllama")
    >>> translate(vectors)  # array or tensor (n, 384), or one vector, or a list of vectors
    >>> translate("A sentence.")
    ```
    """

    _load_processor = False
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._encoders = {}

    def __call__(self, inputs: str | list | Tensor | np.ndarray, **kwargs) -> Tensor | list[Tensor]:
        """Translate a text, texts (which gives a list), a vector `(d,)` or vectors `(n, d)`.

        Raises:
            TypeError, ValueError: for what is no text and no finite vector, or unknown spaces.
        """
        if len(inputs) == 0:
            raise ValueError("`inputs` is empty.")
        if isinstance(inputs, list) and not isinstance(inputs[0], str):  # to the parent each number is an input
            inputs = _as_array(inputs)
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, source: str | None = None, target: str | None = None) -> tuple[dict, dict, dict]:
        given = {name: value for name, value in (("source", source), ("target", target)) if value is not None}
        return {name: given[name] for name in given if name == "source"}, given, {}

    def preprocess(self, inputs: str | Tensor, source: str | None = None) -> dict:
        """One text, one vector `(d,)` or several `(n, d)` as rows."""
        self._check_space("source", source)
        if isinstance(inputs, str):
            return {"rows": self._embed(inputs, source), "single": True}
        rows = torch.as_tensor(inputs)
        return {"rows": rows[None] if rows.ndim == 1 else rows, "single": rows.ndim == 1}

    def _check_space(self, argument: str, space: str | None) -> None:
        if space not in self.model.config.spaces:
            raise ValueError(f"`{argument}` must be one of {self.model.config.spaces}, got {space!r}.")

    def _forward(self, inputs: dict, source: str, target: str | None = None) -> dict:
        self._check_space("target", target)
        return inputs | {"rows": self.model.translate(inputs["rows"], source=source, target=target)}

    def postprocess(self, outputs: dict) -> Tensor:
        """A vector for a text or a vector, rows for rows; float32, on the CPU."""
        return outputs["rows"][0] if outputs["single"] else outputs["rows"]

    def _embed(self, text: str, source: str) -> Tensor:
        from .encoders.recorded import recorded_encoder  # brings data sets, which vectors do not need

        if source not in self._encoders:
            self._encoders[source] = recorded_encoder(self.model.config, source, device=str(self.device))
        return self._encoders[source].encode([text], progress=False)


def _as_array(rows: list) -> np.ndarray:
    """A list of numbers, or of lists, arrays or tensors of one length each, as an array."""
    try:
        found = np.asarray([np.asarray(row) for row in rows])
    except ValueError as error:
        raise ValueError("`inputs` must be texts, or vectors that all have one length.") from error
    if found.dtype.kind not in "iuf":
        raise TypeError("`inputs` must be texts, or vectors of numbers, and not both.")
    return found


PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=EmbeddingTranslationPipeline, pt_model=AutoModel)
