import pytest
import torch

from hf_vec2vec.metrics import TranslationCosine, TranslationRank, mean_cosines, rank_metrics, ranks

TRUTH = torch.eye(4)


def test_ranks_by_hand():
    predictions = torch.tensor([[1.0, 0.5, 0, 0], [1.0, 0.5, 0, 0], [0.3, 0.2, 0.1, 0], [0, 0, 0, 1.0]])
    assert ranks(predictions, TRUTH).tolist() == [1, 2, 3, 1]
    assert ranks(predictions, TRUTH, block=3).tolist() == [1, 2, 3, 1]
    found = rank_metrics(predictions, TRUTH)
    assert found == {"top1": 0.5, "top5": 1.0, "mean_rank": 1.75, "median_rank": 1.5, "pool_size": 4}


def test_answers_without_information_get_the_middle_rank():
    found = rank_metrics(torch.ones(4, 4), TRUTH)
    assert found["top1"] == 0.0
    assert found["mean_rank"] == 2.5


def test_predictions_without_value_are_refused():
    with pytest.raises(ValueError, match="NaN"):
        ranks(torch.full((4, 4), torch.nan), TRUTH)


def test_centred_cosine_sees_through_the_mean_vector():
    generator = torch.Generator().manual_seed(0)
    references = torch.randn(500, 8, generator=generator) + 3
    mean = references.mean(0)
    answers = mean + 1e-3 * torch.randn(500, 8, generator=generator)
    found = mean_cosines(answers, references, mean)
    assert found["cosine"] > 0.9
    assert abs(found["centred_cosine"]) < 0.1


def test_evaluate_classes_give_the_same_as_the_functions():
    generator = torch.Generator().manual_seed(0)
    predictions, references = torch.randn(2, 20, 8, generator=generator)
    mean = references.mean(0)
    cosines = TranslationCosine().compute(predictions=predictions.numpy(), references=references.numpy(), mean=mean)
    assert cosines == pytest.approx(mean_cosines(predictions, references, mean), abs=1e-6)
    metric = TranslationRank()
    metric.add_batch(predictions=predictions[:10].numpy(), references=references[:10].numpy())
    metric.add_batch(predictions=predictions[10:].numpy(), references=references[10:].numpy())
    assert metric.compute() == pytest.approx(rank_metrics(predictions, references))
    assert "2505.12540" in TranslationCosine().citation
