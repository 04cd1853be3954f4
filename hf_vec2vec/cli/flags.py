"""How a command declares its flags: a dataclass whose fields carry their help, and their bounds."""

import os
from dataclasses import MISSING, dataclass, field
from typing import Any, ClassVar, Literal

from .checks import check_model

Pooling = Literal["mean", "cls", "last", "weighted_mean"]
# What tells other packages to show no bars; they read it when they are loaded, after the flags.
NO_BARS = dict.fromkeys(("TQDM_DISABLE", "HF_DATASETS_DISABLE_PROGRESS_BARS", "HF_HUB_DISABLE_PROGRESS_BARS"), "1")


@dataclass(frozen=True)
class Flag:
    """What a field's type and default do not tell.

    Args:
        help: a sentence or two.
        minimum: the least number allowed.
        maximum: the largest.
        above: a number that must be exceeded.
        may_be_empty: whether no text is a text.
        placeholder: of an argument that stands first on the line, without a name.
    """

    help: str
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    placeholder: str = ""
    may_be_empty: bool = False


def flag(help: str, default: Any = MISSING, **facts: Any) -> Any:
    """A field of a dataclass that is a flag of the line. Without a default it must be given; `facts`: see [`Flag`]."""
    metadata = {"flag": Flag(help, **facts)}
    if isinstance(default, list):
        return field(default_factory=default.copy, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(kw_only=True)
class Flags:
    """Flags that every command has.

    Attributes:
        given: names of the flags that stood on the line or in the file.
        others: words that are no flags of ours, of a command that passes them on.
    """

    title: ClassVar[str] = "every command"
    passes_on: ClassVar[bool] = False

    disable_tqdm: bool = flag("No progress bars. The variable TQDM_DISABLE=1 does the same.", False)
    debug: bool = flag("Show where in the code an error arose.", False)

    given: frozenset[str] = field(default=frozenset(), repr=False)
    others: list[str] = field(default_factory=list, repr=False)

    @property
    def progress(self) -> bool:
        """Whether to show bars."""
        return not self.disable_tqdm and os.environ.get("TQDM_DISABLE", "").lower() in ("", "0", "false")

    @classmethod
    def check_incomplete(cls, given: dict[str, Any]) -> None:
        """Raise for what no further flag would mend, before one is asked for that is missing."""

    def after_interrupt(self) -> str:
        """What of the work is kept after Ctrl-C, and how to go on."""
        return "Nothing was written."


@dataclass(kw_only=True)
class TranslatorFlags(Flags):
    """The translator that a command is about."""

    title: ClassVar[str] = "flags"

    folder: str = flag("Folder or Hub id of a translator.", placeholder="DIR")

    def check_folder(self) -> None:
        """Raise if this can be no translator; see `check_model`."""
        check_model("DIR", self.folder, ())

    @classmethod
    def check_incomplete(cls, given: dict[str, Any]) -> None:
        """As above."""
        if "folder" in given:
            check_model("DIR", given["folder"], ())


@dataclass(kw_only=True)
class DirectionFlags(TranslatorFlags):
    """One direction of a translator, and one of its maps."""

    title: ClassVar[str] = "flags"

    source: str = flag("Name of the space that the vectors come from.")
    target: str = flag("Name of the space to translate into.")
    map: Literal["auto", "linear", "full"] = flag(
        "Which of its two maps: full suits a store, linear suits queries that ask real vectors. auto: by `queries`.", "auto"
    )
    queries: bool = flag("The rows are queries: `map` auto takes the linear map, where there is one.", False)

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"`source` and `target` are both {self.source!r}; name two spaces of the translator.")


@dataclass(kw_only=True)
class EncoderFlags(Flags):
    """How an encoder makes vectors. What is not given, its own folder decides."""

    title: ClassVar[str] = "encoder"

    pooling: Pooling | None = flag("How token vectors become one; default: the model's own.", None)
    layer: int = flag("Hidden layer, 0 the embeddings, -1 the last.", -1)
    prompt_name: str | None = flag("One of the prompts that the model's folder names, such as query or document.", None)
    prompt: str | None = flag("Text put before each text; default: the model's own.", None, may_be_empty=True)
    max_length: int | None = flag("Tokens; the rest of a text is cut. Default: the model's own.", None, minimum=1)


@dataclass(kw_only=True)
class DeviceFlags(Flags):
    """Where an encoder runs, and whether its own code may."""

    title: ClassVar[str] = "machine"

    device: str | None = flag("For instance cpu or cuda; default: a GPU if there is one.", None)
    trust_remote_code: bool = flag("Run the code that a model's repository brings along.", False)
