"""Models that are ready to be asked: their head, or the adapter that holds it, was trained."""

from collections.abc import Iterable
from pathlib import Path

from peft import PeftConfig, PeftModel
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from ..encoders.bundled import BUNDLED
from ..encoders.folders import model_folder, opening
from .base import Task
from .classification import ClassificationTask


def load_trained_model(
    model: str, task: Task, *, trust_remote_code: bool = False
) -> tuple[PreTrainedModel | PeftModel, PreTrainedTokenizerBase]:
    """A model whose head was trained, and its tokenizer.

    Args:
        model: short name, local folder or Hub id of a model, or local folder of an adapter that holds the head.
        task: decides the kind of head. Classes of a head stay those of the model, and must be those of the task.
        trust_remote_code: run the code that a checkpoint brings along.

    Raises:
        ValueError: if the head would be a new one, whose answers are chance, or one of other classes.
    """
    adapter = (Path(model) / "adapter_config.json").exists()
    with opening(Path(model)):
        base = PeftConfig.from_pretrained(model).base_model_name_or_path if adapter else model
        if not isinstance(base, str):
            raise ValueError(f"adapter_config.json names no base model: `base_model_name_or_path` is {base!r}.")
    bundled = {encoder.hub_id: name for name, encoder in BUNDLED.items()}
    folder = model_folder(bundled.get(base, base), trust_remote_code=trust_remote_code)
    loaded: PreTrainedModel | PeftModel
    loaded, missing = task.load_head(folder, trust_remote_code=trust_remote_code)
    tokenizer_folder, prefix = str(folder), loaded.base_model_prefix
    if adapter:
        adapted = loaded = _with_adapter(loaded, model)
        missing -= set(_in_adapter(adapted, missing))
        tokenizer_folder = model if (Path(model) / "tokenizer_config.json").exists() else tokenizer_folder
    # Bodies have a pooler where the head reads it.
    if new := sorted(key for key in missing if not key.startswith(f"{prefix}.") or ".pooler." in key):
        without = "" if isinstance(task, ClassificationTask) else " Or take a causal language model and `language_model`."
        raise ValueError(
            f"`model` {model!r} has no trained head for {task.name!r} ({new[0]!r} is missing), so that its answers would be "
            f"chance: train a head first.{without}"
        )
    return loaded, AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=trust_remote_code)


def _with_adapter(loaded: PreTrainedModel, folder: str) -> PeftModel:
    try:
        return PeftModel.from_pretrained(loaded, folder)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # of another number of classes, or settings that peft does not understand
        raise ValueError(
            f"`model` {folder!r} is an adapter whose weights do not fit this task's head, or whose settings are damaged: "
            f"{type(error).__name__}: {' '.join(str(error).split())}"
        ) from error


def _in_adapter(model: PeftModel, keys: Iterable[str]) -> list[str]:
    """Those of `keys`, weights of the base, that the adapter holds in full."""
    trained = {name.split(".modules_to_save")[0] for name, _ in model.named_modules() if ".modules_to_save" in name}
    return [key for key in keys if any(f"base_model.model.{key}".startswith(name) for name in trained)]
