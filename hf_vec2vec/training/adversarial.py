"""The translator together with the discriminators that train it."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.layers_vec2vec import FixedMap
from ..model.modeling_vec2vec import Vec2VecModel, Vec2VecPreTrainedModel

Phase = Literal["discriminator", "translator"]
Pair = tuple[str, str]
ABSENT: Any = None  # a `ModelOutput` leaves out what a phase does not give


class Discriminator(nn.Module):
    """MLP that gives rows `(n, in_dim)` logits `(n, num_logits)`: high for real, low for translated.

    Args:
        config: its width, depth and normalisation.
        in_dim: of the rows.
        num_logits: a row.
        seen_dim: how many coordinates it sees, which `projection` makes of the rows; all of them if there are no more.
    """

    def __init__(self, config: Vec2VecConfig, in_dim: int, num_logits: int = 1, seen_dim: int | None = None):
        super().__init__()
        width, layers = config.discriminator_hidden_dim, []
        self.projection = FixedMap(in_dim, seen_dim) if seen_dim and seen_dim < in_dim else None
        if self.projection is not None:
            in_dim = cast(int, seen_dim)
        for i in range(config.discriminator_layers):
            normalisation = [nn.LayerNorm(width)] if config.discriminator_norm == "layer" else []
            layers += [nn.Linear(width if i else in_dim, width), *normalisation, nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_logits))

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows if self.projection is None else self.projection(rows))

    @torch.no_grad()
    def look_at(self, rows: Tensor) -> None:
        """See the widest principal directions of real, normalised rows `(n, in_dim)`, each scaled to variance 1."""
        if self.projection is None:
            return
        rows = rows.double() - rows.double().mean(0)
        variances, directions = torch.linalg.eigh(rows.T @ rows / len(rows))
        seen = len(self.projection.weight)
        widest = variances[-seen:].clamp_min(1e-12 * variances[-1])  # rows may lie in fewer directions
        self.projection.weight.copy_((directions[:, -seen:] / widest.sqrt()).T)


@dataclass
class AdversarialOutput(ModelOutput):
    """Everything the losses need. Rows are in normalised coordinates; a pair is `(source, target)`.

    Args:
        rows (`dict[str, Tensor]`): the batch, `(n, d)` a space.
        latents (`dict[str, Tensor]`): `(n, latent_dim)` a space.
        reconstructions (`dict[str, Tensor]`): `(n, d)` a space; translator phase only.
        translations (`dict[Pair, Tensor]`): `(n, d_target)`.
        round_trips (`dict[Pair, Tensor]`): translated to `target` and back to `source`, `(n, d_source)`; translator phase.
        real_logits (`dict[str, Tensor]`): a space's discriminator on its own rows, `(n,)`; in the translator phase without
            gradients, and only if it was asked for.
        fake_logits (`dict[Pair, Tensor]`): the target's discriminator on the translations, `(n,)`.
        latent_logits (`dict[str, Tensor]`): `(n, spaces)`, column k says how much a latent looks like one of space k.
        start_translations (`dict[Pair, Tensor]`): by the translator that training started from, `(n, d_target)`; if it was
            kept.
    """

    rows: dict[str, Tensor] = ABSENT
    latents: dict[str, Tensor] = ABSENT
    reconstructions: dict[str, Tensor] = ABSENT
    translations: dict[Pair, Tensor] = ABSENT
    round_trips: dict[Pair, Tensor] = ABSENT
    real_logits: dict[str, Tensor] = ABSENT
    fake_logits: dict[Pair, Tensor] = ABSENT
    latent_logits: dict[str, Tensor] = ABSENT
    start_translations: dict[Pair, Tensor] = ABSENT


class Vec2VecForAdversarialTraining(Vec2VecPreTrainedModel):
    """A [`Vec2VecModel`] with one discriminator for each output space and one for the shared space.

    Save `model.vec2vec` to publish the translator alone. [`Vec2VecTrainer`] does.

    Args:
        config ([`Vec2VecConfig`]): shape of both.
    """

    def __init__(self, config: Vec2VecConfig):
        super().__init__(config)
        self.vec2vec = Vec2VecModel(config)
        dims, latent_dim = dict(config.embedding_dims or {}), int(config.latent_dim or 0)  # which a config has filled in
        self.discriminators = nn.ModuleDict(
            {name: Discriminator(config, dim, seen_dim=config.discriminator_dim) for name, dim in dims.items()}
        )
        self.latent_discriminator = Discriminator(config, latent_dim, len(dims))
        self.post_init()

    @classmethod
    def from_translator(cls, translator: Vec2VecModel) -> "Vec2VecForAdversarialTraining":
        """Put fresh discriminators around a translator, which is used as it is, not copied."""
        model = cls(cast(Vec2VecConfig, translator.config))
        nn.Module.to(model, translator.device, translator.dtype)
        model.vec2vec = translator
        return model

    def forward(
        self,
        embeddings: dict[str, Tensor],
        phase: Phase = "translator",
        detach_cycle: bool = False,
        input_gradients: bool = False,
        judge_real: bool = False,
        judged: bool = True,
    ) -> AdversarialOutput:
        """Run what one side of the game needs.

        Args:
            embeddings: raw, unpaired rows of every space, `{space: (n, d)}`.
            phase: `"discriminator"` (no gradient reaches the translator) or `"translator"`.
            detach_cycle: let the cycle loss train the way back only, not the first hop.
            input_gradients: let what discriminators see carry gradients, as their penalties need.
            judge_real: in the translator phase, too, as a loss that compares with real rows needs.
            judged: ask the discriminators at all.
        """
        translator = self.vec2vec
        rows = {name: translator.normalizers[name](batch) for name, batch in embeddings.items()}
        with torch.set_grad_enabled(phase == "translator" and torch.is_grad_enabled()):
            latents = {name: translator.encode(batch, name) for name, batch in rows.items()}
            pairs = [(a, b) for a in rows for b in rows if a != b]
            translations = {(a, b): translator.decode(latents[a], b) for a, b in pairs}
        if phase == "discriminator":
            # In the weights' dtype: accelerate hands out copies of what is in bfloat16, of which no logits are made.
            parts: list[dict[Any, Tensor]] = [rows, latents, translations]
            for part in parts:
                for name, seen in part.items():
                    part[name] = seen.to(translator.dtype).requires_grad_(input_gradients)
        common: dict[str, Any] = {
            "rows": rows,
            "latents": latents,
            "translations": translations,
        }
        if judged:
            common["fake_logits"] = {(a, b): self.discriminators[b](translations[a, b]).squeeze(1) for a, b in pairs}
            common["latent_logits"] = {name: self.latent_discriminator(latent) for name, latent in latents.items()}
        if phase == "discriminator" or (judged and judge_real):
            with torch.set_grad_enabled(phase == "discriminator" and torch.is_grad_enabled()):
                common["real_logits"] = {name: self.discriminators[name](batch).squeeze(1) for name, batch in rows.items()}
        if phase == "discriminator":
            return AdversarialOutput(**common)
        first_hop = {pair: t.detach() if detach_cycle else t for pair, t in translations.items()}
        return AdversarialOutput(
            reconstructions={name: translator.decode(latent, name) for name, latent in latents.items()},
            round_trips={(a, b): translator.decode(translator.encode(first_hop[a, b], b), a) for a, b in pairs},
            **common,
        )


__all__ = ["AdversarialOutput", "Vec2VecForAdversarialTraining"]
