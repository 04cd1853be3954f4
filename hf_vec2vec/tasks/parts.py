"""Which rows a figure comes from: published splits, or parts of them."""

from ..data.corpora import LABEL
from ..data.labels import MISSING
from .base import Task
from .classification import ClassificationTask

# Rows of the published splits for training and for validation (of MNLI the matched one); GLUE and the Hub say so.
PUBLISHED = {
    "cola": (8_551, 1_043),
    "sst2": (67_349, 872),
    "mrpc": (3_668, 408),
    "stsb": (5_749, 1_500),
    "qqp": (363_846, 40_430),
    "mnli": (392_702, 9_815),
    "qnli": (104_743, 5_463),
    "rte": (2_490, 277),
    "wnli": (635, 71),
    "boolq": (9_427, 3_270),
    "squad": (87_599, 10_570),
    "squad_v2": (130_319, 11_873),
    "commonsense_qa": (9_741, 1_221),
    "social_iqa": (33_410, 1_954),
}

USED = {"train": "trained", "validation": "judged"}


def check_splits(task: Task, *splits: str, labels: bool = True) -> None:
    """Raise, before any work, if a task lacks splits, of `train` and `validation`, that the work needs.

    Args:
        task: of `load_task`.
        splits: names.
        labels: whether labels are needed, too; of classes, to train on, two at least.

    Raises:
        ValueError: then.
    """
    for split in splits:
        if split not in task.splits:
            raise ValueError(
                f"`task` {task.name!r} lacks the split {split!r}, on which models are {USED[split]}; it has "
                f"{list(task.splits)}. Add a file of that name, such as {split}.jsonl, to the folder of its data "
                "(`task_source`)."
            )
        if labels and not task.has_label(split).any():
            raise ValueError(
                f"`task` {task.name!r}: its split {split!r} has no labels, on which models are {USED[split]}, as published "
                "test sets have none. Give rows with labels (`task_source`)."
            )
        if labels and split == "train" and isinstance(task, ClassificationTask) and task.labels:
            present = sorted(set(task.rows(split)[LABEL][:]) - {MISSING})
            if len(present) == 1:
                raise ValueError(
                    f"`task` {task.name!r}: all rows of {split!r} that have a label are {task.labels[present[0]]!r}, so "
                    "that there is nothing to learn. Give rows of other classes, too; a label of -1 counts as none."
                )


def training_split(task: Task, split: str) -> str:
    """The split whose name begins with `train`, such as `train_part`; `split` itself where there is none.

    Raises:
        ValueError: if there are several.
    """
    found = [name for name in task.splits if name.startswith("train")]
    if len(found) > 1:
        raise ValueError(f"`train` must be one of {found}: {task.name!r} has several splits for training.")
    return found[0] if found else split


def part_of(task: Task, train: str, split: str, rows: dict[str, int]) -> str:
    """In what rows differ from the published splits, in words; empty where they are whole.

    Args:
        task: that has the splits.
        train: split that was trained on; the same as `split` where that was done in folds.
        split: that was judged.
        rows: of each, that were used.
    """
    published = dict(zip(("train", "validation"), PUBLISHED.get(task.name, ()), strict=False))
    found = []
    if train == split:
        found.append(f"fitted in folds of {split!r}, for there are no training rows")
    else:
        found.append(_share(rows[train], published.get("train", len(task.splits[train])), "training rows"))
    judged = published.get("validation") if split == "validation" else None
    found.append(_share(rows[split], judged or len(task.splits[split]), f"rows of {split!r}"))
    return "; ".join(filter(None, found))


def _share(used: int, whole: int, of: str) -> str:
    return "" if used == whole else f"{used:,} of {whole:,} {of}"


__all__ = ["PUBLISHED", "check_splits", "part_of", "training_split"]
