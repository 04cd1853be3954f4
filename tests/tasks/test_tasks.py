from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import (
    AutoModelForQuestionAnswering,
    BertConfig,
    BertForMaskedLM,
    BertForMultipleChoice,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertModel,
    EvalPrediction,
    GPT2Config,
    GPT2ForSequenceClassification,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaForQuestionAnswering,
    LlamaForSequenceClassification,
    LlamaModel,
    Qwen2Model,
    RobertaConfig,
    RobertaModel,
    Trainer,
    TrainingArguments,
    XLNetConfig,
    XLNetForSequenceClassification,
)
from transformers.modeling_outputs import SequenceClassifierOutput

from helpers.tasks import MISMATCHED, SHAPE, VALIDATION, decoder_tokenizer, encoder_tokenizer, write_rows, write_task
from hf_vec2vec.distillation import load_student
from hf_vec2vec.tasks import TaskCollator, evaluate_task, load_task, load_trained_model, set_padding
from hf_vec2vec.tasks.base import map_batches
from hf_vec2vec.tasks.choice_pairs import as_pairs
from hf_vec2vec.tasks.fine_tuning import adapter_for, fine_tune, input_vectors

ENCODER, DECODER = encoder_tokenizer(), decoder_tokenizer()


@pytest.fixture
def load(tmp_path):
    return lambda name, **kwargs: load_task(name, write_task(name, tmp_path / name), **kwargs)


class Answers(nn.Module):
    """Gives each row what it is told to, wherever the row stands in a batch, and however it is padded."""

    device = torch.device("cpu")

    def __init__(self, answer, outputs=2):
        super().__init__()
        self.answer, self.config = answer, BertConfig(num_labels=outputs)

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        rows = [ids[mask.bool()].tolist() for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return SequenceClassifierOutput(logits=torch.stack([self.answer(tuple(row)) for row in rows]))


def known_answers(task, features) -> dict[tuple, torch.Tensor]:
    """What an oracle says to each row."""
    known = {}
    for row in features:
        ids = (
            [i for choice in row["input_ids"] for i in choice] if isinstance(row["input_ids"][0], list) else row["input_ids"]
        )
        logits = torch.zeros(5)
        if isinstance(row["labels"], float):
            logits = torch.tensor([row["labels"]])
        else:
            logits[row["labels"]] = 1
            logits = logits[: len(getattr(task, "labels", "ABCDE"))]
        known[tuple(ids)] = logits
    return known


PERFECT = {"cola": {"matthews_correlation": 1}, "stsb": {"pearson": 1, "spearmanr": 1}}
PERFECT |= dict.fromkeys(["mrpc", "qqp"], {"accuracy": 1, "f1": 1})
CONSTANT = {  # class 1 for ever, or 2.5
    "cola": {"matthews_correlation": 0},
    "sst2": {"accuracy": 3 / 5},
    "mrpc": {"accuracy": 3 / 4, "f1": 6 / 7},
    "stsb": {"pearson": 0, "spearmanr": 0},
    "qqp": {"accuracy": 1 / 3, "f1": 1 / 2},
    "mnli": {"accuracy": 1 / 3},
    "qnli": {"accuracy": 2 / 3},
    "rte": {"accuracy": 1 / 2},
    "wnli": {"accuracy": 1 / 2},
    "commonsense_qa": {"accuracy": 1 / 3},
}


@pytest.mark.parametrize("name", CONSTANT)
def test_constant_and_oracle_score_their_known_values(name, load):
    task = load(name)
    width = 5 if name == "commonsense_qa" else task.num_labels
    constant = torch.tensor([2.5]) if width == 1 else torch.eye(width)[1]
    found = evaluate_task(Answers(lambda row: constant, width), ENCODER, task, batch_size=2, progress=False)
    assert found == pytest.approx(CONSTANT[name])
    oracle = known_answers(task, task.prepare(ENCODER, "validation"))
    found = evaluate_task(Answers(oracle.__getitem__, width), ENCODER, task, batch_size=2, progress=False)
    assert found == pytest.approx(PERFECT.get(name, {"accuracy": 1}))


def test_mnli_has_two_validation_sets(load):
    task = load("mnli")
    assert list(task.splits) == ["train", "validation", "validation_mismatched"]
    assert len(task.splits["validation_mismatched"]) == len(MISMATCHED)
    constant = Answers(lambda row: torch.tensor([1.0, 0, 0]), 3)
    assert evaluate_task(constant, ENCODER, task, "validation_mismatched", progress=False) == {"accuracy": 0.5}


# Kind of model, tokenizer, task, whether it answers without a head.
KINDS = {
    "encoder classifies": (BertForSequenceClassification, BertConfig, ENCODER, "mrpc", False),
    "encoder regresses": (BertForSequenceClassification, BertConfig, ENCODER, "stsb", False),
    "decoder classifies": (LlamaForSequenceClassification, LlamaConfig, DECODER, "mnli", False),
    "decoder with positions": (GPT2ForSequenceClassification, GPT2Config, DECODER, "sst2", False),
    "encoder finds": (BertForQuestionAnswering, BertConfig, ENCODER, "squad_v2", False),
    "decoder finds": (LlamaForQuestionAnswering, LlamaConfig, DECODER, "squad", False),
    "encoder chooses": (BertForMultipleChoice, BertConfig, ENCODER, "commonsense_qa", False),
    "decoder chooses": (LlamaForCausalLM, LlamaConfig, DECODER, "commonsense_qa", True),
    "decoder writes": (LlamaForCausalLM, LlamaConfig, DECODER, "squad_v2", True),
}


@pytest.fixture(params=KINDS)
def made(request, load):
    """Model, tokenizer and task of one kind."""
    model_class, config_class, tokenizer, name, language_model = KINDS[request.param]
    task = load(name, language_model=language_model)
    torch.manual_seed(0)
    model = model_class(config_class(**SHAPE, **task.head_arguments()))
    return model, tokenizer, task


def test_every_kind_trains_and_is_evaluated_in_a_trainer(made, tmp_path):
    model, tokenizer, task = made
    set_padding(model, tokenizer)
    features = task.prepare(tokenizer, "train")
    before = {name: weights.clone() for name, weights in model.named_parameters()}
    trainer = Trainer(
        model,
        TrainingArguments(
            str(tmp_path), max_steps=2, per_device_train_batch_size=2, learning_rate=1e-3, use_cpu=True, disable_tqdm=True
        ),
        data_collator=TaskCollator(tokenizer),
        train_dataset=features,
        eval_dataset=features,
        processing_class=tokenizer,
        compute_metrics=task.metrics_for(features, "train"),
    )
    trainer.train()
    assert any(not torch.equal(weights, before[name]) for name, weights in model.named_parameters())
    reported = trainer.evaluate()
    assert 0 < reported["eval_loss"] < 50
    found = evaluate_task(model, tokenizer, task, "train", batch_size=2, progress=False)
    assert all(0 <= abs(figure) <= 100 or name.endswith("thresh") for name, figure in found.items())
    if task.metrics_for(features, "train") is not None:
        assert {name: reported[f"eval_{name}"] for name in found} == pytest.approx(found, abs=1e-5)


def test_padding_and_batches_change_no_output(made):
    model, tokenizer, task = made
    set_padding(model.eval(), tokenizer)
    features = task.prepare(tokenizer, "validation")
    names = ["start_logits", "end_logits"] if "start_positions" in features.column_names else ["logits"]

    def step(batch):
        found = model(**{name: values for name, values in batch.items() if name in ("input_ids", "attention_mask")})
        return zip(*(found[name] for name in names), strict=True)

    with torch.inference_mode():
        together, alone = (
            map_batches(step, features, TaskCollator(tokenizer), size, model.device, False) for size in (8, 1)
        )
    lengths = {len(row) for row in features["input_ids"]}
    assert len(lengths) > 1 or task.name == "commonsense_qa"
    for padded, plain in zip(together, alone, strict=True):
        for a, b in zip(padded, plain, strict=True):
            torch.testing.assert_close(a[: len(b)], b, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:fan_in_fan_out")  # GPT-2 has both kinds of layers
def test_models_with_adapters_are_evaluated_as_they_are(made):
    model, tokenizer, task = made
    plain = evaluate_task(model, tokenizer, task, progress=False)
    adapted = get_peft_model(model, LoraConfig(target_modules="all-linear", r=2))
    assert evaluate_task(adapted, tokenizer, task, progress=False) == plain  # the adapters of a new model add nothing
    assert adapted.training


def test_a_decoder_is_padded_with_its_end_token(load):
    model, tokenizer = LlamaForSequenceClassification(LlamaConfig(**SHAPE)), decoder_tokenizer()
    assert (tokenizer.pad_token, model.config.pad_token_id) == (None, None)
    evaluate_task(model, tokenizer, load("sst2"), progress=False)
    assert tokenizer.pad_token == "<end>"
    assert model.config.pad_token_id == tokenizer.eos_token_id
    tokenizer = decoder_tokenizer()
    tokenizer.eos_token = None
    with pytest.raises(ValueError, match="`tokenizer` has neither a padding nor an end token; set `tokenizer.pad_token`"):
        evaluate_task(model, tokenizer, load("sst2"), progress=False)


def test_heads_are_loaded_with_the_tasks_labels(load, tmp_path):
    BertModel(BertConfig(**SHAPE)).save_pretrained(tmp_path / "bert")
    model = load("mnli").load_model(str(tmp_path / "bert"))
    assert isinstance(model, BertForSequenceClassification)
    assert model.config.id2label == {0: "entailment", 1: "neutral", 2: "contradiction"}
    model = load("stsb").load_model(str(tmp_path / "bert"))
    assert (model.config.problem_type, model.classifier.out_features) == ("regression", 1)
    assert isinstance(load("squad").load_model(str(tmp_path / "bert")), BertForQuestionAnswering)


def test_batches_that_do_not_fit_are_halved_and_bad_sizes_refused(load, monkeypatch):
    task = load("sst2")
    oracle, sizes = known_answers(task, task.prepare(ENCODER, "validation")), []

    class Small(Answers):
        def forward(self, input_ids, **inputs):
            sizes.append(len(input_ids))
            if len(input_ids) > 2:
                raise torch.OutOfMemoryError("no room")
            return super().forward(input_ids, **inputs)

    assert evaluate_task(Small(oracle.__getitem__), ENCODER, task, batch_size=5, progress=False) == {"accuracy": 1}
    assert sizes == [5, 2, 2, 1]
    for wrong in ({"batch_size": 0}, {"batch_size": -1}, {"max_length": 0}, {"max_length": -3}):
        with pytest.raises(ValueError, match=f"`{next(iter(wrong))}` must be at least 1"):
            evaluate_task(Answers(oracle.__getitem__), ENCODER, task, progress=False, **wrong)


def test_both_texts_of_a_pair_stay_apart_without_a_separator(load):
    features = load("rte").prepare(DECODER, "validation")
    assert DECODER.decode(features[0]["input_ids"]) == "Ann owns a mill\na mill is owned"
    features = load("rte").prepare(ENCODER, "validation")
    assert ENCODER.decode(features[0]["input_ids"]) == "[CLS]Ann owns a mill[SEP]a mill is owned[SEP]"


def test_models_without_the_right_head_are_refused(load):
    for model in (BertModel(BertConfig(**SHAPE)), BertForMaskedLM(BertConfig(**SHAPE))):
        with pytest.raises(ValueError, match=r"`model` is a Bert.*are no answers to 'sst2'.*AutoModelForSequenceClass"):
            evaluate_task(model, ENCODER, load("sst2"), progress=False)
    three = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=3))
    with pytest.raises(ValueError, match=r"`model` has the 3 classes \['LABEL_0', .*the data have the 2 classes"):
        evaluate_task(three, ENCODER, load("sst2"), progress=False)


def test_a_head_that_reads_padding_is_refused(load, tmp_path):
    config = XLNetConfig(vocab_size=500, d_model=16, n_layer=1, n_head=2, d_inner=16)
    task, model = load("sst2"), XLNetForSequenceClassification(config)
    for part in (model, ENCODER):
        part.save_pretrained(folder := tmp_path / "model")
    message = "`model` is a XLNetForSequenceClassification, whose head reads the last place of a row"
    with pytest.raises(ValueError, match=message):
        evaluate_task(model, ENCODER, task, progress=False)
    with pytest.raises(ValueError, match=message):
        fine_tune(str(folder), task, LoraConfig(r=2, target_modules="all-linear"), max_steps=1)
    with pytest.raises(ValueError, match=message):
        load_student(str(folder), "classifier")


def test_hidden_labels_and_unknown_splits_are_refused(load):
    task = load("sst2")
    with pytest.raises(ValueError, match=r"`split` must be one of \['train', 'validation'\], got 'test'"):
        task.prepare(ENCODER, "test")
    hidden = task.splits["train"].map(lambda row: {"label": -1})
    task = replace(task, splits=task.splits | {"test": hidden})
    with pytest.raises(ValueError, match="'test' of 'sst2' has no labels"):
        task.metrics_for(task.prepare(ENCODER, "test"), "test")
    task = load("commonsense_qa")
    hidden = task.splits["train"].map(lambda row: {"answerKey": ""})
    task = replace(task, splits=task.splits | {"test": hidden})
    with pytest.raises(ValueError, match="'test' of 'commonsense_qa' has no labels"):
        task.metrics_for(task.prepare(ENCODER, "test"), "test")


def test_choices_must_be_as_many_for_a_head(load):
    task = load("commonsense_qa")
    rows = task.splits["train"].to_list()
    rows[0]["choices"] = {"label": ["A", "B"], "text": ["oven", "fridge"]}
    task = replace(task, splits={"train": task.splits["train"].from_list(rows)})
    with pytest.raises(ValueError, match=r"`choices` of 'commonsense_qa' are \[2, 5\] a question"):
        task.prepare(ENCODER, "train")
    rows[0]["answerKey"] = "E"
    task = replace(task, splits={"train": task.splits["train"].from_list(rows[:1])})
    with pytest.raises(ValueError, match=r"`answerKey` must be one of \['A', 'B'\], got 'E'"):
        task.prepare(ENCODER, "train")


def test_choices_as_pairs_are_scored_by_question(load):
    task = load("commonsense_qa")
    pairs = as_pairs(task)
    rows, asked = pairs.rows("validation"), task.rows("validation")
    assert len(rows) == 5 * len(asked)
    assert rows["choice"][:5] == asked["choices"][0]["text"]
    right = np.array(rows["label"][:])
    assert right.reshape(-1, 5).sum(1).tolist() == [1] * len(asked)
    score = pairs.metrics_for(pairs.prepare(ENCODER, "validation"), "validation")
    # Who finds every pair wrong, but the right one less so, is right; the class alone would have accuracy .8.
    said = np.stack([np.full(len(right), 3.0), right - 1.0], 1)
    assert score(EvalPrediction(said, None)) == {"accuracy": 1.0}
    assert score(EvalPrediction(-said, None)) == {"accuracy": 0.0}
    hidden = asked.map(lambda row: {"answerKey": ""})
    unknown = as_pairs(replace(task, splits=DatasetDict({"validation": hidden})))
    features = unknown.prepare(ENCODER, "validation")
    with pytest.raises(ValueError, match="has no labels"):
        unknown.metrics_for(features, "validation")
    fewer = asked.map(lambda row: {"choices": {"label": list("AB"), "text": ["rye", "ice"]}, "answerKey": "A"})
    with pytest.raises(ValueError, match=r"`choices` of 'commonsense_qa' are .*one number is needed in all splits"):
        as_pairs(replace(task, splits=DatasetDict({"train": asked, "validation": fewer})))


@pytest.mark.parametrize("name", ["mrpc", "commonsense_qa"])
def test_rows_that_are_longer_than_a_model_reads_are_told(load, tmp_path, name):
    task, short = load(name), BertConfig(**SHAPE, max_position_embeddings=8)
    model = {"mrpc": BertForSequenceClassification, "commonsense_qa": BertForMultipleChoice}[name](short)
    if name == "mrpc":
        model.config.id2label = dict(enumerate(task.labels))
    message = r"`model` reads 8 tokens at most, and the longest row has \d\d: give a smaller `max_length`"
    with pytest.raises(ValueError, match=message):
        evaluate_task(model, ENCODER, task, progress=False)
    assert evaluate_task(model, ENCODER, task, max_length=8, progress=False)
    BertModel(short).save_pretrained(tmp_path / "short")
    ENCODER.save_pretrained(tmp_path / "short")
    with pytest.raises(ValueError, match=message):
        fine_tune(str(tmp_path / "short"), task, LoraConfig(r=2, target_modules="all-linear"), max_steps=1)
    features = as_pairs(task).prepare(ENCODER, "train") if name == "commonsense_qa" else task.prepare(ENCODER, "train")
    with pytest.raises(ValueError, match=message):
        input_vectors(model, ENCODER, features, progress=False)


@pytest.mark.parametrize("made", [LlamaForCausalLM, LlamaModel, Qwen2Model, BertModel])
def test_a_span_head_sits_on_the_body_of_its_folder(load, tmp_path, made):
    config = made.config_class(**SHAPE, **({} if made is BertModel else {"num_key_value_heads": 2}))
    body = made(config)
    body.save_pretrained(tmp_path / "model")
    weights = dict(getattr(body, body.base_model_prefix, body).named_parameters())
    model = load("squad").load_model(str(tmp_path / "model"))
    model.save_pretrained(tmp_path / "again")
    for found in (model, AutoModelForQuestionAnswering.from_pretrained(tmp_path / "again")):
        for name, weight in getattr(found, found.base_model_prefix).named_parameters():
            assert torch.equal(weight, weights[name]), name


def test_a_choice_that_leaves_no_place_for_its_question_is_told(load):
    task = load("commonsense_qa")
    texts = [text for choices in task.rows("train")["choices"] for text in choices["text"]]
    longest = max(len(ENCODER(text)["input_ids"]) for text in texts) + 1  # with three special tokens
    task.prepare(ENCODER, "train", max_length=longest + 1)
    with pytest.raises(ValueError, match=f"`max_length` {longest} leaves no place for a question beside the choice '.*' of"):
        task.prepare(ENCODER, "train", max_length=longest)


@pytest.mark.parametrize(("made", "head"), [(BertModel, "qa_outputs"), (LlamaForCausalLM, "qa_outputs")])
def test_a_span_head_is_trained_whole_under_an_adapter_of_all_layers(load, tmp_path, made, head):
    config = BertConfig(**SHAPE) if made is BertModel else LlamaConfig(**SHAPE, num_key_value_heads=2)
    made(config).save_pretrained(tmp_path / "model")
    (ENCODER if made is BertModel else DECODER).save_pretrained(tmp_path / "model")
    task, adapter = load("squad"), LoraConfig(r=2, target_modules="all-linear")
    few = {"max_steps": 1, "learning_rate": 1e-2, "disable_tqdm": True}
    found = [fine_tune(str(tmp_path / "model"), task, adapter, **few, seed=seed)[0] for seed in (0, 0)]
    weights = [dict(model.named_parameters())[f"{head}.weight"] for model in found]
    assert torch.equal(*weights)
    again = fine_tune(str(tmp_path / "model"), task, adapter, **few | {"learning_rate": 0.0})[0]
    assert not torch.equal(dict(again.named_parameters())[f"{head}.weight"], weights[0])
    assert adapter.task_type is None


DISTILBERT = DistilBertConfig(vocab_size=500, dim=16, n_layers=1, n_heads=2, hidden_dim=16)


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (DistilBertModel(DISTILBERT), {"pre_classifier", "classifier"}),
        (DebertaV2Model(DebertaV2Config(**SHAPE)), {"pooler", "classifier"}),
        (RobertaModel(RobertaConfig(**SHAPE, pad_token_id=0)), {"classifier"}),
    ],
    ids=["distilbert", "deberta", "roberta"],
)
def test_heads_of_several_parts_are_trained_whole(load, tmp_path, body, parts):
    body.save_pretrained(tmp_path / "model")
    ENCODER.save_pretrained(tmp_path / "model")
    task, adapter = load("mrpc"), LoraConfig(r=2, target_modules="all-linear")
    adapted = get_peft_model(model := task.load_model(str(tmp_path / "model")), adapter_for(model, task, adapter))
    new = {name for name, _ in model.named_parameters() if not name.startswith(model.base_model_prefix)}
    assert {name.split(".")[0] for name in new} == parts
    assert not any("lora" in name for name in new)
    trained = {name for name, weights in adapted.named_parameters() if weights.requires_grad and "lora" not in name}
    assert {name.split(".")[2] for name in trained} == parts
    assert adapter.modules_to_save is None
    few = {"max_steps": 1, "use_cpu": True, "disable_tqdm": True}
    fine_tune(str(tmp_path / "model"), task, adapter, **few)[0].save_pretrained(tmp_path / "teacher")
    ENCODER.save_pretrained(tmp_path / "teacher")
    assert load_trained_model(str(tmp_path / "teacher"), task)


@pytest.fixture
def classifier(load, tmp_path):
    """Trains a small classifier on a task of pairs."""
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    BertModel(BertConfig(**SHAPE, **still)).save_pretrained(tmp_path / "bert")
    ENCODER.save_pretrained(tmp_path / "bert")
    adapter = LoraConfig(r=2, target_modules="all-linear")
    return lambda name="mrpc", **given: fine_tune(str(tmp_path / "bert"), load(name), adapter, disable_tqdm=True, **given)[0]


def test_questions_without_an_answer_are_not_learned_as_wrong_throughout(load, tmp_path, monkeypatch):
    folder = write_task("commonsense_qa", tmp_path / "commonsense_qa")
    first, second, _ = VALIDATION["commonsense_qa"]
    write_rows([first, second | {"answerKey": ""}], folder / "train.jsonl")
    BertModel(BertConfig(**SHAPE)).save_pretrained(tmp_path / "bert")
    ENCODER.save_pretrained(tmp_path / "bert")
    seen = []
    monkeypatch.setattr(Trainer, "train", lambda self: seen.append(self.train_dataset["labels"][:]))
    task = as_pairs(load_task("commonsense_qa", folder, keep_unlabelled=True))
    fine_tune(str(tmp_path / "bert"), task, LoraConfig(r=2, target_modules="all-linear"), use_cpu=True)
    assert seen == [[0, 1, 0, 0, 0]]


def test_a_model_that_diverged_is_neither_returned_nor_judged(classifier, load):
    with pytest.raises(ValueError, match="weights that are NaN or infinite .*diverged"):
        classifier(learning_rate=1e30, max_steps=3)
    model = classifier(max_steps=1)
    model.classifier.weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="classifier.weight"):
        evaluate_task(model, ENCODER, load("mrpc"), progress=False)


def test_gradients_that_are_gathered_are_those_of_one_batch(classifier):
    plain = {"optim": "sgd", "max_steps": 1, "learning_rate": 1.0, "max_grad_norm": 0.0}
    at_once = classifier(**plain, per_device_train_batch_size=4).classifier.weight
    gathered = classifier(**plain, per_device_train_batch_size=2, gradient_accumulation_steps=2).classifier.weight
    torch.testing.assert_close(gathered, at_once, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["sst2", "squad", "commonsense_qa"])
def test_a_split_without_rows_is_refused(load, name):
    task = load(name)
    task = replace(task, splits=DatasetDict({"validation": task.splits["validation"].select([])}))
    with pytest.raises(ValueError, match=f"`split` 'validation' of '{name}' has no rows"):
        evaluate_task(Answers(lambda row: torch.ones(2)), ENCODER, task, progress=False)


def test_a_text_of_which_the_tokenizer_makes_nothing_is_told_by_its_row(load):
    task = load("sst2")
    emptied = task.splits["validation"].map(
        lambda row, i: {"sentence": "" if i == 3 else row["sentence"]}, with_indices=True
    )
    task = replace(task, splits=DatasetDict({"validation": emptied}))
    model = LlamaForSequenceClassification(LlamaConfig(**SHAPE))
    with pytest.raises(ValueError, match="`split` 'validation' of 'sst2': row 3 has an empty text"):
        evaluate_task(model, decoder_tokenizer(), task, progress=False)
    assert len(task.prepare(ENCODER, "validation")) == 5  # it adds special tokens


def test_classes_that_a_split_numbers_in_another_order_are_refused(load):
    task = load("rte")
    with pytest.raises(ValueError, match=r"`labels` of 'rte' are \['not_ent.*', 'ent.*'\], but the split 'train' numbers"):
        replace(task, labels=task.labels[::-1])
    replace(task, labels=("yes", "no"))  # other names, of the same classes
