"""A translator's way to the Hub: in one commit, or not at all."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitInfo, CommitOperationAdd, HfApi, ModelCard

from .model_card import model_card
from .modeling_vec2vec import Vec2VecModel

CHECKPOINTS = "checkpoints"  # the branch for training checkpoints: they hold discriminators and an optimizer
CARD = "README.md"


def publish(
    model: Vec2VecModel,
    repo_id: str,
    *,
    card: str | Callable[[Path], str],
    commit_message: str | None = None,
    commit_description: str | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    max_shard_size: int | str = "50GB",
) -> CommitInfo:
    """Push a translator: weights as safetensors, config, the code that loads them without this package, and a card.

    Args:
        model: the translator.
        repo_id: `ORG/NAME`; made if it does not exist.
        card: text of the card, or what gives it for the folder that the model was saved in.
        commit_message, commit_description: of the commit.
        private: whether a new repository is private. That of an old one stays what it is.
        token: of the Hub; the one that you logged in with by default.
        revision: branch, made if it does not exist; `main` by default.
        create_pr: open a pull request instead of committing.
        max_shard_size: of a file of weights.

    Raises:
        OSError: if the Hub refuses or cannot be reached. No commit was made then.
    """
    with TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        _name_local_encoders(Path(folder) / "config.json")
        with one_message(repo_id):
            text = card if isinstance(card, str) else card(Path(folder))
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

    All in one commit: `upload_folder` may make several, and show a model without its weights.

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
    additions = [CommitOperationAdd((Path(path_in_repo) / f.relative_to(folder)).as_posix(), str(f)) for f in files]
    with one_message(repo_id):
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if revision is not None and not revision.startswith("refs/pr/"):
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        return api.create_commit(repo_id, additions, commit_message=commit_message, revision=revision, **kwargs)


def short_card(repo_id: str, tags: list[str] | None, token: str | bool | None) -> Callable[[Path], str]:
    """The card of a model of which no run is known, for [`publish`]; the repository's own, if it has one already."""

    def write(folder: Path) -> str:
        known = HfApi(token=token).file_exists(repo_id, CARD)
        card = ModelCard.load(repo_id, token=token) if known else model_card(folder, {}, name=repo_id)
        card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *(tags or [])]))
        return str(card)

    return write


def _name_local_encoders(config_file: Path) -> None:
    """A folder of this machine means nothing elsewhere, and its path is nobody's business: keep its name alone."""
    config = json.loads(config_file.read_text())
    for settings in filter(None, (config.get("encoders") or {}).values()):
        if Path(settings["model"]).is_dir():
            settings["model"] = Path(settings["model"]).resolve().name
    config_file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


@contextmanager
def one_message(repo_id: str) -> Iterator[None]:
    """Whatever goes wrong on the way to the Hub, as an `OSError` of one line."""
    try:
        yield
    except Exception as error:  # of the network, the server and the client's checks, with no base in common
        cause = error.__cause__ if type(error) is RuntimeError and error.__cause__ else error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise OSError(f"`repo_id` {repo_id!r}: no commit was made, nothing is published. {reason}") from error
