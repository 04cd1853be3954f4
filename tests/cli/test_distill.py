import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, DatasetDict
from sentence_transformers import SentenceTransformer

from helpers.distillation import linear_translator
from helpers.encoders import WORDS, as_sentence_encoder
from helpers.tasks import glue, write_rows
from hf_vec2vec import TextEncoder
from hf_vec2vec.cli import main
from hf_vec2vec.cli.distill_check import CheckFlags
from hf_vec2vec.cli.teaching import Teaching, labelled
from hf_vec2vec.tasks import ClassificationTask, load_task

pytestmark = pytest.mark.usefixtures("own_cache")

TEXTS = [" ".join(WORDS[3 + (i * k) % 8] for k in range(1, 5)) for i in range(1, 9)] * 10


@pytest.fixture
def project(folders, tmp_path):
    """A translator from llama to bert that records both encoders, texts, and a task."""
    encoders = {"bert": TextEncoder(folders["bert"]), "llama": TextEncoder(folders["llama"])}
    model = linear_translator(*(encoder.encode(TEXTS, progress=False) for encoder in encoders.values()))
    model.config.encoders = {name: encoder.settings.__dict__ for name, encoder in encoders.items()}
    model.save_pretrained(tmp_path / "translator")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = [{"text": f"{text} {i % 7}", "label": "yes" if "dog" in text else "no"} for i, text in enumerate(TEXTS)]
    (tmp_path / "task.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def run(project, folders, *words, command="distill"):
    start = [command, "--translator", project / "translator", "--student", folders["bert"], "--disable_tqdm"]
    steps = [] if command == "distill-check" else ["--max_steps", 3, "--logging_steps", 1]
    return main([*map(str, [*start, *steps, *words])])


def test_texts_to_an_adapter_a_card_and_a_sentence_transformer(project, folders, capsys):
    output, export = project / "student", project / "export"
    words = ["--texts", project / "texts.txt", "--output_dir", output, "--export_dir", export]
    assert run(project, folders, *words) == 0
    assert (output / "adapter_model.safetensors").exists()
    card = (output / "README.md").read_text()
    assert "base_model_relation: adapter" in card
    assert "80 texts without labels, 3 updates" in card
    assert "AutoModel.from_pretrained" in card
    assert "moved by" in card
    assert "of a teacher, `./llama`. A translator (`./translator`)" in card
    assert "mean pooling of the last layer" in card
    before = TextEncoder(folders["bert"]).encode(TEXTS[:8], progress=False)
    after = torch.from_numpy(SentenceTransformer(str(export), device="cpu").encode(TEXTS[:8]))
    assert 1e-6 < (after - before).abs().max() < 1
    assert run(project, folders, *words) == 2
    assert "holds a model already" in capsys.readouterr().err


def test_stored_vectors_take_the_place_of_the_teacher(project, folders):
    vectors = project / "vectors.parquet"
    embed = ["embed", "--texts", project / "texts.txt", "--model", folders["llama"], "--output", vectors]
    assert main([*map(str, embed)]) == 0
    assert run(project, folders, "--vectors", vectors, "--output_dir", project / "student") == 0
    assert run(project, folders, "--texts", project / "texts.txt", "--output_dir", project / "other") == 0
    logs = [json.loads((project / name / "distillation.json").read_text())["log"] for name in ("student", "other")]
    assert [row["loss"] for row in logs[0]] == pytest.approx([row["loss"] for row in logs[1]], rel=1e-3)


def test_a_store_without_texts_and_other_texts(project, folders):
    store = project / "store.npy"
    np.save(store, TextEncoder(folders["llama"]).encode(TEXTS, progress=False).numpy())
    (project / "own.txt").write_text("\n".join(f"the {text}" for text in TEXTS))
    words = ["--vectors", store, "--texts", project / "own.txt", "--output_dir", project / "student"]
    assert run(project, folders, *words) == 0
    log = json.loads((project / "student" / "distillation.json").read_text())["log"]
    assert log[-1]["cosine_loss"] > 0
    card = (project / "student" / "README.md").read_text()
    assert "the nearest of 80 vectors" in card
    assert "of a teacher, `./llama`" in card
    arms = ["--task", project / "task.jsonl", "--vectors", store, "--arms", "teacher's store only", "--seeds", 1]
    assert run(project, folders, *arms, "--output_dir", project / "arms", command="distill-compare") == 0
    assert len(list((project / "arms" / "runs").iterdir())) == 1


def test_check_and_arms(project, folders, capsys):
    words = ["--task", project / "task.jsonl", "--output_dir", project / "check"]
    assert run(project, folders, *words, command="distill-check") == 0
    assert "random isometry of the teacher" in capsys.readouterr().out
    assert json.loads((project / "check" / "check.json").read_text())["texts"] > 40
    pairs = [(text, other, i % 2) for i, (text, other) in enumerate(zip(TEXTS, TEXTS[3:], strict=False))]
    write_rows(glue(("sentence1", "sentence2"), pairs), project / "rte" / "train.jsonl")
    write_rows(glue(("sentence1", "sentence2"), pairs), project / "rte" / "validation.jsonl")
    words = ["--task", "rte", "--task_source", project / "rte", "--max_texts", 40, "--output_dir", project / "check"]
    assert run(project, folders, *words, command="distill-check") == 0
    assert "rte: points" in capsys.readouterr().out
    assert set(json.loads((project / "check" / "check.json").read_text())["figures"]["student"]) == {"accuracy"}
    arms = ["--arms", "ours", "self", "--seeds", 1, "--output_dir", project / "pairs"]
    assert run(project, folders, *words[:-2], *arms, command="distill-compare") == 0
    table = capsys.readouterr().out
    assert [line.split(" | ")[0] for line in table.splitlines() if line.startswith("| ")][2:] == [
        *("| frozen student", "| teacher", "| ours", "| self"),
    ]
    words = ["--task", project / "task.jsonl", "--arms", "ours", "self", "--seeds", 1, "--output_dir", project / "arms"]
    assert run(project, folders, *words, command="distill-compare") == 0
    assert "| frozen student |" in capsys.readouterr().out
    assert len(list((project / "arms" / "runs").iterdir())) == 2


def few(label, rows=60, classes=3):
    """A task whose texts have classes of unequal size: the last has a tenth of the rows."""
    names = [label(i % (classes - 1) if i % 10 else classes - 1) for i in range(rows)]
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(rows)], "label": names})
    kinds = tuple(f"intent {i}" for i in range(classes))
    splits = DatasetDict(train=data, validation=data.select(range(rows // 2)))
    return ClassificationTask("intents", splits, ("text",), kinds)


def test_every_class_is_drawn_where_there_is_room():
    task = few(lambda i: i)
    whole = labelled(task, "train", None)
    assert (len(whole), set(whole.labels)) == (60, set(task.labels))
    ample = labelled(task, "train", 40)
    assert ample.texts == whole.texts[:40]  # a draw that has all classes is as it was
    for count, each in ((3, 1), (5, 1), (15, 5), (20, 5), (60, 5), (99, 5)):
        found = labelled(task, "train", count, each)
        assert len(found) == min(count, 60)
        assert min(Counter(found.labels).values()) >= each
        assert set(Counter(found.labels)) == set(task.labels)
        assert len(set(found.texts)) == len(found)
        assert all(whole.labels[whole.texts.index(text)] == name for text, name in zip(found.texts, found.labels))
        assert found.texts[:2] == whole.texts[:2]


def test_too_few_texts_for_all_classes_are_told():
    with pytest.raises(
        ValueError, match=r"`max_texts` is 2, too few for 'validation' of 'intents', .* of 3 classes: .*'int"
    ):
        labelled(few(lambda i: i), "validation", 2)
    with pytest.raises(ValueError, match=r"`max_texts` is 14, .*5 row\(s\) of each of 3 classes.*Give 15 at least"):
        labelled(few(lambda i: i), "train", 14, 5)
    with pytest.raises(
        ValueError, match=r"'intents' needs 5 row\(s\) of each class in 'validation', .* fewer of 'intent 2'"
    ):
        labelled(few(lambda i: i), "validation", None, 5)
    with pytest.raises(ValueError, match=r"fewer of 'intent 49'"):
        labelled(few(lambda i: min(i, 48), rows=1000, classes=50), "train", 60)
    with pytest.raises(ValueError, match="`split` 'train' of 'intents' has no labels"):
        labelled(few(lambda i: -1), "train", None)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of `texts`"),
        (["--texts", "texts.txt", "--eval_strategy", "steps"], "`eval_strategy` must be no"),
        (["--texts", "texts.txt", "--optim_args", "lr"], "`optim_args` must be NAME=VALUE"),
        (["--texts", "texts.txt", "--load_best_model_at_end", "true"], "`load_best_model_at_end` requires"),
        (["--texts", "x.txt", "--task", "bbc"], "give one of `texts`"),
        (["--texts", "texts.txt", "--check"], "`--check` is no flag"),
        (["--vectors", "translator"], "cannot be read"),
        (["--vectors", "x.npy", "--task", "bbc"], "give one of `texts`"),
        (["--student", "another", "--texts", "texts.txt"], "`student_space` must be given"),
        (["--teacher_spaces", "a", "b", "--texts", "texts.txt"], "Did you mean --teacher_space?"),
        (["--teacher_space", "z", "--texts", "texts.txt"], "`teacher_space` must be one of"),
        (["--texts", "texts.txt", "--load_in_4bit", "--export_dir", "export"], "leave out `load_in_4bit`"),
    ],
)
def test_bad_words(project, folders, words, message, capsys, monkeypatch):
    monkeypatch.chdir(project)
    assert run(project, folders, *words, "--output_dir", project / "out") == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["ours"], "`other_translators` has the name 'ours', which is that of another translator"),
        (["a", "a"], "`other_translators` has the name 'a', which is that of another translator"),
        (["self"], "`other_translators` has the name 'self', which is that of another arm"),
        (["shuffled teacher"], "has the name 'shuffled teacher', which is that of another arm"),
    ],
    ids=str,
)
def test_names_of_arms_are_given_once(project, folders, names, message, capsys):
    others = ["--other_translators", *(f"{name}={project / 'translator'}" for name in names)]
    words = ["--task", project / "task.jsonl", *others, "--output_dir", project / "arms"]
    assert run(project, folders, *words, command="distill-compare") == 2
    assert message in capsys.readouterr().err
    assert not (project / "arms").exists()


def test_a_classifier_learns_from_labels_and_teacher_and_is_scored_on_the_task(project, folders, capsys):
    output, task = project / "classifier", project / "task.jsonl"
    head = ["--student_head", "classifier", "--task_weight", 1, "--max_steps", 80, "--learning_rate", 0.01]
    assert run(project, folders, "--task", task, *head, "--output_dir", output) == 0
    assert json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"] == folders["bert"]
    assert main(["evaluate", str(output), "--task", str(task), "--json", str(project / "figures.json")]) == 0
    assert json.loads((project / "figures.json").read_text())["figures"]["accuracy"] > 0.8
    assert "AutoModelForSequenceClassification" in (card := (output / "README.md").read_text())
    assert "texts with labels (no, yes)" in card
    assert "task, validation" in capsys.readouterr().out
    assert main(["evaluate", folders["bert"], "--task", str(task)]) == 2
    assert "no trained head" in capsys.readouterr().err
    assert run(project, folders, "--task", task, "--student_head", "classifier", "--output_dir", project / "x") == 2
    assert "go together" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["absolute", "relative", "a trailing slash", "through a link", "moved to another machine"])
def test_the_space_of_a_student_is_found_whatever_its_folder_is_called(kind, project, folders, monkeypatch, capsys):
    folder = Path(folders["bert"])
    monkeypatch.chdir(folder.parent)
    (project / "linked").symlink_to(folder.parent)
    shutil.copytree(folder, project / "elsewhere" / folder.name)
    student = {
        "absolute": folder.resolve(),
        "relative": folder.name,
        "a trailing slash": f"./{folder.name}/",
        "through a link": project / "linked" / folder.name,
        "moved to another machine": project / "elsewhere" / folder.name,
    }[kind]
    words = ["distill-check", "--translator", project / "translator", "--student", student, "--disable_tqdm"]
    assert main([*map(str, [*words, "--task", project / "task.jsonl", "--output_dir", project / "check"])]) == 0, (
        capsys.readouterr().err
    )


def test_the_space_of_an_unknown_student_must_be_given(project, folders, capsys):
    shutil.copytree(folders["bert"], project / "another")
    words = ["distill-check", "--translator", project / "translator", "--student", project / "another", "--disable_tqdm"]
    assert main([*map(str, [*words, "--task", project / "task.jsonl", "--output_dir", project / "check"])]) == 2
    assert "`student_space` must be given" in capsys.readouterr().err


@pytest.fixture
def sentence_encoder(project, folders):
    """A student whose own vectors are unlike the defaults."""
    return as_sentence_encoder(shutil.copytree(folders["bert"], project / "encoder"))


def opened(project, student, **given):
    """What commands know of a student whose space is `bert`."""
    given |= {"student_space": "bert"}
    words = {"translator": str(project / "translator"), "student": student, "output_dir": str(project / "out")}
    return Teaching.open(CheckFlags(**words, **given, given=frozenset(given)))


def record(project, **settings):
    """Change what the translator records of the space `bert`; without settings it records nothing."""
    file = project / "translator" / "config.json"
    content = json.loads(file.read_text())
    content["encoders"]["bert"] = content["encoders"]["bert"] | settings
    if not settings:
        del content["encoders"]["bert"]
    file.write_text(json.dumps(content))


def test_what_the_translator_does_not_record_the_student_s_folder_says(project, folders, sentence_encoder):
    record(project, pooling="last", max_length=9)
    assert opened(project, sentence_encoder).contract["pooling"] == "last"
    record(project)
    for student in (sentence_encoder, folders["bert"], folders["llama"]):
        settings = opened(project, student).settings(student)
        assert settings == replace(TextEncoder(student).settings, prompt_name="")
    found = opened(project, sentence_encoder, pooling="mean", max_length=5).contract
    assert [found[name] for name in ("pooling", "max_length", "normalize")] == ["mean", 5, True]


@pytest.mark.parametrize("command", ["distill-check", "distill-compare"])
def test_a_split_that_is_missing_is_told_before_models_are_loaded(project, folders, command, capsys, monkeypatch):
    rows = [("a dog", "the cat", 1), ("a cat", "the dog", 0)] * 5
    write_rows(glue(("sentence1", "sentence2"), rows), project / "rte" / "train.jsonl")
    monkeypatch.setattr(Teaching, "teacher", None)
    words = ["--task", "rte", "--task_source", project / "rte", "--output_dir", project / "out"]
    assert run(project, folders, *words, command=command) == 2
    assert "`task` 'rte' lacks the split 'validation', on which models are judged" in capsys.readouterr().err


def test_a_prompt_may_be_given_by_its_name(project, folders, sentence_encoder):
    assert opened(project, sentence_encoder).contract["prompt"] == ""  # as the translator records it
    for given in ({"prompt_name": "query"}, {"prompt_name": "query", "prompt": "a dog "}):
        assert opened(project, sentence_encoder, **given).contract["prompt"] == "a dog "
    with pytest.raises(ValueError, match=r"`prompt_name` must be one of \['query', 'document', 'text'\].* got 'other'"):
        opened(project, sentence_encoder, prompt_name="other")
    with pytest.raises(ValueError, match=r"`prompt_name` must be one of \[\], which the model's folder names, got 'query'"):
        opened(project, folders["bert"], prompt_name="query")
    with pytest.raises(ValueError, match="`prompt` 'the dog' and `prompt_name` 'query', .* differ: give one of them"):
        opened(project, sentence_encoder, prompt_name="query", prompt="the dog")


@pytest.mark.parametrize("head", [["--student_head", "classifier", "--task_weight", 1], []], ids=["classifier", "encoder"])
def test_a_student_sees_some_texts_of_each_class(project, folders, head, capsys, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "hf_vec2vec.distillation.recipe.train_student", lambda *_, **given: seen.append(given["train_dataset"])
    )
    rows = [{"text": f"{text} {i}", "label": "rare" if i % 40 == 0 else "often"} for i, text in enumerate(TEXTS)]
    write_rows(rows, project / "rare.jsonl")
    words = ["--task", project / "rare.jsonl", *head, "--output_dir", project / "student"]
    assert run(project, folders, *words, "--max_texts", 5) == 0
    drawn = labelled(load_task(str(project / "rare.jsonl")), "train", 5)
    assert sorted(seen[0]["text"]) == sorted(drawn.texts)
    assert set(drawn.labels) == {"rare", "often"}
    if head:
        names = dict(zip(drawn.texts, drawn.numbers(), strict=True))
        assert seen[0]["labels"][:] == [names[text] for text in seen[0]["text"]]
    assert run(project, folders, *words, "--max_texts", 1) == 2
    assert "`max_texts` is 1, too few for 'train' of 'rare'" in capsys.readouterr().err


@pytest.mark.parametrize("head", [["--student_head", "classifier", "--task_weight", 1], []], ids=["classifier", "encoder"])
def test_a_student_of_a_task_needs_its_training_rows(project, folders, head, capsys, monkeypatch):
    monkeypatch.setattr(Teaching, "teacher", None)
    monkeypatch.setattr("hf_vec2vec.distillation.load_student", None)
    folder = project / "sst2"
    write_rows(glue(("sentence",), [("a dog", 1), ("the cat", 0)]), folder / "validation.jsonl")
    words = ["--task", "sst2", "--task_source", folder, *head, "--output_dir", project / "student"]
    assert run(project, folders, *words) == 2
    assert "`task` 'sst2' lacks the split 'train'" in capsys.readouterr().err
    if head:
        write_rows(glue(("sentence",), [("a dog", -1), ("the cat", -1)]), folder / "train.jsonl")
        assert run(project, folders, *words) == 2
        assert "its split 'train' has no labels" in capsys.readouterr().err
