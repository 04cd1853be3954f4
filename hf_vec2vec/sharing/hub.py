"""The way to the Hub of a translator or a student: in one commit, or not at all."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any, TypeVar, cast

from huggingface_hub import (
    CommitInfo,
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    ModelCard,
    ModelCardData,
)
from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError
from transformers.utils import logging

from .translator_card import model_card, portable_name

CHECKPOINTS = "checkpoints"  # the branch for training checkpoints: they hold discriminators and an optimizer
CARD = "README.md"
WEIGHTS = re.compile(r"model(-\d+-of-\d+)?\.safetensors(\.index\.json)?")
BUSY, TRIES, LONGEST_WAIT = (429, 503), 6, 300  # statuses, calls, seconds between two

logger = logging.get_logger(__name__)
T = TypeVar("T")


def publish(
    save: Callable[[Path], None],
    repo_id: str,
    *,
    card: str | Callable[[Path], str],
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
) -> CommitInfo:
    """Push a model and its card.

    Args:
        save: writes the model into a folder, which exists: `model.save_pretrained`.
        repo_id: `ORG/NAME`; made if it does not exist.
        card: text of the card, or what gives it for the folder that the model was saved in, and may leave files beside it.
        commit_message, commit_description: of the commit.
        private: whether a new repository is private. That of an old one stays what it is.
        token: of the Hub; the one that you logged in with by default.
        revision: branch, made if it does not exist; `main` by default.
        create_pr: open a pull request instead of committing.

    Raises:
        OSError: if the Hub refuses or cannot be reached, or the disk is full. No commit was made then.
    """
    with TemporaryDirectory() as folder:
        with errors_of_one_line(repo_id):
            save(Path(folder))
            _name_local_models(Path(folder))
            text = card if isinstance(card, str) else retry_while_busy(partial(card, Path(folder)))
        (Path(folder) / CARD).write_text(text, encoding="utf-8")
        return publish_folder(
            Path(folder),
            repo_id,
            private=private,
            token=token,
            revision=revision,
            create_pr=create_pr,
            commit_message=commit_message or "Upload translator",
            commit_description=commit_description,
        )


def publish_folder(
    folder: Path,
    repo_id: str,
    *,
    commit_message: str,
    path_in_repo: str = "",
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    **kwargs,
) -> CommitInfo:
    """Push everything in a folder, except `training_args.bin`: a pickle that holds paths of this machine.

    All in one commit: `upload_folder` may make several, and show a model without its weights. Weights that an earlier push
    left under other names (whole or in parts) are deleted in it, or they would be loaded in place of these.

    Args:
        folder: what to push.
        path_in_repo: folder in the repository.
        repo_id, commit_message, private, token, revision: see [`publish`].
        kwargs: of `HfApi.create_commit`.

    Raises:
        OSError: see [`publish`].
    """
    api = HfApi(token=token)
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "training_args.bin")
    added = {(PurePosixPath(path_in_repo) / f.relative_to(folder)).as_posix(): str(f) for f in files}
    options = {"commit_message": commit_message, "revision": revision, **kwargs}

    def push() -> CommitInfo:
        repo = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo, branch=revision, exist_ok=True)
        before, there = _contents(api, repo, revision)
        weights = {str(p) for p in there if p.parent == PurePosixPath(path_in_repo) and WEIGHTS.fullmatch(p.name)}
        operations: list[CommitOperationAdd | CommitOperationDelete | CommitOperationCopy]
        operations = [CommitOperationDelete(path) for path in sorted(weights - added.keys())]
        operations += [CommitOperationAdd(path, file) for path, file in added.items()]
        try:
            return api.create_commit(repo, operations, **options)
        except (HfHubHTTPError, ValueError, RuntimeError, OSError):  # refused, or broken off before the commit was sent
            raise
        except Exception as error:  # the connection broke off, perhaps after the commit was made
            return _commit_made_nevertheless(api, repo, before, options, error)

    with errors_of_one_line(repo_id):
        return retry_while_busy(push)


def _contents(api: HfApi, repo: str, revision: str | None) -> tuple[str | None, list[PurePosixPath]]:
    """The last commit and the files of a repository; none of either before its first commit."""
    try:
        found = api.model_info(repo, revision=revision)
    except RevisionNotFoundError:
        return None, []
    return found.sha, [PurePosixPath(file.rfilename) for file in found.siblings or []]


def _commit_made_nevertheless(
    api: HfApi, repo: str, before: str | None, options: dict[str, Any], error: Exception
) -> CommitInfo:
    """The commit that a call made before its connection broke off.

    Args:
        api, repo, options: of the call.
        before: the last commit when it began.
        error: what it raised.

    Raises:
        CommitUnknownError: if the Hub does not say what its last commit is.
        Exception: `error`, if no commit was made.
    """
    try:
        last = None if options.get("create_pr") else api.list_repo_commits(repo, revision=options["revision"])[0]
    except Exception:
        last = None
    if last is None:
        raise CommitUnknownError(
            f"`repo_id` {repo!r}: the connection broke off while the commit was sent, and whether it was made is not "
            f"known. Look at {api.endpoint}/{repo} before you push again."
        ) from error
    if last.commit_id == before or last.title != options["commit_message"]:
        raise error
    url = f"{api.endpoint}/{repo}/commit/{last.commit_id}"
    return CommitInfo(commit_url=url, commit_message=last.title, commit_description=last.message, oid=last.commit_id)


class CommitUnknownError(OSError):
    """The Hub fell silent before it said whether it made a commit."""


def short_card(
    repo_id: str, tags: list[str] | None, token: str | bool | None, revision: str | None = None
) -> Callable[[Path], str]:
    """The card of a model of which no run is known, for [`publish`]; the repository's own, if it has one already.

    A branch that is there has its own, and a new one begins with that of `main`.
    """

    def write(folder: Path) -> str:
        api = HfApi(token=token)
        repo = repo_id if "/" in repo_id else f"{api.whoami()['name']}/{repo_id}"  # which is where it will be pushed
        branch = revision if revision and api.revision_exists(repo, revision) else None
        if api.file_exists(repo, CARD, revision=branch):
            file = api.hf_hub_download(repo, CARD, revision=branch)
            card = ModelCard(Path(file).read_text(encoding="utf-8"))
        else:
            card = model_card(folder, {}, name=repo)
        data = cast(ModelCardData, card.data)
        data.tags = list(dict.fromkeys([*(data.tags or []), *(tags or [])]))
        return str(card)

    return write


def _name_local_models(folder: Path) -> None:
    """See `portable_name`: paths of this machine mean nothing elsewhere."""
    for name in ("config.json", "adapter_config.json"):
        if (file := folder / name).exists():
            config = json.loads(file.read_text())
            for settings in filter(None, (config.get("encoders") or {}).values()):
                settings["model"] = settings["model"] and portable_name(settings["model"])
            if base := config.get("base_model_name_or_path"):
                config["base_model_name_or_path"] = portable_name(base)
            file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def retry_while_busy(call: Callable[[], T]) -> T:
    """Call again where the Hub says that it has no time now, after as long as it asks for.

    huggingface_hub waits so in uploads of large files, and nowhere else. Only calls that were refused are made again: of one
    that broke off (500, a dropped connection) nobody knows whether it was carried out.
    """
    for attempt in range(TRIES - 1):
        try:
            return call()
        except HfHubHTTPError as error:
            if error.response.status_code not in BUSY:
                raise
            asked = error.response.headers.get("Retry-After", "")
            seconds = min(int(asked) if asked.isdigit() else 2**attempt, LONGEST_WAIT)
            logger.warning(f"The Hub is busy ({error.response.status_code}): going on in {seconds} s.")
            time.sleep(seconds)
    return call()


@contextmanager
def errors_of_one_line(repo_id: str) -> Iterator[None]:
    """Whatever goes wrong on the way to the Hub, as an `OSError` of one line."""
    try:
        yield
    except CommitUnknownError:
        raise
    except Exception as error:  # of the network, the server and the client's checks, with no base in common
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise OSError(f"`repo_id` {repo_id!r}: no commit was made, nothing is published. {reason}") from error
