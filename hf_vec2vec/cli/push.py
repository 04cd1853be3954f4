"""`push`: a translator to the Hub."""

import os
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from .flags import TranslatorFlags, flag
from .trainer_flags import check_login

SYNOPSIS = "DIR --repo_id ORG/NAME [flags]"


@dataclass(kw_only=True)
class PushFlags(TranslatorFlags):
    """Where a translator goes."""

    title: ClassVar[str] = "flags"

    repo_id: str = flag("ORG/NAME on the Hub; made if it does not exist.")
    private: bool = flag("Make a new repository private.", False)
    revision: str | None = flag("Branch, made if it does not exist; default: main.", None)
    tag: str | None = flag("Name for this state, for instance v1.0.", None)
    create_pr: bool = flag("Open a pull request instead of committing.", False)
    commit_message: str = flag("Of the commit.", "Upload translator")

    def after_interrupt(self) -> str:
        """A commit is whole or not there."""
        return f"One commit carries all: either {self.repo_id} has it, or nothing changed there. Run it again."


def run(flags: PushFlags) -> None:
    """A translator and its card to the Hub, in one commit; stages and training checkpoints stay here."""
    flags.check_folder()
    check_login("repo_id")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    from ..data.staging import locked
    from ..sharing.hub import publish, retry_while_busy
    from ..sharing.translator_card import model_card, read_facts, write_published_facts
    from ..training.start import load_translator

    folder = Path(flags.folder)
    ours = folder.is_dir() and os.access(folder.absolute().parent, os.W_OK)  # else no run works there either
    with locked(folder, argument="DIR") if ours else nullcontext():  # weights and facts of one run
        model = load_translator(flags.folder, "auto")
        facts, known = read_facts(flags.folder), folder / "README.md"
        # A card that was not written here is left alone.
        written = known.read_text(encoding="utf-8") if not facts and known.exists() else None

    def card(saved: Path) -> str:
        text = str(model_card(saved, facts, name=flags.repo_id)) if written is None else written
        if facts:
            write_published_facts(saved, facts, text)
        return text

    done = publish(
        model.save_pretrained,
        flags.repo_id,
        card=card,
        private=flags.private or None,
        revision=flags.revision,
        create_pr=flags.create_pr,
        commit_message=flags.commit_message,
    )
    if flags.tag:
        try:
            retry_while_busy(partial(HfApi().create_tag, flags.repo_id, tag=flags.tag, revision=done.oid))
        except HfHubHTTPError as error:
            reason = " ".join(str(error).split())
            raise OSError(f"`tag` {flags.tag!r} was not made, but {done.commit_url} is published: {reason}") from error
    print(f"{flags.folder} → {done.pr_url or done.commit_url}")
