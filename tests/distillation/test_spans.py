import pytest
import torch

from hf_vec2vec import TextEncoder
from hf_vec2vec.distillation.spans import pool_spans, span_members, teacher_spans, word_spans


def test_words_are_found_by_their_characters():
    text = "  a dog\tsat  on a mat"
    assert [text[start:end] for start, end in word_spans(text, 2)] == ["a dog", "sat  on", "a mat"]
    assert [text[start:end] for start, end in word_spans(text, 4)] == ["a dog\tsat  on", "a mat"]
    assert word_spans(" \n ", 3) == []


def test_tokens_belong_to_the_spans_that_they_share_a_character_with():
    offsets = torch.tensor([[[0, 0], [0, 3], [3, 5], [6, 9], [0, 0]], [[0, 0], [0, 2], [0, 0], [0, 0], [0, 0]]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    members, rows = span_members(offsets, mask, [[(0, 5), (6, 9)], [(0, 2), (3, 4)]])
    assert rows.tolist() == [0, 0, 1, 1]
    assert members.tolist() == [[0, 1, 1, 0, 0], [0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 0]]  # the last was cut off
    states = torch.arange(10.0).view(2, 5, 1)
    pooled = pool_spans(states, members[:3], rows[:3])
    assert pooled.flatten().tolist() == [1.5, 3.0, 6.0]


def test_no_text_has_spans():
    members, rows = span_members(torch.zeros(2, 3, 2, dtype=torch.long), torch.ones(2, 3), [[], []])
    assert members.shape == (0, 3)
    assert rows.shape == (0,)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_span_of_all_words_is_the_vector_of_the_text(kind, request):
    encoder = TextEncoder(request.getfixturevalue(kind), mask_first_token=False)
    texts = ["the small dog sat on a mat", "cat", "dog dog mat"]
    vectors, known = teacher_spans(encoder, texts, 100)
    assert known.all()
    torch.testing.assert_close(vectors.cpu(), encoder.encode(texts, progress=False))


def test_spans_that_the_tokenizer_cut_off_are_marked(bert):  # noqa: F811
    encoder = TextEncoder(bert, max_length=3)
    vectors, known = teacher_spans(encoder, ["the small dog sat on a mat", "cat"], 2)
    assert known.tolist() == [True, True, False, False, True]
    assert vectors[2:4].abs().sum() == 0
