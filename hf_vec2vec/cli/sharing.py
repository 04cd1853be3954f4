"""`push`: a translator to the Hub."""

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from ..sharing.hub import patiently, publish
from ..sharing.translator_card import model_card, read_facts
from ..training.recipe import load_translator
from .parsing import parse


@dataclass
class PushArguments:
    """Where a translator goes."""

    _argument_group_name = "flags"

    repo_id: str = field(metadata={"help": "ORG/NAME on the Hub; made if it does not exist."})
    private: bool = field(default=False, metadata={"help": "Make a new repository private."})
    revision: str | None = field(default=None, metadata={"help": "Branch, made if it does not exist; default: main."})
    tag: str | None = field(default=None, metadata={"help": "Name for this state, for instance v1.0."})
    create_pr: bool = field(default=False, metadata={"help": "Open a pull request instead of committing."})
    commit_message: str = field(default="Upload translator", metadata={"help": "Of the commit."})


def run_push(argv: list[str]) -> None:
    """A translator and its card to the Hub, in one commit; stages and training checkpoints stay here."""
    args, folder = parse(run_push, "DIR --repo_id ORG/NAME [flags]", argv, [PushArguments], positional="DIR")
    model = load_translator(folder)

    def card(saved: Path) -> str:
        facts, known = read_facts(Path(folder)), Path(folder) / "README.md"
        if not facts and known.exists():  # a card that was not written here is left alone
            return known.read_text(encoding="utf-8")
        return str(model_card(saved, facts, name=args.repo_id))

    done = publish(
        model.save_pretrained,
        args.repo_id,
        card=card,
        private=args.private or None,
        revision=args.revision,
        create_pr=args.create_pr,
        commit_message=args.commit_message,
    )
    if args.tag:
        try:
            patiently(partial(HfApi().create_tag, args.repo_id, tag=args.tag, revision=done.oid))
        except HfHubHTTPError as error:
            reason = " ".join(str(error).split())
            raise OSError(f"`tag` {args.tag!r} was not made, but {done.commit_url} is published: {reason}") from error
    print(f"{folder} → {done.pr_url or done.commit_url}")
