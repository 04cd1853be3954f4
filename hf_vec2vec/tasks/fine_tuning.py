"""A model learns a task from its labels, by an adapter under the head that fits; and its vectors of the task's inputs."""

import copy
import tempfile
from collections.abc import Iterable
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, PeftConfig, get_peft_model
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase, Trainer, TrainingArguments, set_seed

from ..encoders.folders import model_folder
from ..encoders.pooling import is_decoder, pool, token_states
from .base import INPUTS, SPAN_HEAD, Task, TaskCollator, check_finite, check_lengths, map_batches, set_padding
from .question_answering import QuestionAnsweringTask

SomeConfig = TypeVar("SomeConfig", bound=PeftConfig)


def fine_tune(
    model: str,
    task: Task,
    peft_config: LoraConfig,
    *,
    train: str = "train",
    seed: int = 0,
    trust_remote_code: bool = False,
    **arguments: Any,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A model with the task's head, trained on its labels; the adapter is merged, so that anything can load the result.

    Args:
        model: short name of a bundled model, local folder or Hub id.
        task: of `load_task`.
        peft_config: the adapter. The new head is trained, too, see `adapter_for`.
        train: split to train on; rows without a label are left out.
        seed: of head, adapter and order.
        trust_remote_code: run the code that the model brings along.
        arguments: of `transformers.TrainingArguments`, but for `output_dir`.

    Returns:
        The model and its tokenizer.

    Raises:
        ValueError: for a split that there is not, or without any label; rows of more tokens than the model has places for;
            a training that diverged.
    """
    own = model_folder(model, trust_remote_code=trust_remote_code)
    tokenizer = AutoTokenizer.from_pretrained(own, trust_remote_code=trust_remote_code)
    set_seed(seed)
    loaded = task.load_model(model, trust_remote_code=trust_remote_code)
    set_padding(loaded, tokenizer)
    features = task.prepare(tokenizer, train)
    check_lengths(loaded, features)
    task.metrics_for(features, train)  # raises where all labels are hidden
    if not isinstance(task, QuestionAnsweringTask):
        features = features.select(np.flatnonzero(task.has_label(train)))  # of choices all are "wrong" where it is hidden
    adapted: Any = get_peft_model(loaded, adapter_for(loaded, task, peft_config))
    with tempfile.TemporaryDirectory() as folder:
        given: dict[str, Any] = {"save_strategy": "no", "report_to": "none", "remove_unused_columns": False}
        given |= {"label_names": ["labels"], "dataloader_pin_memory": torch.cuda.is_available()}
        trainer = Trainer(
            adapted,
            TrainingArguments(folder, **(given | arguments), seed=seed),
            data_collator=TaskCollator(tokenizer),
            train_dataset=features,
        )
        trainer.model_accepts_loss_kwargs = False  # heads take what is passed on, and scale nothing by it
        trainer.train()
    check_finite(adapted)
    return adapted.merge_and_unload(), tokenizer


def adapter_for(model: PreTrainedModel, task: Task, peft_config: LoraConfig) -> LoraConfig:
    """A copy of an adapter's config, under which the new head of a task is trained as a whole."""
    spans = isinstance(task, QuestionAnsweringTask)
    copied = with_whole_head(model, peft_config)
    copied.task_type = "QUESTION_ANS" if spans else "SEQ_CLS"
    if spans and copied.exclude_modules is None:
        copied.exclude_modules = [SPAN_HEAD]  # which peft, unlike other heads, would count among all linear layers
    return copied


def with_whole_head(model: PreTrainedModel, peft_config: SomeConfig) -> SomeConfig:
    """A copy of an adapter's config, under which all that stands beside a model's body is trained, and saved with it.

    By itself peft knows `classifier` and `score`, but not what some models put between body and classes (DistilBERT's
    `pre_classifier`, on which it fails, DeBERTa's `pooler`).
    """
    copied: Any = copy.deepcopy(peft_config)
    parts = {name.split(".")[0] for name, _ in model.named_parameters()}
    beside = parts - {model.base_model_prefix} if model.base_model_prefix in parts else set()
    copied.modules_to_save = sorted(beside.union(copied.modules_to_save or ()))
    return copied


def input_vectors(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    features: Dataset,
    *,
    batch_size: int = 32,
    progress: bool = True,
    bf16: bool = False,
) -> Tensor:
    """The vectors alone that `read_inputs` gives."""
    return read_inputs(model, tokenizer, features, batch_size=batch_size, progress=progress, bf16=bf16)[0]


def read_inputs(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    features: Dataset,
    *,
    batch_size: int = 32,
    progress: bool = True,
    bf16: bool = False,
) -> tuple[Tensor, Tensor | None]:
    """A vector of each of a task's inputs, pairs read together, and what the head says of it.

    Args:
        model: a model of transformers, with or without a head and an adapter.
        tokenizer: its own.
        features: of `task.prepare`, one row an input.
        batch_size: rows at a time.
        progress: show a bar.
        bf16: run the model in bfloat16.

    Returns:
        The means of the last layer's states, `(n, d)`, of an encoder-decoder its encoder's; and logits, `(n, outputs)`, if
        there is a head for classes or scores.

    Raises:
        ValueError: for rows of more tokens than the model has places for.
    """
    check_lengths(model, features)

    def step(batch: dict[str, Tensor]) -> Iterable[tuple[np.ndarray, np.ndarray | None]]:
        inputs = {name: values for name, values in batch.items() if name in INPUTS}
        with torch.autocast(model.device.type, torch.bfloat16, enabled=bf16):
            found = model(**inputs, output_hidden_states=True)
        states = token_states(found)[-1].float()
        rows = pool(states, batch["attention_mask"], "mean", is_decoder(model.config.model_type)).cpu().numpy()
        said = found["logits"].float().cpu().numpy() if "logits" in found else [None] * len(rows)
        return zip(rows, said, strict=True)

    training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            found = map_batches(step, features, TaskCollator(tokenizer), batch_size, model.device, progress)
    finally:
        model.train(training)
    rows, said = zip(*found, strict=True)
    logits = None if said[0] is None else torch.from_numpy(np.stack(said))
    return torch.from_numpy(np.stack(rows)), logits


__all__ = ["adapter_for", "fine_tune", "input_vectors", "read_inputs", "with_whole_head"]
