"""Judges of sentence-transformers, on local data of the form of STS and of NanoBEIR."""

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer.evaluation import (
    EmbeddingSimilarityEvaluator,
    InformationRetrievalEvaluator,
    SequentialEvaluator,
)

from helpers.distillation import LORA, TEXTS, make_trainer
from hf_vec2vec.distillation import load_student
from hf_vec2vec.distillation.evaluators import EvaluatorCallback, as_sentence_transformer
from hf_vec2vec.distillation.students import StudentEncoder
from hf_vec2vec.encoders.text import EncoderSettings

pytestmark = pytest.mark.usefixtures("own_cache")
SCORES = [i % 5 / 4 for i in range(16)]


@pytest.mark.parametrize(
    ("kind", "changes"),
    [("bert", {}), ("llama", {"layer": 1, "mask_first_token": True, "prompt": "the "}), ("llama", {"normalize": True})],
)
def test_a_student_says_the_same_as_a_sentence_transformer(folders, kind, changes):
    model, tokenizer, known = load_student(folders[kind])
    given = {"pooling": "mean", "layer": -1, "prompt": "", "max_length": 32, "normalize": False, "mask_first_token": False}
    encoder = StudentEncoder(model, tokenizer, EncoderSettings(model=str(folders[kind]), **given | changes))
    judged = as_sentence_transformer(encoder)
    np.testing.assert_allclose(judged.encode(TEXTS), encoder.encode(TEXTS).numpy(), rtol=1e-4, atol=1e-5)
    assert judged.get_embedding_dimension() == encoder.encode(TEXTS[:1]).shape[1]
    with pytest.raises(NotImplementedError, match="use `save_as_sentence_transformer`"):
        judged[0].save("somewhere")


def test_evaluators_are_asked_at_each_evaluation(folders, tmp_path):
    corpus = {str(i): text for i, text in enumerate(dict.fromkeys(TEXTS))}
    queries = {"q": "the dog"}
    sts = EmbeddingSimilarityEvaluator(TEXTS[:16], TEXTS[16:], SCORES, name="sts")
    search = InformationRetrievalEvaluator(queries, corpus, {"q": {"0", "1"}}, name="search", mrr_at_k=[3])
    trainer = make_trainer(folders, tmp_path, lora=LORA, learning_rate=1e-2)
    trainer.add_callback(EvaluatorCallback(trainer, SequentialEvaluator([sts, search], lambda scores: scores[0])))
    trainer.train()
    assert not any("eval_sts_spearman_cosine" in row for row in trainer.state.log_history)
    trainer.model.train()
    metrics = trainer.evaluate(trainer.train_dataset)
    assert {"eval_loss", "eval_sts_spearman_cosine", "eval_search_cosine_mrr@3"} <= set(metrics)
    assert any("eval_sts_spearman_cosine" in row for row in trainer.state.log_history)
    rows = trainer.encoder().encode(TEXTS)
    cosines = torch.nn.functional.cosine_similarity(rows[:16], rows[16:])
    assert metrics["eval_sts_pearson_cosine"] == pytest.approx(np.corrcoef(cosines, SCORES)[0, 1], abs=1e-4)
