import pytest
import torch

from helpers.clouds import random_rotation
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.distillation.store_targets import targets_from_store


def spaces(count=400):
    generator = torch.Generator().manual_seed(0)
    teacher = torch.randn(count, 6, generator=generator) + 2
    rotation = random_rotation(6, 9)
    student = (teacher - 2) @ rotation * 3 - 1
    statistics = fit_statistics(teacher), fit_statistics(student)
    return Vec2VecModel.from_alignment(Alignment("t", "s", rotation, rotation.T, *statistics)), teacher, student


def test_the_nearest_vector_of_the_store_answers():
    model, teacher, student = spaces()
    store = teacher[torch.randperm(400, generator=torch.Generator().manual_seed(1))]
    found = targets_from_store(model, store, student, source="t", target="s", neighbours=1)
    torch.testing.assert_close(found, model.translate(teacher, source="t", target="s"))  # each text finds its own


def test_texts_that_the_teacher_never_saw_get_the_mean_of_their_neighbours():
    model, teacher, student = spaces()
    found = targets_from_store(model, teacher[:300], student[300:], source="t", target="s", neighbours=5)
    near = torch.nn.functional.cosine_similarity(found - student.mean(0), student[300:] - student.mean(0))
    assert 0.6 < near.mean() < 0.99
    with pytest.raises(ValueError, match="2 vectors, fewer than 5"):
        targets_from_store(model, teacher[:2], student, source="t", target="s")


@pytest.mark.parametrize("neighbours", [0, -1])
def test_a_mean_is_of_a_neighbour_at_least(neighbours):
    model, teacher, student = spaces(20)
    with pytest.raises(ValueError, match=f"`neighbours` must be at least 1, got {neighbours}"):
        targets_from_store(model, teacher, student, source="t", target="s", neighbours=neighbours)
