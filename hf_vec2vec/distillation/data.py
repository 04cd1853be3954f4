"""Texts with teacher vectors, as the student's batches."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ..data.columns import EMBEDDING, TEXT, vectors
from ..encoders.text import TextEncoder, embed
from .arguments import DistillationTrainingArguments
from .spans import word_spans

LABEL, LABELS = "label", "labels"  # a teacher's vector (as sentence-transformers has it), the class of a task


def label_column(space: str, spaces: list[str]) -> str:
    """Column of a teacher's vectors: `label`, or `label_SPACE` where there are several teachers."""
    return LABEL if len(spaces) == 1 else f"{LABEL}_{space}"


def check_texts(data: Dataset, name: str) -> None:
    """Raise, before anything is computed, if a data set has no texts or empty ones; `name` is the argument's.

    Raises:
        ValueError: for a missing column, no rows or an empty text.
    """
    if TEXT not in data.column_names:
        raise ValueError(f"`{name}` has the columns {data.column_names}; the student reads the column '{TEXT}'.")
    if len(data) == 0:
        raise ValueError(f"`{name}` has no rows.")
    empty = [i for i, text in enumerate(data[TEXT]) if text is None or not text.strip()]
    if empty:
        raise ValueError(f"`{name}` has {len(empty)} empty text(s), the first in row {empty[0]}. Drop them.")


def with_teacher_vectors(data: Dataset, teachers: Mapping[str, TextEncoder]) -> Dataset:
    """Add the vectors of every teacher, computed once and cached (see `hf_vec2vec.embed`); it resumes."""
    for space, encoder in teachers.items():
        rows = embed(list(data[TEXT]), encoder).select_columns(EMBEDDING)
        data = concatenate_datasets([data, rows.rename_column(EMBEDDING, label_column(space, list(teachers)))], axis=1)
    return data


def prepare(
    data: Dataset,
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    args: DistillationTrainingArguments,
    teacher_dims: dict[str, int | None],
) -> Dataset:
    """Check a data set's columns and cut its texts into tokens.

    Args:
        data: with the column `text`; teacher vectors in `label` (`label_SPACE`), the class of a task in `labels`.
        name: of the argument, for errors.
        tokenizer: the student's.
        args: of the trainer.
        teacher_dims: expected dimension of each teacher whose vectors are columns, `None` if any will do.

    Raises:
        ValueError: for a missing column, a text without tokens, or vectors of another dimension.
    """
    kept = [TEXT]
    for space, dim in teacher_dims.items():
        column = label_column(space, list(teacher_dims))
        if column not in data.column_names:
            raise ValueError(
                f"`{name}` has the columns {data.column_names}; the vectors of teacher {space!r} go into {column!r}. Add "
                "them, or pass `teacher`, an encoder that makes them."
            )
        vectors(data.select_columns(column).rename_column(column, EMBEDDING), f"{name}: {column}", dim)  # checks them
        kept.append(column)
    if args.task_weight:
        if LABELS not in data.column_names:
            raise ValueError(
                f"`task_weight` is {args.task_weight}, but `{name}` has no column '{LABELS}': {data.column_names}."
            )
        kept.append(LABELS)

    def tokenize(batch: dict) -> dict:
        found = tokenizer(
            [args.prompt + text for text in batch[TEXT]],
            truncation=True,
            max_length=args.max_length,
            return_offsets_mapping=args.span_words > 0,
            return_token_type_ids=False,
        )
        return dict(found)

    # A fingerprint of our own, for a tokenizer's hash changes with its use and the cache would never be hit.
    data = data.select_columns(kept)
    key = [data._fingerprint, tokenizer.name_or_path, len(tokenizer), args.prompt, args.max_length, args.span_words]
    tokens = data.map(
        tokenize, batched=True, desc="tokenize", new_fingerprint=hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    )
    lengths = [sum(mask) for mask in tokens["attention_mask"]]
    if 0 in lengths:
        raise ValueError(f"`{name}` has a text without any token in row {lengths.index(0)}. Drop it.")
    return tokens.with_format("torch")


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
            {key: [f[key].tolist() for f in features] for key in ("input_ids", "attention_mask")},
            padding_side="right",
            return_tensors="pt",
        )
        batch = {"inputs": dict(inputs), "texts": [f[TEXT] for f in features]}
        batch["teacher"] = {
            space: torch.stack([f[label_column(space, self.spaces)] for f in features]).float() for space in self.spaces
        }
        if LABELS in features[0]:
            batch[LABELS] = torch.stack([f[LABELS] for f in features])
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
    "DistillationCollator",
    "check_texts",
    "label_column",
    "pad_offsets",
    "prepare",
    "with_teacher_vectors",
]
