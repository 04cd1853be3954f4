"""What decides which vector a text gets."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderSettings:
    """Everything that decides which vector a text gets, apart from the model's own files.

    Args:
        model: short name of a bundled encoder, local folder or Hub id.
        pooling: how token vectors become one: `"mean"`, `"cls"` (first token), `"last"`, or `"weighted_mean"` (weights
            1, 2, 3, … by position). Of the text side of a CLIP-like model always `"projection"`. A SentenceTransformer may
            have others of its own, several of them joined by `+`, or `"own"`, a module that is no pooling.
        layer: index into the hidden states, 0 the embeddings, -1 the last (after the model's final norm).
        prompt: text put before each text.
        max_length: tokens; the rest is cut.
        normalize: scale vectors to norm 1.
        mask_first_token: leave the first token out of the pooling. In decoders it is an attention sink, whose vector is
            hundreds of times longer than the others.
        prompt_name: the name that the model's folder has for the prompt, or empty.
    """

    model: str
    pooling: str
    layer: int
    prompt: str
    max_length: int
    normalize: bool
    mask_first_token: bool
    prompt_name: str = ""


__all__ = ["EncoderSettings"]
