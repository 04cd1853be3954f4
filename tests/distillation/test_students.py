import json
import re
from pathlib import Path

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from tokenizers import normalizers
from transformers import BertConfig, BertForSequenceClassification, BertModel, BitsAndBytesConfig, PreTrainedTokenizerFast

from helpers.distillation import TEXTS
from helpers.encoders import SHAPE, as_sentence_encoder, save_model, tokenizer
from helpers.threads import beside_another
from hf_vec2vec import TextEncoder, embed
from hf_vec2vec.distillation import (
    DistillationTrainer,
    DistillationTrainingArguments,
    StudentEncoder,
    load_student,
    save_as_sentence_transformer,
)
from hf_vec2vec.distillation.students import student_settings
from hf_vec2vec.encoders.pooling import is_decoder

pytestmark = pytest.mark.usefixtures("own_cache")


def encoder_of(folder, tmp_path, **changes):
    model, tokenizer, known = load_student(folder)
    arguments = DistillationTrainingArguments(str(tmp_path), **known | changes)
    return StudentEncoder(model, tokenizer, arguments.encoder_settings(folder))


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("kind", ["encoder", "causal_lm", "classifier"])
def test_a_student_says_what_its_encoder_says(folders, name, kind, tmp_path):  # noqa: F811
    if (name, kind) == ("bert", "causal_lm"):
        with pytest.raises(ValueError, match="is no language model: its folder lacks"):
            load_student(folders["bert"], "causal_lm")
        return
    model, tokenizer, known = load_student(folders[name], kind, 3 if kind == "classifier" else None)
    arguments = DistillationTrainingArguments(str(tmp_path), **known)
    student = StudentEncoder(model.train(), tokenizer, arguments.encoder_settings(folders[name]))
    assert known["mask_first_token"] == (name == "llama")
    expected = TextEncoder(folders[name]).encode(TEXTS, progress=False)
    torch.testing.assert_close(student.encode(TEXTS, batch_size=5), expected)
    assert model.training


def test_a_student_in_four_bits_follows_through_its_adapter(tmp_path):
    torch.manual_seed(0)
    wide = {"hidden_size": 64, "intermediate_size": 128}
    folder = save_model(BertModel(BertConfig(**SHAPE | wide)), tmp_path / "wide")
    model, tokenizer, known = load_student(folder, quantization_config=BitsAndBytesConfig(load_in_4bit=True))
    bits = [p for p in model.parameters() if p.dtype == torch.uint8]
    before = [p.clone() for p in bits]
    settings = {"max_steps": 30, "learning_rate": 1e-2, "report_to": "none", "save_strategy": "no", "logging_steps": 1}
    trainer = DistillationTrainer(
        model,
        DistillationTrainingArguments(str(tmp_path / "out"), **known | settings, disable_tqdm=True),
        peft_config=LoraConfig(r=4, target_modules="all-linear"),
        train_dataset=Dataset.from_dict({"text": TEXTS, "label": torch.randn(len(TEXTS), 64).tolist()}),
        processing_class=tokenizer,
    )
    trainer.train()
    found = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert len(bits) == 13  # six matrices a layer and the pooler's
    assert all(torch.equal(p, q) for p, q in zip(bits, before, strict=True))
    assert sum(found[-5:]) < 0.9 * sum(found[:5])


def test_static_embeddings_cannot_be_adapted(static):  # noqa: F811
    with pytest.raises(ValueError, match="static embedding"):
        load_student(static)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("1_Pooling/config.json", {"include_prompt": False}, "leaves its prompt's tokens out of the pooling"),
        ("config_sentence_transformers.json", {"truncate_dim": 4}, "keeps 4 dimensions of its vectors"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "puts texts in lower case before its tokenizer"),
    ],
)
def test_folders_whose_vectors_no_student_makes_are_refused(tmp_path, file, changes, message):
    folder = Path(save_model(BertModel(BertConfig(**SHAPE)), tmp_path))
    as_sentence_encoder(folder)
    load_student(str(folder))
    (folder / file).write_text(json.dumps(json.loads((folder / file).read_text()) | changes))
    for load in (load_student, student_settings):
        with pytest.raises(ValueError, match=f"{re.escape(str(folder))}.* {message} .*: its vectors can be made, but not"):
            load(str(folder))


def test_a_tokenizer_in_lower_case_may_be_said_to_be_so_twice(tmp_path):
    folder = Path(save_model(BertModel(BertConfig(**SHAPE)), tmp_path))
    as_sentence_encoder(folder)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": True}))
    words = tokenizer()
    words.normalizer = normalizers.Lowercase()
    PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    loaded, own, known = load_student(str(folder))
    settings = DistillationTrainingArguments(str(tmp_path / "out"), **known).encoder_settings(str(folder))
    texts = ["The small DOG", "the small dog"]
    expected = TextEncoder(str(folder)).encode(texts, progress=False)
    torch.testing.assert_close(StudentEncoder(loaded, own, settings).encode(texts), expected)


@pytest.mark.parametrize(
    "changes",
    [{}, {"normalize": True}, {"pooling": "cls"}, {"pooling": "weighted_mean"}, {"prompt": "the small dog "}],
    ids=str,
)
def test_an_exported_student_is_a_sentence_transformer(folders, tmp_path, changes):  # noqa: F811
    student = encoder_of(folders["bert"], tmp_path, **changes)
    torch.manual_seed(1)
    adapted = get_peft_model(student.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    before = StudentEncoder(adapted, student.tokenizer, student.settings).encode(TEXTS)
    merged = adapted.merge_and_unload()
    save_as_sentence_transformer(merged, student.tokenizer, student.settings, tmp_path / "st")
    exported = torch.from_numpy(SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS))
    assert (exported - before).abs().max() < 1e-5
    again = TextEncoder(str(tmp_path / "st"))
    assert (again.encode(TEXTS, progress=False) - before).abs().max() < 1e-5


def test_what_the_format_cannot_say_is_refused(folders, tmp_path):  # noqa: F811
    student = encoder_of(folders["llama"], tmp_path)
    with pytest.raises(ValueError, match="mask_first_token True"):
        save_as_sentence_transformer(student.model, student.tokenizer, student.settings, tmp_path / "st")


def test_a_head_for_other_classes_makes_room_for_a_new_one(tmp_path):
    torch.manual_seed(0)
    old = BertForSequenceClassification(BertConfig(**SHAPE, num_labels=2))
    model, _, _ = load_student(save_model(old, tmp_path / "two"), "classifier", labels=["down", "level", "up"])
    assert model.classifier.weight.shape == (3, 8)
    assert torch.equal(model.bert.pooler.dense.weight, old.bert.pooler.dense.weight)
    config = json.loads((tmp_path / "two" / "config.json").read_text()) | {"intermediate_size": 12}
    (tmp_path / "two" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="lacks 6 weight.s., such as 'bert.encoder.layer.0.intermediate"):
        load_student(str(tmp_path / "two"), "classifier", 3)


def test_a_classifier_records_the_names_of_its_classes(folders, tmp_path):  # noqa: F811
    model, _, _ = load_student(folders["bert"], "classifier", labels=["down", "level", "up"])
    model.save_pretrained(tmp_path)
    saved = BertConfig.from_pretrained(tmp_path)
    assert saved.id2label == {0: "down", 1: "level", 2: "up"}
    assert saved.label2id == {"down": 0, "level": 1, "up": 2}
    with pytest.raises(ValueError, match="`num_labels` is 2, but `labels` names 3"):
        load_student(folders["bert"], "classifier", 2, labels=["down", "level", "up"])


@pytest.mark.parametrize("kind", ["marian", "pegasus", "bart", "t5", "blenderbot", "bert", "xlm-roberta"])
def test_models_with_an_encoder_keep_their_first_token(kind):
    assert not is_decoder(kind)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "mistral", "opt", "qwen2"])
def test_language_models_mask_theirs(kind):
    assert is_decoder(kind)


def test_threads_encode_without_dropout_and_leave_the_mode_as_it_was(folders, tmp_path):
    student = encoder_of(folders["bert"], tmp_path)
    expected = student.encode(TEXTS)
    student.model.train()
    found = beside_another(lambda: student.encode(TEXTS), student.model.embeddings)
    assert torch.equal(found, expected)
    assert student.model.training


def test_a_student_in_memory_has_no_files_to_cache_by(folders, tmp_path):
    with pytest.raises(TypeError, match="`encoder` is a StudentEncoder.*its `encode`.*save the student"):
        embed(TEXTS, encoder_of(folders["bert"], tmp_path))
