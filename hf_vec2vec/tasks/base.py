"""What all tasks share: splits, padded batches, a model's outputs row by row."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, cast

import numpy as np
import torch
from datasets import Dataset, DatasetDict
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import AutoConfig, AutoModel, EvalPrediction, PretrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from ..data.progress import progress_bar
from ..encoders.folders import check_whole, model_folder, opening, places
from ..encoders.memory import in_batches
from ..encoders.pooling import has_decoder
from ..model.checkpoint_vec2vec import not_finite

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
NO_LABELS = np.empty(0)  # `metrics_for` has them from the features
TARGETS = ("labels", "start_positions", "end_positions")
SPAN_HEAD = "qa_outputs"  # its name in all models of transformers


@dataclass(frozen=True)
class Task:
    """Labelled data, how a model reads them, and how its answers are scored.

    Args:
        name: for tables.
        splits: rows in the schema of the published data set, by the name of the split.
        unlabelled: how many rows of a split were left out, since they have no label.

    Attributes:
        head: the `AutoModel...` class that a model for the task is loaded with.
        default_length: tokens of a row, where no `max_length` is given.
        outputs: what the head gives for each row, and metrics are made of.
    """

    name: str
    splits: DatasetDict
    unlabelled: Mapping[str, int] = field(default_factory=dict, kw_only=True)

    head: ClassVar[Any]
    default_length: ClassVar[int]
    outputs: ClassVar[tuple[str, ...]] = ("logits",)

    def rows(self, split: str) -> Dataset:
        """Rows of one split.

        Raises:
            ValueError: for a split that there is not.
        """
        if split not in self.splits:
            raise ValueError(f"`split` must be one of {list(self.splits)}, got {split!r}.")
        return self.splits[split]

    def length(self, max_length: int | None) -> int:
        """Tokens of a row: `max_length`, or the task's own.

        Raises:
            ValueError: for fewer than one.
        """
        if max_length is not None and max_length < 1:
            raise ValueError(f"`max_length` must be at least 1 token, got {max_length}.")
        return max_length or self.default_length

    def head_arguments(self, config: PretrainedConfig | None = None) -> dict[str, Any]:
        """What `head.from_pretrained` has to know of the task; `config` is that of the checkpoint."""
        return {}

    def load_model(self, model: str, *, trust_remote_code: bool = False) -> PreTrainedModel:
        """A model with the task's head, which is new unless the checkpoint has one.

        Args:
            model: short name of a bundled model, local folder or Hub id. Only safetensors are read.
            trust_remote_code: run the code that a checkpoint brings along.

        Raises:
            ValueError: if the checkpoint has a head for other classes than the task's, or lacks weights below it.
        """
        folder = model_folder(model, trust_remote_code=trust_remote_code)
        return self.load_head(folder, trust_remote_code=trust_remote_code)[0]

    def load_head(self, folder: Path, *, trust_remote_code: bool = False) -> tuple[PreTrainedModel, set[str]]:
        """The model of a folder with the task's head, and the names of weights that are new: the head's, if any.

        Raises:
            ValueError: as `load_model`.
        """
        options = {"dtype": torch.float32, "use_safetensors": True, "trust_remote_code": trust_remote_code}
        with opening(folder):
            config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        arguments = self.head_arguments(config)
        with opening(folder):
            loaded, report = self.head.from_pretrained(folder, output_loading_info=True, **options, **arguments)
        missing = set(report["missing_keys"])
        place = f"{loaded.base_model_prefix}."
        body = getattr(loaded, loaded.base_model_prefix, None)
        if body is not None and all(f"{place}{name}" in missing for name, _ in body.named_parameters()):
            # Transformers names the body of some heads (LlamaForQuestionAnswering) otherwise than the checkpoints of the
            # family do, finds nothing, and leaves it random.
            whole, report = AutoModel.from_pretrained(folder, output_loading_info=True, **options)
            check_whole(folder, whole, report["missing_keys"])
            body.load_state_dict(whole.state_dict())
            missing = {name for name in missing if not name.startswith(place)}
        if has_decoder(loaded.config) and (lost := sorted(name for name in missing if "decoder" in name)):
            raise ValueError(
                f"`model` folder {str(folder)!r} holds an encoder without the decoder that a {type(loaded).__name__} reads "
                f"({lost[0]!r} is missing), which would be random. Take the whole model, or one of another family."
            )
        check_whole(folder, loaded, missing, unused=(SPAN_HEAD,))  # T5's stands beside encoder and decoder
        return loaded, missing

    def prepare(self, tokenizer: PreTrainedTokenizerBase, split: str, max_length: int | None = None) -> Dataset:
        """Features of one split, for a `Trainer` and for `metrics_for`. Nothing is padded; `TaskCollator` does that.

        Args:
            tokenizer: the model's.
            split: name of the split.
            max_length: tokens of a row; default: the task's `default_length`.

        Raises:
            ValueError: for a split that there is not, or a `max_length` that leaves no room for the text.
        """
        # Functions that `Dataset.map` runs do not refer to `self`: what they refer to is hashed, and splits may be large.
        raise NotImplementedError

    def metrics_for(self, features: Dataset, split: str) -> Callable[[EvalPrediction], dict[str, float]] | None:
        """The `compute_metrics` of a `Trainer` that evaluates on `features`, which `prepare` made of `split`.

        Raises:
            ValueError: if the split's labels are hidden, as those of published test sets.
        """
        raise NotImplementedError

    def has_label(self, split: str) -> np.ndarray:
        """Which rows of a split have a label, `(n,)`.

        Raises:
            ValueError: for a split that there is not.
        """
        raise NotImplementedError

    def labelled(self, split: str) -> np.ndarray:
        """The same of a split that must have labels.

        Raises:
            ValueError: also if no row has one.
        """
        return self.known(split, self.has_label(split))

    def known(self, split: str, labelled: np.ndarray) -> np.ndarray:
        """`labelled`, `(n,)`, checked: which rows have a label.

        Raises:
            ValueError: if no row has one, as in published test sets.
        """
        if not labelled.any():
            raise ValueError(
                f"`split` {split!r} of {self.name!r} has no labels, as published test sets have none: there is nothing to "
                "compare with. Take another split."
            )
        return labelled

    def unlabelled_rows(self, split: str, known: np.ndarray) -> dict[str, float]:
        """`{"unlabelled": rows}` that are left out of a split's figures, or nothing."""
        count = int((~known).sum()) + self.unlabelled.get(split, 0)
        return {"unlabelled": count} if count else {}

    def in_task_order(self, model: PreTrainedModel, logits: np.ndarray) -> np.ndarray:
        """A model's logits, one row an example, as `metrics_for` wants them."""
        return logits

    def evaluate(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        batch_size: int,
        max_length: int | None,
        progress: bool,
    ) -> dict[str, float]:
        """Figures of a model that is in evaluation mode. `evaluate_task` is what calls it."""
        features = self.prepare(tokenizer, split, max_length)
        check_lengths(model, features)
        score = cast(Callable, self.metrics_for(features, split))  # tasks without one have an `evaluate` of their own

        def step(batch: dict[str, Tensor]) -> Iterable[tuple[np.ndarray, ...]]:
            found = model(**{name: values for name, values in batch.items() if name in INPUTS})
            if any(name not in found or found[name].ndim != 2 for name in self.outputs):
                raise ValueError(
                    f"`model` is a {type(model).__name__}, whose outputs {list(found)} are no answers to {self.name!r}: "
                    f"load it with {self.head.__name__}, or `task.load_model`."
                )
            return zip(*(found[name].float().cpu().numpy() for name in self.outputs), strict=True)

        rows = map_batches(step, features, TaskCollator(tokenizer), batch_size, model.device, progress)
        predictions = tuple(zip(*rows, strict=True))
        if len(predictions) > 1:
            return score(EvalPrediction(cast(Any, predictions), NO_LABELS))
        return score(EvalPrediction(self.in_task_order(model, np.stack(predictions[0])), NO_LABELS))


class TaskCollator:
    """Pads features of any task to the longest of a batch, and drops the columns that no model reads.

    Attention masks are padded with 0 and token labels with -100, so that padding counts nowhere, whatever token it is. That
    is why a tokenizer without a padding token, as those of many causal language models, is padded with its end token.

    Args:
        tokenizer: the model's.
        side: of the padding; `"left"` for generation.

    Raises:
        ValueError: if the tokenizer has neither a padding nor an end token.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, side: str = "right"):
        self.side = side
        self.padding = {"input_ids": padding_id(tokenizer), "attention_mask": 0, "token_type_ids": 0, "labels": -100}

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        """A batch: `(n, tokens)`, of multiple choice `(n, choices, tokens)`; one label or position a row `(n,)`."""
        return {name: self._column(name, [row[name] for row in rows]) for name in (*INPUTS, *TARGETS) if name in rows[0]}

    def _column(self, name: str, values: list) -> Tensor:
        if not isinstance(values[0], list):
            return torch.tensor(values)
        if isinstance(values[0][0], list):
            flat = self._column(name, [tokens for choices in values for tokens in choices])
            return flat.unflatten(0, (len(values), -1))
        tensors = [torch.tensor(value) for value in values]
        return pad_sequence(tensors, batch_first=True, padding_value=self.padding[name], padding_side=self.side)


def padding_id(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token to pad with: the padding token, else the end token."""
    found = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    if found is None:
        raise ValueError("`tokenizer` has neither a padding nor an end token; set `tokenizer.pad_token`.")
    return found


def set_padding(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Give both the same padding token, the tokenizer's own or its end token.

    A classification head on a causal language model finds the end of each text as the last token that is no padding.

    Raises:
        ValueError: if the tokenizer has neither token, or for a head that reads padding.
    """
    check_head(model)
    if tokenizer.pad_token_id is None:
        padding_id(tokenizer)  # there is an end token
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id


def check_head(model: nn.Module) -> None:
    """Raise a ValueError for a head that reads the last place of a row, as XLNet's: in a batch it may be padding."""
    if hasattr(model, "sequence_summary") and cast(Any, model.config).summary_type == "last":
        raise ValueError(
            f"`model` is a {type(model).__name__}, whose head reads the last place of a row, in a batch maybe padding: "
            "its answers would depend on the batch. Take a model of another family."
        )


def check_finite(model: nn.Module) -> None:
    """Raise a ValueError if weights are NaN or infinite: such a model answers, too, and is right by chance."""
    if broken := not_finite(model.state_dict()):
        raise ValueError(
            f"`model` has weights that are NaN or infinite ({broken[0]}). Its training has diverged (lower "
            "`learning_rate`), or its files are damaged."
        )


def check_lengths(model: PreTrainedModel, features: Dataset, written: int = 0) -> None:
    """Raise a ValueError if rows, and so many tokens `written` behind them, are more than a model has places for."""
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None)  # some have none, XLNet has -1
    known = [number for number in (limit, places(model)) if number is not None and number > 0]
    found = max(_tokens(ids) for ids in features["input_ids"])
    if known and found + written > min(known):
        longest = f"{found} and its answer may have {written}" if written else found
        raise ValueError(
            f"`model` reads {min(known)} tokens at most, and the longest row has {longest}: give a smaller `max_length`, or "
            "take a model of longer texts."
        )


def _tokens(ids: list) -> int:
    """How long a row is, or the longest choice of it."""
    return max(map(len, ids)) if isinstance(ids[0], list) else len(ids)


def map_batches(
    step: Callable[[dict[str, Tensor]], Iterable],
    features: Dataset,
    collator: TaskCollator,
    batch_size: int,
    device: torch.device,
    progress: bool,
) -> list:
    """What `step(batch)` gives for each row, in the order of `features`. Like lengths go together, the longest first.

    Batches that do not fit into memory are halved.
    """
    features = features.select_columns([name for name in INPUTS + TARGETS if name in features.column_names])
    lengths = [_tokens(ids) for ids in features["input_ids"]]
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    results: list = [None] * len(order)

    def run(picked: Sequence[int]) -> list:
        batch = collator([features[i] for i in picked])
        return list(step({name: values.to(device) for name, values in batch.items()}))

    with progress_bar(total=len(order), desc="evaluate", unit="row", shown=progress) as bar:
        for picked, found in in_batches(run, order, batch_size):
            for i, result in zip(picked, found, strict=True):
                results[i] = result
            bar.update(len(picked))
    return results


def first_of_pair(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str]) -> list[str]:
    """First texts of pairs. Tokenizers without a separator, as those of language models, would run two texts together."""
    return [text if tokenizer.sep_token else f"{text}\n" for text in texts]


def check_offsets(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise a ValueError if the tokenizer cannot say where in a text its tokens lie."""
    if not tokenizer.is_fast:
        raise ValueError(
            f"`tokenizer` is a {type(tokenizer).__name__}, which gives no offsets; load one that has a tokenizer.json."
        )


def refuse_without_tokens(ids: Sequence[Sequence], rows: Sequence[int], name: str, split: str) -> None:
    """Raise a ValueError if a text, or a choice, of a task became no token, as an empty one where none are added.

    Args:
        ids: tokens, or the tokens of each choice, a row each.
        rows: their numbers in the split.
        name: of the task.
        split: name.
    """
    empty = [row for row, found in zip(rows, ids, strict=True) if not found or [] in found]
    if empty:
        raise ValueError(
            f"`split` {split!r} of {name!r}: row {empty[0]} has an empty text, of which the tokenizer makes no token. Drop "
            "such rows, or take a model whose tokenizer adds special tokens."
        )


def evaluate_task(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    split: str = "validation",
    *,
    batch_size: int = 32,
    max_length: int | None = None,
    progress: bool = True,
) -> dict[str, float]:
    """The official figures of a model on a task.

    Both get the same padding token (see `set_padding`). The model stays on its device.

    Args:
        model: with the head that the task needs, as `task.load_model` gives it; with PEFT adapters or without.
        tokenizer: the model's.
        task: of `load_task`.
        split: name of one of `task.splits`.
        batch_size: rows at a time; of SQuAD windows, of likelihoods choices.
        max_length: tokens of a row; default: the task's.
        progress: show a bar.

    Returns:
        GLUE and multiple choice: fractions. SQuAD: percent, as its official script has it.

    Raises:
        ValueError: for a model without the right head or with weights that are not finite, hidden labels, a tokenizer that
            cannot do what the task needs, or a split that there is not or that has no rows.
    """
    if not len(task.rows(split)):
        raise ValueError(
            f"`split` {split!r} of {task.name!r} has no rows: there is nothing to evaluate. Take another split."
        )
    check_finite(model)
    set_padding(model, tokenizer)
    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            return task.evaluate(model, tokenizer, split, batch_size=batch_size, max_length=max_length, progress=progress)
    finally:
        model.train(training)
