import warnings

import numpy as np
import pytest
from scipy import stats

from hf_vec2vec.tasks import Accuracy, AccuracyAndF1, Correlations, MatthewsCorrelation, Squad, SquadV2
from hf_vec2vec.tasks.metrics import accuracy, normalize_answer, squad, squad_v2


def test_class_figures_by_hand():
    predictions, references = [1, 1, 0, 0, 1], [1, 0, 0, 1, 1]  # 2 true and 1 false positive, 1 true and 1 false negative
    assert Accuracy().compute(predictions=predictions, references=references) == {"accuracy": 0.6}
    found = AccuracyAndF1().compute(predictions=predictions, references=references)
    assert found == pytest.approx({"accuracy": 0.6, "f1": 4 / 6})
    found = MatthewsCorrelation().compute(predictions=predictions, references=references)
    assert found == pytest.approx({"matthews_correlation": (2 * 1 - 1 * 1) / np.sqrt(3 * 3 * 2 * 2)})


def test_correlations_are_of_values_and_of_ranks():
    references = [0.0, 1.0, 2.0, 3.0, 4.0]
    found = Correlations().compute(predictions=[1.0, 2.0, 4.0, 8.0, 16.0], references=references)
    assert found["spearmanr"] == pytest.approx(1)
    assert found["pearson"] == pytest.approx(np.corrcoef([1, 2, 4, 8, 16], references)[0, 1])
    assert found["pearson"] < 0.95
    with warnings.catch_warnings():
        warnings.simplefilter("error", stats.ConstantInputWarning)
        assert Correlations().compute(predictions=[1.0] * 5, references=references) == {"pearson": 0, "spearmanr": 0}


def test_answers_are_compared_as_the_official_script_does():
    assert normalize_answer(" The U.S.  Army's an apple ") == "us armys apple"
    references = {"1": ["the Denver Broncos", "Broncos"], "2": ["1912"]}
    assert squad({"1": "denver broncos!", "2": "in 1912"}, references) == pytest.approx(
        {"exact_match": 50, "f1": 100 * (1 + 2 / 3) / 2}
    )
    assert squad({"1": "a", "2": ""}, references) == {"exact_match": 0, "f1": 0}
    rows = [{"id": "2", "prediction_text": "in 1912"}, {"id": "1", "prediction_text": "Denver Broncos"}]
    golds = [{"id": i, "answers": {"text": texts, "answer_start": [0] * len(texts)}} for i, texts in references.items()]
    found = Squad().compute(predictions=rows, references=golds)
    assert found == pytest.approx({"exact_match": 50, "f1": 100 * (1 + 2 / 3) / 2})


GOLDS = {"a": ["a flood"], "b": ["the ice", "on the ice"], "c": [], "d": []}


def test_squad_2_counts_questions_without_an_answer_apart():
    found = squad_v2({"a": "flood", "b": "", "c": "", "d": "the lake"}, GOLDS)
    assert found == pytest.approx(
        {
            **{"exact": 50, "f1": 50, "total": 4},
            **{"HasAns_exact": 50, "HasAns_f1": 50, "HasAns_total": 2},
            **{"NoAns_exact": 50, "NoAns_f1": 50, "NoAns_total": 2},
        }
    )


def test_squad_2_finds_the_best_threshold():
    """Sorted by how likely no answer is: a (right), d (wrong to answer), b (half right), c."""
    predictions = {"a": "flood", "b": "ice cold", "c": "the sun", "d": "the lake"}
    no_answer = {"a": 0.1, "d": 0.2, "b": 0.3, "c": 0.9}
    found = squad_v2(predictions, GOLDS, no_answer, 0.15)
    assert (found["exact"], found["f1"], found["HasAns_exact"], found["NoAns_exact"]) == (75, 75, 50, 100)
    assert (found["best_exact"], found["best_exact_thresh"]) == (75, 0.1)
    assert squad_v2(predictions, GOLDS, no_answer, 1.0)["exact"] == 25
    # By brute force over all thresholds.
    tried = [squad_v2(predictions, GOLDS, no_answer, threshold)["f1"] for threshold in (-1, *no_answer.values())]
    assert found["best_f1"] == pytest.approx(max(tried))
    rows = [{"id": i, "prediction_text": text, "no_answer_probability": no_answer[i]} for i, text in predictions.items()]
    golds = [{"id": i, "answers": {"text": texts, "answer_start": [0] * len(texts)}} for i, texts in GOLDS.items()]
    from_class = SquadV2().compute(predictions=rows, references=golds, no_answer_threshold=0.15)
    assert from_class == pytest.approx(found)


def test_missing_predictions_and_answers_are_refused():
    with pytest.raises(ValueError, match="`predictions` lack 1 of 2 id.*'2'"):
        squad({"1": "x"}, {"1": ["x"], "2": ["y"]})
    with pytest.raises(ValueError, match="`references` have no answer for 1 id.*'2'. Is this `squad_v2`"):
        squad({"1": "x", "2": ""}, {"1": ["x"], "2": []})


@pytest.mark.parametrize("predictions", [[1], [[1], [1], [0]]])
def test_classes_that_do_not_go_row_by_row_are_refused(predictions):
    with pytest.raises(ValueError, match="a class a row of both"):
        accuracy(predictions, [1, 1, 1])


@pytest.mark.parametrize("figures", [squad, squad_v2])
def test_a_text_in_place_of_a_list_of_answers_is_refused(figures):
    with pytest.raises(TypeError, match="`references` of the id '2' are the text 'ice'; give a list of right answers"):
        figures({"1": "x", "2": "i"}, {"1": ["x"], "2": "ice"})


@pytest.mark.parametrize("twice", ["predictions", "references"])
def test_an_id_stands_once_among_rows(twice):
    rows = {
        "predictions": [{"id": "1", "prediction_text": "x"}, {"id": "2", "prediction_text": "y"}],
        "references": [{"id": i, "answers": {"text": [text], "answer_start": [0]}} for i, text in (("1", "x"), ("2", "y"))],
    }
    rows[twice][1]["id"] = "1"
    with pytest.raises(ValueError, match=f"`{twice}` have 1 id.s. more than once, such as '1'"):
        Squad().compute(**rows)
