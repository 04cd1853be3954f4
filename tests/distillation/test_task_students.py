import shutil

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import LoraConfig
from transformers import AutoTokenizer

from helpers.distillation import linear_translator
from helpers.encoders import WORDS, as_sentence_encoder
from hf_vec2vec.distillation import task_students
from hf_vec2vec.distillation.arms import Arm, arm_trainer
from hf_vec2vec.distillation.students import token_states
from hf_vec2vec.distillation.task_students import open_lesson
from hf_vec2vec.tasks import ClassificationTask

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
