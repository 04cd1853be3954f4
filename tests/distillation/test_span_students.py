"""Spans are taught word by word, by a teacher that cuts text otherwise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict
from peft import LoraConfig
from transformers import BertConfig, BertForQuestionAnswering, BertModel, LlamaConfig, LlamaForQuestionAnswering

from helpers.distillation import linear_translator
from helpers.encoders import WORDS
from helpers.tasks import SHAPE, decoder_tokenizer, encoder_tokenizer, squad, write_rows
from hf_vec2vec.distillation import span_students
from hf_vec2vec.distillation.arms import LABELS_OURS, LABELS_RIDGE, TASK
from hf_vec2vec.distillation.span_students import distill_spans, open_spans, train_spans, word_vectors
from hf_vec2vec.distillation.task_students import with_held_out
from hf_vec2vec.tasks import evaluate_task, load_task
from hf_vec2vec.tasks.judging import judge_head

pytestmark = pytest.mark.usefixtures("own_cache")
LORA = LoraConfig(r=2, target_modules="all-linear")
FEW = {"max_steps": 2, "per_device_train_batch_size": 4, "disable_tqdm": True}


@pytest.fixture
def task(tmp_path):
    generator = np.random.default_rng(0)
    for split, count in (("train", 100), ("validation", 8)):
        rows = []
        for i in range(count):
            words = [str(word) for word in generator.choice(WORDS[3:], 12)]
            rows.append((f"{split} {i} " + " ".join(words), f"which {split} {i}?", [words[i % 12]]))
        write_rows(squad(*rows), tmp_path / "squad" / f"{split}.jsonl")
    return load_task("squad", tmp_path / "squad")


@pytest.fixture(autouse=True)
def quick_translator(monkeypatch):
    """Some map between the two sides, without a search."""

    def made(teacher, student, seed, progress):
        return linear_translator(teacher, student, names=("teacher", "student")), "aligned"

    monkeypatch.setattr(span_students, "unpaired_translator", made)


@pytest.fixture
def models(tmp_path):
    """A decoder with a span head that teaches, and an encoder without one."""
    torch.manual_seed(0)
    teacher = LlamaForQuestionAnswering(LlamaConfig(**SHAPE | {"hidden_size": 12, "num_key_value_heads": 2}))
    student = BertModel(BertConfig(**SHAPE, max_position_embeddings=400))
    for name, model, tokenizer in (("teacher", teacher, decoder_tokenizer()), ("student", student, encoder_tokenizer())):
        model.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    return {name: str(tmp_path / name) for name in ("teacher", "student")}


def test_a_student_learns_labels_and_words_of_a_teacher(task, models):
    found = distill_spans(task, **models, peft_config=LORA, progress=False, **FEW)
    arms = [row["arm"] for row in found.rows]
    assert arms == ["teacher", TASK, LABELS_RIDGE, LABELS_OURS]
    best = max(found.rows[1:], key=lambda row: row["held_out"])
    assert best["arm"] == found.arm
    assert isinstance(found.model, BertForQuestionAnswering)
    assert evaluate_task(found.model, found.tokenizer, task, progress=False)["f1"] == pytest.approx(best["f1"])
    judged = judge_head(found.model, found.tokenizer, with_held_out(task, 0), "validation", "held_out", "")
    assert judged.points == pytest.approx(best["f1"])
    assert judged.figures == pytest.approx({name: best[name] for name in ("exact_match", "f1")})
    assert len(judged.predictions) == 8
    with pytest.raises(ValueError, match="there is nothing to learn"):
        distill_spans(task, models["teacher"], models["teacher"], LORA)
    with pytest.raises(ValueError, match="has no trained head"):
        distill_spans(task, models["student"], models["teacher"], LORA, progress=False)


def test_words_have_targets_that_the_student_moves_to(task, models):
    lesson = open_spans(task, **models, progress=False)
    context = lesson.task.rows("train")["context"][0]
    assert [context[a:b] for a, b in lesson.spans[0]] == context.split()
    assert [len(rows) for rows in lesson.targets] == [len(spans) for spans in lesson.spans] == [14] * 90
    assert lesson.projection.shape == (12, 16)

    def apart(arm, **changes):
        model, tokenizer = train_spans(lesson, arm, LORA, 0, **FEW | changes)
        rows = torch.cat(word_vectors(model, tokenizer, lesson.windows, lesson.spans, progress=False))
        wanted = torch.cat(lesson.targets)
        seen = lesson.translator.normalizers["student"]
        rows = seen(rows) - seen(lesson.student_mean[None])
        return 1 - torch.nn.functional.cosine_similarity(rows, wanted - wanted.mean(0)).mean()

    far = {"max_steps": 30, "learning_rate": 2e-2}
    assert apart(LABELS_OURS, **far) < 0.9 * apart(TASK, **far)
    with pytest.raises(ValueError, match="`name` must be one of"):
        train_spans(lesson, "self", LORA, 0, **FEW)


def test_passages_of_several_windows_are_left_out(task, models):
    def longer(row, i):
        return {"context": row["context"] + " dog" * 400} if i % 4 == 1 else row

    mixed = replace(task, splits=DatasetDict(task.splits | {"train": task.rows("train").map(longer, with_indices=True)}))
    lesson = open_spans(mixed, **models, progress=False)
    assert 60 < len(lesson.spans) < 80
    assert all(len(spans) == 14 for spans in lesson.spans)
    long = replace(task, splits=DatasetDict({"train": task.rows("train").map(lambda row: longer(row, 1))}))
    with pytest.raises(ValueError, match="no passage of 'train' fits into one window"):
        open_spans(long, **models, progress=False)
