import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.clouds import random_rotation
from hf_vec2vec.evaluation.inversion import WordDecoder, retrieve, text_overlap

VOCABULARY = [f"word{i}" for i in range(30)]


@pytest.fixture(scope="module")
def world():
    """Texts of five out of thirty words; a vector is the sum of its words' vectors, off the origin."""
    generator = torch.Generator().manual_seed(0)
    words = torch.randn(30, 48, generator=generator)
    members = torch.stack([torch.randperm(30, generator=generator)[:5] for _ in range(800)])
    rows = F.normalize(words[members].sum(1), dim=1) + 0.5
    return rows, [" ".join(VOCABULARY[i] for i in row) for row in members.tolist()]


def test_the_nearest_public_text_is_found(world):
    rows, texts = world
    order = torch.randperm(800, generator=torch.Generator().manual_seed(1))
    found = retrieve(rows, rows[order], rows.mean(0), block=300)  # a text may be there twice
    assert [set(texts[i].split()) for i in order[found]] == [set(text.split()) for text in texts]


def test_words_are_read_off_vectors_however_the_space_is_turned(world):
    rows, texts = world
    rotation = random_rotation(48, 64)
    for turn in (torch.eye(48), rotation):
        decoder = WordDecoder((rows[:600] - 0.5) @ turn, texts[:600])
        f1 = decoder.word_f1((rows[600:] - 0.5) @ turn, texts[600:])
        assert f1.mean() > 0.9


def test_random_vectors_give_away_no_words(world):
    rows, texts = world
    decoder = WordDecoder(rows[:600], texts[:600])
    random = rows[600:][torch.randperm(200, generator=torch.Generator().manual_seed(2))]
    assert decoder.word_f1(random, texts[600:]).mean() < 0.35  # guessing every word scores 2 * 5 / (5 + 30) = .29
    assert np.isnan(decoder.word_f1(rows[:1], ["nothing of the kind"])).all()


def test_overlap_by_hand():
    reference = "In 2004 Ann Smith paid 1,200 pounds. Then Bob left."
    found = text_overlap([reference, "Ann paid 1,200", ""], [reference] * 3)
    assert found["token_f1"].tolist() == pytest.approx([1, 2 * 4 / (4 + 11), 0])
    assert found["rouge_l"][0] == 1
    assert found["rouge_l"][2] == 0
    assert found["entity_recall"].tolist() == pytest.approx([1, 1 / 3, 0])  # "Ann", of Ann, Smith, Bob
    assert found["number_recall"].tolist() == pytest.approx([1, 0.5, 0])
    assert np.isnan(text_overlap(["x"], ["no name"])["entity_recall"]).all()


def test_unequal_numbers_are_refused(world):
    rows, texts = world
    with pytest.raises(ValueError, match="`predictions` and `references` are 1 and 2"):
        text_overlap(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="`rows` and `texts` are 800 and 799"):
        WordDecoder(rows, texts[1:])
