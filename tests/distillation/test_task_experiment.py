import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from datasets import DatasetDict
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


def lesson_of(folders, texts):
    bert, llama = (TextEncoder(folders[name]) for name in ("bert", "llama"))
    teacher = bert.encode(texts, progress=False)
    return Lesson(
        student=folders["llama"],
        translators={"ours": linear_translator(teacher, llama.encode(texts, progress=False))},
        teacher_space="bert",
        student_space="llama",
        texts=texts,
        teacher=teacher,
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
        arguments={"max_steps": 2, "per_device_train_batch_size": 8},
    )


def test_students_follow_texts_and_are_judged_on_choices(task, folders, tmp_path):
    bert, llama = (TextEncoder(folders[name]) for name in ("bert", "llama"))
    lesson = lesson_of(folders, training_texts(task, 20))
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


def relabelled(row):
    return {"answerKey": "B" if row["answerKey"] == "A" else "A"}


def other_choice(row):
    return {"choices": row["choices"] | {"text": [*row["choices"]["text"][:2], "mat"]}}


@pytest.mark.parametrize(
    ("split", "change", "differing"),
    [
        ("train", relabelled, "rows that probes are fitted to"),
        ("validation", relabelled, "rows that are judged"),
        ("validation", other_choice, "rows that are judged"),
    ],
)
def test_runs_of_choices_know_the_rows_that_probes_see(task, folders, split, change, differing):
    lesson = lesson_of(folders, ["a dog", "the cat"])
    changed = DatasetDict({**task.splits, split: task.splits[split].map(change)})
    one, other = (TaskExperiment(made, lesson, None).made_of() for made in (task, replace(task, splits=changed)))
    assert one.differences(asdict(other)) == [f"the {differing}"]
    assert one.differences(asdict(TaskExperiment(task, lesson, None).made_of())) == []


def test_runs_of_pairs_know_how_texts_are_paired(folders, tmp_path):
    texts = [("a dog", "the cat"), ("the mat", "a cat"), ("small dog", "on mat")] * 4
    turned = [(texts[i - 1][0], second) for i, (_, second) in enumerate(texts)]
    for name, pairs in (("one", texts), ("other", turned)):
        for split in ("train", "validation"):
            rows = [(*pair, i % 2) for i, pair in enumerate(pairs if split == "train" else texts)]
            write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / name / f"{split}.jsonl")
    lesson = lesson_of(folders, ["a dog", "the cat"])
    made = [TaskExperiment(load_task("rte", tmp_path / name), lesson, None).made_of() for name in ("one", "other")]
    assert made[0].differences(asdict(made[1])) == ["the rows that probes are fitted to"]
