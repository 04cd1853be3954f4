import pandas
import pytest
from datasets import ClassLabel, Dataset, Features, Value

from hf_vec2vec.data.corpora import load_labelled
from hf_vec2vec.data.labels import natural_order, read_labels


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["up", None, "", "  ", " down "], ["up", None, None, None, "down"]),
        ([4, 0, -1, 2], ["4", "0", None, "2"]),
        ([4.0, None, float("nan"), -1.0], ["4", None, None, None]),
        (["3", "-1", "1"], ["3", None, "1"]),
        ([-2, -1, 0, 1], ["-2", "-1", "0", "1"]),  # a scale around 0, whose -1 is a class
        ([1, -1, None, 1], ["1", "-1", None, "1"]),  # two classes, as support vector machines have them
        (["-1.0", "1.0"], ["-1", "1"]),
        ([-1, -1], [None, None]),
        (["a", "-1"], ["a", "-1"]),
        (["1", "0", "NaN", "nan", "null", "None", "<NA>", "n/a"], ["1", "0", *[None] * 6]),
        (["1.0", "0.0", "", "-1.0", "12.00"], ["1", "0", None, None, "12"]),
        (["NA", "US", "nan"], ["NA", "US", "nan"]),  # Namibia, and whatever else is a name among names
        ([-100, 2, 0, -1], [None, "2", "0", None]),
        ([-100, -50, 0], ["-100", "-50", "0"]),
        (["007", "010"], ["007", "010"]),
        (["1.5", "2"], ["1.5", "2"]),
        ([None, "nan"], [None, None]),
        ([True, False], ["True", "False"]),
    ],
)
def test_what_is_a_label_and_what_is_none(values, expected):
    assert read_labels(values) == expected


@pytest.mark.parametrize("kind", [object, "str", "string"])
def test_gaps_in_a_column_of_pandas_name_no_class(kind):
    column = pandas.Series(["up", None, float("nan"), "down"], dtype=kind)
    for values in (list(column), Dataset.from_pandas(pandas.DataFrame({"label": column}))["label"][:]):
        assert read_labels(values) == ["up", None, None, "down"]


def test_places_among_names_and_what_is_no_class():
    assert read_labels([1, -1, 0], ["no", "yes"]) == ["yes", None, "no"]
    for wrong in ([2], [-3, 0]):
        with pytest.raises(ValueError, match=r"`label` must be a place among \['no', 'yes'\]"):
            read_labels(wrong, ["no", "yes"])
    for several in ([0, 2], {"a": 1}, ["x"]):
        with pytest.raises(ValueError, match=r"`label` holds .*, a (list|dict): each row must have one class"):
            read_labels([several, several])
    with pytest.raises(ValueError, match="0.5: classes have names or whole numbers, a fraction is a score"):
        read_labels([1.0, 0.5])


def test_classes_stand_as_people_count():
    assert natural_order(["10", "9", "-1", "1"]) == ["-1", "1", "9", "10"]
    assert natural_order({"grade 10", "grade 9", "draft"}) == ["draft", "grade 9", "grade 10"]
    assert natural_order(["b", "3", "a", "20"]) == ["3", "20", "a", "b"]


@pytest.mark.parametrize(
    ("labels", "left"),
    [
        (["sea", "sky", None, "sea"], ["sea", "sky", "sea"]),
        ([3, 11, -1, 3], ["3", "11", "3"]),
        (["x", "y", " ", "x "], ["x", "y", "x"]),
        (["0", "1", "NaN", "0"], ["0", "1", "0"]),
        ([0.0, 2.0, None, 0.0], ["0", "2", "0"]),
        ([5, 6, -100, 5], ["5", "6", "5"]),
        ([1, -1, None, 1], ["1", "-1", "1"]),
    ],
)
@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_rows_without_a_label_are_left_out_of_a_corpus(labels, left, suffix, tmp_path):
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(4)], "label": labels})
    path = str(tmp_path / f"some{suffix}")
    {".jsonl": data.to_json, ".csv": data.to_csv, ".parquet": data.to_parquet}[suffix](path)
    found = load_labelled(path)
    assert found.texts == ["text 0", "text 1", "text 3"]
    assert found.labels == left
    assert list(found.descriptions) == natural_order(set(left))


def test_known_classes_keep_their_order(tmp_path):
    names = ["world", "sport", "art"]
    features = Features({"text": Value("string"), "label": ClassLabel(names=names)})
    rows = {"text": ["a", "b", "c", "d"], "label": [2, 0, -1, 1]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "news")
    found = load_labelled(str(tmp_path / "news"))
    assert (found.labels, list(found.descriptions)) == (["art", "world", "sport"], names)
