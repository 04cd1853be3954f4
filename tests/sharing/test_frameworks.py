"""LangChain and LlamaIndex read a folder of sentence-transformers that ends with a translator: no code of ours between."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from helpers.distillation import TEXTS
from helpers.translators import random_translator
from hf_vec2vec.distillation.query_encoder import save_query_encoder
from hf_vec2vec.distillation.query_recipe import Translation, make_query_encoder
from hf_vec2vec.distillation.query_students import open_student
from hf_vec2vec.sentence_transformers import Vec2VecModule

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(bert, tmp_path):
    encoder = SentenceTransformer(bert, device="cpu")
    model = random_translator(encoder.get_embedding_dimension(), 4)
    translator = Vec2VecModule(model, source="old", target="new")
    SentenceTransformer(modules=[*encoder, translator], device="cpu").save(str(tmp_path / "both"))
    return str(tmp_path / "both")


@pytest.fixture
def expected(folder) -> np.ndarray:
    return SentenceTransformer(folder, device="cpu", trust_remote_code=True).encode(TEXTS)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_langchain(folder, expected):
    module = pytest.importorskip("langchain_huggingface", exc_type=ImportError)
    embeddings = module.HuggingFaceEmbeddings(model_name=folder, model_kwargs={"device": "cpu", "trust_remote_code": True})
    np.testing.assert_allclose(embeddings.embed_documents(TEXTS), expected, atol=1e-5)
    np.testing.assert_allclose(embeddings.embed_query(TEXTS[0]), expected[0], atol=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_llama_index(folder, expected):
    module = pytest.importorskip("llama_index.embeddings.huggingface", exc_type=ImportError)
    embeddings = module.HuggingFaceEmbedding(folder, device="cpu", trust_remote_code=True, normalize=False)
    np.testing.assert_allclose(embeddings.get_text_embedding_batch(TEXTS), expected, atol=1e-5)
    assert torch.tensor(embeddings.get_query_embedding(TEXTS[0])).shape == (4,)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("framework", ["langchain_huggingface", "llama_index.embeddings.huggingface"])
def test_a_query_encoder_needs_no_trust(framework, bert, tmp_path):
    """It is a folder of standard modules: frameworks open it by its path alone, prompts included."""
    module = pytest.importorskip(framework, exc_type=ImportError)
    translation, index = Translation(random_translator(8, 4), "old", "new"), torch.randn(9, 4)
    encoder, facts = make_query_encoder(open_student(bert), index, start="translator", translation=translation)
    save_query_encoder(encoder, tmp_path / "out", facts)
    if framework.startswith("langchain"):
        asked = module.HuggingFaceEmbeddings(model_name=str(tmp_path / "out"), model_kwargs={"device": "cpu"}).embed_query
    else:
        asked = module.HuggingFaceEmbedding(str(tmp_path / "out"), device="cpu").get_query_embedding
    np.testing.assert_allclose(asked(TEXTS[0]), encoder.encode(TEXTS[0]), atol=1e-5)
