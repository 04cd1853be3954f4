"""SQuAD and CommonsenseQA by a causal language model as it is: it writes the answer, or says which choice it expects."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from torch.nn import functional as F
from transformers import (
    AutoModelForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    StoppingCriteria,
    StoppingCriteriaList,
)
from transformers.utils import logging

from ..encoders.folders import model_folder
from ..encoders.writing import likeliest
from .base import Task, TaskCollator, check_lengths, check_offsets, map_batches
from .metrics import accuracy, squad, squad_v2
from .multiple_choice import right_choices
from .question_answering import answered, right_answers

logger = logging.get_logger(__name__)
UNANSWERABLE = "unanswerable"  # what a model writes where the passage holds no answer
IGNORED = -100  # label of tokens that are not scored


@dataclass(frozen=True)
class LanguageModelTask(Task):
    """A task that needs no head: prompts, and what should follow.

    `prepare` gives rows to train on, prompt and right answer, of which only the answer has `labels`. A `Trainer` reports its
    loss; the task's figures come from `evaluate_task`.
    """

    head: ClassVar[Any] = AutoModelForCausalLM

    def load_model(self, model: str, *, trust_remote_code: bool = False) -> PreTrainedModel:
        """See [`Task`].

        Raises:
            ValueError: if the checkpoint has no language-modelling head: a new one would know no word.
        """
        loaded, report = self.head.from_pretrained(
            model_folder(model, trust_remote_code=trust_remote_code),
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
            trust_remote_code=trust_remote_code,
        )
        if report["missing_keys"]:
            raise ValueError(f"`model` {model!r} writes no text: its folder lacks {sorted(report['missing_keys'])[0]!r}.")
        return loaded

    def metrics_for(self, features: Dataset, split: str) -> None:
        """None: the logits of a whole vocabulary are not what a `Trainer` should collect."""


@dataclass(frozen=True)
class ChoiceLikelihoodTask(LanguageModelTask):
    r"""The choice whose tokens are likeliest behind `"Question: ...\nAnswer:"`, on average over its tokens.

    Args:
        name, splits: see [`MultipleChoiceTask`]; the number of choices may differ from question to question.

    Source: Brown et al., "Language models are few-shot learners", 2020, section 2.4 (per-token likelihood).
    """

    default_length: ClassVar[int] = 256

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. One row a question, with the right choice; prompts are cut at their beginning."""
        rows = self._scored(tokenizer, split, max_length)
        return rows.filter(lambda right: right, input_columns="right").remove_columns(["example", "right"])

    def _scored(self, tokenizer: PreTrainedTokenizerBase, split: str, max_length: int | None) -> Dataset:
        """One row a choice: `example` is its question, `right` whether it is the right one."""
        check_offsets(tokenizer)
        rows, max_length = self.rows(split), self.length(max_length)

        def encode(batch: dict[str, list], indices: list[int]) -> dict[str, list]:
            columns: dict[str, list] = {name: [] for name in ("input_ids", "attention_mask", "labels", "example", "right")}
            asked = zip(batch["question"], batch["choices"], right_choices(batch), indices, strict=True)
            for question, choices, right, example in asked:
                for i, choice in enumerate(choices["text"]):
                    row = continuation(tokenizer, f"Question: {question}\nAnswer:", f" {choice}")
                    row = {name: values[-max_length:] for name, values in row.items()}
                    if row["labels"][0] != -100:
                        raise ValueError(
                            f"`max_length` {max_length} leaves no place for a question before the choice {choice[:60]!r} "
                            f"of {split!r}: its likelihood would be that of the choice alone. Give a larger one."
                        )
                    for name, value in (row | {"example": example, "right": i == right}).items():
                        columns[name].append(value)
            return columns

        return rows.map(encode, batched=True, with_indices=True, remove_columns=rows.column_names)

    def has_label(self, split: str) -> np.ndarray:
        """See [`Task`]."""
        return np.array(right_choices(self.rows(split)[:])) >= 0

    def evaluate(self, model, tokenizer, split: str, *, batch_size, max_length, progress) -> dict[str, float]:
        """See [`Task`]."""
        references, known = np.array(right_choices(self.rows(split)[:])), self.labelled(split)
        scores = self.scores(model, tokenizer, split, batch_size=batch_size, max_length=max_length, progress=progress)
        answers = np.array([int(np.argmax(row)) for row in scores])
        return accuracy(answers[known], references[known]) | self.unlabelled_rows(split, known)

    def scores(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        progress: bool = True,
    ) -> list[list[float]]:
        """Mean log-likelihood of a token, in nats, of each choice of each question. `batch_size` counts choices."""
        features = self._scored(tokenizer, split, max_length)
        check_lengths(model, features)

        def step(batch: dict[str, Tensor]) -> list[float]:
            logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
            if logits.shape[:2] != batch["labels"].shape:
                raise ValueError(
                    f"`model` is a {type(model).__name__}, which predicts no tokens: load it with `task.load_model`."
                )
            return mean_log_likelihood(logits, batch["labels"]).tolist()

        found = map_batches(step, features, TaskCollator(tokenizer), batch_size, model.device, progress)
        scores: list[list[float]] = [[] for _ in self.rows(split)]
        for example, score in zip(features["example"], found, strict=True):
            scores[example].append(score)
        return scores


@dataclass(frozen=True)
class AnswerGenerationTask(LanguageModelTask):
    """The line that the model writes behind passage and question, the likeliest token at each step.

    Args:
        name, splits: see [`QuestionAnsweringTask`].
        unanswerable: whether "unanswerable" means that there is no answer (SQuAD 2.0).
        max_answer_length: tokens.

    Source: the prompt is that of Gao et al., "A framework for few-shot language model evaluation", task `squadv2`, without
    the title.
    """

    unanswerable: bool
    max_answer_length: int = 32

    default_length: ClassVar[int] = 1024

    def prepare(self, tokenizer, split: str, max_length: int | None = None) -> Dataset:
        """See [`Task`]. One row a question, with its first answer and the end token; passages are cut at their end."""
        check_offsets(tokenizer)
        rows, max_length = self.rows(split), self.length(max_length)
        end = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]

        def encode(row: dict) -> dict[str, list[int]]:
            answer = row["answers"]["text"][0] if row["answers"]["text"] else UNANSWERABLE
            answer = continuation(tokenizer, "Answer:", f" {answer}")
            ids = [i for i, label in zip(answer["input_ids"], answer["labels"], strict=True) if label != IGNORED] + end
            prompt = _prompt(tokenizer, row, max_length - len(ids))
            return {
                "input_ids": prompt + ids,
                "attention_mask": [1] * (len(prompt) + len(ids)),
                "labels": [IGNORED] * len(prompt) + ids,
            }

        return rows.map(encode, remove_columns=rows.column_names)

    def has_label(self, split: str) -> np.ndarray:
        """See [`Task`]."""
        return answered(self.rows(split)["answers"][:], self.unanswerable)

    def evaluate(self, model, tokenizer, split: str, *, batch_size, max_length, progress) -> dict[str, float]:
        """See [`Task`]."""
        known = self.labelled(split)
        references = right_answers(self.rows(split), self.unanswerable)
        answers = self.answers(model, tokenizer, split, batch_size=batch_size, max_length=max_length, progress=progress)
        figures = squad_v2(answers, references) if self.unanswerable else squad(answers, references)
        return figures | self.unlabelled_rows(split, known)

    def answers(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        split: str,
        *,
        batch_size: int = 32,
        max_length: int | None = None,
        progress: bool = True,
    ) -> dict[str, str]:
        """`{id: answer}`, empty where the model writes nothing or, of `unanswerable` tasks, says so."""
        check_offsets(tokenizer)
        if not model.can_generate():
            raise ValueError(f"`model` is a {type(model).__name__}, which writes no text: load it with `task.load_model`.")
        rows = self.rows(split)
        room = self.length(max_length) - self.max_answer_length
        prompts = [_prompt(tokenizer, row, room) for row in rows]
        features = Dataset.from_dict({"input_ids": prompts, "attention_mask": [[1] * len(ids) for ids in prompts]})
        check_lengths(model, features, self.max_answer_length)

        def step(batch: dict[str, Tensor]) -> Iterable[str]:
            length = batch["input_ids"].shape[1]
            written = likeliest(
                model,
                batch,
                max_new_tokens=self.max_answer_length,
                end=tokenizer.eos_token_id,  # what `prepare` ends answers with; a model's own may be another
                padding=tokenizer.pad_token_id,
                stop=StoppingCriteriaList([_EndOfLine(tokenizer, length)]),
            )
            return tokenizer.batch_decode(written[:, length:], skip_special_tokens=True)

        texts = map_batches(step, features, TaskCollator(tokenizer, side="left"), batch_size, model.device, progress)
        lines = [text.split("\n")[0].strip() for text in texts]
        if self.unanswerable:
            lines = ["" if line.lower().startswith(UNANSWERABLE) else line for line in lines]
        return dict(zip(rows["id"], lines, strict=True))


class _EndOfLine(StoppingCriteria):
    """Each row ends with its first line."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, prompt_length: int):
        self.tokenizer, self.prompt_length = tokenizer, prompt_length

    def __call__(self, input_ids: Tensor, scores: Tensor, **kwargs) -> Tensor:
        texts = self.tokenizer.batch_decode(input_ids[:, self.prompt_length :])
        return torch.tensor(["\n" in text for text in texts], device=input_ids.device)


def _prompt(tokenizer: PreTrainedTokenizerBase, row: dict, max_length: int) -> list[int]:
    """Tokens of the prompt, as many of the passage as there is room for."""
    before, after = "Background: ", f"\n\nQuestion: {row['question'].strip()}\n\nAnswer:"
    encoded = tokenizer(before + row["context"] + after, return_offsets_mapping=True, return_special_tokens_mask=True)
    last = max(i for i, special in enumerate(encoded["special_tokens_mask"]) if not special)
    ids = encoded["input_ids"][: last + 1]  # some tokenizers write an end token, behind which nothing would follow
    passage_end = len(before) + len(row["context"])
    excess = max(len(ids) - max_length, 0)
    passage = [i for i, (start, end) in enumerate(encoded["offset_mapping"]) if len(before) <= start < end <= passage_end]
    if excess and excess >= len(passage):
        raise ValueError(f"`max_length` leaves no room for the passage of {row['id']!r}: {max_length} tokens of a prompt.")
    if excess:
        logger.warning_once("Some passages are longer than `max_length` and were cut at their end.")
    dropped = set(passage[len(passage) - excess :])
    return [token for i, token in enumerate(ids) if i not in dropped]


def continuation(tokenizer: PreTrainedTokenizerBase, prompt: str, text: str) -> dict[str, list[int]]:
    """Tokens of both together, as the model would read them, with `labels` on those that reach into `text`."""
    encoded = tokenizer(prompt + text, return_offsets_mapping=True)
    ids = encoded["input_ids"]
    labels = [i if end > len(prompt) else IGNORED for i, (_, end) in zip(ids, encoded["offset_mapping"], strict=True)]
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def mean_log_likelihood(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean log-likelihood of the labelled tokens of each row, in nats.

    Args:
        logits: `(n, tokens, vocabulary)`; those at position t predict token t + 1.
        labels: `(n, tokens)`, -100 for tokens that do not count.

    Returns:
        `(n,)`, float64, on the CPU.
    """
    counted = labels[:, 1:] != IGNORED
    likelihoods = -F.cross_entropy(logits[:, :-1][counted].float(), labels[:, 1:][counted], reduction="none")
    counted, likelihoods = counted.cpu(), likelihoods.cpu().double()  # sums are exact: what is equal stays equal
    return torch.zeros(counted.shape, dtype=torch.double).masked_scatter(counted, likelihoods).sum(1) / counted.sum(1)
