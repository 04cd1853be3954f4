"""A Trainer that publishes what it trained: the model and its card, never pickles, each push in one commit."""

from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi
from transformers import Trainer
from transformers.trainer_utils import HubStrategy
from transformers.utils import logging

from ..sharing.hub import CHECKPOINTS, errors_of_one_line, publish, publish_folder, retry_while_busy
from .base_arguments import BaseTrainingArguments

logger = logging.get_logger(__name__)


class HubTrainer(Trainer):
    """A `transformers.Trainer` with other pushes: the parent's upload arguments as a pickle and an empty card.

    A subclass gives `save_published`, `card` and `write_card`.
    """

    args: BaseTrainingArguments

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.record: dict[str, Any] = {}  # what the card should say of this run that the trainer cannot know

    @property
    def output(self) -> Path:
        """The folder for the model."""
        return Path(str(self.args.output_dir))

    def save_published(self, folder: Path) -> None:
        """Write what is published: the model."""
        raise NotImplementedError

    def card(self, folder: Path, name: str) -> str:
        """The card of the model in a folder that is published, as far as the run is now; it may leave files there."""
        raise NotImplementedError

    def write_card(self, folder: Path) -> None:
        """Write the card into the model's folder."""
        raise NotImplementedError

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """The parent's: make the repository, before training. Raises OSError if the Hub refuses or cannot be reached."""
        with errors_of_one_line(self._repo_id()):
            retry_while_busy(partial(super().init_hf_repo, *args, **kwargs))

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """Write `README.md` into `output_dir`, from what this run knows of itself. The parent's arguments have no use."""
        if self.is_world_process_zero():
            self.write_card(self.output)

    def push_to_hub(  # type: ignore[override]  # where `blocking` is false, the parent gives a future, too
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **kwargs: Any,
    ) -> CommitInfo | Future | None:
        """Publish the model and its card in one commit, and leave both in `output_dir`.

        Args:
            commit_message: of the commit.
            blocking: wait for it; else a future of it is returned.
            token, private: default to `hub_token` and `hub_private_repo`.
            revision: branch; defaults to `hub_revision`.
            kwargs: of `create_model_card`.

        Raises:
            OSError: if the Hub refuses or cannot be reached. No commit was made then.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_world_process_zero():
            return None
        self.save_published(self.output)
        self.create_model_card(**kwargs)
        message = commit_message or "End of training"
        push = partial(self.publish, message, token=token, revision=revision, private=private)
        return push() if blocking else HfApi().run_as_future(push)

    @property
    def model_name(self) -> str:
        """What the model is called in its card on disk: the last part of its repository's id, or its folder."""
        return (self.args.hub_model_id or self.output.absolute().name).split("/")[-1]

    def _repo_id(self) -> str:
        return self.hub_model_id or self.args.hub_model_id or self.output.absolute().name

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """At every save, unless `hub_strategy` is "end": publish the model as it is.

        With "checkpoint" and "all_checkpoints" the checkpoint goes to a branch of its own. A push that fails does not stop
        training: what it would have published is on disk, and the next one comes.
        """
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        names = {HubStrategy.CHECKPOINT: "last-checkpoint", HubStrategy.ALL_CHECKPOINTS: Path(checkpoint_folder).name}
        try:
            self.publish(message)
            if name := names.get(HubStrategy(self.args.hub_strategy)):
                publish_folder(
                    Path(checkpoint_folder),
                    self._repo_id(),
                    path_in_repo=name,
                    revision=CHECKPOINTS,
                    private=self.args.hub_private_repo,
                    token=self.args.hub_token,
                    commit_message=message,
                )
        except OSError as error:
            logger.warning(f"Training goes on, but step {self.state.global_step} is not on the Hub: {error}")

    def publish(
        self, message: str, *, token: str | None = None, revision: str | None = None, private: bool | None = None
    ) -> CommitInfo:
        """Push the model as it is now, with a card that says how far the run is; nothing on this disk changes.

        Args:
            message: of the commit.
            token, private: default to `hub_token` and `hub_private_repo`.
            revision: branch; defaults to `hub_revision`.

        Raises:
            OSError: if the Hub refuses or cannot be reached. No commit was made then.
        """
        args = self.args
        return publish(
            self.save_published,
            self._repo_id(),
            card=partial(self.card, name=self._repo_id()),
            commit_message=message,
            token=token or args.hub_token,
            revision=revision or args.hub_revision,
            private=args.hub_private_repo if private is None else private,
        )
