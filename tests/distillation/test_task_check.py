import json

import numpy as np
import pytest
import torch

from helpers.distillation import linear_translator
from helpers.tasks import SQUAD, glue, write_rows
from hf_vec2vec.distillation.task_check import task_report
from hf_vec2vec.tasks import load_task

TOPICS = ("rye", "ice", "oak")
SPACES = {"teacher_space": "bert", "student_space": "llama"}


class Telling:
    """Vectors that hold a text's first word, as loud as they are told to, and noise of the text's own."""

    def __init__(self, strength):
        self.strength = strength

    def encode(self, texts, **kwargs):
        rows = []
        for text in texts:
            generator = np.random.default_rng([ord(letter) for letter in text])
            topic = np.array([self.strength * (text.split()[0] == topic) for topic in TOPICS])
            rows.append(np.concatenate([topic, generator.standard_normal(5)]))
        return torch.tensor(np.array(rows), dtype=torch.float32)


@pytest.fixture
def task(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "validation"):
        texts = [f"{generator.choice(TOPICS)} {generator.integers(10**6)}" for _ in range(240)]
        rows = [(a, b, int(a.split()[0] == b.split()[0])) for a, b in zip(texts[::2], texts[1::2], strict=True)]
        write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / "mrpc" / f"{split}.jsonl")
    return load_task("mrpc", tmp_path / "mrpc")


@pytest.mark.parametrize(
    ("teacher", "student", "verdict"),
    [
        (4.0, 0.0, "holds more than the student"),
        pytest.param(0.0, 4.0, "holds less than the student", marks=pytest.mark.slow),
    ],
)
def test_pairs_tell_who_knows_more(task, teacher, student, verdict):
    knowing, learning = Telling(teacher), Telling(student)
    texts = task.rows("train")["sentence1"][:]
    translator = linear_translator(knowing.encode(texts), learning.encode(texts))
    report = task_report(task, knowing, learning, translator, **SPACES)
    assert report.verdict == verdict
    low, high = report.interval
    assert low < report.gain < high
    points = report.points
    assert report.gain == pytest.approx(points["translated teacher"] - points["student"])
    if teacher > student:  # figures of noise lie anywhere
        assert points["translated teacher"] == pytest.approx(points["teacher"], abs=12)
    assert (points["random isometry of the teacher"] > points["student"]) == (teacher > student)
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == verdict
    assert "not whether the translator is right" in str(report)
    assert "120 of 3,668 training rows" in str(report)


def test_spans_are_refused(tmp_path):
    write_rows(SQUAD, tmp_path / "squad" / "dev.jsonl")
    teacher = Telling(1.0)
    rows = teacher.encode(["rye 1", "ice 2", "oak 3", "rye 4"])
    with pytest.raises(ValueError, match="answered from states of tokens"):
        task_report(load_task("squad", tmp_path / "squad"), teacher, teacher, linear_translator(rows, rows), **SPACES)
