import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.data.corpora import LabelledTexts
from hf_vec2vec.evaluation import attributes
from hf_vec2vec.evaluation.attributes import attribute_figures, attribute_inference

CENTRES = 2 * make_cloud(3, 12, seed=7)


@pytest.fixture(scope="module")
def task():
    """Three classes of unequal size in one space, and an exact rotation of it."""
    classes = torch.multinomial(torch.tensor([0.5, 0.3, 0.2]), 600, True, generator=torch.Generator().manual_seed(0))
    rows = CENTRES[classes] + 2 * make_cloud(600, 12, seed=1)
    rotation = random_rotation(12, 12)
    corpus = LabelledTexts("shape", [f"text {i}" for i in range(600)], ["xyz"[c] for c in classes], dict.fromkeys("xyz", ""))
    shift = rows.mean(0)
    return (
        corpus,
        {"a": rows, "b": rows @ rotation + 1},
        {"a": CENTRES + shift, "b": (CENTRES + shift) @ rotation + 1},
        rotation,
    )


def translator(vectors, forward):
    statistics = (fit_statistics(vectors[name]) for name in "ab")
    return Vec2VecModel.from_alignment(Alignment("a", "b", forward, forward.T, *statistics))


def by_attack(rows, method):
    return {row["attack"]: row for row in rows if row["method"] == method}


def test_an_exact_rotation_tells_what_the_target_space_tells(task):
    corpus, vectors, descriptions, rotation = task
    rows = attribute_inference(translator(vectors, rotation), corpus, vectors, descriptions, source="a", target="b")
    translated, ideal = by_attack(rows, "translated"), by_attack(rows, "ideal: b")
    for attack in ("zero-shot", "linear probe"):
        assert {k: v for k, v in translated[attack].items() if k != "method"} == {
            k: v for k, v in ideal[attack].items() if k != "method"
        }
        assert translated[attack]["accuracy"] > 0.8
    assert by_attack(rows, "ideal: a")["linear probe"]["accuracy"] == pytest.approx(
        ideal["linear probe"]["accuracy"], abs=0.02
    )


def test_random_translators_tell_no_more_than_the_majority_class(task):
    corpus, vectors, descriptions, _ = task
    accuracies = {"zero-shot": [], "linear probe": []}
    for seed in range(12):
        model = translator(vectors, random_rotation(12, 12, seed=100 + seed))
        rows = attribute_inference(model, corpus, vectors, descriptions, source="a", target="b")
        for attack, row in by_attack(rows, "translated").items():
            accuracies[attack].append(row["accuracy"])
    majority = by_attack(rows, "majority class")["both"]["accuracy"]
    assert majority == pytest.approx(0.5, abs=0.05)
    for found in accuracies.values():  # with three clusters single draws are lucky or not; their mean is not
        assert np.mean(found) < majority


def test_equal_texts_lie_on_one_side(task, monkeypatch):
    """Labels without a pattern cannot be told, but for texts that the attacker has, too."""
    rows = make_cloud(300, 12, seed=5).repeat_interleave(2, 0)
    texts = [f"{'Text' if i % 2 else 'text'} {i // 2}{'.' * (i % 2)}" for i in range(600)]
    labels = [
        "xy"[int(i)] for i in torch.randint(2, (300,), generator=torch.Generator().manual_seed(0)).repeat_interleave(2)
    ]
    corpus = LabelledTexts("noise", texts, labels, dict.fromkeys("xy", ""))
    rotation = task[3]
    vectors = {"a": rows, "b": rows @ rotation + 1}
    descriptions = {name: values[:2] for name, values in vectors.items()}
    monkeypatch.setattr(attributes, "linear_probe_pipeline", lambda: KNeighborsClassifier(1))
    found = attribute_inference(translator(vectors, rotation), corpus, vectors, descriptions, source="a", target="b")
    nearest = by_attack(found, "translated")["linear probe"]
    assert nearest["texts"] == 300
    assert nearest["accuracy"] == pytest.approx(0.5, abs=0.1)


def test_mean_vector_gives_one_class(task):
    corpus, vectors, descriptions, rotation = task
    rows = attribute_inference(translator(vectors, rotation), corpus, vectors, descriptions, source="a", target="b")
    for row in by_attack(rows, "mean vector").values():
        assert sorted(row["recall"].values()) == [0, 0, 1]


def test_figures_by_hand():
    found = attribute_figures(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1]), ["x", "y"])
    assert found["accuracy"] == 0.75
    assert found["recall"] == pytest.approx({"x": 2 / 3, "y": 1.0})
    assert found["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    low, high = found["accuracy_interval"]
    assert low < 0.75 < high


def test_a_class_with_one_text_is_refused(task):
    corpus, vectors, descriptions, rotation = task
    labels = ["x"] * 300 + ["y"] * 298 + ["z"] * 2
    corpus = LabelledTexts("shape", [*corpus.texts[:598], "One.", "one"], labels, dict.fromkeys("xyz", ""))
    with pytest.raises(ValueError, match="one text of class 'z'"):
        attribute_inference(translator(vectors, rotation), corpus, vectors, descriptions, source="a", target="b")
