"""Encoder-decoders as students: their encoder makes the vectors, their decoder is left alone."""

import pytest
import torch
from peft import LoraConfig, PeftModel
from sentence_transformers import SentenceTransformer
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BartModel,
    M2M100Config,
    M2M100Model,
    MarianConfig,
    MarianModel,
    MT5Config,
    MT5Model,
    PegasusConfig,
    PegasusModel,
    T5Config,
    T5EncoderModel,
    T5ForConditionalGeneration,
    T5Model,
)

from helpers.distillation import TEXTS
from helpers.encoders import save_model
from helpers.tasks import write_task
from hf_vec2vec import TextEncoder
from hf_vec2vec.data import to_dataset
from hf_vec2vec.distillation import (
    DistillationTrainer,
    DistillationTrainingArguments,
    StudentEncoder,
    load_student,
    save_as_sentence_transformer,
    train_student,
)
from hf_vec2vec.tasks import load_task

pytestmark = pytest.mark.usefixtures("own_cache")

TOKENS = {"vocab_size": 11, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}
T5 = {"d_model": 8, "d_kv": 4, "d_ff": 16, "num_layers": 2, "num_heads": 2, **TOKENS}
BART = {"d_model": 8, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2, "decoder_attention_heads": 2}
BART |= {"encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "max_position_embeddings": 64, "bos_token_id": 2, **TOKENS}
MODELS = {
    "t5": lambda: T5Model(T5Config(**{name: value for name, value in T5.items() if name != "decoder_start_token_id"})),
    "t5 for generation": lambda: T5ForConditionalGeneration(T5Config(**T5)),
    "t5 encoder": lambda: T5EncoderModel(T5Config(**T5)),
    "mt5": lambda: MT5Model(MT5Config(**T5)),
    "bart": lambda: BartModel(BartConfig(**BART)),
    "bart for generation": lambda: BartForConditionalGeneration(BartConfig(**BART)),
    "marian": lambda: MarianModel(MarianConfig(**BART)),
    "pegasus": lambda: PegasusModel(PegasusConfig(**BART)),
    "m2m100": lambda: M2M100Model(M2M100Config(**BART)),
}


@pytest.fixture
def bart(tmp_path):
    torch.manual_seed(0)
    return save_model(MODELS["bart"](), tmp_path / "bart")


def arguments(folder, known, **changes):
    fixed = {"max_steps": 4, "per_device_train_batch_size": 8, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    return DistillationTrainingArguments(str(folder), **known | fixed | {"save_strategy": "no"} | changes)


def targets():
    rows = torch.randn(len(TEXTS), 8, generator=torch.Generator().manual_seed(0))
    return to_dataset(rows, TEXTS).rename_column("embedding", "label")


LORA = LoraConfig(r=2, target_modules="all-linear")


@pytest.mark.parametrize(("name", "adapter"), [*((name, LORA) for name in MODELS), ("t5", None), ("bart", None)])
def test_the_encoder_is_trained_and_what_is_saved_gives_the_same_vectors(tmp_path, name, adapter):
    torch.manual_seed(0)
    folder = save_model(MODELS[name](), tmp_path / "model")
    model, tokenizer, known = load_student(folder)
    args = arguments(tmp_path / "out", known, learning_rate=1e-2)
    start = StudentEncoder(model, tokenizer, args.encoder_settings(folder)).encode(TEXTS)
    torch.testing.assert_close(start, TextEncoder(folder).encode(TEXTS, progress=False))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer = train_student(model, args, peft_config=adapter, train_dataset=targets(), processing_class=tokenizer)
    after = trainer.encoder().encode(TEXTS)
    assert not torch.allclose(start, after, atol=1e-4)
    moved = {name for name, p in trainer.student.named_parameters() if p.requires_grad}
    assert not any(".decoder." in f".{name}" for name in moved)
    if adapter is None:
        for name, p in trainer.student.named_parameters():
            assert ".decoder." not in f".{name}" or torch.equal(p, before[name]), name
        again = load_student(str(tmp_path / "out"))[0]
    else:
        again = PeftModel.from_pretrained(load_student(folder)[0], tmp_path / "out")
    torch.testing.assert_close(StudentEncoder(again, tokenizer, args.encoder_settings(folder)).encode(TEXTS), after)


@pytest.mark.parametrize("name", ["t5", "bart"])
def test_an_inner_layer_will_do(tmp_path, name):
    torch.manual_seed(0)
    folder = save_model(MODELS[name](), tmp_path / "model")
    model, tokenizer, known = load_student(folder)
    args = arguments(tmp_path / "out", known, layer=1)
    trainer = DistillationTrainer(model, args, peft_config=LORA, train_dataset=targets(), processing_class=tokenizer)
    trainer.train()
    expected = TextEncoder(folder, layer=1).encode(TEXTS, progress=False)
    with trainer.student.disable_adapter():
        torch.testing.assert_close(trainer.encoder().encode(TEXTS), expected)


@pytest.mark.parametrize("kind", ["causal_lm", "classifier"])
def test_heads_are_refused(bart, kind):
    with pytest.raises(ValueError, match=f"`kind` is '{kind}'.*encoder-decoder"):
        load_student(bart, kind, 2 if kind == "classifier" else None)


def test_a_head_on_an_encoder_alone_is_refused_for_its_decoder_would_be_new(tmp_path):
    folder = save_model(MODELS["t5 encoder"](), tmp_path / "t5")
    with pytest.raises(ValueError, match=r"`kind` is 'classifier'.*encoder-decoder"):
        load_student(folder, "classifier", 2)


@pytest.mark.parametrize("name", ["sst2", "squad"])
def test_a_head_of_a_task_reads_the_decoder_which_must_be_there(tmp_path, name):
    task = load_task(name, write_task(name, tmp_path / "data"))
    task.load_model(save_model(MODELS["t5"](), tmp_path / "whole"))
    with pytest.raises(ValueError, match=r"holds an encoder without the decoder .*\('.*decoder.block.0.*' is missing\)"):
        task.load_model(save_model(MODELS["t5 encoder"](), tmp_path / "encoder"))


def test_losses_of_a_head_are_refused(bart, tmp_path):
    model, tokenizer, known = load_student(bart)
    with pytest.raises(ValueError, match="`model` is an encoder-decoder"):
        DistillationTrainer(
            model, arguments(tmp_path, known, lm_loss_weight=1.0), train_dataset=targets(), processing_class=tokenizer
        )


@pytest.mark.parametrize("name", ["t5", "mt5", "t5 encoder"])
def test_sentence_transformers_reads_the_encoder(tmp_path, name):
    torch.manual_seed(0)
    folder = save_model(MODELS[name](), tmp_path / "model")
    model, tokenizer, known = load_student(folder)
    settings = arguments(tmp_path / "out", known).encoder_settings(folder)
    vectors = StudentEncoder(model, tokenizer, settings).encode(TEXTS)
    save_as_sentence_transformer(model, tokenizer, settings, tmp_path / "st")
    opened = SentenceTransformer(str(tmp_path / "st"), device="cpu")
    torch.testing.assert_close(torch.from_numpy(opened.encode(TEXTS)), vectors)


def test_a_folder_whose_decoder_would_be_pooled_is_not_written(bart, tmp_path):
    model, tokenizer, known = load_student(bart)
    settings = arguments(tmp_path / "out", known).encoder_settings(bart)
    with pytest.raises(ValueError, match="would pool the decoder"):
        save_as_sentence_transformer(model, tokenizer, settings, tmp_path / "st")
    assert not (tmp_path / "st").exists()
