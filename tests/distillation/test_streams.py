"""Texts that come as a stream: `datasets.IterableDataset`."""

import math

import pytest
import torch
from datasets import Dataset, Features, IterableDataset, Sequence, Value

from helpers.distillation import TEXTS, make_trainer
from hf_vec2vec import TextEncoder
from hf_vec2vec.data import to_dataset

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def stored(folders):
    rows = TextEncoder(folders["bert"]).encode(TEXTS, progress=False)
    return to_dataset(rows, TEXTS).rename_column("embedding", "label")


def from_generator(data):
    return IterableDataset.from_generator(lambda: iter(data.to_list()))


def with_other_columns(data):
    numbered = data.add_column("id", list(range(len(data)))).add_column("note", [None] * len(data))
    return numbered.to_iterable_dataset()


STREAMS = {
    "in one shard": lambda data: data.to_iterable_dataset(),
    "in four shards": lambda data: data.to_iterable_dataset(num_shards=4),
    "of a generator, without known columns": from_generator,
    "mapped": lambda data: data.to_iterable_dataset().map(lambda row: row),
    "with other columns": with_other_columns,
    "filtered": lambda data: data.to_iterable_dataset().filter(lambda row: len(row["text"]) > 0),
}


def adapter(trainer):
    return {name: p.detach().clone() for name, p in trainer.student.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_trains_as_the_same_rows_in_memory_do(folders, tmp_path, stored, stream):
    options = {"teacher": None, "max_steps": 4, "train_sampling_strategy": "sequential"}
    whole = make_trainer(folders, tmp_path / "whole", data=stored, **options)
    streamed = make_trainer(folders, tmp_path / "streamed", data=STREAMS[stream](stored), **options)
    for trainer in (whole, streamed):
        trainer.train()
    for name, p in adapter(whole).items():
        torch.testing.assert_close(adapter(streamed)[name], p, msg=name)


@pytest.mark.parametrize("options", [{}, {"span_words": 2}, {"gram_weight": 1.0}], ids=str)
def test_a_teacher_is_asked_as_texts_come(folders, tmp_path, options):
    data = Dataset.from_dict({"text": TEXTS}).to_iterable_dataset()
    trainer = make_trainer(folders, tmp_path, data=data, **options)
    before = adapter(trainer)
    trainer.train()
    assert any(not torch.equal(p, before[name]) for name, p in adapter(trainer).items())
    assert "A stream of texts" in trainer.card(tmp_path, "student")


def test_a_stream_cannot_be_sorted_by_length(folders, tmp_path, stored):
    with pytest.raises(ValueError, match="`train_sampling_strategy` is 'group_by_length', but a stream"):
        make_trainer(folders, tmp_path, data=list(STREAMS.values())[0](stored), train_sampling_strategy="group_by_length")


def test_a_projection_is_learned_from_a_stream(folders, tmp_path, stored):
    options = {"translator": None, "learn_projection": True, "teacher": None}
    make_trainer(folders, tmp_path, data=stored.to_iterable_dataset(), **options).train()


@pytest.mark.parametrize("shards", [1, 4])
def test_a_stream_that_ran_out_goes_on_from_its_start_and_resumes_exactly(folders, tmp_path, stored, shards):
    options = {"teacher": None, "max_steps": 10, "save_strategy": "steps", "save_steps": 3}  # 4 batches a pass
    runs = [
        make_trainer(folders, tmp_path / name, data=stored.to_iterable_dataset(num_shards=shards), **options)
        for name in ("straight", "resumed")
    ]
    runs[0].train()
    for step in (3, 6):
        runs[1].train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{step}"))
        for name, p in adapter(runs[0]).items():
            assert torch.equal(adapter(runs[1])[name], p), name


def test_another_stream_is_not_gone_on_with(folders, tmp_path, stored):
    options = {"teacher": None, "max_steps": 4, "save_strategy": "steps", "save_steps": 2}
    make_trainer(folders, tmp_path, data=stored.to_iterable_dataset(), **options).train()
    other = make_trainer(folders, tmp_path, data=stored.select(range(31, -1, -1)).to_iterable_dataset(), **options)
    with pytest.raises(ValueError, match="the training rows"):
        other.train(resume_from_checkpoint="true")


def row(**changes):
    return {"text": "a dog", "label": [0.5] * 6} | changes


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row(), row(text=" ")], r"1 empty text.* row 1"),
        ([row(), row(), row(text=None)], r"1 empty text.* row 2"),
        ([row(), row(label=[0.5] * 5)], "unequal lengths|dimension"),
        ([row(), row(label=[math.nan] * 6)], "NaN or infinite"),
        ([row(), row(label=None)], "without a vector"),
        ([row(text="")], r"1 empty text.* row 0"),
        ([{"sentence": "a dog"}], "column 'text'"),
        ([{"text": "a dog"}], "go into 'label'"),
        ([], "no rows"),
    ],
    ids=str,
)
def test_bad_rows_of_a_stream_are_named(folders, tmp_path, rows, message):
    features = None if rows else Features({"text": Value("string"), "label": Sequence(Value("float32"))})
    stream = IterableDataset.from_generator(lambda: iter(rows), features=features)
    with pytest.raises(ValueError, match=message):
        make_trainer(folders, tmp_path, teacher=None, data=stream).train()


def test_a_stream_needs_a_number_of_updates(folders, tmp_path, stored):
    with pytest.raises(ValueError, match="`max_steps` is -1, but streams have no length"):
        make_trainer(folders, tmp_path, teacher=None, data=stored.to_iterable_dataset(), max_steps=-1)
