"""A teacher learns a task, a student learns it from labels and teacher, and both are judged: three commands."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from helpers.encoders import WORDS
from helpers.tasks import MILL, glue, squad, write_rows
from hf_vec2vec.cli import main
from hf_vec2vec.distillation import task_students

HIDDEN = 100
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def mrpc(tmp_path):
    """Pairs that are the same if both have a dog or none has."""
    generator = np.random.default_rng(0)

    def text():
        return " ".join(generator.choice(WORDS[3:], 6))

    for split, count in (("train", 300), ("validation", 60)):
        rows = [(a, b, int(("dog" in a) == ("dog" in b))) for a, b in ((text(), text()) for _ in range(count))]
        write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / "mrpc" / f"{split}.jsonl")
    return tmp_path / "mrpc"


def run(*words):
    return main([*map(str, words), "--disable_tqdm"])


def test_teacher_student_and_figures_in_three_commands(folders, mrpc, tmp_path, capsys):
    task = ["--task", "mrpc", "--task_source", mrpc]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    rate = ["--learning_rate", "1e-2", "--lora_r", 4, "--bf16"]  # on a processor, too
    assert run("finetune", "--model", folders["bert"], *task, "--output_dir", teacher, "--max_steps", 20, *rate) == 0
    assert "mrpc, validation, 60 rows: accuracy" in capsys.readouterr().out
    assert json.loads((teacher / "finetune.json").read_text())["train_rows"] == 300
    words = ["--teacher", teacher, "--student", folders["llama"], *task, "--output_dir", student]
    assert run("distill-task", *words, "--max_steps", 3, *rate) == 0
    shown = capsys.readouterr().out
    facts = json.loads((student / "distill_task.json").read_text())
    arms = [row["arm"] for row in facts["rows"]]
    assert arms[:4] == ["teacher", "task loss only", "labels + logits", "labels + learned projection from ridge"]
    assert (arms[4:] == ["labels + ours"]) == (facts["verdict"] == "aligned")
    best = max(facts["rows"][1:], key=lambda row: row["held_out"])
    assert facts["kept"] == best["arm"]
    assert f"| **{best['arm']}** | {best['accuracy']:.4f} |" in shown
    assert run("evaluate", student, *task, "--json", tmp_path / "figures.json") == 0
    assert json.loads((tmp_path / "figures.json").read_text())["figures"]["accuracy"] == pytest.approx(best["accuracy"])
    model = AutoModelForSequenceClassification.from_pretrained(student)
    assert model.config.id2label == {0: "not_equivalent", 1: "equivalent"}
    inputs = AutoTokenizer.from_pretrained(student)("a dog\n", "the dog", return_tensors="pt", return_token_type_ids=False)
    assert torch.isfinite(model(**inputs).logits).all()
    assert run("distill-task", *words) == 2
    assert "`output_dir`" in (said := capsys.readouterr().err)
    assert "holds a model already" in said


def rows_of(name, count, seed):
    """Choices of which the one with a dog is right; scores that count dogs; the first are not known in training."""
    generator = np.random.default_rng(seed)
    others = [word for word in WORDS[3:] if word != "dog"]
    if name == "stsb":
        texts = [[" ".join(generator.choice(WORDS[3:], 5)) for _ in range(2)] for _ in range(count)]
        hidden = range(0 if seed else HIDDEN)
        scores = [-1.0 if i in hidden else float((a + b).count("dog")) for i, (a, b) in enumerate(texts)]
        return glue(("sentence1", "sentence2"), [(*pair, score) for pair, score in zip(texts, scores, strict=True)])
    rows = []
    for i in range(count):
        right, texts = generator.integers(3), list(generator.choice(others, 3))
        texts[right] = "dog"
        rows.append({"id": str(i), "question": " ".join(generator.choice(others, 4)), "question_concept": "thing"})
        rows[-1] |= {
            "choices": {"label": list("ABC"), "text": texts},
            "answerKey": "" if i < HIDDEN and not seed else "ABC"[right],
        }
    return rows


@pytest.mark.parametrize(
    ("name", "figures"),
    [
        pytest.param("commonsense_qa", {"accuracy"}, marks=pytest.mark.slow),
        ("stsb", {"pearson", "spearmanr"}),
    ],
)
def test_choices_and_scores_are_taught_as_classes_are(folders, tmp_path, monkeypatch, name, figures):
    for split, count, seed in (("train", 250, 0), ("validation", 40, 1)):
        write_rows(rows_of(name, count, seed), tmp_path / "task" / f"{split}.jsonl")
    task = ["--task", name, "--task_source", tmp_path / "task", "--learning_rate", "1e-2", "--lora_r", 4]
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    assert run("finetune", "--model", folders["llama"], *task, "--output_dir", teacher, "--max_steps", 2) == 0
    assert json.loads((teacher / "finetune.json").read_text())["train_rows"] == 150  # questions with an answer, not choices
    words = ["--teacher", teacher, "--student", folders["bert"], *task, "--max_steps", 2]
    logs = []
    monkeypatch.setattr(task_students.logger, "info", lambda message, *values: logs.append(message % values))
    assert run("distill-task", *words, "--output_dir", student) == 0
    assert any("training rows have no label" in line for line in logs)
    rows = json.loads((student / "distill_task.json").read_text())["rows"]
    assert set(rows[1]) == {"arm", "held_out"} | figures
    best = max(rows[1:], key=lambda row: row["held_out"])
    asked = ["--task", name, "--task_source", tmp_path / "task", "--json", tmp_path / "figures.json"]
    assert run("evaluate", student, *asked) == 0
    found = json.loads((tmp_path / "figures.json").read_text())
    assert found["rows"] == 40
    assert found["figures"] == pytest.approx({figure: best[figure] for figure in figures})


def test_an_encoder_without_a_head_is_asked_by_a_probe(folders, mrpc, tmp_path, capsys):
    words = ["evaluate", folders["bert"], "--task", "mrpc", "--task_source", mrpc]
    assert run(*words, "--probe", "--json", tmp_path / "figures.json") == 0
    facts = json.loads((tmp_path / "figures.json").read_text())
    assert set(facts["figures"]) == {"accuracy", "f1"}
    assert facts["train_rows"] == 300
    assert "A part: 300 of 3,668 training rows; 60 of 408 rows of 'validation'." in capsys.readouterr().out
    assert run(*words, "--probe", "--language_model") == 2
    assert "Leave one of them out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "llama", "--student", "llama"], "there is nothing to learn"),
        (["--teacher", "llama", "--student", "bert"], "has no trained head for 'mrpc'"),
        (["--teacher", "no/such/folder", "--student", "bert"], "`teacher` is"),
        (["--teacher", "llama", "--student", "bert", "--task_source", "nowhere"], "`task_source` is 'nowhere'"),
        (["--teacher", "llama", "--student", "bert", "--task", "squad"], "'squad' has 1 training rows, of which a tenth"),
        (["--teacher", "llama", "--student", "bert", "--max_steps", "0"], "`max_steps` must be at least 1"),
    ],
)
def test_bad_words(folders, mrpc, tmp_path, words, message, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    named = [folders.get(word, word) for word in words]
    defaults = {"--task": "mrpc", "--task_source": mrpc, "--output_dir": tmp_path / "out"}
    given = [part for name, value in defaults.items() if name not in words for part in (name, value)]
    if "squad" in words:
        for split in ("train", "validation"):
            write_rows(squad((MILL, "Who opened the mill?", ["Marla Venn"])), mrpc / f"{split}.jsonl")
    assert run("distill-task", *named, *given) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out" / "config.json").exists()


def spoil(folder, split, how):
    """Take a split away, or its labels."""
    file = folder / f"{split}.jsonl"
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    file.unlink()
    if how == "hidden":
        write_rows([row | {"label": -1} for row in rows], file)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("how", ["missing", "hidden"])
def test_splits_that_cannot_be_used_are_told_before_any_work(folders, mrpc, tmp_path, capsys, monkeypatch, split, how):
    spoil(mrpc, split, how)
    told = f"`task` 'mrpc' lacks the split '{split}'" if how == "missing" else f"split '{split}' has no labels"
    monkeypatch.setattr("hf_vec2vec.tasks.base.Task.load_head", None)
    task = ["--task", "mrpc", "--task_source", mrpc, "--output_dir", tmp_path / "out"]
    for command in (["finetune", "--model"], ["distill-task", "--teacher", folders["llama"], "--student"]):
        assert run(*command, folders["bert"], *task) == 2
        said = capsys.readouterr().err
        assert told in said
        assert "`task_source`" in said
        assert "`split`" not in said
