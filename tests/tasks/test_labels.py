"""Classes by name: a model that is right on every row scores 1, in whatever order it lists its classes."""

import json

import pytest
import torch
from datasets import ClassLabel, Dataset
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import BertConfig, BertForSequenceClassification, BertModel
from transformers.modeling_outputs import SequenceClassifierOutput

from helpers.tasks import SHAPE, VALIDATION, choices, encoder_tokenizer, write_rows, write_task
from hf_vec2vec.cli import main
from hf_vec2vec.tasks import AnswerGenerationTask, MultipleChoiceTask, evaluate_task, load_task, load_trained_model
from hf_vec2vec.tasks.labels import classes_of_outputs, output_names, with_classes

TOKENIZER = encoder_tokenizer()


class Knows(nn.Module):
    """Gives every row of a task the class that its label names, in an order of its own."""

    device = torch.device("cpu")

    def __init__(self, task, names: list[str], meant: dict[str, str]):
        super().__init__()
        self.config = BertConfig(id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
        self.answers = {}
        rows = task.prepare(TOKENIZER, "validation")
        for row in rows:
            label = task.labels[row["labels"]] if row["labels"] >= 0 else task.labels[0]
            self.answers[tuple(row["input_ids"])] = [meant.get(name, name) for name in names].index(label)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        rows = [tuple(ids[mask.bool()].tolist()) for ids, mask in zip(input_ids, attention_mask, strict=True)]
        numbers = torch.tensor([self.answers[row] for row in rows])
        return SequenceClassifierOutput(logits=nn.functional.one_hot(numbers, len(self.config.id2label)).float())


def score(task, names, meant=None, **options):
    return evaluate_task(Knows(task, names, meant or {}), TOKENIZER, task, progress=False, **options)


@pytest.mark.parametrize(
    ("name", "names", "meant"),
    [
        ("mnli", ["CONTRADICTION", "Entailment", "neutral"], {"CONTRADICTION": "contradiction", "Entailment": "entailment"}),
        ("qnli", ["Not Entailment", "entailment"], {"Not Entailment": "not_entailment"}),
        ("rte", ["not-entailment", "ENTAILMENT "], {"not-entailment": "not_entailment", "ENTAILMENT ": "entailment"}),
        ("mrpc", ["equivalent", "not equivalent"], {"not equivalent": "not_equivalent"}),
        ("cola", ["Acceptable", "Unacceptable"], {"Acceptable": "acceptable", "Unacceptable": "unacceptable"}),
        ("mnli", ["LABEL_2", "LABEL_0", "LABEL_1"],
         {"LABEL_2": "contradiction", "LABEL_0": "entailment", "LABEL_1": "neutral"}),
        ("sst2", ["1", "0"], {"1": "positive", "0": "negative"}),
    ],
)  # fmt: skip
def test_a_models_own_names_decide(name, names, meant, tmp_path):
    task = load_task(name, write_task(name, tmp_path))
    found = score(task, names, meant)
    assert set(found.values()) == {1.0}  # also F1 and Matthews' correlation, whose positive class stays the data's


@pytest.mark.parametrize(
    ("labels", "names", "meant"),
    [
        (list(range(14)), [f"LABEL_{i}" for i in range(14)], {f"LABEL_{i}": str(i) for i in range(14)}),
        (list(range(1, 12)), [f"LABEL_{i}" for i in range(11)], {f"LABEL_{i}": str(i + 1) for i in range(11)}),
        (["Tennis", "Chess", "Judo / Karate"], ["Judo / Karate", "tennis", "CHESS"], {"tennis": "Tennis", "CHESS": "Chess"}),
        (["grade 2", "grade 10", "grade 1"], [f"LABEL_{i}" for i in range(3)],
         {"LABEL_0": "grade 1", "LABEL_1": "grade 2", "LABEL_2": "grade 10"}),
        ([7, 30, 4], ["30", "4", "7"], {}),
        (["a ", "b", " a", "b "], ["b", "a"], {}),
    ],
)  # fmt: skip
def test_own_classes_keep_their_names_and_count_in_natural_order(labels, names, meant, tmp_path):
    rows = [{"text": f"row number {i}", "label": labels[i % len(labels)]} for i in range(20 * len(labels))]
    write_rows(rows, tmp_path / "own.jsonl")
    task = load_task(str(tmp_path / "own.jsonl"))
    assert score(task, names, meant) == {"accuracy": 1.0}


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (["yes", "no"], ["positive", "negative"]),
        (["entailment", "neutral", "contradiction"], ["entailment", "not_entailment"]),
        (["a", "b", "c"], ["a", "b"]),
        (["a", "b"], ["a", "b", "c"]),
        (["World", "Sport"], ["0", "1"]),
        (["0", "1"], ["1", "2"]),
        (["LABEL_0", "LABEL_1", "LABEL_2"], ["a", "b"]),
        (["LABEL_0", "LABEL_0"], ["a", "b"]),
        (["a b", "a_b"], ["A B", "A-B"]),
        (["LABEL_0", "spam"], ["ham", "spam"]),
    ],
)
def test_names_that_do_not_match_are_an_error_with_both_lists(outputs, labels):
    with pytest.raises(ValueError, match="`label_map`") as raised:
        classes_of_outputs(outputs, labels)
    assert str(outputs) in str(raised.value)
    assert str(labels) in str(raised.value)


def test_a_map_of_names_tells_which_is_which(tmp_path):
    given = {"contradiction": "not_entailment", "neutral": "not_entailment"}  # three classes on two
    outputs = ["contradiction", "neutral", "entailment"]
    assert classes_of_outputs(outputs, ["entailment", "not_entailment"], given).tolist() == [1, 1, 0]
    task = load_task("sst2", write_task("sst2", tmp_path), label_map={"good": "positive", "bad": "negative"})
    assert score(task, ["good", "bad"], task.label_map) == {"accuracy": 1.0}
    for wrong in ({"god": "positive"}, {"good": "postive"}):
        with pytest.raises(ValueError, match="`label_map` must map names of the model, .* to names of the data"):
            classes_of_outputs(["good", "bad"], ["negative", "positive"], wrong)
    with pytest.raises(ValueError, match="do not match one to one"):  # nothing stands for `negative`
        classes_of_outputs(["good", "bad"], ["negative", "positive"], {"good": "positive", "bad": "positive"})
    with pytest.raises(ValueError, match="`label_map` goes with classes, which 'squad' has not"):
        load_task("squad", write_task("squad", tmp_path / "squad"), label_map={"a": "b"})


def test_minus_one_is_a_class_only_where_the_task_has_it():
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [1, -1, 1]})
    assert with_classes(rows, ("negative", "positive"))["label"][:] == [1, -1, 1]  # as of a test set
    assert with_classes(rows, ("-1", "1"))["label"][:] == [1, 0, 1]


def test_names_may_stand_in_label2id_alone():
    config = BertConfig(num_labels=3)
    config.label2id = {"no": 2, "maybe": 0, "yes": 1}
    assert output_names(config) == ["maybe", "yes", "no"]


def test_names_that_contradict_each_other_decide_nothing(tmp_path):
    config = BertConfig(id2label={0: "no", 1: "yes", 2: "maybe"}, label2id={"yes": 0, "no": 1, "maybe": 2})
    with pytest.raises(
        ValueError, match="`model` contradicts itself: its config calls output 0 'no' in `id2label` and 'yes'"
    ):
        output_names(config)
    for label2id in {"NO": 0, "Yes": 1, "maybe": 2}, {"no": 0, "yes": 1}, {"x": 0, "y": 1, "z": 2}, {"LABEL_1": 0}:
        config.label2id = label2id  # the same order; parts; other words, as where a model was trained anew
        assert output_names(config) == ["no", "yes", "maybe"]


def test_generic_names_are_taken_in_the_datas_order_with_a_word(monkeypatch):
    said = []
    monkeypatch.setattr("hf_vec2vec.tasks.labels.logger.warning", said.append)
    assert classes_of_outputs(["LABEL_0", "LABEL_1"], ["cat", "dog"]).tolist() == [0, 1]
    assert "gives its classes no names" in said[0]


def test_a_trained_head_keeps_its_classes(tmp_path):
    task = load_task("mnli", write_task("mnli", tmp_path / "mnli"))
    names = ["NEUTRAL", "CONTRADICTION", "ENTAILMENT"]
    config = BertConfig(**SHAPE, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    BertForSequenceClassification(config).save_pretrained(tmp_path / "nli")
    model = task.load_model(str(tmp_path / "nli"))
    assert list(model.config.id2label.values()) == names
    with pytest.raises(ValueError, match="the names do not match"):
        load_task("sst2", write_task("sst2", tmp_path / "sst2")).load_model(str(tmp_path / "nli"))


@pytest.mark.parametrize("form", ["names", "spaces", "numbers", "digits", "floats", "class label"])
def test_labels_of_a_published_set_in_any_form(form):
    numbers, names = [0, 1, 1, 0], ("negative", "positive")
    labels = {
        "names": [names[i].title() for i in numbers],
        "spaces": [f"{names[i]} " for i in numbers],
        "digits": [str(i) for i in numbers],
        "floats": [float(i) for i in numbers],
    }
    rows = Dataset.from_dict({"sentence": list("abcd"), "label": labels.get(form, numbers)})
    if form == "class label":  # in another order
        rows = Dataset.from_dict({"sentence": list("abcd"), "label": [1 - i for i in numbers]})
        rows = rows.cast_column("label", ClassLabel(names=["POSITIVE", "NEGATIVE"]))
    found = with_classes(rows, names)
    assert found["label"][:] == numbers
    assert found.features["label"].names == list(names)


def hide(rows: list[dict], key: str, value, which: int = 0) -> list[dict]:
    return [row | {key: value} if i == which else row for i, row in enumerate(rows)]


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("sst2", "label", -1),
        ("sst2", "label", None),
        ("mnli", "label", -1),
        ("stsb", "label", None),
        ("stsb", "label", -1.0),
        ("commonsense_qa", "answerKey", ""),
        ("commonsense_qa", "answerKey", None),
        ("squad", "answers", {"text": [], "answer_start": []}),
        ("squad_v2", "answers", None),
    ],
)
def test_rows_without_a_label_are_left_out_and_counted(name, key, value, tmp_path):
    rows = VALIDATION[name]
    write_rows(hide(rows, key, value), tmp_path / "train.jsonl")
    write_rows([row | {key: value} for row in rows], tmp_path / "test.jsonl")
    task = load_task(name, tmp_path)
    assert len(task.splits["train"]) == len(rows) - 1
    assert task.unlabelled == {"train": 1}
    features = task.prepare(TOKENIZER, "train")
    assert task.metrics_for(features, "train") is not None
    assert len(task.splits["test"]) == len(rows)
    with pytest.raises(ValueError, match=f"'test' of '{name}' has no labels"):
        task.metrics_for(task.prepare(TOKENIZER, "test"), "test")


def test_what_was_left_out_stands_beside_the_figures(tmp_path):
    write_rows(hide(VALIDATION["sst2"], "label", None), tmp_path / "validation.jsonl")
    task = load_task("sst2", tmp_path)
    assert score(task, ["positive", "negative"]) == {"accuracy": 1.0, "unlabelled": 1}


@pytest.mark.parametrize(
    ("labels", "key", "place"),
    [
        (list("ABCDE"), "C", 2),
        (list("ABCDE"), "3", 2),
        (list("12345"), "B", 1),
        (list("12345"), "4", 3),
        (list("ABCDE"), " e", 4),
        (list("01234"), "0", 0),
    ],
)
def test_keys_of_choices_by_letter_or_number(labels, key, place, tmp_path):
    rows = choices(("Where is it?", ["a", "b", "c", "d", "e"], key))
    rows[0]["choices"]["label"] = labels
    write_rows(rows, tmp_path / "train.jsonl")
    task = load_task("commonsense_qa", tmp_path)
    assert isinstance(task, MultipleChoiceTask)
    assert task.prepare(TOKENIZER, "train")["labels"][:] == [place]
    rows[0]["answerKey"] = "F"
    write_rows(rows, tmp_path / "train.jsonl")
    with pytest.raises(ValueError, match="`answerKey` must be one of"):
        load_task("commonsense_qa", tmp_path)


def saved(model, folder):
    model.save_pretrained(folder)
    TOKENIZER.save_pretrained(folder)
    return str(folder)


def test_the_command_line_and_a_trained_model_with_its_own_order(tmp_path, capsys):
    """A head whose bias always answers the model's first class."""
    names = ["Positive", "Negative"]
    config = BertConfig(**SHAPE, id2label=dict(enumerate(names)), label2id={name: i for i, name in enumerate(names)})
    model = BertForSequenceClassification(config)
    nn.init.zeros_(model.classifier.weight)
    model.classifier.bias.data = torch.tensor([5.0, -5.0])
    folder, data = saved(model, tmp_path / "model"), write_task("sst2", tmp_path / "sst2")  # three of five are positive
    line = ["evaluate", folder, "--task", "sst2", "--task_source", str(data)]
    assert main([*line, "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["figures"] == {"accuracy": 0.6}
    model.config.id2label, model.config.label2id = {0: "thumbs up", 1: "thumbs down"}, {"thumbs up": 0, "thumbs down": 1}
    saved(model, tmp_path / "model")
    assert main(line) != 0
    assert "label_map" in capsys.readouterr().err
    assert main([*line, "--label_map", "thumbs up=positive", "thumbs down=negative"]) == 0
    assert "accuracy 0.6" in capsys.readouterr().out


def test_an_adapter_holds_the_head_of_the_task(tmp_path):
    base = saved(BertModel(BertConfig(**SHAPE)), tmp_path / "base")
    task = load_task("mnli", write_task("mnli", tmp_path / "mnli"))
    with pytest.raises(ValueError, match="has no trained head for 'mnli' .* would be chance"):
        load_trained_model(base, task)
    adapted = get_peft_model(task.load_model(base), LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2))
    adapted.save_pretrained(tmp_path / "adapter")
    model, _ = load_trained_model(str(tmp_path / "adapter"), task)
    assert list(model.config.id2label.values()) == list(task.labels)
    sst2 = load_task("sst2", write_task("sst2", tmp_path / "sst2"))
    with pytest.raises(ValueError, match="adapter whose weights do not fit"):
        load_trained_model(str(tmp_path / "adapter"), sst2)
    bare = saved(BertModel(BertConfig(**SHAPE), add_pooling_layer=False), tmp_path / "bare")  # of which the head reads one
    adapted = get_peft_model(task.load_model(bare), LoraConfig(task_type="SEQ_CLS", target_modules=["query"], r=2))
    adapted.save_pretrained(tmp_path / "adapter")
    with pytest.raises(ValueError, match="has no trained head for 'mnli' .'bert.pooler.dense.bias' is missing"):
        load_trained_model(str(tmp_path / "adapter"), task)


def test_generation_counts_what_was_left_out_too(tmp_path):
    write_rows(hide(VALIDATION["squad"], "answers", None), tmp_path / "validation.jsonl")
    task = load_task("squad", tmp_path, language_model=True)
    assert isinstance(task, AnswerGenerationTask)
    assert task.unlabelled == {"validation": 1}
