import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig
from tokenizers import processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5ForQuestionAnswering,
)

from helpers.distillation import linear_translator
from helpers.encoders import WORDS, as_sentence_encoder, tokenizer
from helpers.tasks import write_task
from hf_vec2vec import TextEncoder
from hf_vec2vec.distillation import task_students
from hf_vec2vec.distillation.arms import Arm, arm_trainer
from hf_vec2vec.distillation.span_students import distill_spans, word_vectors
from hf_vec2vec.distillation.task_students import distill_task, open_lesson, train_in_arm
from hf_vec2vec.encoders.pooling import token_states
from hf_vec2vec.tasks import ClassificationTask, load_task

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def task():
    """Pairs of texts, together longer than the student's own 16 tokens."""
    generator = np.random.default_rng(0)
    columns = {side: [" ".join(generator.choice(WORDS[3:], 12)) for _ in range(30)] for side in ("one", "two")}
    rows = Dataset.from_dict(columns | {"label": [i % 2 for i in range(30)]})
    return ClassificationTask("pairs", DatasetDict(train=rows, validation=rows), ("one", "two"), ("no", "yes"))


@pytest.fixture
def teacher(task, folders, tmp_path):
    """A model with a head for the task, and no search for the translator."""
    torch.manual_seed(0)
    task.load_model(folders["bert"]).save_pretrained(tmp_path / "teacher")
    AutoTokenizer.from_pretrained(folders["bert"]).save_pretrained(tmp_path / "teacher")
    return str(tmp_path / "teacher")


@pytest.fixture(autouse=True)
def aligned(monkeypatch):
    """Translators are made without a search."""

    def made(theirs, ours, seed, progress):
        return linear_translator(theirs, ours, ("teacher", "student")), "aligned"

    monkeypatch.setattr(task_students, "unpaired_translator", made)


@pytest.mark.parametrize("given", [{}, {"max_length": 10}], ids=str)
@pytest.mark.parametrize("kind", ["plain", "sentence encoder"])
def test_students_are_trained_on_the_vectors_that_the_maps_were_fitted_to(task, teacher, folders, tmp_path, kind, given):
    folder = shutil.copytree(folders["llama"], tmp_path / "student")
    student = as_sentence_encoder(folder) if kind == "sentence encoder" else str(folder)
    adapter = LoraConfig(r=2, target_modules="all-linear")
    opened = open_lesson(task, teacher, student, adapter, progress=False, max_steps=1, **given)
    arm = Arm(opened.lesson.teacher, "teacher", {"task_weight": 1.0, "learn_projection": True})
    trainer = arm_trainer(opened.lesson, arm, 0, str(tmp_path / "run"))
    inputs = trainer.data_collator([trainer.train_dataset[i] for i in range(len(opened.student_vectors))])
    assert inputs["inputs"]["input_ids"].shape[1] == given.get("max_length", 24)
    trainer.model.eval()
    with torch.no_grad():
        ours, _ = trainer._rows(token_states(trainer._forward(trainer.model, inputs)), inputs)
    torch.testing.assert_close(ours["teacher"], opened.student_vectors)


@pytest.mark.parametrize("column", ["one", "two"])
def test_one_text_of_a_pair_may_be_empty(task, teacher, folders, column):
    rows = task.rows("train").map(lambda row, i: row if i else row | {column: " "}, with_indices=True)
    task = replace(task, splits=DatasetDict(train=rows, validation=rows))
    adapter = LoraConfig(r=2, target_modules="all-linear")
    opened = open_lesson(task, teacher, folders["llama"], adapter, progress=False, max_steps=1)
    assert train_in_arm(opened, "labels + logits", 0)


def test_rows_without_any_text_are_told_before_anything_is_read(task, folders):
    rows = task.rows("train").map(lambda row, i: row if i != 7 else row | {"one": "", "two": " "}, with_indices=True)
    task = replace(task, splits=DatasetDict(train=rows, validation=rows))
    with pytest.raises(ValueError, match="`task` 'pairs' has 1 row.s. of 'train' without any text, the first at place 7"):
        distill_task(task, "no/such/teacher", folders["llama"], LoraConfig(r=2), progress=False)


T5 = {"vocab_size": 11, "d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
T5 |= {"pad_token_id": 0, "eos_token_id": 2}


def save_t5(kind, folder):
    """An encoder-decoder whose tokenizer ends each text with the token that its head looks for."""
    torch.manual_seed(0)
    model = kind(T5Config(**T5))
    model.save_pretrained(folder)
    ended = tokenizer()
    ends = {"single": "$A [BOS]", "pair": "$A $B [BOS]", "special_tokens": [("[BOS]", 2)]}
    ended.post_processor = processors.TemplateProcessing(**ends)
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "eos_token": "[BOS]"}
    PreTrainedTokenizerFast(
        tokenizer_object=ended, **names, model_input_names=["input_ids", "attention_mask"]
    ).save_pretrained(folder)
    return str(folder)


def test_the_encoder_of_a_teacher_with_a_decoder_is_read(task, folders, tmp_path):
    teacher = save_t5(T5ForConditionalGeneration, tmp_path / "t5")
    task.load_model(teacher).save_pretrained(teacher)
    opened = open_lesson(task, teacher, folders["llama"], LoraConfig(r=2), progress=False)
    encoder = TextEncoder(teacher, max_length=task.default_length)
    rows = opened.task.rows("train")
    pairs = [f"{one}\n {two}" for one, two in zip(rows["one"], rows["two"], strict=True)]
    torch.testing.assert_close(opened.lesson.teacher, encoder.encode(pairs, progress=False))
    assert opened.lesson.logits.shape == (27, 2)


@pytest.mark.parametrize("kind", [T5ForConditionalGeneration, T5EncoderModel])
@pytest.mark.parametrize("teach", [distill_task, distill_spans])
def test_a_student_with_a_decoder_is_refused_before_anything_is_read(task, teach, kind, folders, tmp_path):
    if teach is distill_spans:
        write_task("squad", tmp_path / "squad")
        task = load_task("squad", tmp_path / "squad")
    student = save_t5(kind, tmp_path / "t5")
    with pytest.raises(ValueError, match="`student` '.*t5' is an encoder-decoder, .* Take an encoder or a language model"):
        teach(task, folders["bert"], student, LoraConfig(r=2), progress=False)


def test_words_are_read_off_the_encoder_of_a_teacher_with_a_decoder(tmp_path):
    model = T5ForQuestionAnswering(T5Config(**T5)).eval()
    ids = [3, 4, 5, 2]
    windows = Dataset.from_dict(
        {"input_ids": [ids], "attention_mask": [[1] * 4], "offsets": [[[0, 2], [2, 4], [4, 6], [0, 0]]]}
    )
    words = AutoTokenizer.from_pretrained(save_t5(T5EncoderModel, tmp_path / "t5"))
    found = word_vectors(model, words, windows, [[(0, 4), (4, 6)]], progress=False)
    with torch.no_grad():
        states = model.encoder(input_ids=torch.tensor([ids])).last_hidden_state[0]
    torch.testing.assert_close(found[0], torch.stack([states[:2].mean(0), states[2]]))
