import logging

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, load_from_disk
from peft import IA3Config, LoraConfig
from safetensors.torch import load_file
from tokenizers import normalizers
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging as transformers_logging

from helpers.clouds import random_rotation
from helpers.distillation import LORA, TEXTS, make_trainer
from helpers.encoders import SHAPE
from hf_vec2vec import TextEncoder, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.data import to_dataset
from hf_vec2vec.distillation import DistillationTrainer, DistillationTrainingArguments, load_student
from hf_vec2vec.distillation.adapters import PROJECTION
from hf_vec2vec.distillation.data import prepare

pytestmark = pytest.mark.usefixtures("own_cache")
LEARNED = {"translator": None, "learn_projection": True}


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.student.named_parameters() if p.requires_grad}


def losses(trainer, name="loss"):
    return [row[name] for row in trainer.state.log_history if name in row]


def batch_of(trainer, rows):
    return trainer._prepare_inputs(trainer.data_collator([trainer.train_dataset[i] for i in rows]))


def test_training_lowers_the_loss_and_moves_the_adapter_alone(folders, tmp_path):
    trainer = make_trainer(folders, tmp_path, max_steps=60, learning_rate=1e-2)
    before = {name: p.detach().clone() for name, p in trainer.student.named_parameters()}
    translator = {name: p.clone() for name, p in trainer.translator.state_dict().items()}
    trainer.train()
    assert sum(losses(trainer)[-5:]) < 0.6 * sum(losses(trainer)[:5])
    for name, p in trainer.student.named_parameters():
        assert torch.equal(p, before[name]) != ("lora_B" in name or "lora_A" in name), name
    assert all(torch.equal(p, translator[name]) for name, p in trainer.translator.state_dict().items())
    last = next(row for row in reversed(trainer.state.log_history) if "student_drift" in row)
    assert last["student_drift"] > 0.01
    assert last["effective_rank"] != last["effective_rank_before"]


def test_a_translation_that_says_what_the_student_says_gives_no_gradient(folders, tmp_path):
    start = TextEncoder(folders["llama"]).encode(TEXTS, progress=False)
    turned = start @ random_rotation(8, 8)
    statistics = fit_statistics(turned), fit_statistics(start)
    exact = Vec2VecModel.from_alignment(Alignment("t", "s", random_rotation(8, 8).T, random_rotation(8, 8), *statistics))
    data = to_dataset(turned, TEXTS).rename_column("embedding", "label")
    trainer = make_trainer(folders, tmp_path, translator=exact, teacher=None, data=data, student_space="s")
    trainer.train()
    assert losses(trainer)[0] == pytest.approx(0, abs=1e-5)
    assert losses(trainer, "student_drift")[-1] < 1e-3


@pytest.mark.parametrize(
    "options",
    [{"mse_weight": 1.0, "gram_weight": 1.0}, {"translator": None, "learn_projection": True}],
    ids=["translator", "learned projection"],
)
def test_where_the_teachers_mean_lies_changes_nothing(folders, tmp_path, options):
    """A translator that learned on other texts misses by about the same vector everywhere."""
    rows = TextEncoder(folders["bert"]).encode(TEXTS, progress=False)
    stored = [to_dataset(rows + shift, TEXTS).rename_column("embedding", "label") for shift in (0, 2 * torch.ones(6))]
    runs = [make_trainer(folders, tmp_path / str(i), teacher=None, data=data, **options) for i, data in enumerate(stored)]
    for trainer in runs:
        trainer.train()
    for name, p in adapter(runs[0]).items():
        torch.testing.assert_close(p, adapter(runs[1])[name], rtol=1e-3, atol=1e-5, msg=name)


def test_means_are_of_the_training_texts_and_of_the_student_before_training(folders, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_vec2vec.distillation.trainer.CENTRED_ON", 16)
    trainer = make_trainer(folders, tmp_path)
    device = trainer.args.device
    student = TextEncoder(folders["llama"]).encode(TEXTS[::2], progress=False).to(device)
    student = trainer._normalized(student, "llama")
    teacher = TextEncoder(folders["bert"]).encode(TEXTS[::2], progress=False).to(device)
    target = trainer._normalized(trainer.translator.translate(teacher, source="bert", target="llama"), "llama")
    ours, theirs, own = trainer.centres["bert"]
    trainer.train()
    torch.testing.assert_close(ours, student.mean(0))
    torch.testing.assert_close(theirs, target.mean(0))
    torch.testing.assert_close(own, trainer._normalized(teacher, "bert").mean(0))
    assert all(a is b for a, b in zip(trainer.centres["bert"], (ours, theirs, own), strict=True))


@pytest.mark.parametrize(
    "weights", [{}, {"mse_weight": 1.0, "lm_loss_weight": 0.5, "kind": "causal_lm"}], ids=["cosine", "lm"]
)
def test_accumulated_batches_equal_a_large_one(folders, tmp_path, weights):
    options = {"max_steps": 3, "max_grad_norm": 0.0, "optim": "sgd", "learning_rate": 0.1, **weights}
    one = make_trainer(folders, tmp_path / "1", **options)
    many = make_trainer(
        folders, tmp_path / "8", **options | {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 8}
    )
    one.train()
    many.train()
    moved = adapter(make_trainer(folders, tmp_path / "0", **options))
    for (name, a), b in zip(adapter(one).items(), adapter(many).values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6, msg=name)
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(adapter(one).values(), moved.values(), strict=True))


@pytest.mark.parametrize("projection", [False, True], ids=["translator", "learned projection"])
def test_resume_is_bit_exact(folders, tmp_path, projection):
    options = {
        "save_strategy": "steps",
        "save_steps": 3,
        "lora": LoraConfig(r=4, target_modules="all-linear", lora_dropout=0.3),
    }
    options |= {"translator": None, "learn_projection": True} if projection else {}
    whole = make_trainer(folders, tmp_path / "a", **options)
    whole.train()
    resumed = make_trainer(folders, tmp_path / "b", **options)
    resumed.train(resume_from_checkpoint=str(tmp_path / "a" / "checkpoint-3"))
    for name, p in adapter(whole).items():
        assert torch.equal(p, adapter(resumed)[name]), name
    assert any("projection" in name for name in adapter(whole)) == projection


def test_the_best_checkpoint_comes_back_with_its_projection(folders, tmp_path):
    trainer = make_trainer(folders, tmp_path, **LEARNED | {"save_strategy": "steps", "save_steps": 3})
    trainer.train()
    best = load_file(tmp_path / "checkpoint-3" / f"{PROJECTION}.safetensors")
    found = getattr(trainer.student, PROJECTION).state_dict()
    assert not any(torch.equal(found[name], weight) for name, weight in best.items())  # it went on
    trainer.state.best_model_checkpoint = str(tmp_path / "checkpoint-3")
    trainer._load_best_model()
    for name, weight in getattr(trainer.student, PROJECTION).state_dict().items():
        assert torch.equal(weight, best[name]), name


@pytest.mark.parametrize("words", [0, 2], ids=["texts", "spans"])
def test_padding_order_and_masked_tokens_change_no_loss(folders, tmp_path, words):
    options = {
        "span_words": words,
        "gram_weight": 0.5,
        "contrastive_weight": 0.1,
        "lm_loss_weight": 1.0,
        "kind": "causal_lm",
    }
    trainer = make_trainer(folders, tmp_path, **options)
    trainer.student.eval()
    rows = [0, 5, 9, 3]
    with torch.no_grad():
        plain = trainer.compute_loss(trainer.model, batch_of(trainer, rows))
        turned = trainer.compute_loss(trainer.model, batch_of(trainer, rows[::-1]))
        padded = batch_of(trainer, rows)
        inputs = padded["inputs"]
        inputs["input_ids"] = F.pad(inputs["input_ids"], (0, 3), value=5)  # words under the mask
        inputs["attention_mask"] = F.pad(inputs["attention_mask"], (0, 3))
        if words:
            padded["offsets"] = F.pad(padded["offsets"], (0, 0, 0, 3))
        wide = trainer.compute_loss(trainer.model, padded)
    torch.testing.assert_close(turned, plain)
    torch.testing.assert_close(wide, plain)


def test_vectors_may_be_stored_cached_or_made_on_the_fly(folders, tmp_path):
    stored = to_dataset(TextEncoder(folders["bert"]).encode(TEXTS, progress=False), TEXTS).rename_column(
        "embedding", "label"
    )
    runs = [
        make_trainer(folders, tmp_path / "1"),
        make_trainer(folders, tmp_path / "2", cache_teacher=False),
        make_trainer(folders, tmp_path / "3", teacher=None, data=stored),
    ]
    for trainer in runs:
        trainer.train()
    for other in runs[1:]:
        for name, p in adapter(runs[0]).items():
            torch.testing.assert_close(p, adapter(other)[name], msg=name)


def test_losses_keep_their_precision_where_the_student_runs_in_bfloat16(folders, tmp_path):
    trainer = make_trainer(folders, tmp_path, bf16=True, use_cpu=True, gram_weight=1.0)
    trainer.student.eval()
    batch = batch_of(trainer, range(32))
    seen = {}

    def watch(rows, targets, space):
        seen["dtypes"] = rows.dtype, targets.dtype
        found = compared(rows, targets, space)
        seen["targets"] = found[1]
        return found

    compared, trainer._compared = trainer._compared, watch
    with torch.no_grad(), trainer.compute_loss_context_manager():
        trainer.compute_loss(trainer.model, batch)
    teacher = batch["teacher"]["bert"]
    exact = trainer._normalized(trainer.translator.translate(teacher, source="bert", target="llama"), "llama")
    assert seen["dtypes"] == (torch.float32, torch.float32)
    torch.testing.assert_close(seen["targets"], exact)


def test_several_teachers_count_alike(folders, tmp_path):
    bert = TextEncoder(folders["bert"])
    start, rows = TextEncoder(folders["llama"]).encode(TEXTS, progress=False), bert.encode(TEXTS, progress=False)
    rotation, statistics = random_rotation(6, 8), fit_statistics(start)
    pairs = [
        Alignment(n, "llama", rotation, rotation.T, fit_statistics(r), statistics) for n, r in (("a", rows), ("b", -rows))
    ]
    translator = Vec2VecModel.from_alignment(pairs)
    data = Dataset.from_dict({"text": TEXTS, "label_a": rows.tolist(), "label_b": (-rows).tolist()})
    options = {
        "translator": translator,
        "teacher": None,
        "data": data,
        "student_space": "llama",
        "teacher_spaces": ["a", "b"],
    }
    trainer = make_trainer(folders, tmp_path, **options)
    single = make_trainer(
        folders, tmp_path, **options | {"teacher_spaces": ["a"], "data": data.rename_column("label_a", "label")}
    )
    for each in (trainer, single):
        each.student.eval()
    with torch.no_grad():
        both = trainer.compute_loss(trainer.model, batch_of(trainer, range(8)))
        one = single.compute_loss(single.model, batch_of(single, range(8)))
    assert both.item() == pytest.approx(1, abs=1e-4)  # the two pull in opposite directions: 1 - c and 1 + c
    assert abs(one.item() - 1) > 0.01


def test_sorted_logits_of_another_language_model(folders, tmp_path):
    torch.manual_seed(1)
    other = LlamaForCausalLM(LlamaConfig(**SHAPE | {"hidden_size": 4}, num_key_value_heads=2, initializer_range=1.0))
    tokenizer = load_student(folders["llama"])[1]
    options = {"kind": "causal_lm", "cosine_weight": 0.0, "logit_weight": 1.0, "translator": None, "teacher": None}
    trainer = make_trainer(
        folders, tmp_path, **options, logit_teacher=(other, tokenizer), max_steps=40, learning_rate=2e-2, data=bad()
    )
    trainer.train()
    assert sum(losses(trainer, "logit_loss")[-5:]) < 0.7 * sum(losses(trainer, "logit_loss")[:5])
    assert not any(p.requires_grad for p in other.parameters())
    with pytest.raises(ValueError, match="compares two language models"):
        make_trainer(folders, tmp_path, **options, data=bad())
    small = LlamaForCausalLM(LlamaConfig(**SHAPE | {"vocab_size": 7}, num_key_value_heads=2))
    with pytest.raises(ValueError, match="a tokenizer of 11 tokens, and its model knows 7: .* as the student has"):
        make_trainer(folders, tmp_path, **options, logit_teacher=(small, tokenizer), data=bad())


def test_task_and_teacher_pull_together(folders, tmp_path):
    trainer = make_trainer(folders, tmp_path, kind="classifier", task_weight=1.0, max_steps=4, logging_steps=2)
    trainer.compute_metrics = lambda found: {"accuracy": float((found.predictions.argmax(1) == found.label_ids).mean())}
    trainer.train()
    row = next(row for row in trainer.state.log_history if "gradient_ratio" in row)
    assert row["gradient_ratio"] > 0
    assert row["loss"] == pytest.approx(row["cosine_loss"] + row["task_loss"], rel=1e-4)
    assert 0 <= trainer.evaluate(trainer.train_dataset)["eval_accuracy"] <= 1


def test_collapse_stops_training_with_a_word(folders, tmp_path, caplog):
    point = Dataset.from_dict({"text": TEXTS, "label": [[5.0, -5.0, 0.0, 1.0, 0.0, 0.0, 0.0, 2.0]] * 32})  # one for all
    options = {"translator": None, "teacher": None, "data": point, "max_steps": 300, "learning_rate": 3e-2}
    trainer = make_trainer(folders, tmp_path, **options, collapse_threshold=0.7, mse_weight=1.0)
    monitored = transformers_logging.get_logger("hf_vec2vec.distillation.callbacks")
    monitored.addHandler(caplog.handler)
    with caplog.at_level(logging.WARNING):
        trainer.train()
    assert trainer.state.global_step < 300
    assert "collapsed" in caplog.text


def test_without_an_adapter_the_student_itself_is_trained(folders, tmp_path):
    trainer = make_trainer(folders, tmp_path, lora=None)
    trainer.train()
    assert all(p.requires_grad for p in trainer.student.parameters())
    assert "student_drift" not in trainer.state.log_history[0]


def test_one_adapter_config_serves_students_of_different_shape(folders, tmp_path):
    for kind in ("causal_lm", "encoder"):
        make_trainer(folders, tmp_path, kind=kind)
    assert LORA.target_modules == "all-linear"


@pytest.mark.parametrize("kind", ["encoder", "causal_lm"])
def test_layers_above_the_one_that_is_pooled_are_left_alone(folders, tmp_path, kind):
    trainer = make_trainer(folders, tmp_path, kind=kind, layer=1, lm_loss_weight=float(kind == "causal_lm"))
    trained = {name.split("layers.")[1][0] for name in adapter(trainer)}
    assert trained == ({"0"} if kind == "encoder" else {"0", "1"})  # a language model's head needs them all
    before = adapter(trainer)
    trainer.train()
    assert not any(torch.equal(p, before[name]) for name, p in adapter(trainer).items())


@pytest.mark.parametrize(
    "adapter_config",
    [
        LoraConfig(r=2, target_modules="all-linear", use_dora=True),
        LoraConfig(r=2, target_modules="all-linear", use_rslora=True),
        IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]),
    ],
    ids=["dora", "rslora", "ia3"],
)
def test_any_adapter_will_do(folders, tmp_path, adapter_config):
    trainer = make_trainer(folders, tmp_path, lora=adapter_config, max_steps=30, learning_rate=3e-2)
    before = {name: p.detach().clone() for name, p in trainer.student.named_parameters()}
    trainer.train()
    assert sum(losses(trainer)[-5:]) < 0.97 * sum(losses(trainer)[:5])
    moved = {name for name, p in trainer.student.named_parameters() if not torch.equal(p, before[name])}
    assert moved
    assert all("lora" in name or "ia3" in name for name in moved)


def bad(text=TEXTS, **columns):
    return Dataset.from_dict({"text": list(text), **columns})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"teacher": None}, "go into 'label'"),
        ({"teacher": None, "data": bad(label=[[0.5] * 5] * 32)}, "5.*6"),
        ({"data": Dataset.from_dict({"sentence": TEXTS})}, "column 'text'"),
        ({"data": bad(["a", " "])}, "1 empty text.* row 1"),
        ({"data": bad([])}, "no rows"),
        ({"student_space": None, "teacher_spaces": ["llama"]}, "`student_space` must be given.* 8 dimensions"),
        ({"teacher_spaces": ["gpt"]}, "'gpt'.*knows \\['bert', 'llama'\\]"),
        ({"student_space": "bert", "teacher_spaces": ["llama"]}, "6 dimensions, but the student's vectors have 8"),
        ({"kind": "classifier", "task_weight": 1.0, "data": bad()}, "no column 'labels'"),
        ({"span_words": 2, "teacher": None}, "pass `teacher`"),
        ({"learn_projection": True}, "takes the place of a `translator`"),
        ({"projection": torch.zeros(6, 8)}, "set `learn_projection`"),
        (LEARNED | {"projection": torch.zeros(8, 6)}, r"shape \(6, 8\), .* got \(8, 6\)"),
        ({"data": Dataset.from_dict({"text": TEXTS, "text_pair": TEXTS})}, "`teacher` is asked for single texts"),
        ({"projection_rate": -1.0}, "`projection_rate` must be at least 0"),
        ({"soft_label_weight": 1.0}, "`soft_label_weight` needs a classifier"),
        ({"kind": "classifier", "task_weight": 1.0, "soft_label_weight": 1.0}, "has no column 'soft_labels'"),
        ({"translator": None}, "6.*8"),
        ({"cosine_weight": 0.0}, "all weights"),
        ({"gram_weight": -1.0}, "`gram_weight` must be at least 0"),
        ({"pooling": "max"}, "`pooling` must be one of"),
        ({"dataloader_drop_last": True, "per_device_train_batch_size": 33}, "`dataloader_drop_last`.*32 rows.*33"),
    ],
)  # fmt: skip
def test_bad_input_is_refused_before_training(folders, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        make_trainer(folders, tmp_path, **changes)


def test_tokenizers_that_will_not_do(folders, tmp_path, monkeypatch):
    model, tokenizer, known = load_student(folders["llama"])
    arguments = DistillationTrainingArguments(str(tmp_path), report_to="none", **known)
    tokenizer.pad_token = None
    with pytest.raises(ValueError, match="no pad token"):
        DistillationTrainer(model, arguments, processing_class=tokenizer, train_dataset=bad())
    model, tokenizer, known = load_student(folders["llama"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("~", "")
    gone = Dataset.from_dict({"text": ["a dog", "~"], "label": [[0.5] * 8] * 2})
    with pytest.raises(ValueError, match="without any token in row 1"):
        DistillationTrainer(model, arguments, processing_class=tokenizer, train_dataset=gone)
    arguments.span_words = 2
    monkeypatch.setattr(type(tokenizer), "is_fast", False)
    with pytest.raises(ValueError, match="needs character offsets"):
        DistillationTrainer(model, arguments, processing_class=tokenizer, train_dataset=bad())


@pytest.mark.parametrize(("turn", "weights", "warned"), [("right", {}, 0), ("wrong", {}, 1), ("wrong", "gram", 0)])
def test_a_wrong_translator_is_told_before_training(folders, tmp_path, caplog, turn, weights, warned):
    """Both sides have read the same texts, so that this needs no verdict."""
    words = sorted({word for text in TEXTS for word in text.split()})
    texts = [f"{a} {b} {c}" for a in words for b in words for c in words if len({a, b, c}) == 3][:90]
    start = TextEncoder(folders["llama"]).encode(texts, progress=False)
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(5)))[0]
    turned = start @ rotation
    back = rotation.T if turn == "right" else rotation.T.flip(0).roll(3, 1)
    statistics = fit_statistics(turned), fit_statistics(start)
    translator = Vec2VecModel.from_alignment(Alignment("t", "s", back, back.T, *statistics))
    data = to_dataset(turned, texts).rename_column("embedding", "label")
    options = {"gram_weight": 1.0, "cosine_weight": 0.0} if weights == "gram" else {}
    with caplog.at_level(logging.WARNING):
        make_trainer(folders, tmp_path, translator=translator, teacher=None, data=data, student_space="s", **options)
    told = [record.getMessage() for record in caplog.records if "seems wrong for these texts" in record.getMessage()]
    assert len(told) == warned
    if told:
        assert "translator from 't'" in told[0]
        assert "`gram_weight` 1" in told[0]


def test_tokens_of_another_tokenizer_are_not_taken_from_the_cache(folders, tmp_path):
    model, tokenizer, _ = load_student(folders["bert"])
    Dataset.from_dict({"text": ["the dog sings and the cat sleeps"] * 4}).save_to_disk(tmp_path / "texts")
    args = DistillationTrainingArguments(str(tmp_path / "out"), max_length=4, cosine_weight=0.0, gram_weight=1.0)
    found = []
    for side in ("right", "left", "right"):
        tokenizer.truncation_side = side
        rows = prepare(load_from_disk(str(tmp_path / "texts")), "train_dataset", tokenizer, args, {})
        found.append(rows["input_ids"][0].tolist())
        assert found[-1] == tokenizer("the dog sings and the cat sleeps", truncation=True, max_length=4)["input_ids"]
    assert found[0] == found[2] != found[1]


def test_a_small_last_batch_is_no_collapse(folders, tmp_path):
    settings = {"per_device_train_batch_size": 31, "learning_rate": 1e-6, "max_steps": 4}  # batches of 31 texts and of one
    trainer = make_trainer(folders, tmp_path, lora=None, collapse_threshold=0.7, **settings)
    trainer.train()
    assert trainer.state.global_step == 4


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 0], r"'labels' 2 in row 2; the student's head has 2 classes"),
        ([0, -1, 1, 0], "'labels' -1 in row 1"),
        (["yes", "no", "yes", "no"], "'labels' 'yes' in row 0"),
        ([True, False, True, True], "'labels' True in row 0"),
        ([0.0, 1.0, 0.5, 1.0], r"'labels' 0.0 in row 0"),
        ([0, None, 1, 1], "'labels' None in row 1"),
        ([-100] * 4, "has no label"),
    ],
)
def test_classes_that_are_none_of_the_students(folders, tmp_path, labels, message):
    data = Dataset.from_dict({"text": TEXTS[:4], "labels": labels})
    with pytest.raises(ValueError, match=message):
        make_trainer(folders, tmp_path, kind="classifier", data=data, task_weight=1.0, cosine_weight=0.0)


def test_classes_in_another_order_than_the_students_are_refused(folders, tmp_path):
    names = ["no dog", "dog"]
    data = Dataset.from_dict({"text": TEXTS[:4], "labels": [0, 1, 0, 1]}).cast_column("labels", ClassLabel(names=names))
    model, tokenizer, known = load_student(folders["bert"], "classifier", labels=names[::-1])
    args = DistillationTrainingArguments(str(tmp_path), **known, task_weight=1.0, cosine_weight=0.0)
    with pytest.raises(ValueError, match=r"numbers its classes as \['no dog', 'dog'\], and the student's head as"):
        DistillationTrainer(model, args, train_dataset=data, processing_class=tokenizer)


@pytest.mark.parametrize("wrap", [lambda rows: {"x": rows}, lambda rows: DatasetDict(x=rows)])
def test_several_data_sets_to_evaluate_on_are_refused(folders, tmp_path, wrap):
    model, tokenizer, known = load_student(folders["llama"])
    rows = to_dataset(torch.randn(len(TEXTS), 8), TEXTS).rename_column("embedding", "label")
    with pytest.raises(ValueError, match=r"`eval_dataset` must be one data set, .* got a .*[dD]ict of \['x'\]"):
        DistillationTrainer(
            model,
            DistillationTrainingArguments(str(tmp_path), **known, report_to="none"),
            train_dataset=rows,
            eval_dataset=wrap(rows),
            processing_class=tokenizer,
        )


@pytest.mark.parametrize("changes", [{}, {"cache_teacher": False}, {"kind": "classifier", "task_weight": 1.0}])
def test_other_data_sets_are_evaluated_as_the_first_one(folders, tmp_path, changes):
    rows = Dataset.from_dict({"text": TEXTS[:20], "labels": [i % 2 for i in range(20)]})
    trainer = make_trainer(folders, tmp_path, eval_dataset=rows, **changes)
    expected = trainer.evaluate()["eval_loss"]
    assert trainer.evaluate(rows)["eval_loss"] == expected
    assert trainer.evaluate({"x": rows})["eval_x_loss"] == expected
    assert trainer.predict(rows).metrics["test_loss"] == expected
    assert trainer.predict(trainer.eval_dataset).metrics["test_loss"] == expected
    for call, name in ((trainer.evaluate, "eval_dataset"), (trainer.predict, "test_dataset")):
        with pytest.raises(ValueError, match=f"`{name}` has the columns .* the student reads the column 'text'"):
            call(rows.rename_column("text", "sentence"))
        with pytest.raises(ValueError, match=f"`{name}` must be one data set, .* got a list"):
            call(TEXTS)


def test_a_stream_is_not_evaluated_beside_vectors_that_were_made_before(folders, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS[:20]})
    for call in (lambda: make_trainer(folders, tmp_path, eval_dataset=rows.to_iterable_dataset()),
                 lambda: make_trainer(folders, tmp_path).evaluate(rows.to_iterable_dataset())):  # fmt: skip
        with pytest.raises(ValueError, match="`eval_dataset` is a stream, but `train_dataset` is none.*`cache_teacher`"):
            call()
    live = make_trainer(folders, tmp_path, eval_dataset=rows.to_iterable_dataset(), cache_teacher=False)
    assert live.evaluate()["eval_loss"] > 0


def test_metrics_of_logits_need_a_task(folders, tmp_path):
    given = {"compute_metrics": lambda prediction: {"accuracy": 1.0}}
    with pytest.raises(ValueError, match="`compute_metrics` needs the logits of a task: set `task_weight`"):
        make_trainer(folders, tmp_path, given=given)


def test_an_optimizer_that_lacks_the_adapter_is_refused(folders, tmp_path):
    model = load_student(folders["llama"])[0]
    given = {"optimizers": (torch.optim.SGD(model.parameters(), lr=0.1), None)}
    with pytest.raises(ValueError, match="`optimizers` has an optimizer without .*lora_A.* pass `optimizer_cls_and_kwargs`"):
        make_trainer(folders, tmp_path, given=given)


def test_small_data_sets_are_evaluated_where_the_last_batch_is_not_trained_on(folders, tmp_path):
    rows = Dataset.from_dict({"text": TEXTS[:3]})
    trainer = make_trainer(folders, tmp_path, eval_dataset=rows, dataloader_drop_last=True)
    assert trainer.evaluate()["eval_loss"] > 0
