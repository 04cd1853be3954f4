"""Linear probes on frozen vectors: classes, scores, and the right member of a group.

How strongly a probe is regularised is chosen in folds of its training rows, by the figure that the task is published with.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from sklearn.base import BaseEstimator
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, KFold, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDS = 3
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)  # `C` of logistic regression on standardised features
PENALTIES = (1e2, 1e3, 1e4, 1e5)  # `alpha` of ridge regression on the same
GROUP_PENALTIES = (1e-2, 1e-1, 1.0)  # a group, on features of scale 1
ITERATIONS = 100  # of L-BFGS over groups; more move no figure
LOGISTIC_ITERATIONS = 1000
Points = Callable[[np.ndarray, np.ndarray], float]  # of references and predictions, 0 to 100


def pair_features(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """`(n, 4 d + 1)` of two vectors a row, `(n, d)` each: both, the size of their difference, their product, their cosine.

    Source: Conneau et al., "Supervised learning of universal sentence representations", 2017, but for the cosine, which the
    product could tell if all its weights were free.
    """
    product = first * second
    return np.concatenate([first, second, np.abs(first - second), product, cosines(first, second)[:, None]], axis=1)


def choice_features(question: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """`(n, choices, 3 d + 1)` of a question's vector `(n, d)` and its choices' `(n, choices, d)`.

    As `pair_features`, less the question itself, which is the same for all its choices and so tells none from another.
    """
    asked = np.broadcast_to(question[:, None], choices.shape)
    near = cosines(asked, choices)[..., None]
    return np.concatenate([choices, np.abs(asked - choices), asked * choices, near], axis=2)


def cosines(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Cosine of each vector `(..., d)` with its partner, `(...)`; 0 of a vector without length."""
    lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
    return (first * second).sum(-1) / np.maximum(lengths, 1e-12)


def folds_of_texts(texts: Sequence[tuple[str, ...]], count: int) -> np.ndarray:
    """A fold, of `count`, for each of n rows, `(n,)`, at random, those that share a text, also through others, in one.

    Labels of such rows depend on one another: a premise of MNLI has each class once, a question of QNLI both.
    """
    numbers = {text: len(texts) + i for i, text in enumerate(dict.fromkeys(text for row in texts for text in row))}
    ends = np.array([(i, numbers[text]) for i, row in enumerate(texts) for text in row]).T
    size = len(texts) + len(numbers)
    groups = connected_components(coo_matrix((np.ones(ends.shape[1]), ends), (size, size)), directed=False)[1]
    _, first, group = np.unique(groups[: len(texts)], return_index=True, return_inverse=True)
    drawn = np.empty(len(texts), dtype=int)
    for fold, (_, rows) in enumerate(KFold(count, shuffle=True, random_state=0).split(drawn)):
        drawn[rows] = fold
    return drawn[first][group]


def class_probe(points: Points, seed: int) -> GridSearchCV:
    """Logistic regression that chooses its penalty: fit it on features `(n, d)` and classes `(n,)`."""
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    return _in_folds(LogisticRegression(max_iter=LOGISTIC_ITERATIONS), "C", INVERSE_PENALTIES, points, folds)


def score_probe(points: Points, seed: int) -> GridSearchCV:
    """Ridge regression that chooses its penalty: fit it on features `(n, d)` and scores `(n,)`."""
    return _in_folds(Ridge(), "alpha", PENALTIES, points, KFold(FOLDS, shuffle=True, random_state=seed))


def place_points(references: np.ndarray, predictions: np.ndarray) -> float:
    """Share of right places, in points."""
    return 100 * float(np.mean(np.asarray(references) == np.asarray(predictions)))


def group_probe(points: Points, seed: int) -> GridSearchCV:
    """A [`GroupProbe`] that chooses its penalty: fit it on n groups of features and the places of the right ones."""
    folds = KFold(FOLDS, shuffle=True, random_state=seed)
    return GridSearchCV(GroupProbe(), {"penalty": GROUP_PENALTIES}, scoring=make_scorer(points), cv=folds)


def _in_folds(model: BaseEstimator, name: str, values: Sequence[float], points: Points, folds: KFold) -> GridSearchCV:
    pipeline = make_pipeline(StandardScaler(), model)
    grid = {f"{type(model).__name__.lower()}__{name}": values}
    return GridSearchCV(pipeline, grid, scoring=make_scorer(points), cv=folds)


class GroupProbe(BaseEstimator):
    """One score for each member of a group, linear in its features, and a softmax over the group.

    It chooses among the choices of a question, or among the tokens of a passage; scikit-learn has none of this form.

    Args:
        penalty: of the squared weights, against the mean loss of a group.

    Source: the conditional logit, McFadden, 1973.
    """

    def __init__(self, penalty: float = 1e-2):
        self.penalty = penalty

    def fit(self, groups: Sequence[np.ndarray], right: np.ndarray) -> "GroupProbe":
        """Fit to n groups, each `(members, d)`, and the place of the right member of each, `(n,)`."""
        sizes = np.array([len(group) for group in groups])
        starts = np.cumsum(sizes) - sizes
        features = np.concatenate(list(groups)).astype(np.float32, copy=False)  # a copy of the groups as it is
        self.scale_ = np.maximum(features.std(0), 1e-6)
        features /= self.scale_
        places = starts + np.asarray(right)

        def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
            scores = (features @ weights.astype(np.float32)).astype(np.float64)
            scores -= np.repeat(np.maximum.reduceat(scores, starts), sizes)
            shares = np.exp(scores)
            totals = np.add.reduceat(shares, starts)
            errors = shares / np.repeat(totals, sizes)
            errors[places] -= 1
            value = (np.log(totals) - scores[places]).mean() + self.penalty / 2 * weights @ weights
            return value, features.T @ errors.astype(np.float32) / len(sizes) + self.penalty * weights

        start = np.zeros(features.shape[1])
        found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
        self.weights_ = (found.x / self.scale_).astype(np.float32)
        return self

    def scores(self, groups: Sequence[np.ndarray]) -> list[np.ndarray]:
        """A score for each member of each group."""
        return [group @ self.weights_ for group in groups]

    def predict(self, groups: Sequence[np.ndarray]) -> np.ndarray:
        """Place of the likeliest member of each group, `(n,)`."""
        return np.array([scores.argmax() for scores in self.scores(groups)])


__all__ = [
    "GroupProbe",
    "choice_features",
    "class_probe",
    "cosines",
    "folds_of_texts",
    "group_probe",
    "pair_features",
    "place_points",
    "score_probe",
]
