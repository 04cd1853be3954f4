"""Held-out pairs that `evaluate` and `report` measure a translator on: flags, and what they load."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from .checks import named_pair
from .columns import ColumnFlags
from .flags import TranslatorFlags, flag

if TYPE_CHECKING:
    from datasets import Dataset

    from ..model.modeling_vec2vec import Vec2VecModel

FEWEST = 3  # pairs: of two, each is the other's only wrong answer, and no oracle can be fitted


@dataclass(kw_only=True)
class PairFlags(TranslatorFlags, ColumnFlags):
    """Held-out pairs, and other pairs for the oracles."""

    title: ClassVar[str] = "pairs"

    source: str | None = flag("NAME=PATH: a space of the model, and vectors of held-out texts.", None)
    target: str | None = flag("NAME=PATH of the other; row i of both is the same text.", None)
    oracle_source: str | None = flag(
        "NAME=PATH: other pairs, to fit the paired oracles on; default: taken from the held-out ones.", None
    )
    oracle_target: str | None = flag("NAME=PATH: their other side.", None)
    seed: int = flag("Of everything random.", 0, minimum=0, maximum=2**32 - 1)

    def paths(self) -> tuple[dict[str, str], dict[str, str] | None]:
        """Paths of the pairs, and of the oracles' pairs if there are any, by the names of the spaces.

        Raises:
            FileNotFoundError: if there is nothing at one of them.
            ValueError: for a side that is missing, or names that do not agree.
        """
        for name in ("source", "target"):
            if getattr(self, name) is None:
                raise ValueError(f"`{name}` must be given: NAME=PATH, a space of the model and vectors of held-out texts.")
        assert self.source is not None
        assert self.target is not None
        pairs = named_pair(("source", "target"), (self.source, self.target))
        if (self.oracle_source is None) != (self.oracle_target is None):
            raise ValueError("`oracle_source` and `oracle_target` go together: give both or neither.")
        if self.oracle_source is None or self.oracle_target is None:
            return pairs, None
        oracles = named_pair(("oracle_source", "oracle_target"), (self.oracle_source, self.oracle_target))
        if set(oracles) != set(pairs):
            raise ValueError(f"`oracle_source` and `oracle_target` must name {list(pairs)}, got {list(oracles)}.")
        return pairs, oracles


def load_pairs(model: "Vec2VecModel", paths: dict[str, str], flags: PairFlags) -> "dict[str, Dataset]":
    """Vectors of both spaces, row by row the same texts.

    Raises:
        ValueError: for a space that the model does not know, vectors of another encoder than its, or too few pairs.
    """
    from ..data.files import load_embeddings
    from ..encoders.recorded import check_description

    for argument, name in zip(("source", "target"), paths, strict=True):
        if name not in model.config.spaces:
            raise ValueError(f"`{argument}` names {name!r}, which this model does not know. It has {model.config.spaces}.")
    columns = flags.columns(paths)
    loaded = {
        name: load_embeddings(path, argument=argument, **columns[name])
        for argument, (name, path) in zip(("source", "target"), paths.items(), strict=True)
    }
    check_ids(loaded, named=flags.id_column is not None)
    for name, data in loaded.items():
        check_description(model.config, name, data.info.description or "")
    if (rows := min(map(len, loaded.values()))) < FEWEST:
        raise ValueError(f"`source` and `target` hold {rows} pair(s); give at least {FEWEST}, better 1,000.")
    return loaded


def check_ids(pairs: "dict[str, Dataset]", *, named: bool) -> None:
    """Raise ValueError where ids say that row i of both sides is not the same text.

    Args:
        pairs: both sides.
        named: whether the user named the columns of ids: then they must be equal. Else sides may number their rows in ways
            of their own, but not hold the same ids in other orders.
    """
    from ..data.columns import ID

    known = {name: list(data[ID]) for name, data in pairs.items() if ID in data.column_names}
    if len(known) < 2:
        return
    (a, left), (b, right) = known.items()
    if len(left) != len(right) or left == right or not (named or set(left) == set(right)):
        return
    row = next(k for k, ids in enumerate(zip(left, right, strict=True)) if ids[0] != ids[1])
    raise ValueError(
        f"`source` and `target` must hold the same texts row by row, but row {row:,} has the id {left[row]!r} in {a!r} and "
        f"{right[row]!r} in {b!r}. Put both in one order."
    )
