"""What of a text comes back from its vector alone: by search in a public corpus, and word by word."""

import re
from collections import Counter

import numpy as np
import torch
from sklearn.feature_extraction.text import CountVectorizer
from torch import Tensor
from torch.nn import functional as F

from ..alignment.regression import ridge

FREQUENT = 2000  # words that are decoded at most; stop words are left out, for they tell nothing
PENALTY = 0.1  # of the regressions, in units of the vectors' mean eigenvalue
WORD = re.compile(r"\w+")
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# A name is a word with a capital that does not begin a sentence: no tagger, but the same for every method. What gives it
# away may stand anywhere.
ENTITY, CAPITAL = re.compile(r"(?<![.!?\"'] )(?<!^)(?<=\W)[A-Z]\w+"), re.compile(r"\b[A-Z]\w+")


def retrieve(queries: Tensor, corpus: Tensor, mean: Tensor, block: int = 2048) -> Tensor:
    """Index of the corpus row nearest to each query by centred cosine: the attacker's best guess of what it says.

    Args:
        queries: `(n, d)`, translated vectors.
        corpus: `(m, d)`, vectors of public texts in the attacker's own space.
        mean: `(d,)`, of the attacker's space.
        block: queries compared at a time.

    Returns:
        `(n,)`.
    """
    keys = F.normalize(corpus - mean, dim=1)
    return torch.cat([(F.normalize(rows - mean, dim=1) @ keys.T).argmax(1) for rows in queries.split(block)])


class WordDecoder:
    """Which words a text has, read off its vector: one ridge regression a word, thresholds that suit F1.

    Fitted to the attacker's own texts and their vectors in his own space; translated vectors are then decoded as if they
    were made by his encoder.

    Args:
        rows: `(n, d)`, vectors of `texts`.
        texts: n texts; a tenth of them choose the threshold.

    Source: bag-of-words inversion is Song and Raghunathan's, "Information leakage in embedding models", 2020, section 4,
    with a linear decoder.
    """

    def __init__(self, rows: Tensor, texts: list[str]):
        if len(rows) != len(texts):
            raise ValueError(f"`rows` and `texts` are {len(rows)} and {len(texts)}: one vector a text is needed.")
        self.counter = CountVectorizer(binary=True, stop_words="english", max_features=FREQUENT)
        present = torch.from_numpy(self.counter.fit_transform(texts).toarray()).float()
        self.words = self.counter.get_feature_names_out()
        cut = len(rows) - max(1, len(rows) // 10)
        self.mean, self.base = rows[:cut].mean(0), present[:cut].mean(0)
        self.weight = ridge(self._inputs(rows[:cut]), present[:cut] - self.base, PENALTY)
        scores = self.scores(rows[cut:])
        tried = torch.linspace(0.02, 0.8, 40)
        f1 = [_set_f1(scores > threshold, present[cut:] > 0).mean() for threshold in tried]
        self.threshold = tried[int(np.argmax(f1))].item()

    def _inputs(self, rows: Tensor) -> Tensor:
        return F.normalize(rows - self.mean, dim=1)

    def scores(self, rows: Tensor) -> Tensor:
        """How likely each word of the vocabulary is in each text: `(n, d)` to `(n, v)`; not quite a probability."""
        return self.base + self._inputs(rows) @ self.weight

    def word_f1(self, rows: Tensor, texts: list[str]) -> np.ndarray:
        """F1 between decoded and true sets of vocabulary words, text by text: `(n,)`; nan for texts without such a word."""
        present = torch.from_numpy(self.counter.transform(texts).toarray()) > 0
        f1 = _set_f1(self.scores(rows) > self.threshold, present)
        return np.where(present.any(1).numpy(), f1, np.nan)


def _set_f1(found: Tensor, true: Tensor) -> np.ndarray:
    both = (found & true).sum(1)
    return (2 * both / (found.sum(1) + true.sum(1)).clamp_min(1)).numpy()


def text_overlap(predictions: list[str], references: list[str]) -> dict[str, np.ndarray]:
    """How much of each reference its prediction gives away, text by text.

    Args:
        predictions: n recovered texts.
        references: n true texts.

    Returns:
        `(n,)` each. `token_f1`: F1 of words as a multiset, lower case. `rouge_l`: F of the longest common subsequence.
        `entity_recall`, `number_recall`: share of the reference's capitalised words (but those that begin a sentence) and
        of its numbers that the prediction has anywhere; nan where there are none.

    Raises:
        ImportError: if rouge-score is missing.

    Source: token F1 as in SQuAD (Rajpurkar et al., 2016); ROUGE-L: Lin, 2004, by Google's rouge-score.
    """
    try:
        from rouge_score.rouge_scorer import RougeScorer
    except ImportError as error:
        raise ImportError('Inversion scores need rouge-score: pip install "hf-vec2vec[report]"') from error
    if len(predictions) != len(references):
        raise ValueError(f"`predictions` and `references` are {len(predictions)} and {len(references)}: one each is needed.")
    scorer = RougeScorer(["rougeL"])
    rows = [
        (
            _token_f1(prediction, reference),
            scorer.score(reference, prediction)["rougeL"].fmeasure,
            _recall(ENTITY, CAPITAL, prediction, reference),
            _recall(NUMBER, NUMBER, prediction, reference),
        )
        for prediction, reference in zip(predictions, references, strict=True)
    ]
    return dict(zip(("token_f1", "rouge_l", "entity_recall", "number_recall"), np.array(rows).T, strict=True))


def _token_f1(prediction: str, reference: str) -> float:
    found, true = (Counter(WORD.findall(text.lower())) for text in (prediction, reference))
    return 2 * (found & true).total() / max(found.total() + true.total(), 1)


def _recall(lost: re.Pattern, found: re.Pattern, prediction: str, reference: str) -> float:
    true = set(lost.findall(reference))
    return len(true & set(found.findall(prediction))) / len(true) if true else np.nan


__all__ = ["WordDecoder", "retrieve", "text_overlap"]
