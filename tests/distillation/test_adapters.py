"""Adapters: one at a time, of a kind whose vectors are the text's own, and what is saved can be loaded."""

import copy

import pytest
import torch
from datasets import Dataset, DatasetDict
from peft import (
    IA3Config,
    LoHaConfig,
    LoraConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptTuningConfig,
    get_peft_model,
)
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel

from helpers.distillation import LORA, TEXTS, make_trainer
from helpers.encoders import SHAPE, save_model
from hf_vec2vec import TextEncoder
from hf_vec2vec.data import to_dataset
from hf_vec2vec.distillation import (
    DistillationTrainer,
    DistillationTrainingArguments,
    StudentEncoder,
    load_student,
    train_student,
)
from hf_vec2vec.distillation.bases import check_base
from hf_vec2vec.tasks import ClassificationTask, load_trained_model

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def stored(folders):
    rows = TextEncoder(folders["llama"]).encode(TEXTS, progress=False).flip(0)
    return to_dataset(rows, TEXTS).rename_column("embedding", "label")


def arguments(folder, known, **changes):
    fixed = {"max_steps": 3, "per_device_train_batch_size": 8, "report_to": "none", "disable_tqdm": True, "use_cpu": True}
    return DistillationTrainingArguments(str(folder), **known | fixed | {"save_strategy": "no"} | changes)


def adapted_by_peft(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))


def adapted_by_transformers(model):
    model.add_adapter(LoraConfig(r=2, target_modules=["q_proj", "v_proj"]))
    return model


def loaded_to_be_trained(model, folder):
    adapted_by_peft(load_student(model.name_or_path)[0]).save_pretrained(folder)
    return PeftModel.from_pretrained(model, folder, is_trainable=True)


@pytest.mark.parametrize(
    "first", [adapted_by_peft, adapted_by_transformers, lambda model: get_peft_model(model, IA3Config(
        target_modules=["k_proj", "down_proj"], feedforward_modules=["down_proj"]
    ))], ids=["lora", "transformers", "ia3"],
)  # fmt: skip
@pytest.mark.parametrize("second", [LORA, LoHaConfig(r=2, target_modules=["q_proj"])], ids=["lora", "loha"])
def test_an_adapter_on_an_adapter_is_refused(folders, tmp_path, stored, first, second):
    model, tokenizer, known = load_student(folders["llama"])
    with pytest.raises(ValueError, match=r"`model` has an adapter already.*merge_and_unload.*leave out `peft_config`"):
        DistillationTrainer(
            first(model),
            arguments(tmp_path, known),
            peft_config=second,
            train_dataset=stored,
            processing_class=tokenizer,
        )


def test_a_first_adapter_is_trained_further_and_what_is_saved_gives_the_same_vectors(folders, tmp_path, stored):
    model, tokenizer, known = load_student(folders["llama"])
    model = loaded_to_be_trained(model, tmp_path / "one")
    before = {name: p.clone() for name, p in model.named_parameters() if p.requires_grad}
    args = arguments(tmp_path / "two", known)
    trainer = train_student(model, args, processing_class=tokenizer, train_dataset=stored)
    assert any(not torch.equal(p, before[name]) for name, p in trainer.student.named_parameters() if name in before)
    again = PeftModel.from_pretrained(load_student(folders["llama"])[0], tmp_path / "two")
    vectors = StudentEncoder(again, tokenizer, args.encoder_settings("llama")).encode(TEXTS)
    assert torch.equal(vectors, trainer.encoder().encode(TEXTS))


def test_a_second_stage_on_the_merged_first_loads_on_what_was_saved_in_between(folders, tmp_path, stored):
    model, tokenizer, known = load_student(folders["llama"])
    one = train_student(
        model, arguments(tmp_path / "one", known), peft_config=LORA, train_dataset=stored, processing_class=tokenizer
    )
    merged = one.student.merge_and_unload()
    merged.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    model, tokenizer, known = load_student(str(tmp_path / "base"))
    args = arguments(tmp_path / "two", known)
    two = train_student(model, args, peft_config=LORA, train_dataset=stored, processing_class=tokenizer)
    again = PeftModel.from_pretrained(load_student(str(tmp_path / "base"))[0], tmp_path / "two")
    vectors = StudentEncoder(again, tokenizer, args.encoder_settings("base")).encode(TEXTS)
    assert torch.equal(vectors, two.encoder().encode(TEXTS))


def test_an_adapter_that_was_loaded_to_be_used_is_not_trained_without_a_word(folders, tmp_path, stored):
    model, tokenizer, known = load_student(folders["llama"])
    adapted_by_peft(load_student(folders["llama"])[0]).save_pretrained(tmp_path / "one")
    frozen = PeftModel.from_pretrained(model, tmp_path / "one")
    with pytest.raises(ValueError, match="no weight that may be trained.*is_trainable=True"):
        DistillationTrainer(frozen, arguments(tmp_path, known), train_dataset=stored, processing_class=tokenizer)


DISTILBERT = DistilBertConfig(vocab_size=11, dim=8, n_layers=1, n_heads=2, hidden_dim=8)
BODIES = {
    "distilbert, whose head has two parts": DistilBertModel(DISTILBERT),
    "bert without the pooler that its head reads": BertModel(BertConfig(**SHAPE), add_pooling_layer=False),
    "bert with it": BertModel(BertConfig(**SHAPE)),
}


@pytest.mark.parametrize("name", BODIES)
def test_all_that_is_new_in_a_classifier_is_saved_with_its_adapter(tmp_path, name):
    folder = save_model(BODIES[name], tmp_path / "body")
    model, tokenizer, known = load_student(folder, "classifier", labels=["no", "yes"])
    data = Dataset.from_dict({"text": TEXTS, "labels": [i % 2 for i in range(len(TEXTS))]})
    args = arguments(tmp_path / "run", known, task_weight=1.0, cosine_weight=0.0)
    lora = LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")
    made = train_student(model, args, processing_class=tokenizer, train_dataset=data, peft_config=lora).student.eval()
    assert ("pooler" in made.peft_config["default"].modules_to_save) == ("without" in name)
    task = ClassificationTask("moods", DatasetDict(), ("text",), ("no", "yes"))
    again = load_trained_model(str(tmp_path / "run"), task)[0].eval()
    inputs = tokenizer(TEXTS, padding=True, return_token_type_ids=False, return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(again(**inputs).logits, made(**inputs).logits)


def test_an_adapter_of_transformers_own_is_refused(folders, tmp_path, stored):
    model, tokenizer, known = load_student(folders["llama"])
    with pytest.raises(ValueError, match="adapter that transformers put in .* pass `peft_config` or `PeftModel.from_pret"):
        DistillationTrainer(
            adapted_by_transformers(model), arguments(tmp_path, known), train_dataset=stored, processing_class=tokenizer
        )


def named(model):
    return get_peft_model(model, copy.deepcopy(LORA), adapter_name="mine")  # which peft changes


def beside_another(model):
    model = adapted_by_peft(model)
    model.add_adapter("mine", LoraConfig(r=2, target_modules=["q_proj"]))
    return model


def in_place_of_another(model):
    model = beside_another(model)
    model.set_adapter("mine")
    return model


@pytest.mark.parametrize(("make", "sound"), [(named, False), (in_place_of_another, False), (beside_another, True)])
def test_an_adapter_is_saved_where_it_is_looked_for_or_refused(folders, tmp_path, stored, make, sound):
    model, tokenizer, known = load_student(folders["llama"])
    args = arguments(tmp_path / "run", known)
    if not sound:
        with pytest.raises(ValueError, match=r"would train the adapters \['mine'\], but only one named 'default' is saved"):
            DistillationTrainer(make(model), args, train_dataset=stored, processing_class=tokenizer)
        return
    trainer = train_student(make(model), args, train_dataset=stored, processing_class=tokenizer)
    again = PeftModel.from_pretrained(load_student(folders["llama"])[0], tmp_path / "run")
    vectors = StudentEncoder(again, tokenizer, args.encoder_settings("llama")).encode(TEXTS)
    assert torch.equal(vectors, trainer.encoder().encode(TEXTS))


@pytest.mark.parametrize("kind", [PromptTuningConfig, PrefixTuningConfig, PromptEncoderConfig])
def test_tokens_of_the_adapters_own_are_refused(folders, tmp_path, stored, kind):
    model, tokenizer, known = load_student(folders["llama"])
    config = kind(num_virtual_tokens=3, task_type="FEATURE_EXTRACTION")
    with pytest.raises(ValueError, match=f"`peft_config` is a {kind.__name__}"):
        DistillationTrainer(
            model, arguments(tmp_path, known), peft_config=config, train_dataset=stored, processing_class=tokenizer
        )


@pytest.mark.parametrize("dropout", [-1.0, 1.0, 1.5, float("nan")])
def test_dropout_of_an_adapter_is_a_probability(folders, tmp_path, dropout):
    with pytest.raises(ValueError, match="`lora_dropout` must be at least 0"):
        make_trainer(folders, tmp_path, lora=LoraConfig(r=2, target_modules="all-linear", lora_dropout=dropout))


@pytest.mark.parametrize("layer", [99, 3, -4])
def test_a_layer_that_the_student_does_not_have(folders, tmp_path, layer):
    with pytest.raises(ValueError, match=f"`layer` must be between -3 and 2 for this student, got {layer}"):
        make_trainer(folders, tmp_path, layer=layer)


def merged(model):
    return get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False)).merge_and_unload()


def trained(model):
    with torch.no_grad():
        list(model.parameters())[-1][0] += 0.1
    return model


def one_row(model):
    with torch.no_grad():
        model.get_input_embeddings().weight[3] *= 1.5
    return model


def adapted_after_a_merge(model):
    return adapted_by_peft(merged(model))


CHANGES = [merged, trained, one_row, adapted_after_a_merge]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
@pytest.mark.parametrize("name", ["llama", "bert"])
def test_an_adapter_on_weights_that_were_never_saved_is_refused(folders, tmp_path, stored, name, change):
    model, tokenizer, known = load_student(folders[name])
    model = change(model)
    lora = None if change is adapted_after_a_merge else LORA
    with pytest.raises(ValueError, match="weights are no longer those .* Save the model and its tokenizer"):
        DistillationTrainer(
            model, arguments(tmp_path, known), peft_config=lora, train_dataset=stored, processing_class=tokenizer
        )


@pytest.mark.parametrize("kind", ["encoder", "causal_lm", "classifier"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_of_the_folder_in_any_type_and_under_any_head_are_those(folders, kind, dtype):
    model = load_student(folders["llama"], kind, 2 if kind == "classifier" else None)[0]
    check_base(model.to(dtype))
    check_base(adapted_by_peft(model).get_base_model())
    with pytest.raises(ValueError, match="are no longer those"):
        check_base(trained(model) if kind == "encoder" else merged(load_student(folders["llama"], kind)[0]))


def test_a_model_of_no_folder_has_nothing_to_differ_from(folders):
    model = merged(load_student(folders["llama"])[0])
    for name in ("", "nowhere/at-all", "a name: of no kind"):
        model.name_or_path = name
        check_base(model)
