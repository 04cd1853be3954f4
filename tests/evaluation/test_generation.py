import pytest
import torch
from torch.nn import functional as F

from hf_vec2vec.evaluation.generation import PrefixInverter

TEXTS = ["a dog sat", "the small cat", "the cat sat on a mat", "small mat", "a small dog", "dog on the mat"]


def test_texts_that_it_was_trained_on_come_back(inverter):
    rows = F.normalize(torch.randn(6, 12, generator=torch.Generator().manual_seed(0)), dim=1)
    losses = inverter.fit(rows, TEXTS, steps=300, batch_size=6, learning_rate=2e-2)
    assert losses[-1] < 0.3 < losses[0]
    assert sum(a == b for a, b in zip(inverter.invert(rows, batch_size=4), TEXTS, strict=True)) >= 5
    assert inverter.invert(-rows) != TEXTS


def test_habits_of_the_model_change_nothing(inverter):
    rows = torch.randn(6, 12, generator=torch.Generator().manual_seed(1))
    plain = inverter.invert(rows)
    inverter.language_model.generation_config.update(repetition_penalty=2.0, min_new_tokens=6, no_repeat_ngram_size=1)
    assert inverter.invert(rows) == plain
    assert inverter.language_model.generation_config.repetition_penalty == 2.0


def test_only_prefix_and_adapters_are_trained(inverter):
    trained = {name for name, p in inverter.named_parameters() if p.requires_grad}
    assert all("lora_" in name or name.startswith("prefix.") for name in trained)


def test_unequal_numbers_are_refused(inverter):
    with pytest.raises(ValueError, match="`rows` and `texts` are 2 and 6"):
        inverter.fit(torch.zeros(2, 12), TEXTS, steps=1)


def test_a_model_without_a_head_is_refused(llama):  # noqa: F811
    with pytest.raises(ValueError, match="writes no text: its folder lacks 'lm_head.weight'"):
        PrefixInverter(llama, 12, torch.zeros(12))
