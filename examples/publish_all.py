"""Every translator of a folder of cards to a Hub, each with its card: one commit a translator.

    hf auth login
    python examples/publish_all.py --namespace ORG
    HF_ENDPOINT=https://hub.example.org python examples/publish_all.py --namespace ORG --private true

A card's folder is named as its repository will be. Weights lie beside the card where they are small; of larger ones
`--translators` names a folder that holds a translator of the same name. All cards are read before the first is pushed: the
metadata must be what a Hub takes, with measured figures (`model-index`). One that cannot be pushed keeps no other back.
"""

import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import ModelCard, ModelCardData
from transformers import HfArgumentParser

from hf_vec2vec import Vec2VecModel
from hf_vec2vec.sharing import publish
from hf_vec2vec.sharing.translator_card import read_facts, write_published_facts

WEIGHTS = "model.safetensors"
MADE_ANEW = {"README.md", "config.json", "training.json", WEIGHTS}  # by `publish` and `save_pretrained`


@dataclass
class Arguments:
    """What goes where."""

    namespace: str = field(metadata={"help": "User or organisation on the Hub."})
    cards: str = field(default="model_cards", metadata={"help": "Folder with one folder a card."})
    translators: str | None = field(default=None, metadata={"help": "Folder with the weights of cards that have none."})
    private: bool = field(default=False, metadata={"help": "Make new repositories private."})
    dry_run: bool = field(default=False, metadata={"help": "Read cards and weights; push nothing."})


def check_card(card: Path) -> str:
    """The text of a card whose metadata a Hub takes.

    Raises:
        ValueError: if its metadata is broken, or holds no measured figures.
    """
    text = card.read_text(encoding="utf-8")
    try:
        data = ModelCard(text).data
    except Exception as error:  # of the YAML parser and of checks of huggingface_hub, with no base in common
        raise ValueError(f"{card}: its metadata is broken: {' '.join(str(error).split())}") from error
    if not isinstance(data, ModelCardData) or not data.eval_results:
        raise ValueError(f"{card}: its metadata has no `model-index` with figures. `hf-vec2vec evaluate` writes them.")
    return text


def find_weights(folder: Path, translators: str | None) -> Path | None:
    """The folder of a card's translator: its own, or that of the same name among `translators`."""
    places = [folder] if translators is None else [folder, Path(translators) / folder.name]
    return next((place for place in places if (place / WEIGHTS).exists()), None)


def push(folder: Path, weights: Path, text: str, repo_id: str, private: bool) -> str:
    """Push one translator with all that lies beside its card: the commit's address."""
    model = Vec2VecModel.from_pretrained(weights)

    def save(target: Path) -> None:
        model.save_pretrained(target)
        for file in folder.iterdir():
            if file.is_file() and file.name not in MADE_ANEW:
                shutil.copy(file, target)
        if facts:
            write_published_facts(target, facts, text)

    facts = read_facts(weights)
    text = text.replace(f'from_pretrained("{folder.name}"', f'from_pretrained("{repo_id}"')  # as others load it
    done = publish(save, repo_id, card=text, private=private or None, commit_message="Upload translator and card")
    return done.commit_url


def main() -> int:
    (args,) = HfArgumentParser(Arguments, description=__doc__.partition("\n")[0]).parse_args_into_dataclasses()
    folders = sorted(card.parent for card in Path(args.cards).glob("*/README.md"))
    try:
        if not folders:
            raise ValueError(f"`cards` {args.cards!r} has no folder with a README.md.")
        texts = {folder: check_card(folder / "README.md") for folder in folders}
    except ValueError as error:
        print(f"publish_all.py: {error} Nothing was pushed.", file=sys.stderr)
        return 1
    failed = 0
    for folder, text in texts.items():
        repo_id, weights = f"{args.namespace}/{folder.name}", find_weights(folder, args.translators)
        if weights is None:
            print(f"{folder}: passed over, for there are no weights. `--translators` may name a folder that has them.")
        elif args.dry_run:
            print(f"{folder}: {weights / WEIGHTS} and the card would go to {repo_id}.")
        else:
            try:
                print(f"{folder} → {push(folder, weights, text, repo_id, args.private)}", flush=True)
            except (OSError, ValueError) as error:
                failed += 1
                print(f"{folder}: {error}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
