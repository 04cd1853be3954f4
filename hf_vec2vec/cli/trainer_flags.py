"""Flags of trainers: the dozen of transformers.TrainingArguments that users want; the other hundred are passed on."""

import argparse
import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NoReturn, TypeVar

from .checks import check_folder, check_input, check_report_to, did_you_mean
from .config_file import as_words
from .flags import Flags, flag
from .parsing import HelpFormatter

if TYPE_CHECKING:
    from transformers import TrainingArguments

A = TypeVar("A", bound="TrainingArguments")


@dataclass(kw_only=True)
class TrainerFlags(Flags):
    """How long and how fast a trainer goes. Defaults are those of its arguments."""

    title: ClassVar[str] = "training"
    passes_on: ClassVar[bool] = True
    fixed: ClassVar[tuple[str, ...]] = ("remove_unused_columns", "debug")  # what no user sets

    output_dir: str = flag("Folder for the result, its card and checkpoints.")
    num_train_epochs: float | None = flag("Passes over the data.", 3.0, minimum=0)
    max_steps: int = flag("Updates, instead of epochs; -1: epochs decide.", -1, minimum=-1)
    learning_rate: float = flag("Step size of the optimizer.", minimum=0)
    per_device_train_batch_size: int = flag("Rows in a batch.", minimum=1)
    bf16: bool = flag("Train in bfloat16.", False)
    use_cpu: bool = flag("Leave a GPU alone, but for encoders.", False)
    logging_steps: int = flag("Updates between two lines of the log.", minimum=1)

    def __post_init__(self) -> None:
        if self.max_steps == 0:
            raise ValueError("`max_steps` must be at least 1, or -1 for epochs, got 0.")

    @classmethod
    def arguments_class(cls) -> type["TrainingArguments"]:
        """The class that the flags are of, and those that are passed on. This loads transformers."""
        raise NotImplementedError

    @classmethod
    def explain_others(cls) -> str:
        """Help of the flags that are passed on. This loads transformers."""
        parser = _parser(cls.arguments_class())
        own = {f.name for f in fields(cls)} | set(cls.fixed)
        for action in parser._actions:
            if action.dest in own or action.option_strings[0].startswith("--no_"):
                action.help = argparse.SUPPRESS
        return "\n" + parser.format_help().partition("\n\n")[2]


@dataclass(kw_only=True)
class RunFlags(TrainerFlags):
    """One run of a trainer: its seed, where it goes on, where it is published."""

    title: ClassVar[str] = "run"

    seed: int = flag("Of everything random.", 42, minimum=0, maximum=2**32 - 1)
    resume_from_checkpoint: str | None = flag(
        "`true` goes on from the last checkpoint in `output_dir`; a path from that one.", None
    )
    report_to: list[str] = flag("Where to log, too: tensorboard, wandb, ...", ["none"])
    push_to_hub: bool = flag("Publish the result at every save and at the end.", False)
    hub_model_id: str | None = flag("ORG/NAME to publish it as; default: the name of `output_dir`.", None)
    hub_strategy: Literal["end", "every_save", "checkpoint", "all_checkpoints"] = flag(
        "When to publish; checkpoints go to the branch `checkpoints`.", "every_save"
    )

    @property
    def resumes(self) -> bool:
        """Whether to go on from a checkpoint."""
        return self.resume_from_checkpoint is not None and self.resume_from_checkpoint.lower() != "false"

    def check_run(self) -> None:
        """Raise what can fail without work: folder, checkpoint, places to log to, login."""
        check_folder("output_dir", self.output_dir)
        if self.resume_from_checkpoint is not None and self.resume_from_checkpoint.lower() not in ("true", "false"):
            check_input("resume_from_checkpoint", self.resume_from_checkpoint)
        check_report_to(self.report_to)
        if not self.push_to_hub and (given := self.given & {"hub_model_id", "hub_strategy"}):
            raise ValueError(f"`{min(given)}` says how to publish, and `push_to_hub` is not set. Set it, or leave this out.")
        if self.push_to_hub:
            check_login("push_to_hub")


def training_arguments(kind: type[A], flags: TrainerFlags, defaults: dict[str, Any]) -> A:
    """Arguments of a trainer.

    Args:
        kind: their class.
        flags: of the line; those that were given, and those that are passed on.
        defaults: of the command, where it has others than the class.

    Raises:
        ValueError: for a flag that the class does not have, or a value that it refuses.
    """
    names = {f.name for f in fields(kind)} - set(flags.fixed)
    given = {name: getattr(flags, name) for name in flags.given if name in names} | {"disable_tqdm": not flags.progress}
    found, rest = _parser(kind).parse_args_into_dataclasses(
        as_words(defaults | given) + flags.others, return_remaining_strings=True, look_for_args_file=False
    )
    rest += [word for word in flags.others if word.split("=")[0].removeprefix("--") in flags.fixed]
    if rest:
        word, known = rest[0].split("=")[0], names | {f.name for f in fields(flags) if "flag" in f.metadata}
        raise ValueError(f"`{word}` is no flag of this command{did_you_mean(word, (f'--{name}' for name in known))}")
    for name in names:
        value = getattr(found, name, None)
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"`{name}` must be a number, got {value}.")
    return found


def check_login(argument: str) -> None:
    """Raise if nobody is logged in to the Hub.

    Raises:
        ValueError: then.
    """
    from huggingface_hub import get_token

    if get_token() is None:
        raise ValueError(f"`{argument}` needs a login: run `hf auth login`, or set the variable HF_TOKEN.")


def _parser(kind: type["TrainingArguments"]) -> Any:
    """Transformers' parser of its arguments, which raises instead of leaving."""
    from transformers import HfArgumentParser

    class Parser(HfArgumentParser):
        def error(self, message: str) -> NoReturn:
            argument, _, reason = message.removeprefix("argument ").partition(": ")
            raise ValueError(f"`{argument.split('/')[0].lstrip('-')}`: {reason or message}.")

    dataclass_type: Any = kind  # whose protocol is of no class that mypy knows
    return Parser(dataclass_type, allow_abbrev=False, add_help=False, formatter_class=HelpFormatter)
