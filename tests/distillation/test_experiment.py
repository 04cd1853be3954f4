import json
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from peft import LoraConfig

from helpers.distillation import linear_translator
from helpers.encoders import WORDS
from hf_vec2vec import TextEncoder
from hf_vec2vec.data.corpora import LabelledTexts
from hf_vec2vec.distillation.arms import RESERVED, arm_trainer, make_arms, principal_axes
from hf_vec2vec.distillation.experiment import Experiment, arms_table, compare, run_arms
from hf_vec2vec.training.fingerprint import Fingerprint

pytestmark = pytest.mark.usefixtures("own_cache")


def labelled(count, seed):
    generator = np.random.default_rng(seed)
    texts = [" ".join(generator.choice(WORDS[3:], 5)) for _ in range(count)]
    return LabelledTexts("dogs", texts, ["yes" if "dog" in text else "no" for text in texts], {"no": "No.", "yes": "Dog."})


@pytest.fixture
def experiment(folders):  # noqa: F811
    train, test = labelled(60, 0), labelled(40, 1)
    bert, llama = TextEncoder(folders["bert"]), TextEncoder(folders["llama"])
    rows = {name: bert.encode(part.texts, progress=False) for name, part in (("train", train), ("test", test))}
    return Experiment(
        student=folders["llama"],
        translators={"ours": linear_translator(rows["train"], llama.encode(train.texts, progress=False))},
        teacher_space="bert",
        student_space="llama",
        train=train,
        test=test,
        teacher_train=rows["train"],
        teacher_test=rows["test"],
        peft_config=LoraConfig(r=2, target_modules="all-linear"),
        arguments={"max_steps": 3, "per_device_train_batch_size": 8, "logging_steps": 1},
    )


@pytest.mark.slow
def test_arms_run_resume_and_are_compared(experiment, tmp_path):
    rows = run_arms(experiment, 1, tmp_path)
    names = [row["arm"] for row in rows]
    assert names[:3] == ["frozen student", "teacher", "ours"]
    assert {"shuffled teacher", "random isometry", "student + noise", "self", "learned projection", "Gram loss"} < set(names)
    together = {"ours + Gram loss", "labels + ours", "labels + logits", "labels + logits + ours + Gram loss"}
    assert {"learned projection from ridge", "learned projection from ours"} | together < set(names)
    files = sorted((tmp_path / "runs").iterdir())
    assert len(files) == len(names) - 2
    kept = files[3].stat().st_mtime_ns
    files[-1].unlink()
    assert run_arms(experiment, 1, tmp_path) == rows  # what was there is read, what was lost comes out the same
    assert files[3].stat().st_mtime_ns == kept
    assert json.loads((tmp_path / "arms.json").read_text()) == rows
    taught = [name for name in names if name.startswith(("task loss", "labels"))]
    assert (tmp_path / "arms.md").read_text().count("\n") == len(names) + 2 + 2 * len(taught)  # the top, and what heads say


def test_arms_shorter_than_a_logging_interval_are_judged_too(experiment, tmp_path):
    seldom = replace(experiment, arguments=experiment.arguments | {"logging_steps": 100})
    rows = run_arms(seldom, 1, tmp_path, arms=["self"])
    assert rows[-1]["student_drift"] < 0.1


def test_language_models_are_compared_by_their_logits_too(experiment, tmp_path):
    both = replace(experiment, teacher_lm=experiment.student)
    rows = run_arms(both, 1, tmp_path, arms=["ours", "sorted logits (ULD)"])
    assert [row["arm"] for row in rows] == ["frozen student", "teacher", "ours", "sorted logits (ULD)"]
    assert "sorted logits (ULD)" not in make_arms(experiment.lesson, torch.randn(60, 8), 0)


def test_targets_are_what_their_names_say(experiment):
    student = TextEncoder(experiment.student).encode(experiment.train.texts, progress=False)
    arms = make_arms(experiment.lesson, student, 0)
    ours = arms["ours"].targets
    assert sorted(arms["shuffled teacher"].targets.tolist()) == sorted(ours.tolist())
    assert not torch.equal(arms["shuffled teacher"].targets, ours)
    assert torch.equal(arms["self"].targets, student)
    centred = student - student.mean(0)

    def cosine(rows):
        return torch.nn.functional.cosine_similarity(rows - student.mean(0), centred, dim=1).mean()

    assert cosine(arms["paired ridge"].targets) > cosine(arms["random isometry"].targets)
    assert cosine(arms["student + noise"].targets) == pytest.approx(cosine(ours).clamp_min(0.05).item(), abs=0.2)
    teacher = experiment.teacher_train
    standardised = experiment.lesson.translator.normalizers["bert"](teacher)
    for name in ("learned projection", "learned projection from ridge", "learned projection from ours"):
        assert torch.equal(arms[name].targets, standardised)
    gram = torch.pdist(arms["random isometry"].targets) / torch.pdist(teacher)
    assert gram.std() / gram.mean() < 1e-3  # distances are the teacher's, but for one factor


@pytest.mark.parametrize("kind", ["classes", "scores"])
def test_shuffled_logits_leave_the_labels_where_they_are(experiment, kind):
    lesson, count = experiment.lesson, len(experiment.train)
    generator = np.random.default_rng(0)
    known = {"labels": np.arange(count) / count, "logits": generator.standard_normal((count, 1))}
    lesson = lesson if kind == "classes" else replace(lesson, **known)
    arms = make_arms(lesson, torch.from_numpy(generator.standard_normal((count, 8))).float(), 0)
    right, shuffled = arms["labels + logits"], arms["labels + shuffled logits"]

    def said(arm):
        return arm.soft_labels[:, 0] if kind == "classes" else 2 * arm.labels - lesson.labels

    assert not np.allclose(said(right), said(shuffled))
    np.testing.assert_allclose(np.sort(said(right)), np.sort(said(shuffled)))
    assert kind == "scores" or shuffled.labels is None  # the lesson's own


def test_projections_start_where_they_say(experiment, tmp_path):
    """Ridge predicts the teacher of the training texts best; ours repeats the translator, which has seen no pair."""
    student = TextEncoder(experiment.student).encode(experiment.train.texts, progress=False)
    arms = make_arms(experiment.lesson, student, 0)
    centred = student - student.mean(0)
    targets = arms["learned projection"].targets - arms["learned projection"].targets.mean(0)
    lesson = experiment.lesson
    back = lesson.translator.translate(student, source="llama", target="bert")
    back = lesson.translator.normalizers["bert"](back)
    ours, ridge = (arms[f"learned projection from {name}"] for name in ("ours", "ridge"))
    torch.testing.assert_close(centred @ ours.projection.T, back - back.mean(0), rtol=1e-3, atol=1e-3)
    error, wrong = ((centred @ arm.projection.T - targets).square().mean() for arm in (ridge, ours))
    assert error < 0.8 * targets.square().mean() < wrong
    trainer = arm_trainer(lesson, ours, 0, str(tmp_path))
    assert torch.equal(trainer.student.distillation_projection.weight, ours.projection)
    rates = {group["lr"] for group in trainer.create_optimizer().param_groups if group["params"]}
    assert sorted(rates) == pytest.approx([1e-4, 1e-3])
    trained = [id(p) for group in trainer.optimizer.param_groups for p in group["params"]]
    assert sorted(trained) == sorted(id(p) for p in trainer.student.parameters() if p.requires_grad)


def test_a_narrower_space_gets_the_principal_axes():
    rows = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 7, 5, 3, 0.01, 0.01]) + 4
    kept = principal_axes(rows, 4)
    assert kept.shape == (200, 4)
    torch.testing.assert_close(torch.pdist(kept), torch.pdist(rows), rtol=1e-3, atol=1e-2)
    assert principal_axes(rows, 6) is rows


def test_differences_of_arms_by_hand():
    labels = np.array([0, 1] * 100)
    perfect, half = labels.tolist(), np.where(np.arange(200) < 100, labels, 1 - labels).tolist()
    found = {
        "frozen student": [{"predicted": half}],
        "teacher": [{"predicted": half}],
        "ours": [{"predicted": perfect, "student_drift": 0.2}, {"predicted": perfect, "student_drift": 0.4}],
        "self": [{"predicted": half, "student_drift": 0.0}] * 2,
    }
    frozen, _, ours, own = compare(found, labels, "ours")
    assert (frozen["accuracy"], ours["accuracy"], own["accuracy"]) == (0.5, 1.0, 0.5)
    assert frozen["gain"] == own["gain"] == {"mean": 0.0, "interval": [0.0, 0.0], "p": 1.0}
    assert ours["gain"]["mean"] == own["behind"]["mean"] == 0.5
    assert ours["gain"]["p"] < 0.01
    low, high = own["behind"]["interval"]
    assert 0.35 < low < 0.45 < 0.55 < high < 0.65  # ± 1.96 · .5 / √200
    assert (ours["agreement"], ours["shared_errors"], own["shared_errors"]) == (0.5, 0.0, 1.0)
    assert ours["student_drift"] == pytest.approx(0.3)
    assert "| ours over it |" in (table := arms_table([frozen, ours, own]))
    assert "+50.0 [" in table
    del found["ours"]  # controls alone: no column is called after what was not trained
    rows = compare(found, labels)
    assert not any("behind" in row or "ours" in row for row in rows)
    assert " over it |" not in (table := arms_table(rows))
    assert {line.count("|") for line in table.splitlines()} == {9}


class Named:
    """An experiment whose arms are names alone, each of which answers with its number."""

    references, student_vectors = np.array([1, 1, 2, 1]), None

    def __init__(self, monkeypatch, *names):
        self.lesson, self.ran = SimpleNamespace(translators=dict.fromkeys(names)), []
        arms = {name: i for i, name in enumerate((*names, "self"), 1)}
        monkeypatch.setattr("hf_vec2vec.distillation.experiment.make_arms", lambda lesson, student, seed: arms)
        monkeypatch.setattr("hf_vec2vec.distillation.experiment._run", self.run)

    def run(self, experiment, arm, seed):
        self.ran.append(arm)
        return {"predicted": [arm] * 4}

    def baselines(self):
        return {"frozen student": {"predicted": [0] * 4}, "teacher": {"predicted": [1] * 4}}

    def made_of(self):
        return Fingerprint({}, {}, {})


def test_arms_whose_names_are_alike_have_runs_of_their_own(monkeypatch, tmp_path):
    experiment = Named(monkeypatch, "v1.0", "v1-0")
    for _ in range(2):  # the second time everything is read
        rows = {row["arm"]: row["accuracy"] for row in run_arms(experiment, 1, tmp_path)}
        assert (rows["v1.0"], rows["v1-0"], rows["self"]) == (0.75, 0.25, 0)
    assert experiment.ran == [1, 2, 3]
    assert (tmp_path / "runs" / "self-0.json").exists()


def test_a_run_of_another_arm_is_not_taken_for_this_one(monkeypatch, tmp_path):
    run_arms(Named(monkeypatch, "v1.0"), 1, tmp_path)
    assert sorted(file.name for file in (tmp_path / "runs").iterdir()) == ["self-0.json", "v1-0-0.json"]
    with pytest.raises(ValueError, match=r"v1-0-0.json is of the arm 'v1.0' with seed 0, not of 'v1-0' with seed 0"):
        run_arms(Named(monkeypatch, "v1-0"), 1, tmp_path)


def test_arms_are_compared_with_a_translator_or_with_none(monkeypatch, tmp_path):
    experiment = Named(monkeypatch, "ours", "other")
    for arms, against in ((["ours", "self"], "ours"), (["other", "self"], "other"), (["self"], None)):
        rows = run_arms(experiment, 1, tmp_path, arms=arms)
        assert {row.get("ours") for row in rows} == {against}
        assert (f"| {against} over it |" in (tmp_path / "arms.md").read_text()) == (against is not None)


def test_a_translator_cannot_have_the_name_of_another_arm(experiment):
    known = replace(experiment.lesson, store=experiment.teacher_train, teacher_lm="x", labelled=np.ones(60, dtype=bool))
    student = TextEncoder(experiment.student).encode(experiment.train.texts, progress=False)
    assert set(make_arms(known, student, 0)) | {"frozen student", "teacher"} == RESERVED | {"ours"}
    (model,) = experiment.translators.values()
    for name in ("self", "shuffled teacher", "teacher"):
        with pytest.raises(ValueError, match=f"`translators` has the name '{name}', which is that of another arm"):
            replace(experiment, translators={"ours": model, name: model})
        with pytest.raises(ValueError, match=f"`translators` has the name '{name}'"):
            replace(experiment.lesson, translators={"ours": model, name: model})


@pytest.mark.parametrize(
    ("classes", "labels"),
    [(["no", "yes"], [0, 1]), (["up", "level", "down"], [2, 0, 1]), (["a", "b", "c", "never seen"], [0, 2, 1])],
    ids=str,
)
def test_the_head_of_an_arm_has_the_names_of_all_classes(experiment, tmp_path, classes, labels):
    lesson = replace(experiment.lesson, classes=classes, labels=np.resize(labels, 60))
    arm = make_arms(lesson, TextEncoder(lesson.student).encode(lesson.texts, progress=False), 0)["task loss only"]
    trainer = arm_trainer(lesson, arm, 0, str(tmp_path))
    config = trainer.student.config
    assert config.id2label == dict(enumerate(classes))
    assert config.label2id == {name: i for i, name in enumerate(classes)}
    assert config.num_labels == len(classes)
