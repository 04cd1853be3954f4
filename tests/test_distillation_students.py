import pytest
import torch
from peft import LoraConfig, get_peft_model
from sentence_transformers import SentenceTransformer
from test_distillation_trainer import TEXTS, folders, own_cache  # noqa: F401
from test_encoders import static  # noqa: F401

from hf_vec2vec import TextEncoder
from hf_vec2vec.distillation import DistillationTrainingArguments, StudentEncoder, load_student, save_as_sentence_transformer


def encoder_of(folder, tmp_path, **changes):
    model, tokenizer, known = load_student(folder)
    arguments = DistillationTrainingArguments(str(tmp_path), **known | changes)
    return StudentEncoder(model, tokenizer, arguments.encoder_settings(folder))


@pytest.mark.parametrize("name", ["bert", "llama"])
@pytest.mark.parametrize("kind", ["encoder", "causal_lm", "classifier"])
def test_a_student_says_what_its_encoder_says(folders, name, kind, tmp_path):  # noqa: F811
    if (name, kind) == ("bert", "causal_lm"):
        with pytest.raises(ValueError, match="is no language model: its folder lacks"):
            load_student(folders["bert"], "causal_lm")
        return
    model, tokenizer, known = load_student(folders[name], kind, 3 if kind == "classifier" else None)
    arguments = DistillationTrainingArguments(str(tmp_path), **known)
    student = StudentEncoder(model.train(), tokenizer, arguments.encoder_settings(folders[name]))
    assert known["mask_first_token"] == (name == "llama")
    expected = TextEncoder(folders[name]).encode(TEXTS, progress=False)
    torch.testing.assert_close(student.encode(TEXTS, batch_size=5), expected)
    assert model.training


def test_static_embeddings_cannot_be_adapted(static):  # noqa: F811
    with pytest.raises(ValueError, match="static embedding"):
        load_student(static)


@pytest.mark.parametrize("changes", [{}, {"normalize": True}, {"pooling": "cls"}, {"pooling": "weighted_mean"}], ids=str)
def test_an_exported_student_is_a_sentence_transformer(folders, tmp_path, changes):  # noqa: F811
    student = encoder_of(folders["bert"], tmp_path, **changes)
    torch.manual_seed(1)
    adapted = get_peft_model(student.model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False))
    before = StudentEncoder(adapted, student.tokenizer, student.settings).encode(TEXTS)
    merged = adapted.merge_and_unload()
    save_as_sentence_transformer(merged, student.tokenizer, student.settings, tmp_path / "st")
    exported = torch.from_numpy(SentenceTransformer(str(tmp_path / "st"), device="cpu").encode(TEXTS))
    assert (exported - before).abs().max() < 1e-5
    again = TextEncoder(str(tmp_path / "st"))
    assert (again.encode(TEXTS, progress=False) - before).abs().max() < 1e-5


def test_what_the_format_cannot_say_is_refused(folders, tmp_path):  # noqa: F811
    student = encoder_of(folders["llama"], tmp_path)
    with pytest.raises(ValueError, match="mask_first_token True"):
        save_as_sentence_transformer(student.model, student.tokenizer, student.settings, tmp_path / "st")
