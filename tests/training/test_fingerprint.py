"""A run is resumed with what it was made of, or refused with what differs."""

import os
import shutil

import pytest
import torch
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.training import arguments, build, spaces, weights
from hf_vec2vec import UnpairedEmbeddings, Vec2VecConfig, Vec2VecModel, Vec2VecTrainer
from hf_vec2vec.training.fingerprint import FILE, Fingerprint, rows_digest, tensors_digest

RUN = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four updates and its checkpoints."""
    folder = tmp_path_factory.mktemp("run")
    trainer = build(folder, **RUN)
    trainer.train()
    return folder


def on_other_rows(change):
    """A run that differs in rows alone."""

    def made(folder):
        rows = change(spaces())
        dims = {name: values.shape[1] for name, values in rows.items()}
        model = Vec2VecModel(Vec2VecConfig(embedding_dims=dims, hidden_dim=16, discriminator_hidden_dim=16))
        return Vec2VecTrainer(model, arguments(folder, **RUN), rows)

    return made


def one_value(rows):
    rows["b"][11, 3] += 1e-3
    return rows


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (lambda folder: build(folder, **RUN, seed=7), r"`seed` \(42 there, 7 here\)"),
        (lambda folder: build(folder, **RUN, learning_rate=3e-5), r"`learning_rate` \(1e-05 there, 3e-05 here\)"),
        (lambda folder: build(folder, **RUN, cycle_weight=0.5), "`cycle_weight`"),
        (lambda folder: build(folder, **RUN, gan_loss="hinge"), "`gan_loss`"),
        (lambda folder: build(folder, **RUN, per_device_train_batch_size=8), "`per_device_train_batch_size`"),
        (lambda folder: build(folder, **RUN, lr_scheduler_type="constant"), "`lr_scheduler_type`"),
        (lambda folder: build(folder, **RUN, config=config(hidden_dim=8)), "the shape of the model"),
        (on_other_rows(one_value), "the rows of 'b'"),
        (on_other_rows(lambda rows: rows | {"a": rows["a"].flip(0)}), "the rows of 'a'"),
        (on_other_rows(lambda rows: rows | {"b": rows["b"][:-1]}), "the rows of 'b'"),
        (on_other_rows(lambda rows: {name: values.half().float() for name, values in rows.items()}), "the rows of 'a'"),
    ],
)
@pytest.mark.parametrize("way", ["folder", "newest"])
def test_what_differs_is_named(run, tmp_path, other, named, way):
    shutil.copytree(run, tmp_path / "run")
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    trainer = other(tmp_path / "run")
    with pytest.raises(ValueError, match=f"is of a run that differs from this one: {named}"):
        trainer.train(resume_from_checkpoint=True if way == "newest" else str(tmp_path / "run" / "checkpoint-2"))
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == before


def config(**changes):
    return Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, **{"hidden_dim": 16, "discriminator_hidden_dim": 16} | changes)


def test_several_differences_are_all_named(run):
    with pytest.raises(ValueError, match=r"`seed`.*`vsp_weight`|`vsp_weight`.*`seed`"):
        build(run, **RUN, seed=1, vsp_weight=2.0).train(resume_from_checkpoint=True)


@pytest.mark.parametrize("asked", [True, "true", "True"])
def test_the_same_run_may_go_on_for_longer_from_where_it_was_moved_to(run, tmp_path, asked):
    shutil.copytree(run, tmp_path / "moved")
    longer = build(tmp_path / "moved", **RUN | {"max_steps": 6}, logging_steps=3)
    longer.train(resume_from_checkpoint=asked)
    assert longer.state.global_step == 6


def test_a_best_checkpoint_is_found_where_the_folder_was_moved_to(tmp_path):
    held_out = UnpairedEmbeddings(spaces(40))
    best = {"load_best_model_at_end": True, "metric_for_best_model": "loss", "eval_strategy": "steps", "eval_steps": 2}
    steps = {"save_strategy": "steps", "save_steps": 2, "learning_rate": 1.0, "lr_scheduler_type": "constant"}
    straight = build(tmp_path / "one", eval_dataset=held_out, **best, **steps, max_steps=4)
    straight.train()
    assert straight.state.best_global_step == 2  # the second two updates made it worse
    os.rename(tmp_path / "one", tmp_path / "two")
    resumed = build(tmp_path / "two", eval_dataset=held_out, **best, **steps, max_steps=4)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.state.best_model_checkpoint == str(tmp_path / "two" / "checkpoint-2")
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value), name


def test_checkpoints_of_versions_that_recorded_nothing_go_on(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    for checkpoint in (tmp_path / "run").glob("checkpoint-*"):
        (checkpoint / FILE).unlink()
        (checkpoint / "files.json").unlink()
    build(tmp_path / "run", **RUN, seed=7).train(resume_from_checkpoint=True)


@settings(max_examples=30, deadline=None)
@given(row=st.integers(0, 9), column=st.integers(0, 4), change=st.floats(1e-6, 1e6))
def test_every_value_counts(row, column, change):
    rows = torch.linspace(0, 1, 50).view(10, 5)
    other = rows.clone()
    other[row, column] += change
    same = torch.equal(rows, other)
    assert (tensors_digest([("x", rows)]) == tensors_digest([("x", other)])) == same
    one, two = (Dataset.from_dict({"text": ["a"] * 10, "label": values.tolist()}) for values in (rows, other))
    assert (rows_digest(one) == rows_digest(two)) == same


def test_the_hash_is_of_the_rows_not_of_how_they_are_stored():
    data = Dataset.from_dict({"text": [f"text {i}" for i in range(50)], "label": [[float(i)] * 3 for i in range(50)]})
    picked = data.select(range(10, 30))
    again = Dataset.from_dict(picked[:])
    assert rows_digest(picked) == rows_digest(again) == rows_digest(again.to_iterable_dataset())
    assert rows_digest(picked) != rows_digest(data.select(range(11, 31)))
    assert rows_digest(picked) != rows_digest(picked.select([1, 0, *range(2, 20)]))


def test_rounding_in_what_a_model_answers_is_no_difference():
    made_of = Fingerprint({}, {"names": ("a", "b")}, {"translator": [1.0, -0.5]})
    saved = {"hashes": {}, "settings": {"names": ["a", "b"]}, "answers": {"translator": [1.00001, -0.5]}}
    assert made_of.differences(saved) == []
    saved["answers"]["translator"][1] = 0.5
    assert made_of.differences(saved) == ["the translator"]
