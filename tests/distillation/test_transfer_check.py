import json

import numpy as np
import pytest
import torch

from helpers.clouds import random_rotation
from hf_vec2vec.distillation.transfer_check import transfer_report


def vectors(count=300, informed=1.5):
    """A student that knows nothing of the labels, and a teacher that does."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(2, (count,), generator=generator)
    student = torch.randn(count, 12, generator=generator) + 3
    teacher = torch.randn(count, 20, generator=generator)
    teacher[:, 0] += informed * (2 * labels - 1)
    return teacher, student, labels.numpy()


def test_a_translation_that_knows_more_passes():
    teacher, student, labels = vectors()
    translated = teacher[:, :12] + 3 + 5 * torch.randn(12)  # where its mean lies is nothing that it holds
    report = transfer_report(teacher, translated, student, labels)
    assert report.worthwhile
    assert report.interval[0] > 0.2
    assert report.probe["translated teacher"] > 0.85 > 0.65 > report.probe["student"]
    assert abs(report.probe["student"] - report.probe["student + noise"]) < 0.12
    assert report.probe["random isometry of the teacher"] == pytest.approx(report.probe["teacher"], abs=0.02)
    assert json.loads(json.dumps(report.to_dict()))["verdict"] == "holds more than the student"
    assert "300 texts" in str(report)


def test_the_student_itself_has_nothing_to_give():
    teacher, student, labels = vectors()
    report = transfer_report(teacher, student.clone(), student, labels)
    assert not report.worthwhile
    assert (report.gain, report.interval) == (0, (0, 0))
    assert "nothing to give" in str(report)


def test_a_translation_that_lost_it_fails():
    teacher, student, labels = vectors()
    knowing = teacher[:, :12] @ random_rotation(12, 12) + 3
    report = transfer_report(teacher, student, knowing, labels)
    assert report.verdict == "holds less than the student"


def test_bad_labels_are_refused():
    teacher, student, labels = vectors()
    with pytest.raises(ValueError, match="'labels': 299"):
        transfer_report(teacher, student, student, labels[:-1])
    with pytest.raises(ValueError, match="two classes of 5 are needed"):
        transfer_report(teacher, student, student, np.array([1] * 2 + [0] * 298))


def test_two_classes_of_five_texts_are_enough():
    """Fewer texts than neighbours: all that the smallest training fold holds are asked."""
    rows = torch.randn(10, 8, generator=torch.Generator().manual_seed(0))
    report = transfer_report(rows, rows[:, :6], rows[:, 2:], np.array([0, 1] * 5))
    assert (report.texts, report.asked) == (10, 8)
    assert "linear probe  8 neighbours" in str(report)
    assert set(report.neighbours.values()) == {0.5}  # all eight: four of each class
    teacher, student, labels = vectors()
    assert transfer_report(teacher, student, student, labels).asked == 15


def test_tensors_may_have_gradients_or_half_precision():
    teacher, student, labels = (rows[:60] for rows in vectors())
    half = [rows.bfloat16() for rows in (teacher, student)]
    expected = transfer_report(half[0].float(), half[1].float(), half[1].float(), labels)
    assert transfer_report(half[0], half[1], half[1], labels) == expected
    grown = [rows.float().requires_grad_() for rows in half]
    assert transfer_report(grown[0], grown[1], grown[1], labels) == expected


def test_rows_without_a_class_are_refused():
    teacher, student, labels = vectors()
    labels[:7] = -1
    with pytest.raises(ValueError, match="`labels` has 7 row.s. of -1, which stands for no class: leave these rows out"):
        transfer_report(teacher, student, student, labels)
    names = np.array(["yes", "no"])[vectors()[2][:60]]
    assert transfer_report(teacher[:60], student[:60], student[:60], names).texts == 60
