"""Runs of words, found by character offsets, so that two tokenizers that cut text differently can still be compared."""

import re

import torch
from torch import Tensor
from torch.nn import functional as F

from ..encoders.text import TextEncoder


def word_spans(text: str, words: int) -> list[tuple[int, int]]:
    """Runs of so many words, as character positions `(start, end)`; a shorter one at the end counts, too.

    Args:
        text: cut at white space.
        words: in a run.
    """
    found = [match.span() for match in re.finditer(r"\S+", text)]
    return [(chunk[0][0], chunk[-1][1]) for chunk in (found[i : i + words] for i in range(0, len(found), words))]


def span_members(offsets: Tensor, mask: Tensor, spans: list[list[tuple[int, int]]]) -> tuple[Tensor, Tensor]:
    """Which tokens belong to which span: those that share a character with it.

    Args:
        offsets: `(n, tokens, 2)`, characters of every token; special tokens have none (start = end).
        mask: `(n, tokens)`, 1 for tokens, 0 for padding.
        spans: of every text.

    Returns:
        `(s, tokens)` of 0 and 1 for all s spans of the batch, and `(s,)`, the text that each belongs to. A span that was cut
        off has no token.
    """
    rows = torch.tensor([i for i, found in enumerate(spans) for _ in found], dtype=torch.long, device=offsets.device)
    ends = torch.tensor([span for found in spans for span in found], dtype=torch.long, device=offsets.device).view(-1, 2)
    start, end = offsets[rows].unbind(2)
    inside = (start < ends[:, 1:]) & (end > ends[:, :1]) & (end > start) & mask[rows].bool()
    return inside.long(), rows


def pool_spans(states: Tensor, members: Tensor, rows: Tensor) -> Tensor:
    """Means of the token vectors of spans.

    Args:
        states: `(n, tokens, d)`.
        members: `(s, tokens)`, see `span_members`; no span without a token.
        rows: `(s,)`.

    Returns:
        `(s, d)`.
    """
    weights = members.to(states.dtype)
    pooled = torch.einsum("std,st->sd", states[rows], weights)
    return pooled / weights.sum(1, keepdim=True)


@torch.no_grad()
def teacher_spans(encoder: TextEncoder, texts: list[str], words: int) -> tuple[Tensor, Tensor]:
    """A frozen encoder's vectors of all spans of a batch.

    Args:
        encoder: with layers and a tokenizer that gives offsets.
        texts: n of them.
        words: in a span.

    Returns:
        `(s, d)` and `(s,)`, whether the encoder's tokenizer left a token of the span; rows without one are zero.
    """
    settings = encoder.settings
    if others := encoder.other_modules():
        raise ValueError(f"`teacher` {settings.model!r} makes its vectors with {others}; runs of words need layers alone.")
    inputs = encoder.tokenizer(
        [settings.prompt + text for text in texts],
        padding=True,
        truncation=True,
        max_length=settings.max_length,
        return_offsets_mapping=True,
        return_tensors="pt",
    ).to(encoder.device)
    offsets, shift = inputs.pop("offset_mapping"), len(settings.prompt)
    spans = [[(start + shift, end + shift) for start, end in word_spans(text, words)] for text in texts]
    members, rows = span_members(offsets, inputs["attention_mask"], spans)
    known = members.any(1)
    states = encoder.model(**inputs, output_hidden_states=True).hidden_states[settings.layer]
    found = pool_spans(states, members[known], rows[known]).float()
    vectors = found.new_zeros(len(known), found.shape[1])
    vectors[known] = F.normalize(found, dim=1) if settings.normalize else found
    return vectors, known


__all__ = ["pool_spans", "span_members", "teacher_spans", "word_spans"]
