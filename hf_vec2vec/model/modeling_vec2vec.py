"""Translator between embedding spaces. Imports only torch, transformers and what travels with it."""

import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, cast

import torch
from torch import Tensor, nn
from transformers import initialization as init
from transformers.utils import ModelOutput

from .checkpoint_vec2vec import CheckedPreTrainedModel
from .configuration_vec2vec import Vec2VecConfig
from .layers_vec2vec import FixedMap, LinearMap, LinearPlusMLP, Normalizer, ZeroLinear, ZeroPaddedMLP, check_embeddings
from .modes_vec2vec import evaluating

Map = Literal["auto", "linear", "full"]
MAPS = ("auto", "linear", "full")
SAME_STATISTICS = 1e-4  # of a deviation: less than those of other rows differ, more than those of the rows in another order


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
        elif isinstance(module, FixedMap):
            init.zeros_(module.weight)
        elif isinstance(module, Normalizer):
            init.zeros_(module.mean)
            init.ones_(module.scale)
        elif isinstance(module, nn.LayerNorm | nn.BatchNorm1d):
            init.ones_(module.weight)
            init.zeros_(module.bias)
            if isinstance(module, nn.BatchNorm1d):
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
        scaled = {"normalize": True} if config.normalize_outputs else {}
        self.normalizers = nn.ModuleDict({name: Normalizer(dim) for name, dim in dims.items()})
        self.input_adapters = nn.ModuleDict(
            {name: part(config, dim, latent, config.adapter_layers) for name, dim in dims.items()}
        )
        self.backbone = part(config, latent, latent, config.backbone_layers, **identity)
        self.output_adapters = nn.ModuleDict(
            {name: part(config, latent, dim, config.adapter_layers, **scaled) for name, dim in dims.items()}
        )
        # Absent where there are none: `state_dict` is then what it was before there could be any.
        if config.linear_maps:
            self.linear_maps = nn.ModuleDict(
                {a: nn.ModuleDict({b: FixedMap(dims[a], dims[b]) for b in dims if b != a}) for a in dims}
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

    def chosen_map(self, map: Map, source: str, target: str, *, queries: bool = False) -> Literal["linear", "full"]:
        """What `map` and `queries` of [`translate`] come to between two spaces.

        Raises:
            ValueError: for a space that the model does not know, another `map`, or a linear one that it does not have.
        """
        self._check_space("source", source)
        self._check_space("target", target)
        if map not in MAPS:
            raise ValueError(f"`map` must be one of {', '.join(MAPS)}, got {map!r}.")
        if source == target or map == "full" or (map == "auto" and not queries):
            return "full"
        if self.config.linear_maps:
            return "linear"
        if map == "auto":
            return "full"
        parts = (self.input_adapters[source], self.backbone, self.output_adapters[target])
        if all(isinstance(part, LinearPlusMLP) and part.is_linear() for part in parts):
            return "full"  # it has one map, and that is linear
        raise ValueError(
            f"`map` is 'linear', but this translator has a network alone from {source!r} to {target!r}: it was started at "
            "random, trained from a linear start, or saved by a version that kept one map. Take 'full', or align anew."
        )

    def mapped(self, rows: Tensor, source: str, target: str, map: Map = "auto") -> Tensor:
        """Normalised rows `(n, d_source)` to normalised rows `(n, d_target)`, by one of the maps; differentiable."""
        if self.chosen_map(map, source, target) == "linear":
            return self.linear_map(source, target)(rows)
        return self.decode(self.encode(rows, source), target)

    def translate(
        self,
        embeddings: Tensor,
        *,
        source: str,
        target: str,
        map: Map = "auto",
        queries: bool = False,
        batch_size: int = 8192,
    ) -> Tensor:
        """Raw vectors of one space in, raw vectors of another out. No gradient, no dropout.

        Rows whose norm or mean says that they were made in another way get a warning.

        Most translators have two maps: the full one comes nearest to the true vectors and suits a store; the linear one
        keeps rows apart and suits queries that ask real vectors.

        Args:
            embeddings: `(n, d_source)`, as the encoder of `source` makes them.
            source: name of the space they come from.
            target: name of the space to translate into.
            map: `"full"`: the network. `"linear"`: the alignment's linear map, whatever training made of the network since;
                of a translator that is linear, its one map. `"auto"`: by use, see `queries`.
            queries: whether the rows are queries that ask real vectors. Then `"auto"` is the linear map, where there is one;
                else the full one.
            batch_size: rows at a time.

        Returns:
            `(n, d_target)`, float32, on the device of `embeddings`. Lengths are as the
            map gives them: scale to norm 1 if your index needs it.

        Raises:
            ValueError: for a space or a map that the model does not have, no row at a time, rows that `check_embeddings`
                refuses, or rows so large that their translations are infinite.
        """
        chosen = self.chosen_map(map, source, target, queries=queries)
        return self._in_batches(
            embeddings,
            source,
            batch_size,
            lambda rows: self.normalizer(target).inverse(self.mapped(rows, source, target, chosen)),
        )

    def encode_latent(self, embeddings: Tensor, *, source: str, batch_size: int = 8192) -> Tensor:
        """Raw vectors `(n, d_source)` to the shared space `(n, latent_dim)`. No gradient, no dropout; errors as above."""
        return self._in_batches(embeddings, source, batch_size, lambda rows: self.encode(rows, source))

    @torch.no_grad()
    def _in_batches(self, embeddings: Tensor, source: str, batch_size: int, function) -> Tensor:
        self._check_space("source", source)
        if batch_size < 1:
            raise ValueError(f"`batch_size` must be at least 1, got {batch_size}.")
        rows = check_embeddings(embeddings, "embeddings", self._dims[source])
        self.warn_of_foreign(rows, source)
        with evaluating(self):
            outputs = [
                function(self.normalizer(source)(batch.to(self.device, self.dtype))).float().to(rows.device)
                for batch in rows.split(batch_size)
            ]
        translated = torch.cat(outputs)
        if (infinite := ~translated.isfinite().all(1)).any():
            where = infinite.nonzero().flatten().tolist()
            raise ValueError(
                f"`embeddings` has {len(where)} row(s) whose values are too large for this model, which makes infinite ones "
                f"of them; the first is at index {where[0]}. Drop or re-embed them."
            )
        return translated

    def warn_of_foreign(self, rows: Tensor, source: str) -> None:
        """Warn of raw rows `(n, d_source)` whose norm or mean is another than that of the space's training rows."""
        # Thresholds were set on two encoders: rows about one topic drift by up to .46, another pooling or layer by .8.
        normalizer, few = self.normalizer(source), len(rows) < 32  # of a query, the mean says nothing and the norm little
        if not normalizer.mean.any():
            return
        sample = rows[:1000].to(self.device).double()  # squares of large and small values leave the range of other dtypes
        norm = sample.square().sum(1).mean().sqrt().item() / normalizer.usual_norm()
        if not 0 < norm < math.inf:  # zeros, or statistics that are not finite: what comes of them is looked at
            return
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
        composed along the alignments that were. Of an alignment with networks both maps are kept: the networks become the
        input adapters, and the linear maps stand beside them; with more than two spaces the networks are left out.

        Args:
            alignments ([`~hf_vec2vec.alignment.Alignment`] or a list of them): maps between pairs of spaces. Together
                they must connect all spaces.
            allow_not_aligned: take an alignment whose report says "not aligned", too.
            config_kwargs: fields of [`Vec2VecConfig`] other than `embedding_dims`.

        Raises:
            ValueError: if there is no alignment, a verdict is "not aligned", two alignments normalise a space differently,
                one space cannot be reached from another, or `latent_dim` cannot hold the parts.
        """
        alignments = list(alignments) if isinstance(alignments, Iterable) else [alignments]
        if not allow_not_aligned:
            _check_verdicts(alignments)
        statistics = _common_statistics(alignments)
        dims = {name: len(mean) for name, (mean, _) in statistics.items()}
        maps = {(a.source, a.target): a.source_to_target.float() for a in alignments}
        maps |= {(a.target, a.source): a.target_to_source.float() for a in alignments}
        networks = _networks(alignments)
        if networks:
            width = next(iter(networks.values())).get_parameter("output.weight").shape[1]
            of_networks = {"hidden_dim": width, "adapter_layers": 1, "activation": "softmax", "linear_maps": True}
            config_kwargs = of_networks | config_kwargs
        linear = _compose(maps, dims)
        maps = linear | {way: network.get_parameter("linear.weight").T for way, network in networks.items()}
        model = cls(Vec2VecConfig(embedding_dims=dims, **config_kwargs), random_maps=False)
        model._check_holds_linear_maps(dims)
        with torch.no_grad():
            for name, (mean, scale) in statistics.items():
                model.normalizer(name).mean.copy_(mean)
                model.normalizer(name).scale.copy_(scale)
            parts = model._set_linear_maps(maps, dims)
            for (source, target), network in networks.items():
                model._input_adapter(source).copy_network(network, parts[target])
            if model.config.linear_maps:
                for (source, target), weight in linear.items():
                    model.linear_map(source, target).weight.copy_(weight.T)
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

    def linear_map(self, source: str, target: str) -> FixedMap:
        """The linear map beside the network, in normalised coordinates; only with `config.linear_maps`."""
        return cast(FixedMap, cast(nn.ModuleDict, self.linear_maps[source])[target])

    def _input_adapter(self, space: str) -> LinearPlusMLP:
        return cast(LinearPlusMLP, self.input_adapters[space])


def _check_verdicts(alignments: list) -> None:
    for found in alignments:
        if found.report and found.report.verdict == "not aligned":
            raise ValueError(
                f"`alignments`: {found.source!r} and {found.target!r} are {found.report}. A model made of it would "
                "translate into noise. Give more rows, text of one kind on both sides, a few known pairs (`anchors`), a way "
                "through a third space (`guess`), or `effort='thorough'`; or pass `allow_not_aligned=True`."
            )


def _common_statistics(alignments: list) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and scale of every space, on which all alignments must agree."""
    if not alignments:
        raise ValueError("`alignments` is empty: give at least one, of two spaces.")
    statistics: dict[str, tuple[Tensor, Tensor]] = {}
    for a in alignments:
        for name, (mean, scale) in ((a.source, a.source_statistics), (a.target, a.target_statistics)):
            found = mean.float(), scale.float()
            known = statistics.setdefault(name, found)
            pairs, near = zip(known, found, strict=True), SAME_STATISTICS * known[1]
            if not all(x.shape == y.shape and ((x - y).abs() <= near).all() for x, y in pairs):
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
