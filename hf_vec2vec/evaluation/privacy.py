"""What defences of a vector store cost its owner and what they take from an attacker."""

import warnings
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..alignment.aligner import align
from ..metrics.hubness import hub_penalties
from ..metrics.translation import mean_cosines, neighbour_overlap, ranks
from ..model.modeling_vec2vec import Vec2VecModel
from .attributes import zero_shot
from .inversion import WordDecoder

NOISE = (0.25, 0.5, 1.0, 2.0)


def add_noise(rows: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Gaussian noise of so many times the rows' own deviation, the same in every direction: `(n, d)`."""
    deviation = (rows - rows.mean(0)).square().mean().sqrt()
    return rows + share * deviation * torch.randn(rows.shape, generator=generator)


def quantize_int8(rows: Tensor) -> Tensor:
    """Every dimension rounded to 255 levels between its extremes, as vector stores do: `(n, d)`."""
    low, high = rows.amin(0), rows.amax(0)
    step = ((high - low) / 254).clamp_min(torch.finfo(rows.dtype).tiny)
    return low + ((rows - low) / step).round() * step


def quantize_binary(rows: Tensor) -> Tensor:
    """One bit a dimension, above or below its mean; read as one deviation above or below: `(n, d)`."""
    mean = rows.mean(0)
    return mean + torch.where(rows > mean, 1.0, -1.0) * (rows - mean).square().mean(0).sqrt()


class LabelledRows(NamedTuple):
    """Vectors of texts whose classes the attacker guesses.

    Args:
        rows: `(l, d_a)`, part of the store.
        labels: `(l,)`, places among the descriptions; only measure.
        descriptions: `(c, d_b)`, a sentence for every class, by the attacker's encoder.
    """

    rows: Tensor
    labels: np.ndarray
    descriptions: Tensor


def defences(
    model: Vec2VecModel,
    store: Tensor,
    truth: Tensor,
    leaked: Tensor,
    own: Tensor,
    *,
    source: str,
    target: str,
    own_texts: list[str] | None = None,
    texts: list[str] | None = None,
    labelled: LabelledRows | None = None,
    seed: int = 0,
) -> list[dict]:
    """Attack a store under every defence.

    Args:
        model: a translator made for the undefended store.
        store: `(n, d_a)`, attacked vectors.
        truth: `(n, d_b)`, the same texts by the attacker's encoder; only measures.
        leaked: `(m, d_a)`, the rest of the store, which the attacker has too.
        own: `(k, d_b)`, the attacker's own vectors, of other texts.
        source: space of the store.
        target: space of the attacker.
        own_texts: k texts, for `WordDecoder`.
        texts: n texts; only measure.
        labelled: further vectors of the store, for attributes.
        seed: of noise, rotation and alignment.

    Returns:
        One dictionary a defence: `defence`, `kept_neighbours` (share of each row's 10 nearest that the owner's own search
        still finds), `top1` and `centred_cosine` of the attack, `word_f1` where texts are known, `attribute_accuracy` of
        the zero-shot attack where labels are. Top-1 is that of a search that corrects hubs: the attacker has the whole store
        to tell them by. A secret rotation is attacked twice: the second time the attacker aligns the rotated store anew,
        without pairs (with its `verdict`).
    """
    generator = torch.Generator().manual_seed(seed)
    mean = model.normalizer(target).mean.cpu()
    decoder = WordDecoder(own, own_texts) if texts and own_texts else None
    turn = torch.linalg.qr(torch.randn(store.shape[1], store.shape[1], generator=generator))[0]

    def row(defence: str, defended: Tensor, attacker: Vec2VecModel, **more) -> dict:
        translated = attacker.translate(defended, source=source, target=target)
        translated, of_labelled = translated[: len(store)], translated[len(store) :]
        figures = {"kept_neighbours": neighbour_overlap(defended[: len(store)], store).mean().item()}
        found = ranks(translated, truth, penalties=hub_penalties(truth, translated, k=min(10, len(translated))))
        figures |= {"top1": (found <= 1).float().mean().item()}
        figures |= {"centred_cosine": mean_cosines(translated, truth, mean)["centred_cosine"]}
        if decoder and texts:
            figures["word_f1"] = float(np.nanmean(decoder.word_f1(translated, texts)))
        if labelled:
            guesses = zero_shot(of_labelled, labelled.descriptions, mean)
            figures["attribute_accuracy"] = float((guesses == labelled.labels).mean())
        return {"defence": defence} | figures | more

    whole = torch.cat([store, labelled.rows]) if labelled else store
    defended = {
        "none": whole,
        **{f"noise, {share:g} deviations": add_noise(whole, share, generator) for share in NOISE},
        "int8": quantize_int8(whole),
        "binary": quantize_binary(whole),
        "secret rotation": whole @ turn,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that these vectors are unlike the training's is the point
        rows = [row(name, vectors, model) for name, vectors in defended.items()]
    found = align(leaked @ turn, own, source_name=source, target_name=target, seed=seed, progress=False)
    again = Vec2VecModel.from_alignment(found, allow_not_aligned=True)
    verdict = found.report and found.report.verdict
    return rows + [row("secret rotation, aligned anew", whole @ turn, again, verdict=verdict)]


__all__ = ["LabelledRows", "add_noise", "defences", "quantize_binary", "quantize_int8"]
