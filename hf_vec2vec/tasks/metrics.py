"""Official figures of GLUE, SQuAD and CommonsenseQA, as plain functions and as `evaluate.Metric` classes."""

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence

import datasets
import evaluate
import numpy as np

Classes = Sequence[int] | np.ndarray
_GLUE = "Wang et al., GLUE: a multi-task benchmark and analysis platform for natural language understanding, 2019"
_SQUAD = "Rajpurkar et al., SQuAD: 100,000+ questions for machine comprehension of text, 2016"
_SQUAD_V2 = "Rajpurkar et al., Know what you don't know: unanswerable questions for SQuAD, 2018"
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def accuracy(predictions: Classes, references: Classes) -> dict[str, float]:
    """Share of rows with the right class, between 0 and 1.

    Raises:
        ValueError: if there are not as many of both.
    """
    if np.shape(predictions) != np.shape(references) or np.ndim(references) != 1:
        raise ValueError(
            "`predictions` and `references` must be a class a row of both, got the shapes "
            f"{np.shape(predictions)} and {np.shape(references)}."
        )
    return {"accuracy": float(np.mean(np.asarray(predictions) == np.asarray(references)))}


def accuracy_and_f1(predictions: Classes, references: Classes) -> dict[str, float]:
    """`accuracy`, and F1 of class 1, which is 0 where class 1 is never predicted."""
    from sklearn.metrics import f1_score  # slow to import

    return accuracy(predictions, references) | {"f1": float(f1_score(references, predictions, zero_division=0))}


def matthews(predictions: Classes, references: Classes) -> dict[str, float]:
    """Matthews' correlation of two classes, between -1 and 1; 0 for a constant prediction."""
    from sklearn.metrics import matthews_corrcoef

    return {"matthews_correlation": float(matthews_corrcoef(references, predictions))}


def correlations(predictions: Sequence[float] | np.ndarray, references: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Pearson's and Spearman's correlation, between -1 and 1; 0 for a constant prediction, which orders nothing."""
    from scipy.stats import pearsonr, spearmanr

    if np.ptp(predictions) == 0 or np.ptp(references) == 0:  # undefined: scipy warns and gives nan
        return {"pearson": 0.0, "spearmanr": 0.0}
    pearson, spearman = pearsonr(predictions, references), spearmanr(predictions, references)
    return {"pearson": float(pearson.statistic), "spearmanr": float(spearman.statistic)}


def normalize_answer(text: str) -> str:
    """Lower case, without punctuation and articles, words one space apart: what SQuAD compares."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _exact(answer: str, gold: str) -> float:
    return float(normalize_answer(answer) == normalize_answer(gold))


def _f1(answer: str, gold: str, *, of_empty: bool) -> float:
    words, gold_words = normalize_answer(answer).split(), normalize_answer(gold).split()
    if of_empty and not (words and gold_words):
        return float(words == gold_words)
    common = sum((Counter(words) & Counter(gold_words)).values())
    return 2 * common / (len(words) + len(gold_words)) if common else 0.0


def question_f1(
    predictions: Mapping[str, str], references: Mapping[str, Sequence[str]], *, of_empty: bool
) -> dict[str, float]:
    """F1 of words of each question, 0 to 1, against the answer that fits best.

    Args:
        predictions: `{id: answer}`, empty for none.
        references: `{id: right answers}`; an empty list where the text holds none.
        of_empty: whether no answer may be right, as in SQuAD 2.0.

    Raises:
        TypeError: if right answers are a text in place of a list.
        ValueError: if an id has no prediction.
    """
    _check_answers(predictions, references)
    golds = {i: [gold for gold in answers if normalize_answer(gold)] or [""] for i, answers in references.items()}
    return {i: max(_f1(predictions[i], gold, of_empty=of_empty) for gold in answers) for i, answers in golds.items()}


def mean_f1(f1: Sequence[float] | np.ndarray, whole: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Mean of the questions' F1, each a share of what the question is worth, which is 1."""
    return {"f1": float(np.mean(np.asarray(f1) / np.asarray(whole)))}


def squad(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> dict[str, float]:
    """Exact match and F1 of words, each against the answer that fits best, in percent as the official script has them.

    Args:
        predictions: `{id: answer}`.
        references: `{id: right answers}`.

    Raises:
        TypeError: if right answers are a text in place of a list.
        ValueError: if an id has no prediction or no right answer.

    Source: Rajpurkar et al., 2016.
    """
    _check_answers(predictions, references)
    if without := [i for i, gold in references.items() if not gold]:
        raise ValueError(
            f"`references` have no answer for {len(without)} id(s), such as {without[0]!r}. Is this `squad_v2`?"
        )
    exact = [max(_exact(predictions[i], gold) for gold in answers) for i, answers in references.items()]
    f1 = [max(_f1(predictions[i], gold, of_empty=False) for gold in answers) for i, answers in references.items()]
    return {"exact_match": 100 * float(np.mean(exact)), "f1": 100 * float(np.mean(f1))}


def squad_v2(
    predictions: Mapping[str, str],
    references: Mapping[str, Sequence[str]],
    no_answer: Mapping[str, float] | None = None,
    threshold: float = 0.0,
) -> dict[str, float]:
    """Exact match and F1, in percent, of all questions, of those with an answer and of those without.

    Args:
        predictions: `{id: answer}`, empty for none.
        references: `{id: right answers}`, an empty list where the text holds none.
        no_answer: `{id: how likely there is none}`, in any unit.
        threshold: above it, a prediction counts as empty.

    Returns:
        `exact`, `f1` and `total`, the same with `HasAns_` and `NoAns_` where there are such questions, and given
        `no_answer` also `best_exact` and `best_f1` with the thresholds that reach them on these very rows.

    Raises:
        TypeError: if right answers are a text in place of a list.
        ValueError: if an id has no prediction.

    Source: Rajpurkar et al., 2018.
    """
    _check_answers(predictions, references)
    golds = {i: [gold for gold in answers if normalize_answer(gold)] or [""] for i, answers in references.items()}
    has_answer = {i: answers != [""] for i, answers in golds.items()}
    raw = {
        "exact": {i: max(_exact(predictions[i], gold) for gold in answers) for i, answers in golds.items()},
        "f1": {i: max(_f1(predictions[i], gold, of_empty=True) for gold in answers) for i, answers in golds.items()},
    }
    cut = raw
    if no_answer is not None:
        cut = {
            name: {i: score if no_answer[i] <= threshold else float(not has_answer[i]) for i, score in scores.items()}
            for name, scores in raw.items()
        }
    figures: dict[str, float] = {}
    groups = {
        "": list(golds),
        "HasAns_": [i for i in golds if has_answer[i]],
        "NoAns_": [i for i in golds if not has_answer[i]],
    }
    for prefix, ids in groups.items():
        if ids:
            figures |= {f"{prefix}{name}": 100 * float(np.mean([scores[i] for i in ids])) for name, scores in cut.items()}
            figures[f"{prefix}total"] = len(ids)
    if no_answer is not None:
        for name, scores in raw.items():
            best, best_threshold = _best_threshold(predictions, scores, no_answer, has_answer)
            figures |= {f"best_{name}": best, f"best_{name}_thresh": best_threshold}
    return figures


def _best_threshold(predictions, scores, no_answer, has_answer) -> tuple[float, float]:
    """Start from no answers at all, and admit one after the other, the surest first."""
    current = best = float(sum(not has for has in has_answer.values()))
    threshold = 0.0
    for i in sorted(scores, key=no_answer.__getitem__):
        current += scores[i] if has_answer[i] else -float(bool(predictions[i]))
        if current > best:
            best, threshold = current, no_answer[i]
    return 100 * best / len(scores), threshold


def _check_answers(predictions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> None:
    if texts := [i for i, answers in references.items() if isinstance(answers, str)]:
        raise TypeError(
            f"`references` of the id {texts[0]!r} are the text {references[texts[0]]!r:.80}; give a list of right answers."
        )
    if missing := [i for i in references if i not in predictions]:
        raise ValueError(f"`predictions` lack {len(missing)} of {len(references)} id(s), such as {missing[0]!r}.")


class _ClassMetric(evaluate.Metric):
    """Of classes; `kind` is what predictions and references hold."""

    kind, figures = "int64", staticmethod(accuracy)

    def _info(self) -> evaluate.MetricInfo:
        value = datasets.Value(self.kind)
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation=_GLUE,
            inputs_description="Args:\n    predictions: n of them.\n    references: n of them, row by row.",
            features=datasets.Features({"predictions": value, "references": value}),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return self.figures(predictions, references)


class Accuracy(_ClassMetric):
    """Accuracy: SST-2, MNLI, QNLI, RTE, WNLI and CommonsenseQA."""


class AccuracyAndF1(_ClassMetric):
    """Accuracy, and F1 of class 1: MRPC and QQP."""

    figures = staticmethod(accuracy_and_f1)


class MatthewsCorrelation(_ClassMetric):
    """Matthews' correlation: CoLA."""

    figures = staticmethod(matthews)


class Correlations(_ClassMetric):
    """Pearson's and Spearman's correlation: STS-B."""

    kind, figures = "float32", staticmethod(correlations)


class Squad(evaluate.Metric):
    """Exact match and F1 of SQuAD 1.1, in percent. Rows are matched by `id`."""

    prediction = {"id": datasets.Value("string"), "prediction_text": datasets.Value("string")}
    citation_text = _SQUAD

    def _info(self) -> evaluate.MetricInfo:
        answers = {"text": datasets.List(datasets.Value("string")), "answer_start": datasets.List(datasets.Value("int32"))}
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation=self.citation_text,
            inputs_description=f"Args:\n    predictions: {', '.join(self.prediction)}.\n    references: id, answers.",
            features=datasets.Features(
                {"predictions": self.prediction, "references": {"id": datasets.Value("string"), "answers": answers}}
            ),
        )

    def _compute(self, predictions, references) -> dict[str, float]:
        return squad(*_by_id(predictions, references))


class SquadV2(Squad):
    """Figures of SQuAD 2.0, in percent (see `squad_v2`).

    Predictions with a `no_answer_probability` above `compute(..., no_answer_threshold=)` count as empty.
    """

    prediction = Squad.prediction | {"no_answer_probability": datasets.Value("float32")}
    citation_text = _SQUAD_V2

    def _compute(self, predictions, references, no_answer_threshold: float = 1.0) -> dict[str, float]:
        no_answer = {row["id"]: row["no_answer_probability"] for row in predictions}
        return squad_v2(*_by_id(predictions, references), no_answer, no_answer_threshold)


def _by_id(predictions: list[dict], references: list[dict]) -> tuple[dict[str, str], dict[str, list[str]]]:
    for argument, rows in (("predictions", predictions), ("references", references)):
        if twice := [i for i, count in Counter(row["id"] for row in rows).items() if count > 1]:
            raise ValueError(f"`{argument}` have {len(twice)} id(s) more than once, such as {twice[0]!r}. Give each once.")
    answers = {row["id"]: row["prediction_text"] for row in predictions}
    return answers, {row["id"]: row["answers"]["text"] for row in references}
