"""The losses of unpaired translation: their weights, pure functions, and the terms that the trainer sums.

A new one is a weight in [`LossArguments`], a function, and a line in `TERMS`.

All of them take rows in the *normalised* coordinates of a space (see `Vec2VecModel`) and return a scalar.
"Paper" below is Jha et al., "Harnessing the universal geometry of embeddings", 2025 (arXiv 2505.12540); "public code" is
what its authors released with it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import reduce
from itertools import combinations
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from .adversarial import AdversarialOutput
from .distances import DISTANCES, Objective

GanLoss = Literal["least_squares", "vanilla", "hinge", "relativistic"]
Distance = Literal["mse", "cosine"]


@dataclass
class LossArguments:
    """Weights of the losses of adversarial training, and their kinds: a part of `Vec2VecTrainingArguments`."""

    objective: Objective = field(
        default="game",
        metadata={
            "help": "What makes translations look like real rows: discriminators, or a distance between two batches.",
            "choices": list(get_args(Objective)),
        },
    )
    gan_loss: GanLoss = field(
        default="least_squares",
        metadata={"help": "Adversarial loss.", "choices": list(get_args(GanLoss))},
    )
    adversarial_weight: float = field(default=1.0, metadata={"help": "Weight of the loss on translations."})
    latent_adversarial_weight: float = field(default=1.0, metadata={"help": "Weight of the loss on latents."})
    r1_penalty_weight: float = field(
        default=0.0, metadata={"help": "Weight of the discriminators' penalty at real rows (R1); 0 is off."}
    )
    r2_penalty_weight: float = field(
        default=0.0, metadata={"help": "Weight of the discriminators' penalty at translations (R2); 0 is off."}
    )
    reconstruction_weight: float = field(default=1.0, metadata={"help": "Weight of the reconstruction loss."})
    cycle_weight: float = field(default=0.1, metadata={"help": "Weight of the cycle-consistency loss."})
    vsp_weight: float = field(default=0.1, metadata={"help": "Weight of vector-space preservation on translations."})
    reconstruction_vsp_weight: float = field(
        default=0.0, metadata={"help": "Weight of vector-space preservation on reconstructions."}
    )
    cycle_vsp_weight: float = field(default=0.0, metadata={"help": "Weight of vector-space preservation on round trips."})
    trust_weight: float = field(
        default=0.0, metadata={"help": "Weight of the loss on translations that leave those of the start."}
    )
    distance: Distance = field(
        default="mse",
        metadata={"help": "Of reconstructions and cycles: squared error or 1 - cosine.", "choices": ["mse", "cosine"]},
    )


OF_DISCRIMINATORS = ("r1_penalty_weight", "r2_penalty_weight")
LOSS_WEIGHTS = tuple(f.name for f in fields(LossArguments) if f.name.endswith("_weight") and f.name not in OF_DISCRIMINATORS)


def row_distance(outputs: Tensor, targets: Tensor, kind: Distance) -> Tensor:
    """Mean distance between matching rows: squared error by element (`"mse"`) or `1 - cosine` (`"cosine"`).

    Args:
        outputs: `(n, d)`.
        targets: `(n, d)`.
        kind: the paper writes the squared error, its public code takes `1 - cosine`.
    """
    if kind == "mse":
        return F.mse_loss(outputs, targets)
    return 1 - F.cosine_similarity(outputs, targets, dim=1).mean()


def reconstruction_loss(rows: Tensor, reconstructions: Tensor, kind: Distance = "mse") -> Tensor:
    """A row sent into the shared space and back out must come back, `(n, d)` each. Source: paper, section 3.2."""
    return row_distance(reconstructions, rows, kind)


def cycle_loss(rows: Tensor, round_trips: Tensor, kind: Distance = "mse") -> Tensor:
    """A row translated to another space and back must come back, `(n, d)` each. Source: paper, section 3.2."""
    return row_distance(round_trips, rows, kind)


def vector_space_preservation_loss(rows: Tensor, translations: Tensor) -> Tensor:
    """Translation must keep who is near whom: mean absolute difference of all pairwise cosines, before and after.

    Args:
        rows: `(n, d_a)`, a batch of one space.
        translations: `(n, d_b)`, the same rows in another space.

    Source: paper, section 3.2, which compares inner products of unit vectors.
    """
    before, after = F.normalize(rows, dim=1), F.normalize(translations, dim=1)
    return (before @ before.T - after @ after.T).abs().mean()


def same_space_preservation_loss(rows: Tensor, returned: Tensor) -> Tensor:
    """Rows that came back to their own space must keep who is near whom, among each other and among the rows that left.

    Args:
        rows: `(n, d)`, a batch of one space.
        returned: `(n, d)`, the same rows after a reconstruction or a round trip.

    Source: public code, where this and not the paper's form is trained.
    """
    before, after = F.normalize(rows, dim=1), F.normalize(returned, dim=1)
    return (before @ before.T - after @ before.T).abs().mean() + vector_space_preservation_loss(rows, returned)


def discriminator_loss(real_logits: Tensor, fake_logits: Tensor, kind: GanLoss = "least_squares") -> Tensor:
    """What a discriminator minimises: high logits for real rows, low ones for translations.

    Args:
        real_logits: `(n,)`.
        fake_logits: `(m,)`.
        kind: with r and f for real and fake logits, means over rows:
            `"least_squares"`: ((r - 1)² + f²) / 2 (Mao et al., 2017);
            `"vanilla"`: (softplus(-r) + softplus(f)) / 2 (Goodfellow et al., 2014, halved);
            `"hinge"`: (max(0, 1 - r) + max(0, 1 + f)) / 2 (Lim and Ye, 2017, halved). Halved, so that all weigh alike.
            `"relativistic"`: softplus(f - r), each real row with one translation, m = n (Huang et al., "The GAN is dead;
            long live the GAN!", 2024, arXiv 2501.05441, after Jolicoeur-Martineau, 2018). It needs R1 and R2 to converge.
    """
    if kind == "relativistic":
        return F.softplus(fake_logits - real_logits).mean()
    if kind == "least_squares":
        return ((real_logits - 1).square().mean() + fake_logits.square().mean()) / 2
    if kind == "vanilla":
        return (F.softplus(-real_logits).mean() + F.softplus(fake_logits).mean()) / 2
    return (F.relu(1 - real_logits).mean() + F.relu(1 + fake_logits).mean()) / 2


def generator_loss(fake_logits: Tensor, kind: GanLoss = "least_squares", real_logits: Tensor | None = None) -> Tensor:
    """What a translator minimises: its translations, `(n,)` logits f, must be taken for real.

    `kind` as above: (f - 1)² / 2, softplus(-f), -f or, with the logits r of real rows, softplus(r - f); the mean over rows.
    """
    if kind == "relativistic":
        if real_logits is None:
            raise ValueError("`real_logits` must be given where `kind` is 'relativistic', which compares with them.")
        return F.softplus(real_logits - fake_logits).mean()
    if kind == "least_squares":
        return (fake_logits - 1).square().mean() / 2
    if kind == "vanilla":
        return F.softplus(-fake_logits).mean()
    return -fake_logits.mean()


def gradient_penalty(logits: Tensor, rows: Tensor) -> Tensor:
    """Squared gradient of a discriminator, which keeps it from growing too steep: R1 at real rows, R2 at translations.

    Args:
        logits: `(n,)`, computed from `rows`.
        rows: `(n, d)`, with `requires_grad`.

    Source: Mescheder et al., "Which training methods for GANs do actually converge?", 2018, equations 9 and 10 (without
    their factor of one half, which the weight holds).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), rows, create_graph=True)
    return gradient.square().sum(1).mean()


def judged_real(output: AdversarialOutput) -> list[tuple[Tensor, Tensor]]:
    """What discriminators should take for real: logits and rows."""
    rows = [(logits, output.rows[name]) for name, logits in output.real_logits.items()]
    return rows + [(logits[:, k], output.latents[name]) for k, (name, logits) in enumerate(output.latent_logits.items())]


def judged_translated(output: AdversarialOutput) -> list[tuple[Tensor, Tensor]]:
    """What they should not."""
    rows = [(logits, output.translations[pair]) for pair, logits in output.fake_logits.items()]
    return rows + [
        (logits[:, k], output.latents[name])
        for name, logits in output.latent_logits.items()
        for k, other in enumerate(output.latent_logits)
        if other != name
    ]


def discriminator_accuracy(real_logits: Tensor, fake_logits: Tensor, kind: GanLoss = "least_squares") -> Tensor:
    """Share of rows, or of pairs if `"relativistic"`, that are judged rightly. One half: it cannot tell them apart."""
    if kind == "relativistic":
        return (real_logits > fake_logits).float().mean()
    boundary = 0.5 if kind == "least_squares" else 0.0
    return ((real_logits > boundary).float().mean() + (fake_logits <= boundary).float().mean()) / 2


def disguised_rows(output: AdversarialOutput, objective: Objective, kind: GanLoss) -> list[Tensor]:
    """Translations should be taken for rows of the space that they are in."""
    if objective != "game":
        distance = DISTANCES[objective]
        return [distance(there, output.rows[target]) for (_, target), there in output.translations.items()]
    real = output.real_logits or {}
    return [generator_loss(fake, kind, real.get(target)) for (_, target), fake in output.fake_logits.items()]


def disguised_latents(output: AdversarialOutput, objective: Objective, kind: GanLoss) -> list[Tensor]:
    """Latents of one space should be taken for each other's: column k judges "is of space k"."""
    if objective != "game":
        return [DISTANCES[objective](a, b) for a, b in combinations(output.latents.values(), 2)]
    return [
        generator_loss(logits[:, k], kind, output.latent_logits[other][:, k].detach())
        for name, logits in output.latent_logits.items()
        for k, other in enumerate(output.latent_logits)
        if other != name
    ]


@dataclass(frozen=True)
class Term:
    """A part of the translator's objective.

    Args:
        weight: name of its field in [`LossArguments`].
        values: one for each space or direction; their mean is the term.
    """

    weight: str
    values: Callable[[AdversarialOutput, LossArguments], list[Tensor]]


# By their names in the log.
TERMS = {
    "generator_loss": Term(
        "adversarial_weight",
        lambda output, args: disguised_rows(output, args.objective, args.gan_loss),
    ),
    "latent_generator_loss": Term(
        "latent_adversarial_weight",
        lambda output, args: disguised_latents(output, args.objective, args.gan_loss),
    ),
    "reconstruction_loss": Term(
        "reconstruction_weight",
        lambda output, args: [
            reconstruction_loss(output.rows[name], out, args.distance) for name, out in output.reconstructions.items()
        ],
    ),
    "cycle_loss": Term(
        "cycle_weight",
        lambda output, args: [
            cycle_loss(output.rows[a], back, args.distance) for (a, _), back in output.round_trips.items()
        ],
    ),
    "vsp_loss": Term(
        "vsp_weight",
        lambda output, args: [
            vector_space_preservation_loss(output.rows[a], there) for (a, _), there in output.translations.items()
        ],
    ),
    "reconstruction_vsp_loss": Term(
        "reconstruction_vsp_weight",
        lambda output, args: [
            same_space_preservation_loss(output.rows[name], out) for name, out in output.reconstructions.items()
        ],
    ),
    "cycle_vsp_loss": Term(
        "cycle_vsp_weight",
        lambda output, args: [
            same_space_preservation_loss(output.rows[a], back) for (a, _), back in output.round_trips.items()
        ],
    ),
    "trust_loss": Term(
        "trust_weight",
        lambda output, args: [
            row_distance(output.translations[pair], before, "cosine")
            for pair, before in (output.start_translations or {}).items()
        ],
    ),
}


def discriminator_losses(output: AdversarialOutput, args: LossArguments, penalties: float) -> dict[str, Tensor]:
    """What discriminators are trained by, each part by its name in the log, and their sum, the `objective`.

    Args:
        output: of the discriminators' phase.
        args: weights and kinds.
        penalties: share of their weights that is left by now.
    """
    kind, loss, accuracy = args.gan_loss, [], []
    for (_, target), fake in output.fake_logits.items():
        loss.append(discriminator_loss(output.real_logits[target], fake, kind))
        accuracy.append(discriminator_accuracy(output.real_logits[target], fake, kind))
    for k, name in enumerate(output.latent_logits):
        real = output.latent_logits[name][:, k]
        fake = torch.cat([logits[:, k] for other, logits in output.latent_logits.items() if other != name])
        loss.append(discriminator_loss(real, fake, kind))
        accuracy.append(discriminator_accuracy(real, fake, kind))
    total = torch.stack(loss).mean()
    losses = {"discriminator_loss": total, "discriminator_accuracy": torch.stack(accuracy).mean()}
    for name, judged in (("r1_penalty", judged_real(output)), ("r2_penalty", judged_translated(output))):
        if weight := getattr(args, f"{name}_weight"):
            losses[name] = torch.stack([gradient_penalty(logits, rows) for logits, rows in judged]).mean()
            total = total + penalties * weight * losses[name]
    return losses | {"objective": total}


def translator_losses(output: AdversarialOutput, args: LossArguments, *, logged: bool) -> dict[str, Tensor]:
    """Each term by its name in the log, and their weighted sum, the `objective`.

    Args:
        output: of the translator's phase.
        args: weights and kinds.
        logged: whether terms of weight 0 are there, too. They stay out of the graph.
    """
    losses: dict[str, Tensor] = {}
    weighted: list[Tensor] = []
    for name, term in TERMS.items():
        weight = getattr(args, term.weight)
        if weight or logged:
            with torch.set_grad_enabled(bool(weight) and torch.is_grad_enabled()):
                if values := term.values(output, args):  # none of the start, where it was not kept
                    losses[name] = torch.stack(values).mean()
        if weight:
            weighted.append(weight * losses[name])
    return losses | {"objective": reduce(torch.add, weighted)}
