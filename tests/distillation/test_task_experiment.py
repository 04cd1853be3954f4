import json

import numpy as np
import pytest
import torch
from peft import LoraConfig

from helpers.distillation import linear_translator
from helpers.encoders import WORDS
from helpers.tasks import MILL, glue, squad, write_rows
from hf_vec2vec import TextEncoder
from hf_vec2vec.distillation.arms import Lesson
from hf_vec2vec.distillation.experiment import run_arms
from hf_vec2vec.distillation.task_experiment import TaskExperiment, training_texts
from hf_vec2vec.distillation.task_students import unpaired_translator
from hf_vec2vec.tasks import TaskVectors, judge, load_task

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def task(tmp_path):
    generator = np.random.default_rng(0)
    for split in ("train", "validation"):
        rows = []
        for i in range(24):
            choices = {"label": list("ABC"), "text": [str(word) for word in generator.choice(WORDS[3:], 3, replace=False)]}
            question = " ".join(generator.choice(WORDS[3:], 4))
            row = {"id": str(i), "question": question, "question_concept": "thing", "choices": choices}
            rows.append(row | {"answerKey": "ABC"[i % 3]})
        write_rows(rows, tmp_path / "choices" / f"{split}.jsonl")
    return load_task("commonsense_qa", tmp_path / "choices")


def test_students_follow_texts_and_are_judged_on_choices(task, folders, tmp_path):
    bert, llama = (TextEncoder(folders[name]) for name in ("bert", "llama"))
    texts = training_texts(task, 20)
    teacher = bert.encode(texts, progress=False)
    lesson = Lesson(
        student=folders["llama"],
        translators={"ours": linear_translator(teacher, llama.encode(texts, progress=False))},
        teacher_space="bert",
        student_space="llama",
        texts=texts,
        teacher=teacher,
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
        arguments={"max_steps": 2, "per_device_train_batch_size": 8},
    )
    experiment = TaskExperiment(task, lesson, bert)
    rows = {row["arm"]: row for row in run_arms(experiment, 2, tmp_path / "arms", arms=["ours", "self"])}
    assert list(rows) == ["frozen student", "teacher", "ours", "self"]
    for name, encoder in (("frozen student", llama), ("teacher", bert)):
        assert rows[name]["accuracy"] == judge(TaskVectors(encoder), task).figures["accuracy"]
    run = json.loads((tmp_path / "arms" / "runs" / "ours-1.json").read_text())
    assert np.mean(np.array(run["predicted"]) == run["references"]) == run["figures"]["accuracy"]
    assert rows["self"]["student_drift"] < rows["ours"]["student_drift"]
    fewer = TaskExperiment(task, lesson, bert, max_rows=12)
    with pytest.raises(ValueError, match="rows that are judged"):
        run_arms(fewer, 1, tmp_path / "arms", arms=["ours"])


def test_texts_are_those_of_the_rows(task, tmp_path):
    texts = training_texts(task)
    assert set(texts) == {
        *task.rows("train")["question"],
        *(t for row in task.rows("train") for t in row["choices"]["text"]),
    }
    assert len(texts) == len(set(texts)) > len(training_texts(task, 3)) >= 3
    for split in ("train", "validation"):
        write_rows(squad((MILL, "Who opened the mill?", ["Marla Venn"])), tmp_path / "squad" / f"{split}.jsonl")
        write_rows(glue(("sentence1", "sentence2"), [("a", "b", 2.0)] * 3), tmp_path / "stsb" / f"{split}.jsonl")
    for name in ("squad", "stsb"):
        with pytest.raises(ValueError, match=f"must have classes or choices, got '{name}'"):
            training_texts(load_task(name, tmp_path / name))


@pytest.mark.parametrize("rows", [0, 7, 199])
def test_a_task_with_too_few_rows_is_told_so_in_words_of_tasks(rows):
    with pytest.raises(ValueError, match=rf"`task` has {rows} training inputs .* 200 at least. Give more rows"):
        unpaired_translator(torch.zeros(rows, 4), torch.zeros(rows, 3), seed=0, progress=False)
