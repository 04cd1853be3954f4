"""How checkpoints are written and read: whole or not at all, from safetensors alone. Travels with the model."""

import hashlib
import json
import os
import re
import shutil
from functools import partial
from importlib import import_module
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*")  # of the Hub: ORG/NAME


class CheckedPreTrainedModel(PreTrainedModel):
    """A `PreTrainedModel` whose checkpoints carry a hash of the weights in their config, which loading compares."""

    def save_pretrained(  # type: ignore[override]  # the names that it does not look at go on to the parent
        self, save_directory: str | os.PathLike, *, state_dict: dict[str, Tensor] | None = None, **kwargs
    ):
        """`PreTrainedModel.save_pretrained`, file by file into place once all of them are written.

        Args:
            save_directory: folder, made if there is none.
            state_dict: weights to write in place of the model's own.
            kwargs: of the parent. Where `is_main_process` is False nothing is written: another process does.

        Raises:
            OSError: if there is no room, or no right to write. What was in `save_directory` is then as it was.
            ValueError: if weights are NaN or infinite.
        """
        if kwargs.get("variant") is not None:
            raise ValueError(
                f"`variant` is {kwargs['variant']!r}, but a folder holds one set of weights, whose hash its config has. "
                "Leave it out, and save to another folder."
            )
        if not kwargs.get("is_main_process", True):  # nor may the folder be touched in which the other one works
            return
        folder = Path(save_directory)
        staged = folder / ".partial-model"
        pushed = kwargs.pop("push_to_hub", False)
        of_hub = ("repo_id", "commit_message", "commit_description", "private", "token", "revision", "create_pr", "tags")
        hub = {name: kwargs.pop(name) for name in of_hub if name in kwargs}
        hub |= {name: kwargs[name] for name in ("max_shard_size",) if name in kwargs}
        weights = self.state_dict() if state_dict is None else state_dict
        if broken := not_finite(weights):
            raise ValueError(
                f"The model is not saved: its weights {broken[0]!r} are NaN or infinite. Training has diverged, or the rows "
                "that it was made of have values that are too large."
            )
        self.config.weights_sha256 = weights_sha256(weights)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(staged, ignore_errors=True)  # of a process that was killed
            staged.mkdir()
            super().save_pretrained(staged, state_dict=state_dict, **kwargs)
            written = [file.name for file in staged.iterdir()]
            for name in written:
                os.replace(staged / name, folder / name)
            for file in folder.iterdir():
                of_an_earlier_save = WEIGHTS.fullmatch(file.name) and file.name not in written  # in other parts
                if written and of_an_earlier_save:
                    file.unlink()
        except (SafetensorError, OSError) as error:
            raise OSError(f"`save_directory` {str(folder)!r} was not written and is as it was before: {error}") from error
        finally:
            shutil.rmtree(staged, ignore_errors=True)
            self.config.weights_sha256 = None  # it says what is on disk, and these weights may change
        if pushed:
            self.push_to_hub(hub.pop("repo_id", folder.name), **hub)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, **kwargs):
        """`PreTrainedModel.from_pretrained`, from safetensors alone, and only if the weights are those that were saved.

        Raises:
            OSError: if there are no weights in safetensors. Pickled ones are not read: they may run code.
            FileNotFoundError: if the name is that of a folder which is not there. No Hub is asked for it.
            ValueError: if `use_safetensors` is False, `device_map` takes the model apart, the config is broken or of a newer
                version, or weights are cut short, changed, missing, of another shape, NaN or infinite.
        """
        name = str(pretrained_model_name_or_path)
        if pretrained_model_name_or_path is not None:  # with `config` and `state_dict` there is no place
            _check_place(name, kwargs.get("revision"))
        if kwargs.setdefault("use_safetensors", True) is False:
            raise ValueError("`use_safetensors` is False, but pickled weights may run code and are not read. Leave it out.")
        wants_report = kwargs.pop("output_loading_info", False)
        try:
            model, report = super().from_pretrained(pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs)
        except (json.JSONDecodeError, KeyError, AttributeError) as error:
            reason = " ".join(f"{type(error).__name__} {error}".split())
            raise ValueError(f"{name!r} cannot be loaded, its config or index of weights is broken: {reason}") from error
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"{name!r} cannot be loaded, its weights may be truncated or damaged: {reason}") from error
        except OSError as error:
            if Path(name).exists():
                raise
            reason = " ".join(str(error).split())
            raise OSError(f"{name!r} is no folder here, and cannot be loaded from the Hub: {reason}") from error
        _check_one_device(model)
        if broken := not_finite(model.state_dict()):
            raise ValueError(f"{name!r} cannot be loaded: its weights {broken[0]!r} are NaN or infinite.")
        model.config.weights_sha256 = None
        return (model, report) if wants_report else model

    @staticmethod
    def _load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs):
        """The parent's, which reads whatever an index of weights lists, pickles too, and makes up what is missing.

        Raises here, before any is read and before memory is taken for weights that a config merely claims.
        """
        if pickled := [Path(file).name for file in checkpoint_files or [] if Path(file).suffix != ".safetensors"]:
            raise OSError(f"`model.safetensors.index.json` lists {pickled[0]!r}: only weights in safetensors are read.")
        saved, name = model.config.weights_sha256, model.config.name_or_path
        as_saved = model.config.architectures == [type(model).__name__]  # not one model out of another's checkpoint
        if saved is not None and as_saved and checkpoint_files:  # before `dtype` changes them on the way
            weights = {key: tensor for file in checkpoint_files for key, tensor in load_file(file).items()}
            if weights_sha256(weights) != saved or weights.keys() - model.state_dict().keys():
                raise ValueError(f"{name!r} cannot be loaded: its weights are not those that were saved. Download it again.")
        info, *others = PreTrainedModel._load_pretrained_model(model, state_dict, checkpoint_files, *args, **kwargs)
        if wrong := sorted(map(str, info.missing_and_mismatched())):
            raise ValueError(
                f"{name!r} cannot be loaded: weights are missing or of another shape, for instance "
                f"{wrong[0]}. Save the model again, or download it again."
            )
        return info, *others

    def load_adapter(self, *args, **kwargs):
        """Refused, before anything is read: an adapter beside the weights would make another translator of them."""
        raise ValueError(
            "`adapter_config.json` beside the weights asks for an adapter, which translators do not have. Delete it, or do "
            "not trust this checkpoint."
        )

    def push_to_hub(  # type: ignore[override]  # as above
        self, repo_id: str, *, tags: list[str] | None = None, max_shard_size: int | str = "50GB", **kwargs
    ):
        """`PreTrainedModel.push_to_hub`, with a card that says what the translator is. A card on the Hub is kept.

        Args:
            repo_id: `ORG/NAME`.
            tags: for the card.
            max_shard_size: of a file of weights.
            kwargs: see `hf_vec2vec.sharing.publish`; without the package, see the parent's.
        """
        try:  # by name: the model stands below the package's other rooms, and works without them
            sharing = import_module("hf_vec2vec.sharing")
        except ImportError:  # this file came with a checkpoint
            options = {"tags": tags, "max_shard_size": max_shard_size} | kwargs
            return super().push_to_hub(repo_id, **options)  # type: ignore[arg-type]  # a decorator hides its signature
        save = partial(self.save_pretrained, max_shard_size=max_shard_size)
        card = sharing.short_card(repo_id, tags, kwargs.get("token"), kwargs.get("revision"))
        return sharing.publish(save, repo_id, card=card, **kwargs)


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """SHA-256 over names and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def not_finite(weights: dict[str, Tensor]) -> list[str]:
    """Names of the tensors that hold NaN or infinite values."""
    return [name for name, tensor in weights.items() if tensor.is_floating_point() and not tensor.isfinite().all()]


def _check_one_device(model: PreTrainedModel) -> None:
    """Refuse a model whose parts lie in several places, or not in memory: they are not moved to where each is needed."""
    places = set(getattr(model, "hf_device_map", {}).values())  # which transformers sets if there may be several
    if len(places) > 1 or "disk" in places:
        raise ValueError(
            f"`device_map` puts parts of the model on {sorted(map(str, places))}. A translator is small and works on one "
            "device: leave it out, or name one."
        )


def _check_place(name: str, revision: str | None) -> None:
    """Refuse the name of a folder that is not there, which transformers would ask the Hub for as that of a repository."""
    if name and Path(name).exists():
        return
    folder = name.partition("/")[0]
    if not REPOSITORY.fullmatch(name):
        raise FileNotFoundError(
            f"`pretrained_model_name_or_path` is {name!r}, but there is no such folder. A repository of the Hub has a name "
            "such as 'org/name'."
        )
    if Path(folder).is_dir() and revision is None:
        raise FileNotFoundError(
            f"`pretrained_model_name_or_path` is {name!r}, but the folder {folder!r} holds nothing of that name. If you "
            "mean a repository of the Hub, pass `revision`, too, for instance 'main'."
        )
