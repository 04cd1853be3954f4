import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import KFold
from transformers import BertConfig, BertModel

from helpers.tasks import MILL, SHAPE, encoder_tokenizer, glue, squad, write_rows
from hf_vec2vec.encoders import TextEncoder
from hf_vec2vec.tasks import load_task
from hf_vec2vec.tasks.judging import TaskVectors, judge, judge_head, points_of
from hf_vec2vec.tasks.parts import PUBLISHED
from hf_vec2vec.tasks.probes import GroupProbe, choice_features, folds_of_texts, pair_features

TOPICS = ("rye", "ice", "oak")


class Telling:
    """Vectors that hold a text's topic, its first word, and noise of the text's own."""

    def __init__(self, strength=4.0):
        self.strength, self.asked = strength, []

    def encode(self, texts, **kwargs):
        self.asked += texts
        rows = []
        for text in texts:
            generator = np.random.default_rng([ord(letter) for letter in text])
            topic = np.array([self.strength * (text.split()[0] == topic) for topic in TOPICS])
            rows.append(np.concatenate([topic, generator.standard_normal(5)]))
        return torch.tensor(np.array(rows), dtype=torch.float32)


def texts(count, seed):
    generator = np.random.default_rng(seed)
    return [f"{generator.choice(TOPICS)} {generator.integers(10**6)}" for _ in range(count)]


def topics(found):
    return [text.split()[0] for text in found]


def rows_of(name, count, seed):
    first, second = texts(count, seed), texts(count, seed + 100)
    same = [int(a == b) for a, b in zip(topics(first), topics(second), strict=True)]
    if name in ("cola", "sst2"):
        return glue(("sentence",), [(text, int(topic == "rye")) for text, topic in zip(first, topics(first), strict=True)])
    if name == "stsb":
        return glue(("sentence1", "sentence2"), [(a, b, 5.0 * s) for a, b, s in zip(first, second, same, strict=True)])
    if name == "commonsense_qa":
        rows = []
        for i, question in enumerate(first):
            answers = [f"{topic} {i}" for topic in TOPICS]
            key = "ABC"[TOPICS.index(question.split()[0])]
            rows.append({"id": str(i), "question": question, "choices": {"label": list("ABC"), "text": answers}})
            rows[-1]["answerKey"] = key
        return rows
    columns = {"mnli": ("premise", "hypothesis"), "boolq": ("question", "passage")}.get(name, ("sentence1", "sentence2"))
    return glue(columns, list(zip(first, second, same, strict=True)))


@pytest.fixture
def load(tmp_path):
    def loaded(name, splits=("train", "validation"), change=lambda rows: rows):
        for seed, split in enumerate(splits):
            write_rows(change(rows_of(name, 90, seed)), tmp_path / name / f"{split}.jsonl")
        return load_task(name, tmp_path / name)

    return loaded


@pytest.mark.parametrize("name", ["cola", "sst2", "mrpc", "rte", "stsb", "boolq", "commonsense_qa"])
def test_a_probe_reads_what_vectors_tell_and_nothing_else(load, name):
    task = load(name)
    found = judge(TaskVectors(Telling()), task)
    assert found.points > 85  # ranks of two scores tie, so that STS-B has no more
    assert found.fold_points > 80
    assert found.points == pytest.approx(points_of(found.metric, found.predictions, found.references))
    assert (found.train_rows, len(found.predictions)) == (90, 90)
    silent = judge(TaskVectors(Telling(0)), task)
    assert silent.points < 80
    assert json.loads(json.dumps(found.to_dict()))["figures"] == found.figures


def test_figures_are_the_official_ones_and_cosines_need_no_training(load):
    vectors = TaskVectors(Telling())
    assert set(judge(vectors, load("mrpc")).figures) == {"accuracy", "f1"}
    assert set(judge(vectors, load("cola")).figures) == {"matthews_correlation"}
    assert set(judge(vectors, load("commonsense_qa")).figures) == {"accuracy", "cosine_accuracy"}
    scores = judge(vectors, load("stsb"))
    assert set(scores.figures) == {"pearson", "spearmanr", "cosine_pearson", "cosine_spearmanr"}
    shuffled = load("stsb", change=lambda rows: [row | {"label": float(i % 6)} for i, row in enumerate(rows)])
    assert judge(vectors, shuffled).figures["pearson"] < 0.4 < 0.9 < scores.figures["pearson"]
    cosine = (scores.figures["cosine_pearson"] + scores.figures["cosine_spearmanr"]) / 2
    assert scores.points == pytest.approx(100 * cosine)


def test_each_text_is_embedded_once_for_all_tasks(load):
    encoder = Telling()
    vectors = TaskVectors(encoder)
    for name in ("mrpc", "stsb", "mrpc"):
        judge(vectors, load(name))
    assert len(encoder.asked) == len(set(encoder.asked))


def test_parts_are_called_parts(load):
    vectors = TaskVectors(Telling())
    assert judge(vectors, load("rte")).part == "90 of 2,490 training rows; 90 of 277 rows of 'validation'"
    assert "30 of 2,490 training rows; 20 of 277" in judge(vectors, load("rte"), max_train_rows=30, max_rows=20).part
    of_three = load("mnli", ("train_sample", "validation_matched"), with_(label=lambda row: row["idx"] % 3))
    assert "90 of 392,702 training rows" in judge(vectors, of_three).part
    renamed = with_(question=lambda row: row["sentence1"], sentence=lambda row: row["sentence2"])
    folds = judge(vectors, load("qnli", ("dev",), renamed))
    assert "fitted in folds of 'validation', for there are no training rows" in folds.part
    assert folds.points > 90
    whole = load("wnli", change=lambda rows: [rows[i % 90] for i in range(PUBLISHED["wnli"][0])])
    assert judge(vectors, whole).part == "635 of 71 rows of 'validation'"


def with_(**columns):
    """Rows with other values in some columns, each made from the row."""
    return lambda rows: [row | {name: value(row) for name, value in columns.items()} for row in rows]


def in_first(**columns):
    """The same in the first row alone."""
    return lambda rows: [rows[0] | columns, *rows[1:]]


TWO = {"choices": {"label": ["A", "B"], "text": ["rye", "ice"]}, "answerKey": "A"}
EMPTY = {"label": ["A", "B", "C"], "text": ["rye", "", "oak"]}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sst2", in_first(sentence=" "), "'sentence' of 'validation', the first at place 0"),
        ("mrpc", with_(label=lambda row: -1), "has no labels"),
        ("mrpc", with_(label=lambda row: int(row["idx"] < 2)), "'equivalent': 2} rows a class; a probe needs 3"),
        ("commonsense_qa", in_first(**TWO), r"`choices` of 'commonsense_qa' are \[2, 3\]"),
        ("commonsense_qa", in_first(choices=EMPTY, answerKey="A"), "1 empty text.* in the column 'choices'"),
    ],
)
def test_bad_rows_are_refused_by_their_column(load, name, change, message):
    with pytest.raises(ValueError, match=message):
        judge(TaskVectors(Telling()), load(name, change=change))


def test_missing_splits_and_tasks_for_heads_are_refused(load, tmp_path):
    task = load("mrpc")
    with pytest.raises(ValueError, match="`split` must be one of .* got 'test'"):
        judge(TaskVectors(Telling()), task, split="test")
    with pytest.raises(ValueError, match="must be at least 1, got 0"):
        judge(TaskVectors(Telling()), task, max_rows=0)
    load("commonsense_qa")
    likely = load_task("commonsense_qa", tmp_path / "commonsense_qa", language_model=True)
    with pytest.raises(TypeError, match="Load it without a head"):
        judge(TaskVectors(Telling()), likely)
    with pytest.raises(ValueError, match="has several splits for training"):
        judge(TaskVectors(Telling()), load("rte", ("train_a", "train_b", "validation")))


def test_a_softmax_over_two_is_a_logistic_regression_on_their_difference():
    generator = np.random.default_rng(0)
    groups = generator.standard_normal((80, 2, 3)).astype(np.float32)
    groups /= groups.reshape(-1, 3).std(0)
    right = (groups @ [1.0, -0.5, 0.0]).argmax(1)
    probe = GroupProbe(penalty=0.1).fit(groups, right)
    difference = groups[:, 1] - groups[:, 0]
    expected = LogisticRegression(C=1 / (80 * 0.1), fit_intercept=False, tol=1e-8).fit(difference, right)
    np.testing.assert_allclose(probe.weights_, expected.coef_[0], rtol=1e-3, atol=1e-3)
    assert (probe.predict(groups) == right).mean() > 0.9
    ragged = [group[: 1 + i % 2] for i, group in enumerate(groups)]
    assert len(GroupProbe().fit(ragged, np.zeros(80, int)).scores(ragged)[2]) == 1


def test_features_of_pairs_and_choices_are_alike():
    generator = np.random.default_rng(0)
    question, choices = generator.standard_normal((4, 6)), generator.standard_normal((4, 3, 6))
    pair, choice = pair_features(question, choices[:, 1]), choice_features(question, choices)
    assert (pair.shape, choice.shape) == ((4, 25), (4, 3, 19))
    np.testing.assert_allclose(pair[:, 6:], choice[:, 1])


def test_rows_that_share_a_text_are_in_one_fold():
    alone = [(f"a {i}", f"b {i}") for i in range(20)]
    drawn = np.empty(20)
    for fold, (_, rows) in enumerate(KFold(5, shuffle=True, random_state=0).split(alone)):
        drawn[rows] = fold
    np.testing.assert_array_equal(folds_of_texts(alone, 5), drawn)
    chained = [*alone[:17], ("a 3", "x"), ("y", "x"), ("b 5", "z")]  # of whichever side
    found = folds_of_texts(chained, 5)
    np.testing.assert_array_equal(found[:17], drawn[:17])
    np.testing.assert_array_equal(found[17:], drawn[[3, 3, 5]])


def test_what_is_known_of_a_text_does_not_tell_of_its_other_rows(load, tmp_path):
    """As in MNLI and QNLI, whose texts stand in a row of each class: memory of the others is as good as the answer."""
    premises = texts(60, 0)
    rows = [(premise, other, i) for premise in premises for i, other in enumerate(texts(2, int(premise.split()[1])))]
    write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / "rte" / "validation.jsonl")
    found = judge(TaskVectors(Telling(0)), load_task("rte", tmp_path / "rte"))
    assert 40 < found.points < 60
    rows = [("same", str(i), i % 2) for i in range(20)]
    write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / "one" / "validation.jsonl")
    with pytest.raises(ValueError, match="`split` 'validation' cannot be judged in folds, for its rows share their texts"):
        judge(TaskVectors(Telling()), load_task("rte", tmp_path / "one"))


@pytest.fixture
def reader(tmp_path):
    torch.manual_seed(0)
    folder = tmp_path / "reader"
    BertModel(BertConfig(**SHAPE | {"hidden_size": 32}, initializer_range=0.5)).save_pretrained(folder)
    encoder_tokenizer().save_pretrained(folder)
    return TextEncoder(str(folder))


def passages(count, *, unanswered=0):
    """The answer is always the year, which one token before it gives away."""
    years = [str(1500 + 7 * i) for i in range(count)]
    rows = [(MILL.replace("1912", year), f"When was it, {year}?", [year]) for year in years]
    empty = [(MILL.replace("1912", f"winter {i}"), f"Why was it, {i}?", []) for i in range(unanswered)]
    return squad(*rows, *empty)


@pytest.mark.parametrize("name", ["squad", "squad_v2"])
def test_spans_are_read_off_the_states_of_tokens(reader, tmp_path, name):
    for split in ("train", "validation"):
        write_rows(passages(24, unanswered=12 * (name == "squad_v2")), tmp_path / name / f"{split}.jsonl")
    found = judge(TaskVectors(reader), load_task(name, tmp_path / name))
    assert found.figures["f1"] > 60  # by chance 5
    assert found.points == pytest.approx(found.figures["f1"])
    assert found.metric == "mean_f1"
    if name == "squad_v2":
        assert found.figures["NoAns_f1"] > 50


def test_spans_without_training_rows_are_judged_in_folds_of_passages(reader, tmp_path):
    write_rows(passages(15), tmp_path / "squad" / "dev.jsonl")
    found = judge(TaskVectors(reader), load_task("squad", tmp_path / "squad"))
    assert "in folds" in found.part
    assert found.points > 30
    write_rows(squad((MILL, "Who?", ["Venn"]), (MILL, "When?", ["1912"])), tmp_path / "one" / "dev.jsonl")
    with pytest.raises(ValueError, match="one passage alone"):
        judge(TaskVectors(reader), load_task("squad", tmp_path / "one"))


def test_another_seed_chooses_the_penalty_of_spans_in_other_folds(reader, tmp_path):
    for split in ("train", "validation"):
        write_rows(passages(12), tmp_path / "squad" / f"{split}.jsonl")
    task, vectors = load_task("squad", tmp_path / "squad"), TaskVectors(reader)
    points = [judge(vectors, task, seed=seed).fold_points for seed in (0, 0, 1)]
    assert points[0] == points[1] != points[2]


def test_encoders_that_cannot_read_spans_are_refused(static, tmp_path, reader):
    write_rows(passages(6), tmp_path / "squad" / "dev.jsonl")
    task = load_task("squad", tmp_path / "squad")
    with pytest.raises(ValueError, match="spans need states of tokens"):
        judge(TaskVectors(TextEncoder(static)), task)
    reader.model.config.max_position_embeddings = 200
    with pytest.raises(ValueError, match="reads 200 tokens at most, and windows of 'squad' have 384"):
        judge(TaskVectors(reader), task)


@pytest.mark.parametrize("splits", [("train", "validation"), ("dev",)], ids=["training rows", "folds"])
def test_states_that_no_memory_holds_are_refused_before_they_are_made(reader, tmp_path, monkeypatch, splits):
    for split in splits:
        write_rows(passages(24), tmp_path / "squad" / f"{split}.jsonl")
    task = load_task("squad", tmp_path / "squad")
    members = [int((np.array(row["offsets"])[:, 0] >= 0).sum()) + 1 for row in task.prepare(reader.tokenizer, "validation")]
    needed = 3 * 4 * 32 * sum(members)
    made = reader.model.forward
    monkeypatch.setattr(reader.model, "forward", None)
    monkeypatch.setattr("hf_vec2vec.tasks.span_judging.available_memory", lambda: int(0.5 * needed))
    said = "states of 32 numbers for 24 windows .* Give `max_rows` .*: 6 of 24 rows would take half"
    with pytest.raises(ValueError, match=said):
        judge(TaskVectors(reader), task)
    monkeypatch.setattr(reader.model, "forward", made)
    for room in (int(1.05 * needed), None):
        monkeypatch.setattr("hf_vec2vec.tasks.span_judging.available_memory", lambda room=room: room)
        assert judge(TaskVectors(reader), task).points >= 0


@pytest.mark.parametrize("name", ["stsb", "commonsense_qa", "mrpc"])
def test_training_rows_without_a_label_are_not_learned(name, tmp_path):
    rows, hidden = rows_of(name, 40, 0), rows_of(name, 20, 5)
    unknown = {"answerKey": ""} if name == "commonsense_qa" else {"label": -1}
    for split, found in (("train", rows + [row | unknown for row in hidden]), ("validation", rows_of(name, 30, 9))):
        write_rows(found, tmp_path / f"{split}.jsonl")
    plain, kept = (load_task(name, tmp_path, keep_unlabelled=kept) for kept in (False, True))
    expected, found = (judge(TaskVectors(Telling()), task) for task in (plain, kept))
    assert len(kept.rows("train")) == 60
    assert (found.train_rows, found.figures) == (40, expected.figures)


def test_figures_of_the_callers_own_have_no_points(load):
    def mine(predictions, references):
        return {"mine": 0.5}

    task = replace(load("mrpc"), metrics=mine)
    with pytest.raises(ValueError, match="`metrics` of 'mrpc' is 'mine', but a probe is judged by one of accuracy, "):
        judge(TaskVectors(Telling()), task)
    with pytest.raises(ValueError, match="`metrics` of 'mrpc' is 'mine'"):
        judge_head(None, None, task, "validation", "train", "")
