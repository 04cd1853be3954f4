"""Configuration of a translator between embedding spaces."""

import re
import warnings
from typing import Any, Literal

from huggingface_hub.dataclasses import strict
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers import PreTrainedConfig

FORMAT = 3  # raise it when older code would read a checkpoint wrong. 2: `activation`; 3: `normalize_outputs`
WIDEST = 1 << 20  # of anything; a config that asks for more is broken or wants the memory for something else
OF_TRANSFORMERS = {"auto_map", "custom_pipelines", "model_type", "name_or_path", "num_labels"}
OF_TRANSFORMERS |= {"output_attentions", "quantization_config", "torch_dtype", "use_cache"}
ADDED_LATER = {
    "normalize_outputs": False,
    "linear_maps": False,
    "discriminator_norm": "layer",
    "discriminator_dim": None,
}
NAME = re.compile(r"[\w-]{1,64}")


@strict
class Vec2VecConfig(PreTrainedConfig):
    r"""Shape of a [`Vec2VecModel`] and of the discriminators that train it.

    Args:
        embedding_dims (`dict[str, int]`):
            Name and dimension of each space, for instance `{"minilm": 384, "wordllama": 256}`. Names are made of letters,
            digits, `_` and `-`.
        latent_dim (`int`, *optional*):
            Width of the shared space. Defaults to the sum of the dimensions: wide enough to hold one linear map for each
            direction and exact reconstruction (see [`Vec2VecModel.from_alignment`]).
        hidden_dim (`int`, *optional*, defaults to 1024):
            Width of every hidden layer.
        adapter_layers (`int`, *optional*, defaults to 1):
            Hidden layers of each input and output adapter.
        backbone_layers (`int`, *optional*, defaults to 1):
            Hidden layers of the shared backbone.
        dropout (`float`, *optional*, defaults to 0.0):
            Dropout after each hidden layer, between 0 and 1.
        norm (`str`, *optional*, defaults to `"layer"`):
            Normalisation of hidden layers, `"layer"` or `"batch"`. Take `"layer"` for training in several processes.
        activation (`str`, *optional*, defaults to `"silu"`):
            Of hidden layers. `"softmax"`: units are prototypes that compete for a row, without normalisation; what the
            layer adds is a weighted mean of what it has stored for each. Alignments bring such layers.
        residual (`str`, *optional*, defaults to `"linear"`):
            `"linear"`: every part is a linear map plus an MLP whose last layer starts at zero, so a fresh model is linear
            and can start from an alignment. `"zero_pad"`: the published network, whose layers add their zero-padded input.
        normalize_outputs (`bool`, *optional*, defaults to `False`):
            Scale what the output adapters give to the length that normalised rows have on average, the root of their
            dimension; only with `"zero_pad"`. Without it a fresh published network gives rows that are hundreds of times
            longer.
        linear_maps (`bool`, *optional*, defaults to `False`):
            Keep a linear map for each direction beside the network, as an alignment with networks brings them: `d_a · d_b`
            numbers each. Training does not change it. See `map` of [`Vec2VecModel.translate`].
        discriminator_hidden_dim (`int`, *optional*, defaults to 512):
            Width of the discriminators. They are no part of the published model.
        discriminator_layers (`int`, *optional*, defaults to 2):
            Hidden layers of the discriminators.
        discriminator_norm (`str`, *optional*, defaults to `"layer"`):
            Normalisation of their hidden layers, `"layer"` or `"none"`; penalties on gradients (R1, R2) want none.
        discriminator_dim (`int`, *optional*):
            How many principal directions of a space, whitened, its discriminator sees. All coordinates if not given.
        encoders (`dict[str, dict | None]`, *optional*):
            How the vectors of each space must be made: the fields of [`EncoderSettings`], or `None` where that is not known.
        weights_sha256 (`str`, *optional*):
            Hash of the weights in a checkpoint, written and compared by the model. `None` once they are loaded.
        format_version (`int`, *optional*, defaults to 2):
            Of the checkpoint; 3 with `normalize_outputs`. One that is newer than this code is refused.

    Example:
    ```python
    >>> from hf_vec2vec import Vec2VecConfig, Vec2VecModel

    >>> model = Vec2VecModel(Vec2VecConfig(embedding_dims={"minilm": 384, "wordllama": 256}))
    ```
    """

    model_type = "vec2vec"

    embedding_dims: dict[str, int] | None = None
    latent_dim: int | None = None
    hidden_dim: int = 1024
    adapter_layers: int = 1
    backbone_layers: int = 1
    dropout: float | int = 0.0
    norm: Literal["layer", "batch"] = "layer"
    activation: Literal["silu", "softmax"] = "silu"
    residual: Literal["linear", "zero_pad"] = "linear"
    normalize_outputs: bool = False
    linear_maps: bool = False
    discriminator_hidden_dim: int = 512
    discriminator_layers: int = 2
    discriminator_norm: Literal["layer", "none"] = "layer"
    discriminator_dim: int | None = None
    encoders: dict[str, dict | None] | None = None
    weights_sha256: str | None = None
    format_version: int = 2  # the lowest that holds for most checkpoints, so that older code reads them

    def __post_init__(self, **kwargs):
        # There is no attention here, and for the name of a repository transformers would fetch and run a kernel from it.
        kwargs = {name: value for name, value in kwargs.items() if not name.endswith("_implementation")}
        if self.format_version > FORMAT:
            raise ValueError(
                f"`format_version` is {self.format_version}, but this version of hf_vec2vec reads formats up to {FORMAT}. "
                "Upgrade it: pip install --upgrade hf-vec2vec."
            )
        if self.normalize_outputs:
            self.format_version = max(self.format_version, 3)
        if unknown := sorted(name for name in kwargs if name[0] != "_" and name not in OF_TRANSFORMERS):
            warnings.warn(
                f"The config has the fields {unknown}, which this version of hf_vec2vec does not know and leaves out. If a "
                "newer version wrote it, upgrade: pip install --upgrade hf-vec2vec.",
                stacklevel=2,
            )
        # `None` only where transformers builds a default config of its own, to compare with when it saves.
        if self.embedding_dims is not None:
            self._check_spaces(self.embedding_dims)
            self.embedding_dims = dict(sorted(self.embedding_dims.items()))  # as config.json will have them
            if self.latent_dim is None:
                self.latent_dim = sum(self.embedding_dims.values())
        for name in ("latent_dim", "hidden_dim", "discriminator_hidden_dim", "discriminator_dim"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= WIDEST:
                raise ValueError(f"`{name}` must be at least 1 and at most {WIDEST:,}, got {value:,}.")
        fewest = 2 if self.residual == "zero_pad" else 0
        for name, least in (("adapter_layers", fewest), ("backbone_layers", fewest), ("discriminator_layers", 1)):
            if not least <= getattr(self, name) <= 1000:
                raise ValueError(f"`{name}` must be at least {least} and at most 1,000, got {getattr(self, name)}.")
        if self.normalize_outputs and self.residual != "zero_pad":
            raise ValueError("`normalize_outputs` must be False with `residual='linear'`, whose maps are linear at first.")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"`dropout` must be at least 0 and below 1, got {self.dropout}.")
        super().__post_init__(**kwargs)

    def to_dict(self) -> dict[str, Any]:
        """`PreTrainedConfig.to_dict`; what came later is left out at its default, so that older code reads it in silence."""
        fields = super().to_dict()
        for name, default in ADDED_LATER.items():
            if fields[name] == default:
                del fields[name]
        return fields

    @classmethod
    def get_config_dict(cls, pretrained_model_name_or_path, **kwargs):
        """`PreTrainedConfig.get_config_dict`, with one message for a file that is JSON but holds no fields."""
        try:
            return super().get_config_dict(pretrained_model_name_or_path, **kwargs)
        except (TypeError, AttributeError) as error:
            raise ValueError(f"`config.json` of {str(pretrained_model_name_or_path)!r} is broken: {error}") from error

    @classmethod
    def from_dict(cls, config_dict: dict, **kwargs):
        """`PreTrainedConfig.from_dict`, with one message for all that can be wrong with it.

        Raises:
            ValueError: for values of another type than they must be.
        """
        if not isinstance(config_dict, dict):
            raise ValueError(f"`config.json` must hold fields and their values, but holds a {type(config_dict).__name__}.")
        try:
            return super().from_dict(config_dict, **kwargs)
        except (StrictDataclassError, TypeError, AttributeError, KeyError, IndexError, ValueError) as error:
            if isinstance(error, ValueError) and str(error).startswith("`"):  # our own, which say all
                raise
            reason = " ".join(str(error).split())
            raise ValueError(f"`config.json` is broken or of another version: {reason}") from error

    @staticmethod
    def _check_spaces(embedding_dims: dict[str, int]) -> None:
        if len(embedding_dims) < 2:
            raise ValueError(f"`embedding_dims` must name at least two spaces, got {embedding_dims}.")
        for name, dim in embedding_dims.items():
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"`embedding_dims` has the space name {name[:80]!r}. Names may hold up to 64 letters, digits, '_' and "
                    "'-', no dot: take a short one such as 'minilm'."
                )
            if hasattr(nn.ModuleDict, name):  # torch keeps modules as attributes
                raise ValueError(f"`embedding_dims` has the space name {name!r}, which torch needs. Take another.")
            if not 1 <= dim <= WIDEST:
                raise ValueError(f"`embedding_dims[{name!r}]` must be at least 1 and at most {WIDEST:,}, got {dim:,}.")

    @property
    def spaces(self) -> list[str]:
        """Names of the spaces, in alphabetical order."""
        return list(self.embedding_dims or {})

    @classmethod
    def paper(cls, embedding_dims: dict[str, int], **kwargs) -> "Vec2VecConfig":
        """The published network: adapters of depth 3, backbone of depth 4, all of width 1024, random start.

        Source: Jha et al., "Harnessing the universal geometry of embeddings", 2025 (arXiv 2505.12540), and the
        hyper-parameters released with it. Depth counts linear layers, `*_layers` the hidden ones between.
        """
        published: dict[str, Any] = {
            "latent_dim": 1024,
            "hidden_dim": 1024,
            "adapter_layers": 3,
            "backbone_layers": 4,
            "dropout": 0.1,
            "norm": "batch",
            "residual": "zero_pad",
            "normalize_outputs": True,
            "discriminator_hidden_dim": 1024,
            "discriminator_layers": 4,
        }
        return cls(embedding_dims=embedding_dims, **(published | kwargs))


Vec2VecConfig.register_for_auto_class()  # its code travels with every checkpoint

__all__ = ["Vec2VecConfig"]
