"""A tiny student and its teacher."""

from datasets import Dataset
from peft import LoraConfig

from helpers.clouds import random_rotation
from helpers.encoders import WORDS
from hf_vec2vec import TextEncoder, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.distillation import DistillationTrainer, DistillationTrainingArguments, load_student

TEXTS = [" ".join(WORDS[3 + (i * k) % 8] for k in range(1, 2 + i % 5)) for i in range(1, 33)]


LORA = LoraConfig(r=4, target_modules="all-linear")


def linear_translator(teacher, student, names=("bert", "llama")):
    """Some faithful map between the two spaces, with their statistics."""
    rotation = random_rotation(teacher.shape[1], student.shape[1])
    statistics = fit_statistics(teacher), fit_statistics(student)
    return Vec2VecModel.from_alignment(Alignment(*names, rotation, rotation.T, *statistics))


def make_trainer(
    folders,
    output,
    *,
    kind="encoder",
    translator="linear",
    teacher="live",
    data=None,
    lora=LORA,
    logit_teacher=None,
    projection=None,
    eval_dataset=None,
    given=None,
    **changes,
):
    model, tokenizer, known = load_student(folders["llama"], kind, 2 if kind == "classifier" else None)
    bert = TextEncoder(folders["bert"])
    if translator == "linear":
        start = TextEncoder(folders["llama"]).encode(TEXTS, progress=False)
        translator = linear_translator(bert.encode(TEXTS, progress=False), start)
    defaults = {
        "max_steps": 6,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "report_to": "none",
        "disable_tqdm": True,
    }
    arguments = DistillationTrainingArguments(str(output), **known | defaults | {"save_strategy": "no"} | changes)
    return DistillationTrainer(
        model,
        arguments,
        translator=translator,
        teacher=bert if teacher == "live" else teacher,
        peft_config=lora,
        logit_teacher=logit_teacher,
        projection=projection,
        train_dataset=Dataset.from_dict({"text": TEXTS, "labels": [i % 2 for i in range(32)]}) if data is None else data,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        **given or {},
    )
