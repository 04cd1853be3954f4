"""What a vector tells about its text: attributes inferred from translations, beside ideal and uninformed answers."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, recall_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from torch import Tensor
from torch.nn import functional as F

from ..data.corpora import LabelledTexts
from ..data.overlap import first_places
from ..metrics.translation import mean_interval
from ..model.modeling_vec2vec import Vec2VecModel

KNOWN_SHARE = 0.5  # of the texts that are the attacker's own, drawn class by class; all attacks are judged on the others


def attribute_inference(
    model: Vec2VecModel,
    corpus: LabelledTexts,
    vectors: dict[str, Tensor],
    descriptions: dict[str, Tensor],
    *,
    source: str,
    target: str,
    seed: int = 0,
) -> list[dict]:
    """Two attacks on vectors of the source space by someone who has the target space's encoder and texts of his own.

    *Zero-shot*: the class whose description, embedded in the target space, lies nearest to the translated vector by centred
    cosine. *Linear probe*: logistic regression, fitted to target vectors of the attacker's own labelled texts, applied to
    the translated vectors of others.

    Args:
        model: the translator.
        corpus: labelled texts.
        vectors: `{space: (n, d)}`, of the corpus' texts in both spaces.
        descriptions: `{space: (c, d)}`, of the class descriptions, in the order of `corpus.descriptions`.
        source: space of the vectors that are attacked.
        target: space of the attacker.
        seed: of which texts are the attacker's own (`KNOWN_SHARE`), and of the intervals.

    Returns:
        One dictionary an attack and method: `direction`, `attribute`, `attack`, `method`, `accuracy` and its 95 % bootstrap
        interval over texts, `macro_f1`, `texts`, and `recall` of every class. The methods: translated vectors; naive (source
        vectors handed over as they are, cut or padded with zeros); the target's mean vector; the majority class of the
        attacker's texts; and the ideal of each space, where attacker and vectors share it.

    Source: zero-shot attributes are those of Jha et al., 2025, section 6.
    """
    classes = list(corpus.descriptions)
    labels = corpus.numbers()
    known, attacked = _split(corpus, labels, seed)
    means = {name: model.normalizer(name).mean.cpu() for name in (source, target)}
    dim = len(means[target])
    raw = vectors[source][attacked]
    translated = model.translate(raw, source=source, target=target)
    attacks = {
        "translated": (target, translated),
        "naive": (target, F.pad(raw[:, :dim], (0, max(dim - raw.shape[1], 0)))),
        "mean vector": (target, means[target].expand(len(attacked), -1)),
        f"ideal: {target}": (target, vectors[target][attacked]),
        f"ideal: {source}": (source, raw),
    }
    probes = {name: linear_probe(vectors[name][known] - means[name], labels[known]) for name in (source, target)}
    predictions = {
        ("both", "majority class"): np.full(len(attacked), np.bincount(labels[known]).argmax()),
        **{
            ("zero-shot", method): zero_shot(rows, descriptions[space], means[space])
            for method, (space, rows) in attacks.items()
        },
        **{
            ("linear probe", method): probes[space].predict((rows - means[space]).numpy())
            for method, (space, rows) in attacks.items()
        },
    }
    head = {"direction": f"{source} → {target}", "attribute": corpus.name}
    return [
        head | {"attack": attack, "method": method} | attribute_figures(found, labels[attacked], classes, seed=seed)
        for (attack, method), found in predictions.items()
    ]


def _split(corpus: LabelledTexts, labels: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of the attacker's own texts, and of the attacked ones. Equal texts lie on one side."""
    firsts = np.array(first_places(corpus.texts))
    different = np.unique(firsts)
    counts = np.bincount(labels[different], minlength=len(corpus.descriptions))
    if counts.min() < 2:
        number, rare = ("one", "no")[int(counts.min() == 0)], list(corpus.descriptions)[int(counts.argmin())]
        raise ValueError(
            f"`corpus` {corpus.name!r} has {number} text of class {rare!r}, if equal ones count once; the attacker and the "
            "test need one each."
        )
    sides = train_test_split(different, train_size=KNOWN_SHARE, stratify=labels[different], random_state=seed)
    again = np.setdiff1d(np.arange(len(labels)), different)
    known, attacked = (np.concatenate([side, again[np.isin(firsts[again], side)]]) for side in sides)
    return known, attacked


def zero_shot(rows: Tensor, descriptions: Tensor, mean: Tensor) -> np.ndarray:
    """Index of the description that lies nearest to each row by centred cosine: `(n, d)`, `(c, d)`, `(d,)` to `(n,)`.

    Descriptions are centred by their own mean: what all of them share tells no class from another.
    """
    queries = F.normalize(rows - mean, dim=1)
    return (queries @ F.normalize(descriptions - descriptions.mean(0), dim=1).T).argmax(1).numpy()


def linear_probe(rows: Tensor, labels: np.ndarray):
    """Logistic regression on rows of norm 1, `(n, d)`: a fitted scikit-learn pipeline.

    Dimensions are not scaled one by one: those of little variance are what translations get wrong (MiniLM has some whose
    blow-up takes a probe of translated news topics from .96 to .16).
    """
    return linear_probe_pipeline().fit(rows.numpy(), labels)


def linear_probe_pipeline():
    """That probe before it is fitted."""
    return make_pipeline(Normalizer(), LogisticRegression(max_iter=1000))


def attribute_figures(predicted: np.ndarray, labels: np.ndarray, classes: list[str], *, seed: int = 0) -> dict:
    """Accuracy with its interval, macro-F1 and recall of every class.

    Args:
        predicted: `(n,)`, indices into `classes`.
        labels: `(n,)`, the same.
        classes: their names.
        seed: of the bootstrap.
    """
    right = (predicted == labels).astype(float)
    every = range(len(classes))
    recall = recall_score(labels, predicted, labels=every, average=None, zero_division=0)
    return {
        "accuracy": float(right.mean()),
        "accuracy_interval": list(mean_interval(right, seed=seed)),
        "macro_f1": float(f1_score(labels, predicted, labels=every, average="macro", zero_division=0)),
        "recall": dict(zip(classes, recall.tolist(), strict=True)),
        "texts": len(labels),
    }


__all__ = ["attribute_figures", "attribute_inference", "linear_probe", "linear_probe_pipeline", "zero_shot"]
