"""The translator together with the discriminators that train it."""

from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from transformers.utils import ModelOutput

from ..model.configuration_vec2vec import Vec2VecConfig
from ..model.modeling_vec2vec import Vec2VecModel, Vec2VecPreTrainedModel

Phase = Literal["discriminator", "translator"]
Pair = tuple[str, str]
ABSENT: Any = None  # a `ModelOutput` leaves out what a phase does not give


class Discriminator(nn.Module):
    """MLP that gives rows `(n, in_dim)` logits `(n, num_logits)`: high for real, low for translated."""

    def __init__(self, config: Vec2VecConfig, in_dim: int, num_logits: int = 1):
        super().__init__()
        width, layers = config.discriminator_hidden_dim, []
        for i in range(config.discriminator_layers):
            layers += [nn.Linear(width if i else in_dim, width), nn.LayerNorm(width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, num_logits))

    def forward(self, rows: Tensor) -> Tensor:
        return self.layers(rows)


@dataclass
class AdversarialOutput(ModelOutput):
    """Everything the losses need. Rows are in normalised coordinates; a pair is `(source, target)`.

    Args:
        rows (`dict[str, Tensor]`): the batch, `(n, d)` a space.
        latents (`dict[str, Tensor]`): `(n, latent_dim)` a space.
        reconstructions (`dict[str, Tensor]`): `(n, d)` a space; translator phase only.
        translations (`dict[Pair, Tensor]`): `(n, d_target)`.
        round_trips (`dict[Pair, Tensor]`): translated to `target` and back to `source`, `(n, d_source)`; translator phase.
        real_logits (`dict[str, Tensor]`): a space's discriminator on its own rows, `(n,)`; discriminator phase only.
        fake_logits (`dict[Pair, Tensor]`): the target's discriminator on the translations, `(n,)`.
        latent_logits (`dict[str, Tensor]`): `(n, spaces)`, column k says how much a latent looks like one of space k.
    """

    rows: dict[str, Tensor] = ABSENT
    latents: dict[str, Tensor] = ABSENT
    reconstructions: dict[str, Tensor] = ABSENT
    translations: dict[Pair, Tensor] = ABSENT
    round_trips: dict[Pair, Tensor] = ABSENT
    real_logits: dict[str, Tensor] = ABSENT
    fake_logits: dict[Pair, Tensor] = ABSENT
    latent_logits: dict[str, Tensor] = ABSENT


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
        self.discriminators = nn.ModuleDict({name: Discriminator(config, dim) for name, dim in dims.items()})
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
    ) -> AdversarialOutput:
        """Run what one side of the game needs.

        Args:
            embeddings: raw, unpaired rows of every space, `{space: (n, d)}`.
            phase: `"discriminator"` (no gradient reaches the translator) or `"translator"`.
            detach_cycle: let the cycle loss train the way back only, not the first hop.
            input_gradients: let the real rows carry gradients, as the R1 penalty needs.
        """
        translator = self.vec2vec
        rows = {name: translator.normalizers[name](batch) for name, batch in embeddings.items()}
        with torch.set_grad_enabled(phase == "translator" and torch.is_grad_enabled()):
            latents = {name: translator.encode(batch, name) for name, batch in rows.items()}
            pairs = [(a, b) for a in rows for b in rows if a != b]
            translations = {(a, b): translator.decode(latents[a], b) for a, b in pairs}
        judged = {
            "fake_logits": {(a, b): self.discriminators[b](translations[a, b]).squeeze(1) for a, b in pairs},
            "latent_logits": {name: self.latent_discriminator(latent) for name, latent in latents.items()},
        }
        common: dict[str, Any] = {"latents": latents, "translations": translations, **judged}
        if phase == "discriminator":
            rows = {name: batch.requires_grad_(input_gradients) for name, batch in rows.items()}
            real_logits = {name: self.discriminators[name](batch).squeeze(1) for name, batch in rows.items()}
            return AdversarialOutput(rows=rows, real_logits=real_logits, **common)
        first_hop = {pair: t.detach() if detach_cycle else t for pair, t in translations.items()}
        return AdversarialOutput(
            rows=rows,
            reconstructions={name: translator.decode(latent, name) for name, latent in latents.items()},
            round_trips={(a, b): translator.decode(translator.encode(first_hop[a, b], b), a) for a, b in pairs},
            **common,
        )


__all__ = ["AdversarialOutput", "Vec2VecForAdversarialTraining"]
