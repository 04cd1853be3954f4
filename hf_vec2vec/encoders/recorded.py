"""The encoder that a translator records for a space, and whether vectors were made by it."""

import json
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import torch

from ..model.configuration_vec2vec import Vec2VecConfig
from .bundled import BUNDLED
from .settings import EncoderSettings
from .text import TextEncoder

RECORDED = {field.name: field for field in fields(EncoderSettings)}


def recorded_encoder(
    config: Vec2VecConfig,
    space: str,
    *,
    model: str | None = None,
    device: str | torch.device | None = None,
    trust_remote_code: bool = False,
) -> TextEncoder:
    """The encoder that made the vectors of a translator's space, with the settings that its config records.

    Args:
        config: of the translator.
        space: name of the space.
        model: where the encoder is found here; default: where it was then.
        device, trust_remote_code: see [`TextEncoder`].

    Raises:
        ValueError: if the config does not record it, the record is broken, the encoder cannot be found here, or it is now
            another than the recorded one.
    """
    settings = (config.encoders or {}).get(space)
    if settings is None:
        raise ValueError(
            f"`space` {space!r}: the translator does not record which encoder made it. Embed the texts yourself and pass "
            "the vectors."
        )
    if settings.get("modality") == "image":
        raise ValueError(f"`space` {space!r} is of images, by {settings['model']!r}. Embed images and pass the vectors.")
    missing = [name for name, field in RECORDED.items() if field.default is MISSING and name not in settings]
    if missing or any(name not in RECORDED or type(value) is not RECORDED[name].type for name, value in settings.items()):
        raise ValueError(
            f"`space` {space!r}: its encoder's record is incomplete, broken or of another version: {settings}. Embed the "
            "texts yourself and pass the vectors."
        )
    try:
        here = settings | {"model": model or settings["model"]}
        encoder = TextEncoder(**here, device=device, trust_remote_code=trust_remote_code)
    except (OSError, ValueError) as error:  # a folder that is gone is no valid Hub id: the latter
        reason = " ".join(str(error).split())
        raise ValueError(
            f"`space` {space!r} was made by {settings['model']!r}, which cannot be loaded here. Put that encoder there, or "
            f"embed the texts yourself and pass the vectors. {reason}"
        ) from error
    return encoder


def check_same_encoder(config: Vec2VecConfig, space: str, settings: dict[str, Any]) -> None:
    """Raise a ValueError that names what differs if vectors were made otherwise than those of a translator's space.

    Args:
        config: of the translator.
        space: name of the space.
        settings: how the vectors were made, as `embed` describes them.
    """
    if differing := differences(settings, (config.encoders or {}).get(space)):
        raise ValueError(
            f"`space` {space!r}: these vectors were made otherwise than those that the translator learned from: "
            f"{'; '.join(differing)}. Embed the texts as recorded."
        )


def differences(settings: dict[str, Any], recorded: dict[str, Any] | None) -> list[str]:
    """What differs between two ways to make vectors, in words; nothing where one of them is not known."""
    return [
        f"`{name}` is {settings[name]!r} and was {recorded[name]!r}"
        for name in RECORDED
        if recorded and name in settings and name in recorded and not _same(name, settings[name], recorded[name])
    ]


def _same(name: str, now: Any, recorded: Any) -> bool:
    """Whether two settings agree."""
    return same_model(now, recorded) if name == "model" else now == recorded


def same_model(one: str, other: str) -> bool:
    """Whether two names are of one model, which has several: its wheel's, the Hub's, a folder's on each machine."""
    short = {encoder.hub_id: bundled for bundled, encoder in BUNDLED.items()}
    return one == other or Path(short.get(one, one)).resolve().name == Path(short.get(other, other)).resolve().name


def check_description(config: Vec2VecConfig, space: str, description: str) -> None:
    """`check_same_encoder` of a data set's description, if that tells how its vectors were made; else nothing."""
    check_same_encoder(config, space, described(description))


def described(description: str) -> dict[str, Any]:
    """How vectors were made, if a data set's description tells; else nothing."""
    try:
        settings = json.loads(description)
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) and isinstance(settings.get("model"), str) else {}
