"""Texts with teacher vectors, as the student's batches."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import pyarrow as pa
import torch
from datasets import ClassLabel, Dataset, IterableDataset, concatenate_datasets
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from ..data.columns import EMBEDDING, TEXT, vectors
from ..encoders.text import TextEncoder, embed
from ..tasks.base import INPUTS, first_of_pair
from ..tasks.labels import output_names
from .arguments import DistillationTrainingArguments
from .spans import word_spans

LABEL, LABELS = "label", "labels"  # a teacher's vector (as sentence-transformers has it), the class of a task
PAIR = "text_pair"  # the second text, of tasks with two
IGNORED = -100  # in place of a class: cross-entropy leaves such rows out
SOFT_LABELS = "soft_labels"  # a teacher's logits of the task's classes


def label_column(space: str, spaces: list[str]) -> str:
    """Column of a teacher's vectors: `label`, or `label_SPACE` where there are several teachers."""
    return LABEL if len(spaces) == 1 else f"{LABEL}_{space}"


def check_texts(data: Dataset | IterableDataset, name: str) -> None:
    """Raise, before anything is computed, if a data set has no texts or empty ones; `name` is the argument's.

    Of a stream only the first row is looked at; the others are checked as they come.

    Raises:
        ValueError: for a missing column, no rows or an empty text.
    """
    if isinstance(data, IterableDataset):
        data = Dataset.from_list(list(data.take(1)))
    if len(data) == 0:
        raise ValueError(f"`{name}` has no rows.")
    if TEXT not in data.column_names:
        raise ValueError(f"`{name}` has the columns {data.column_names}; the student reads the column '{TEXT}'.")
    columns = [TEXT, PAIR] if PAIR in data.column_names else [TEXT]
    _refuse_empty(zip(*(data[column] for column in columns), strict=True), name)


def _refuse_empty(rows: Iterable[tuple[str | None, ...]], name: str, first_row: int = 0) -> None:
    """Of pairs one text may be empty, as in QQP: both are read together."""
    empty = [i for i, texts in enumerate(rows, start=first_row) if not any(text and text.strip() for text in texts)]
    if empty:
        raise ValueError(f"`{name}` has {len(empty)} empty text(s), the first in row {empty[0]}. Drop them.")


def with_teacher_vectors(data: Dataset, teachers: Mapping[str, TextEncoder]) -> Dataset:
    """Add the vectors of every teacher, computed once and cached (see `hf_vec2vec.embed`); it resumes."""
    if PAIR in data.column_names:
        raise ValueError(f"`teacher` is asked for single texts, and the data have the column {PAIR!r}: pass its vectors.")
    for space, encoder in teachers.items():
        rows = embed(list(data[TEXT]), encoder).select_columns(EMBEDDING)
        data = concatenate_datasets([data, rows.rename_column(EMBEDDING, label_column(space, list(teachers)))], axis=1)
    return data


def ready(
    data: Dataset | IterableDataset,
    name: str,
    *,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillationTrainingArguments,
    config: PreTrainedConfig,
    teachers: Mapping[str, TextEncoder],
    teacher_dims: dict[str, int | None],
) -> Dataset | IterableDataset:
    """A data set as the trainer reads it: checked, with teacher vectors and tokens.

    Args:
        data, name, tokenizer, args, teacher_dims: see [`prepare`].
        config: the student's.
        teachers: encoders that make the vectors, if any are to be columns.

    Raises:
        ValueError: see [`prepare`] and [`check_rows`]; also for a stream whose vectors should have been made before.
    """
    check_rows(data, name, config, args)
    if teachers and teacher_dims:
        if isinstance(data, IterableDataset):
            raise ValueError(
                f"`{name}` is a stream, but `train_dataset` is none, and of its texts `teacher` makes vectors once, before "
                "training. Give both as streams or neither, or set `cache_teacher` to False."
            )
        data = with_teacher_vectors(data, teachers)
    return prepare(data, name, tokenizer, args, teacher_dims)


def is_ready(data: Dataset | IterableDataset) -> bool:
    """Whether a data set came out of [`ready`], or is a part of one that did."""
    return isinstance(data, Dataset) and "input_ids" in data.column_names


def prepare(
    data: Dataset | IterableDataset,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillationTrainingArguments,
    teacher_dims: dict[str, int | None],
) -> Dataset | IterableDataset:
    """Check a data set's columns and cut its texts into tokens; of a stream as its rows come.

    Args:
        data: with the column `text`; teacher vectors in `label` (`label_SPACE`), the class of a task in `labels`.
        name: of the argument, for errors.
        tokenizer: the student's.
        args: of the trainer.
        teacher_dims: expected dimension of each teacher whose vectors are columns, `None` if any will do.

    Raises:
        ValueError: for a missing column, a text without tokens, or vectors of another dimension.
    """
    columns = {label_column(space, list(teacher_dims)): dim for space, dim in teacher_dims.items()}
    streamed = isinstance(data, IterableDataset)
    names = list(next(iter(data))) if streamed else data.column_names
    _check_columns(names, name, columns, args)
    if PAIR in names and (args.span_words or args.logit_weight or (args.distils and not columns)):
        raise ValueError(
            f"`{name}` has the column {PAIR!r}: the teacher's vectors of pairs must be columns, and `span_words` and "
            "`logit_weight` read single texts."
        )
    kept = [TEXT, *([PAIR] if PAIR in names else []), *columns, *([LABELS] if args.task_weight else [])]
    kept += [SOFT_LABELS] if args.soft_label_weight and SOFT_LABELS in names else []
    data = data.select_columns(kept)
    if not streamed:
        if name == "train_dataset":
            _check_batch(args, name, len(data))
        for column, dim in columns.items():
            vectors(data.select_columns(column).rename_column(column, EMBEDDING), f"{name}: {column}", dim)  # checks them
    read = partial(_read_rows, name=name, tokenizer=tokenizer, args=args, columns=columns if streamed else {})
    if streamed:
        return data.map(read, batched=True, with_indices=True).with_format("torch")
    # A fingerprint of our own, for a tokenizer's hash changes with its use and the cache would never be hit.
    key = [
        data._fingerprint,
        tokenizer.name_or_path,
        _rules(tokenizer),
        args.prompt,
        args.max_length,
        args.span_words,
        PAIR in names,
    ]
    fingerprint = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    tokens = data.map(read, batched=True, with_indices=True, desc="tokenize", new_fingerprint=fingerprint)
    return tokens.with_format("torch")


def check_rows(
    data: Dataset | IterableDataset, name: str, config: PreTrainedConfig, args: DistillationTrainingArguments
) -> None:
    """Raise, before anything is computed, for texts or classes that cannot be learned; `name` is the argument's."""
    if not isinstance(data, Dataset | IterableDataset):
        kind = f"{type(data).__name__} of {list(data)}" if isinstance(data, Mapping) else type(data).__name__
        raise ValueError(f"`{name}` must be one data set, a `datasets.Dataset` or `IterableDataset`, got a {kind}.")
    check_texts(data, name)
    if args.task_weight:
        _check_classes(data, name, config)


def _check_classes(data: Dataset | IterableDataset, name: str, config: PreTrainedConfig) -> None:
    """Raise a ValueError if the classes in the column `labels` are not those of the student's head, by number or by name."""
    feature, count = (data.features or {}).get(LABELS), config.num_labels or 1
    own = output_names(config)
    if isinstance(feature, ClassLabel) and own != [f"LABEL_{i}" for i in range(count)] and own != feature.names:
        raise ValueError(
            f"`{name}` numbers its classes as {feature.names}, and the student's head as {own}. Cast the column "
            f"'{LABELS}', or load the student with these `labels`."
        )
    if count == 1 or isinstance(data, IterableDataset) or LABELS not in data.column_names:
        return
    found = np.asarray(data.with_format(None)[LABELS][:], dtype=object)
    right = [isinstance(x, int) and not isinstance(x, bool) and (0 <= x < count or x == IGNORED) for x in found]
    if found.ndim == 1 and not all(right):
        row = right.index(False)
        raise ValueError(
            f"`{name}` has in the column '{LABELS}' {found[row]!r} in row {row:,}; the student's head has {count} classes, "
            f"numbered from 0, and {IGNORED} stands for no label."
        )
    if found.ndim == 1 and (found == IGNORED).all():
        raise ValueError(f"`{name}` has no label: all are {IGNORED}.")


def _rules(tokenizer: PreTrainedTokenizerBase) -> str:
    """What a tokenizer makes of texts depends on, and not on what it was used for last."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:  # written in Python
        return repr((type(tokenizer), sorted(tokenizer.get_vocab().items()), tokenizer.truncation_side))
    rules = json.loads(backend.to_str()) | {"truncation": None, "padding": None}
    return json.dumps([rules, tokenizer.truncation_side])


def _check_batch(args: DistillationTrainingArguments, name: str, rows: int) -> None:
    """Raise if no batch is full and those that are not are left out, so that nothing would be trained."""
    if args.dataloader_drop_last and rows < args.train_batch_size * args.world_size:
        raise ValueError(
            f"`dataloader_drop_last` leaves out batches that are not full, and `{name}` has {rows:,} rows, fewer than one "
            f"of {args.train_batch_size * args.world_size:,}. Take a smaller `per_device_train_batch_size`."
        )


def _check_columns(
    found: list[str], name: str, columns: Mapping[str, int | None], args: DistillationTrainingArguments
) -> None:
    for column in columns:
        if column not in found:
            raise ValueError(
                f"`{name}` has the columns {found}; the vectors of the teacher go into {column!r}. Add them, or pass "
                "`teacher`, an encoder that makes them."
            )
    if args.task_weight and LABELS not in found:
        raise ValueError(f"`task_weight` is {args.task_weight}, but `{name}` has no column '{LABELS}': {found}.")
    if args.soft_label_weight and name == "train_dataset" and SOFT_LABELS not in found:
        raise ValueError(
            f"`soft_label_weight` is {args.soft_label_weight}, but `{name}` has no column '{SOFT_LABELS}': {found}."
        )


def _read_rows(
    batch: dict[str, list],
    indices: list[int],
    *,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillationTrainingArguments,
    columns: Mapping[str, int | None],
) -> dict[str, list]:
    """The tokens of a batch of rows, whose texts and, in `columns`, vectors are checked."""
    _refuse_empty(zip(*(batch[column] for column in (TEXT, PAIR) if column in batch), strict=True), name, indices[0])
    for column, dim in columns.items():
        table = pa.table({EMBEDDING: batch[column]})
        vectors(table, f"{name}: {column}, rows from {indices[0]:,}", dim)
    texts, pairs = [args.prompt + text for text in batch[TEXT]], batch.get(PAIR)
    found = tokenizer(
        texts if pairs is None else first_of_pair(tokenizer, texts),
        pairs,
        truncation=True,
        max_length=args.max_length,
        return_offsets_mapping=args.span_words > 0,
        return_token_type_ids=False if pairs is None else None,  # what tells two texts apart, where a model has it
    )
    lengths = [sum(mask) for mask in found["attention_mask"]]
    if 0 in lengths:
        raise ValueError(f"`{name}` has a text without any token in row {indices[lengths.index(0)]}. Drop it.")
    return dict(found)


def evenly_spaced(data: Dataset, count: int) -> list[dict]:
    """At most so many rows, from all over the data."""
    return [data[i] for i in range(0, len(data), -(-len(data) // count))]


@dataclass
class DistillationCollator:
    """Rows to a batch, padded on the right.

    Args:
        tokenizer: the student's.
        spaces: of teachers whose vectors are columns.
        args: of the trainer.
    """

    tokenizer: PreTrainedTokenizerBase
    spaces: list[str]
    args: DistillationTrainingArguments

    def __call__(self, features: list[dict]) -> dict:
        """A batch: `inputs` of the student, `teacher` vectors by space, `texts`, `labels`, and spans if there are any."""
        inputs = self.tokenizer.pad(
            {key: [f[key].tolist() for f in features] for key in INPUTS if key in features[0]},
            padding_side="right",
            return_tensors="pt",
        )
        batch = {"inputs": dict(inputs), "texts": [f[TEXT] for f in features]}
        batch["teacher"] = {
            space: torch.stack([f[label_column(space, self.spaces)] for f in features]).float() for space in self.spaces
        }
        for column in (LABELS, SOFT_LABELS):
            if column in features[0]:
                batch[column] = torch.stack([f[column] for f in features])
        if self.args.span_words:
            batch["offsets"] = pad_offsets([f["offset_mapping"] for f in features])
            shift = len(self.args.prompt)
            batch["spans"] = [
                [(start + shift, end + shift) for start, end in word_spans(text, self.args.span_words)]
                for text in batch["texts"]
            ]
        return batch


def pad_offsets(offsets: list[Tensor]) -> Tensor:
    """Characters of every text's tokens, `(tokens, 2)` each, as `(n, most tokens, 2)`; padding has none."""
    return torch.nn.utils.rnn.pad_sequence(offsets, batch_first=True)


__all__ = [
    "LABEL",
    "LABELS",
    "PAIR",
    "SOFT_LABELS",
    "DistillationCollator",
    "check_rows",
    "check_texts",
    "evenly_spaced",
    "is_ready",
    "label_column",
    "pad_offsets",
    "prepare",
    "ready",
    "with_teacher_vectors",
]
