"""Whether a student still is what lies under the name that its adapter would record as its base."""

from pathlib import Path

import torch
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
from safetensors import safe_open
from torch import Tensor
from transformers import PreTrainedModel

from ..encoders.bundled import BUNDLED, find_encoder

WRAPPED = (".base_layer", ".original_module")  # what adapters put between a layer's name and its weights


def check_base(model: PreTrainedModel) -> None:
    """Raise if an adapter of this model would be loaded on other weights than it was trained on.

    An adapter records the name of its base. A model that was merged with an earlier adapter, or trained, and not saved
    still has the name of what it was made of.

    Args:
        model: the base, with or without layers of an adapter in it.

    Raises:
        ValueError: if one of its weights is not as in the folder or repository of that name.
    """
    name = str(model.name_or_path)
    if (folder := _folder(name)) is not None and (changed := _changed_weight(model, folder)) is not None:
        raise ValueError(
            f"`model` is named {name!r}, but its weights are no longer those (`{changed}` differs), as after a merge or a "
            "training. An adapter would record that name, and load on those other weights without a word. Save the model "
            "and its tokenizer (`save_pretrained`) in a folder, and give that to `load_student`."
        )


def has_new_pooler(model: PreTrainedModel) -> bool:
    """Whether a head reads a pooler in its body that the model's folder lacks, and that was random when it was loaded."""
    own = {name for name, _ in model.named_parameters() if ".pooler." in name}
    folder = _folder(str(model.name_or_path))
    if not own or folder is None:
        return False
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as saved:
            names = saved.keys()
        own -= {form for name in names for form in _forms(name, model.base_model_prefix)}
    return bool(own)


def _folder(name: str) -> Path | None:
    """Where the weights of that name lie on this machine, if they do."""
    bundled = {encoder.hub_id: short for short, encoder in BUNDLED.items()}
    if name in bundled:
        return find_encoder(bundled[name])
    if not name or Path(name).is_dir():
        return Path(name) if name else None
    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None


def _changed_weight(model: PreTrainedModel, folder: Path) -> str | None:
    own = {_plain(name): value for name, value in model.state_dict().items()}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as saved:
            for name in saved.keys():  # noqa: SIM118  # it is no dictionary
                value = _weight(own, name, model.base_model_prefix)
                if value is not None and _differs(value, saved.get_tensor(name)):
                    return name
    return None


def _plain(name: str) -> str:
    for part in WRAPPED:
        name = name.replace(part, "")
    return name


def _weight(own: dict[str, Tensor], name: str, prefix: str) -> Tensor | None:
    """The model's weight of a name in a file, which may be of the same model with a head, or without one."""
    return next((own[known] for known in _forms(name, prefix) if known in own), None)


def _forms(name: str, prefix: str) -> tuple[str, ...]:
    return name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")


def _differs(value: Tensor, saved: Tensor) -> bool:
    """Whether a weight is another; those that are quantised cannot be compared."""
    comparable = value.shape == saved.shape and value.is_floating_point() and saved.is_floating_point()
    return comparable and not torch.equal(value.cpu(), saved.to(value.dtype))
