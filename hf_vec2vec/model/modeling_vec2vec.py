"""Translator between embedding spaces. Imports only torch, transformers and what travels with it."""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from .checkpoint_vec2vec import CheckedPreTrainedModel
from .configuration_vec2vec import Vec2VecConfig
from .layers_vec2vec import LinearMap, LinearPlusMLP, Normalizer, ZeroLinear, ZeroPaddedMLP


def check_embeddings(embeddings: Tensor, name: str, dim: int | None = None, *, only_finite: bool = False) -> Tensor:
    """Return the rows as floating-point `(n, d)`, or raise an error that says what is wrong with them.

    Args:
        embeddings: anything that `torch.as_tensor` takes. Half precision is widened to float32.
        name: of the argument or space, for the error.
        dim: expected number of columns.
        only_finite: let rows of zeros pass, and values beyond float32.

    Raises:
        TypeError: if the values are integers or booleans (a quantised index, or token ids by mistake).
        ValueError: if the shape is not `(n, d)`, n is 0, or a row holds NaN, infinity, values beyond float32 or only zeros.
    """
    try:
        rows = torch.as_tensor(embeddings)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be rows of numbers, all of one length: {error}") from error
    if not rows.is_floating_point():
        raise TypeError(
            f"`{name}` holds {rows.dtype} values; embeddings are floating-point. If they are quantised, scale them back "
            "to floats first."
        )
    if rows.ndim != 2 or not rows.shape[1]:
        raise ValueError(f"`{name}` must have shape (rows, dimension), got {tuple(rows.shape)}.")
    if not len(rows):
        raise ValueError(f"`{name}` is empty: it has no rows.")
    if dim is not None and rows.shape[1] != dim:
        raise ValueError(f"`{name}` has vectors of dimension {rows.shape[1]}, but this space has dimension {dim}.")
    if rows.dtype in (torch.float16, torch.bfloat16):
        rows = rows.float()
    # One pass: a row's largest magnitude is NaN or infinite if any value is, and zero only if all are.
    peaks = rows.abs().amax(1)
    narrow = peaks.float()
    faults = [
        (~peaks.isfinite(), "NaN or infinite values"),
        (~narrow.isfinite(), "values beyond the range of float32"),
        (narrow == 0, "only zeros"),
    ]
    for broken, what in faults[:1] if only_finite else faults:
        if broken.any():
            where = broken.nonzero().flatten().tolist()
            raise ValueError(
                f"`{name}` has {len(where)} row(s) with {what}, the first at index {where[0]}. Drop or re-embed them."
            )
    return rows


@dataclass
class Vec2VecOutput(ModelOutput):
    """What [`Vec2VecModel.forward`] returns.

    Args:
        latents (`dict[str, Tensor]`): shared-space coordinates of each space's rows, `(n, latent_dim)`.
        reconstructions (`dict[str, Tensor]`): raw vectors back in their own space, `(n, d)`.
        translations (`dict[tuple[str, str], Tensor]`): raw vectors for each `(source, target)`, `(n, d_target)`.
    """

    latents: dict[str, Tensor] | None = None
    reconstructions: dict[str, Tensor] | None = None
    translations: dict[tuple[str, str], Tensor] | None = None


class Vec2VecPreTrainedModel(CheckedPreTrainedModel):
    """Base of the models: initialisation and loading."""

    config: Vec2VecConfig
    config_class = Vec2VecConfig
    base_model_prefix = "vec2vec"
    main_input_name = "embeddings"
    input_modalities: list[str] = []
    random_maps = True

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        # By the type of leaves alone: transformers passes over modules of foreign packages that own no parameters.
        if isinstance(module, LinearMap):
            # As many random numbers either way, so that all else starts alike.
            (init.orthogonal_ if self.random_maps else init.normal_)(module.weight)
        elif isinstance(module, ZeroLinear):
            init.zeros_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            init.kaiming_normal_(module.weight, nonlinearity="relu")
            init.zeros_(module.bias)
        elif isinstance(module, Normalizer):
            init.zeros_(module.mean)
            init.ones_(module.scale)
        elif isinstance(module, nn.LayerNorm):
            init.ones_(module.weight)
            init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            init.zeros_(module.get_buffer("running_mean"))
            init.ones_(module.get_buffer("running_var"))
            init.zeros_(module.get_buffer("num_batches_tracked"))


class Vec2VecModel(Vec2VecPreTrainedModel):
    """Translates vectors of one encoder into the space of another through a shared latent space.

    For spaces i and j, `F(x) = denorm_j(B_j(T(A_i(norm_i(x)))))`: a normaliser, an input adapter A and an output adapter
    B for each space, and one backbone T for all.

    Args:
        config ([`Vec2VecConfig`]): shape of the network.
        random_maps: make the linear maps orthogonal. For those that are set right after, it would be minutes lost where
            spaces have thousands of dimensions.
    """

    def __init__(self, config: Vec2VecConfig, *, random_maps: bool = True):
        super().__init__(config)
        self.random_maps = random_maps
        latent, dims = config.latent_dim, config.embedding_dims
        if latent is None or dims is None:
            raise ValueError("`embedding_dims` is missing: name the spaces, for instance {'minilm': 384, 'mpnet': 768}.")
        part = LinearPlusMLP if config.residual == "linear" else ZeroPaddedMLP
        identity = {"identity": True} if config.residual == "linear" else {}
        self.normalizers = nn.ModuleDict({name: Normalizer(dim) for name, dim in dims.items()})
        self.input_adapters = nn.ModuleDict(
            {name: part(config, dim, latent, config.adapter_layers) for name, dim in dims.items()}
        )
        self.backbone = part(config, latent, latent, config.backbone_layers, **identity)
        self.output_adapters = nn.ModuleDict(
            {name: part(config, latent, dim, config.adapter_layers) for name, dim in dims.items()}
        )
        self.post_init()

    @property
    def _dims(self) -> dict[str, int]:
        return cast(dict[str, int], self.config.embedding_dims)  # no model is made without

    def encode(self, rows: Tensor, source: str) -> Tensor:
        """Normalised rows `(n, d_source)` to latents `(n, latent_dim)`; differentiable."""
        return self.backbone(self.input_adapters[source](rows))

    def decode(self, latents: Tensor, target: str) -> Tensor:
        """Latents `(n, latent_dim)` to normalised rows `(n, d_target)`; differentiable."""
        return self.output_adapters[target](latents)

    def forward(self, embeddings: dict[str, Tensor]) -> Vec2VecOutput:
        """All latents, reconstructions and translations of a batch; differentiable.

        Args:
            embeddings: raw vectors of one or more spaces, `{space: (n, d)}`. The rows of two spaces need not match.
        """
        latents = {name: self.encode(self.normalizers[name](rows), name) for name, rows in embeddings.items()}

        def raw(source: str, target: str) -> Tensor:
            return self.normalizer(target).inverse(self.decode(latents[source], target))

        return Vec2VecOutput(
            latents=latents,
            reconstructions={name: raw(name, name) for name in latents},
            translations={(a, b): raw(a, b) for a in latents for b in self.config.spaces if a != b},
        )

    def translate(self, embeddings: Tensor, *, source: str, target: str, batch_size: int = 8192) -> Tensor:
        """Raw vectors of one space in, raw vectors of another out. No gradient, no dropout.

        Rows whose norm or mean says that they were made in another way get a warning.

        Args:
            embeddings: `(n, d_source)`, as the encoder of `source` makes them.
            source: name of the space they come from.
            target: name of the space to translate into.
            batch_size: rows at a time.

        Returns:
            `(n, d_target)`, float32, on the device of `embeddings`. Lengths are as the
            map gives them: scale to norm 1 if your index needs it.

        Raises:
            ValueError: for a space that the model does not know, rows that `check_embeddings` refuses, or rows so large that
                their translations are infinite.
        """
        self._check_space("target", target)
        return self._in_batches(
            embeddings,
            source,
            batch_size,
            lambda rows: self.normalizer(target).inverse(self.decode(self.encode(rows, source), target)),
        )

    def encode_latent(self, embeddings: Tensor, *, source: str, batch_size: int = 8192) -> Tensor:
        """Raw vectors `(n, d_source)` to the shared space `(n, latent_dim)`. No gradient, no dropout; errors as above."""
        return self._in_batches(embeddings, source, batch_size, lambda rows: self.encode(rows, source))

    @torch.no_grad()
    def _in_batches(self, embeddings: Tensor, source: str, batch_size: int, function) -> Tensor:
        self._check_space("source", source)
        rows = check_embeddings(embeddings, "embeddings", self._dims[source])
        self._warn_of_foreign(rows, source)
        was_training = self.training
        self.eval()
        try:
            outputs = [
                function(self.normalizer(source)(batch.to(self.device, self.dtype))).float().to(rows.device)
                for batch in rows.split(batch_size)
            ]
        finally:
            self.train(was_training)
        translated = torch.cat(outputs)
        if (infinite := ~translated.isfinite().all(1)).any():
            where = infinite.nonzero().flatten().tolist()
            raise ValueError(
                f"`embeddings` has {len(where)} row(s) whose values are too large for this model, which makes infinite ones "
                f"of them; the first is at index {where[0]}. Drop or re-embed them."
            )
        return translated

    def _warn_of_foreign(self, rows: Tensor, source: str) -> None:
        # Thresholds were set on two encoders: rows about one topic drift by up to .46, another pooling or layer by .8.
        normalizer, few = self.normalizer(source), len(rows) < 32  # of a query, the mean says nothing and the norm little
        if not normalizer.mean.any():
            return
        sample = rows[:1000].to(self.device).double()  # squares of large and small values leave the range of float32
        usual = (normalizer.mean.square().sum() + normalizer.scale.square().sum()).sqrt()
        norm = (sample.square().sum(1).mean().sqrt() / usual).item()
        centred = normalizer(sample / norm)
        drift = (centred.mean(0).norm() / centred.norm(dim=1).mean()).item()
        found = [f"their norm is {norm:.2g} times the usual one"] if max(norm, 1 / norm) > (3 if few else 3 / 2) else []
        found += [f"their mean is off by {drift:.2f} of a centred vector's length"] if drift > 0.6 and not few else []
        if found:
            warnings.warn(
                f"`embeddings` of {source!r} were made in another way than those of the training, or of very other texts: "
                f"{' and '.join(found)}. Recorded encoder: {(self.config.encoders or {}).get(source) or 'none'}.",
                stacklevel=5,  # of whoever called `translate`
            )

    def _check_space(self, argument: str, name: str) -> None:
        if name not in self._dims:
            raise ValueError(f"`{argument}` is {name!r}, which this model does not know. It has {self.config.spaces}.")

    @classmethod
    def from_alignment(cls, alignments, *, allow_not_aligned: bool = False, **config_kwargs) -> "Vec2VecModel":
        """Build a model that *is* the given maps; training can only add to it.

        With F the map a → b and G the map b → a, latents are pairs (a-part, b-part): A_a = [I; F], A_b = [G; I], and B_a,
        B_b read their part. So F and G need not be transposes of each other, reconstruction is exact, and a text and its
        counterpart have like latents. With more spaces the latent holds a part for each; maps that were not given are
        composed along the alignments that were. An alignment's networks take the place of its linear maps, their hidden
        layers become those of the input adapters; with more than two spaces they are left out.

        Args:
            alignments ([`~hf_vec2vec.alignment.Alignment`] or a list of them): maps between pairs of spaces. Together
                they must connect all spaces.
            allow_not_aligned: take an alignment whose report says "not aligned", too.
            config_kwargs: fields of [`Vec2VecConfig`] other than `embedding_dims`.

        Raises:
            ValueError: if an alignment's verdict is "not aligned", two alignments normalise a space differently, one space
                cannot be reached from another, or `latent_dim` cannot hold the parts.
        """
        alignments = list(alignments) if isinstance(alignments, Iterable) else [alignments]
        if not allow_not_aligned:
            _check_verdicts(alignments)
        statistics = _common_statistics(alignments)
        dims = {name: len(mean) for name, (mean, _) in statistics.items()}
        maps = {(a.source, a.target): a.source_to_target for a in alignments}
        maps |= {(a.target, a.source): a.target_to_source for a in alignments}
        networks = _networks(alignments)
        if networks:
            width = next(iter(networks.values())).get_parameter("output.weight").shape[1]
            config_kwargs = {"hidden_dim": width, "adapter_layers": 1, "activation": "softmax"} | config_kwargs
            maps |= {way: network.get_parameter("linear.weight").T for way, network in networks.items()}
        maps = _compose(maps, dims)
        model = cls(Vec2VecConfig(embedding_dims=dims, **config_kwargs), random_maps=False)
        model._check_holds_linear_maps(dims)
        with torch.no_grad():
            for name, (mean, scale) in statistics.items():
                model.normalizer(name).mean.copy_(mean)
                model.normalizer(name).scale.copy_(scale)
            parts = model._set_linear_maps(maps, dims)
            for (source, target), network in networks.items():
                model._input_adapter(source).copy_network(network, parts[target])
        return model.eval()

    def _check_holds_linear_maps(self, dims: dict[str, int]) -> None:
        if self.config.residual != "linear":
            raise ValueError("`residual` must be 'linear' to start from an alignment, got 'zero_pad'.")
        if cast(int, self.config.latent_dim) < sum(dims.values()):
            raise ValueError(
                f"`latent_dim` is {self.config.latent_dim}, but an alignment of spaces with dimensions {dims} needs at "
                f"least {sum(dims.values())}. Leave it out to get that."
            )

    def _set_linear_maps(self, maps: dict[tuple[str, str], Tensor], dims: dict[str, int]) -> dict[str, slice]:
        """Write every space's part of the latent and read it back; gives the parts."""
        parts, end = {}, 0
        for name, dim in dims.items():
            parts[name] = slice(end, end := end + dim)
        for source, dim in dims.items():
            self.get_parameter(f"output_adapters.{source}.linear.weight").zero_()[:, parts[source]] = torch.eye(dim)
            weight = self.get_parameter(f"input_adapters.{source}.linear.weight").zero_()
            for target, part in parts.items():
                weight[part] = torch.eye(dim) if source == target else maps[source, target].T
        return parts

    def normalizer(self, space: str) -> Normalizer:
        """Mean and scale of a space's training rows."""
        return cast(Normalizer, self.normalizers[space])

    def _input_adapter(self, space: str) -> LinearPlusMLP:
        return cast(LinearPlusMLP, self.input_adapters[space])


def _check_verdicts(alignments: list) -> None:
    for found in alignments:
        if found.report and found.report.verdict == "not aligned":
            raise ValueError(
                f"`alignments`: {found.source!r} and {found.target!r} are {found.report}. A model made of it would "
                "translate into noise. Give more rows, text of one kind on both sides, a few known pairs (`anchors`), or a "
                "way through a third space (`guess`); or pass `allow_not_aligned=True`."
            )


def _common_statistics(alignments: list) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and scale of every space, on which all alignments must agree."""
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    for alignment in alignments:
        for name, found in (
            (alignment.source, alignment.source_statistics),
            (alignment.target, alignment.target_statistics),
        ):
            known = statistics.setdefault(name, found)
            if not all(x.shape == y.shape and torch.allclose(x, y) for x, y in zip(known, found, strict=True)):
                raise ValueError(
                    f"`alignments` were fitted with different statistics of {name!r}. Align all pairs with the "
                    "same rows of a space."
                )
    return statistics


def _networks(alignments: list) -> dict[tuple[str, str], LinearPlusMLP]:
    """The networks of an alignment, by source and target; none of several alignments."""
    if len(alignments) > 1 or alignments[0].residuals is None:
        return {}
    source, target = alignments[0].source, alignments[0].target
    forward, backward = alignments[0].residuals
    return {(source, target): forward, (target, source): backward}


def _compose(maps: dict[tuple[str, str], Tensor], dims: dict[str, int]) -> dict[tuple[str, str], Tensor]:
    """Add the maps between spaces that no alignment joins directly, along the fewest steps."""
    for _ in dims:
        known = dict(maps)
        for (a, b), first in known.items():
            for (c, d), second in known.items():
                if b == c and a != d and (a, d) not in maps:
                    maps[a, d] = first @ second
    missing = [(a, b) for a in dims for b in dims if a != b and (a, b) not in maps]
    if missing:
        raise ValueError(
            f"`alignments` leave no way from {missing[0][0]!r} to {missing[0][1]!r}: align one more pair of spaces."
        )
    return maps


Vec2VecModel.register_for_auto_class()  # so that `AutoModel` loads a checkpoint where this package is not installed

__all__ = ["Vec2VecModel", "Vec2VecOutput", "Vec2VecPreTrainedModel"]
