import json
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, IterableDataset
from safetensors.torch import save_file

from helpers.clouds import make_cloud, random_rotation
from helpers.training import arguments, weights
from hf_vec2vec import UnpairedEmbeddings, Vec2VecConfig, Vec2VecModel, Vec2VecTrainer
from hf_vec2vec.cli import main
from hf_vec2vec.data import save_embeddings, to_dataset, vectors
from hf_vec2vec.data.overlap import NOT_CHECKED, ON_A_SAMPLE, TEXTS_COMPARED
from hf_vec2vec.data.stream_files import open_stream
from hf_vec2vec.data.streaming import StreamedBatches, StreamedEmbeddings, is_held_out
from hf_vec2vec.data.vector_files import Store

KINDS = ["folder", "x.parquet", "x.npy", "x.safetensors", "store", "store/*.npy", "examples"]


def numbered(rows: int, dim: int, sign: int = 1) -> torch.Tensor:
    """Rows that say which they are."""
    return torch.cat([torch.arange(1, rows + 1.0)[:, None] * sign, torch.randn(rows, dim - 1)], 1)


def stream(rows: torch.Tensor, kind: str, folder, monkeypatch) -> IterableDataset:
    """The rows as a stream of several shards."""
    monkeypatch.setattr("hf_vec2vec.data.stream_files.SHARD", 40)
    monkeypatch.setattr("hf_vec2vec.data.stream_files.BLOCK", 16)
    folder.mkdir(exist_ok=True)
    if kind == "examples":
        return Dataset.from_dict({"embedding": rows.tolist()}).to_iterable_dataset(num_shards=4)
    if kind.startswith("store"):
        (folder / "store").mkdir()
        for i, part in enumerate(rows.split(50)):
            np.save(folder / "store" / f"{i}.npy", part.numpy())
    elif kind == "folder":
        to_dataset(rows, [f"text {int(row[0])}" for row in rows]).save_to_disk(folder / kind)
    elif kind == "x.parquet":
        pq.write_table(to_dataset(rows).data.table, folder / kind, row_group_size=45)
    elif kind == "x.npy":
        np.save(folder / kind, rows.numpy())
    else:
        save_file({"embedding": rows}, folder / kind)
    return open_stream(f"{folder}/{kind}")


def pair(kind, tmp_path, monkeypatch, **kwargs) -> StreamedEmbeddings:
    a = stream(numbered(130, 6), kind, tmp_path / "a", monkeypatch)
    b = stream(numbered(100, 4, -1), kind, tmp_path / "b", monkeypatch)
    return StreamedEmbeddings({"a": a, "b": b}, **{"buffer_rows": 32} | kwargs)


def numbers(batches: list[dict], name: str) -> list[int]:
    return torch.cat([batch[name][:, 0] for batch in batches]).int().tolist()


@pytest.mark.parametrize("kind", KINDS)
def test_every_row_comes_once_a_pass_and_in_another_order_the_next(kind, tmp_path, monkeypatch):
    data = pair(kind, tmp_path, monkeypatch)
    assert data.dims == {"a": 6, "b": 4}
    batches = list(StreamedBatches(data, 10, 26, seed=0))
    rows = numbers(batches, "a")
    assert sorted(rows[:130]) == sorted(rows[130:]) == list(range(1, 131))
    assert rows[:130] != rows[130:]
    assert rows[:130] != sorted(rows[:130])
    other = numbers(batches, "b")
    assert sorted(other[:100]) == sorted(other[100:200]) == list(range(-100, 0))
    # The spaces are drawn independently: rows of equal number meet by chance only.
    assert sum(x == -y for x, y in zip(rows, other, strict=True)) < 13


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_is_enough_to_go_on_exactly(kind, tmp_path, monkeypatch):
    data = pair(kind, tmp_path, monkeypatch, held_out=0.1)
    straight, places = StreamedBatches(data, 9, 40, seed=3), []
    batches = []
    for batch in straight:
        batches.append(batch)
        places.append(json.loads(json.dumps(straight.state_dict())))
    for stop in (1, 2, 7, 12, 20, 39):
        resumed = StreamedBatches(data, 9, 40, seed=3)
        resumed.load_state_dict(places[stop - 1], stop)
        rest = list(resumed)
        assert rest[:stop] == [None] * stop
        for mine, theirs in zip(rest[stop:], batches[stop:], strict=True):
            assert torch.equal(mine["a"], theirs["a"])
            assert torch.equal(mine["b"], theirs["b"])


@pytest.mark.parametrize("kind", ["x.npy", "x.parquet"])
def test_processes_share_out_the_rows(kind, tmp_path, monkeypatch):
    """By shards where there are enough; else each takes its rows of every buffer, as one process takes whole batches."""
    data = pair(kind, tmp_path, monkeypatch)
    world = 2
    parts = [list(StreamedBatches(data, 5, 8, seed=0, rank=r, world_size=world)) for r in range(world)]
    assert not set(numbers(parts[0], "a")) & set(numbers(parts[1], "a"))
    monkeypatch.setattr("hf_vec2vec.data.stream_files.SHARD", 1000)
    world, rows = 5, numbered(130, 6)
    np.save(tmp_path / "one.npy", rows.numpy())
    one = StreamedEmbeddings(dict.fromkeys("ab", open_stream(tmp_path / "one.npy")), buffer_rows=50, strict_unpaired=False)
    parts = [list(StreamedBatches(one, 2, 13, seed=0, rank=r, world_size=world)) for r in range(world)]
    together = [sorted(sum((numbers([part[i]], "a") for part in parts), [])) for i in range(13)]
    alone = [sorted(numbers([batch], "a")) for batch in StreamedBatches(one, 10, 13, seed=0)]
    assert together == alone


def test_files_of_several_types_are_one_stream(tmp_path):
    rows = numbered(60, 4)
    for name in "ab":
        (tmp_path / name).mkdir()
        for i, (part, dtype) in enumerate(zip(rows.split(20), (np.float64, np.float16, np.float32), strict=True)):
            np.save(tmp_path / name / f"{i}.npy", part.numpy().astype(dtype))
    spaces = {name: open_stream(tmp_path / name) for name in "ab"}
    data = StreamedEmbeddings(spaces, buffer_rows=32, strict_unpaired=False)
    found = numbers(list(StreamedBatches(data, 10, 6, seed=0)), "a")
    assert sorted(found) == list(range(1, 61))


def test_held_out_rows_are_never_trained_on(tmp_path, monkeypatch):
    data = pair("folder", tmp_path, monkeypatch)
    left, sample, held_out = data.split(20, sample_rows=130, seed=0)
    taken = set(held_out.spaces["a"][:, 0].int().tolist())
    assert 5 < len(taken) < 45
    assert not taken & set(sample.spaces["a"][:, 0].int().tolist())
    trained = set(numbers(list(StreamedBatches(left, 10, 30, seed=0)), "a"))
    assert trained == set(range(1, 131)) - taken
    assert sample.checked == left.checked == held_out.checked == TEXTS_COMPARED + ON_A_SAMPLE
    with pytest.raises(ValueError, match="`validation_rows` leaves 0"):
        data.split(0, sample_rows=130, seed=0)


def test_the_share_that_a_hash_holds_out():
    rows = torch.randn(20_000, 80)
    assert is_held_out(rows, 0.02).float().mean().item() == pytest.approx(0.02, abs=0.004)
    assert torch.equal(is_held_out(rows, 0.02)[5:], is_held_out(rows[5:], 0.02))
    assert is_held_out(rows, 1.0).all()


def test_a_sample_comes_from_everywhere_and_reads_no_more_than_it_needs(tmp_path, monkeypatch):
    data = pair("x.npy", tmp_path, monkeypatch)  # shards of 40, 40, 40 and 10 rows
    read, blocks = [], Store.read

    def counted(*args):
        for block in blocks(*args):
            read.append(len(block.rows))
            yield block

    monkeypatch.setattr(Store, "read", counted)
    rows = data.sample(20, seed=1).spaces["a"]
    assert len(rows) == 20
    assert {int(number - 1) // 40 for number in rows[:, 0]} == {0, 1, 2, 3}
    assert sum(read) <= 2 * 4 * 16
    assert len(data.sample(1000, seed=1).spaces["a"]) == 130


def test_a_sample_takes_more_of_long_shards_and_holds_one_at_a_time(tmp_path, monkeypatch):
    """All at once they held a block each: of a store of many shards more than the sample itself."""
    data = pair("x.npy", tmp_path, monkeypatch)  # shards of 40, 40, 40 and 10 rows
    opened, blocks = [], Store.read

    def counted(*args):
        opened.append(args)
        try:
            assert len(opened) == 1
            yield from blocks(*args)
        finally:
            opened.pop()

    monkeypatch.setattr(Store, "read", counted)
    rows = data.sample(100, seed=1).spaces["a"][:, 0]
    assert len(rows) == len(rows.unique()) == 100
    assert [int(((rows - 1) // 40 == shard).sum()) for shard in range(4)] == [30, 30, 30, 10]


def test_shared_texts_are_refused_on_the_sample(tmp_path):
    texts = [f"text {i}" for i in range(60)]
    folders = {"a": texts, "b": [f"other {t}" for t in texts[:-1]] + ["text 7"]}
    for name, of in folders.items():
        to_dataset(make_cloud(60, 6), of).save_to_disk(tmp_path / name)
    spaces = {name: open_stream(tmp_path / name) for name in folders}
    with pytest.raises(ValueError, match="share 1 text.*'text 7'"):
        StreamedEmbeddings(spaces).sample(60, seed=0)
    assert StreamedEmbeddings(spaces, strict_unpaired=False).sample(60, seed=0).checked == NOT_CHECKED


def build(tmp_path, data, folder="run", **kwargs) -> Vec2VecTrainer:
    torch.manual_seed(0)
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=16, discriminator_hidden_dim=16, dropout=0.1)
    held_out = UnpairedEmbeddings({"a": make_cloud(40, 6), "b": make_cloud(40, 4)})
    return Vec2VecTrainer(Vec2VecModel(config), arguments(tmp_path / folder, **kwargs), data, held_out)


@pytest.mark.parametrize("stop", [5, 12])
def test_resume_is_bit_exact(tmp_path, monkeypatch, stop):
    data = pair("x.npy", tmp_path, monkeypatch)
    run = {"max_steps": 12, "save_strategy": "steps", "save_steps": stop, "gradient_accumulation_steps": 2}
    straight = build(tmp_path, data, "straight", **run)
    straight.train()
    resumed = build(tmp_path, data, "resumed", **run)
    resumed.train(resume_from_checkpoint=str(tmp_path / "straight" / f"checkpoint-{stop}"))
    assert resumed.state.global_step == 12
    for name, value in weights(straight).items():
        assert torch.equal(weights(resumed)[name], value), name


@pytest.mark.slow
def test_a_stream_trains_like_the_same_rows_in_memory(tmp_path, monkeypatch):
    """Both see every row of the larger space once in 8 batches; where they end differs by the order alone."""
    rows = {"a": make_cloud(128, 6, seed=1), "b": make_cloud(128, 4, seed=2)}
    streams = {name: stream(values, "x.npy", tmp_path / name, monkeypatch) for name, values in rows.items()}
    losses = []
    for data in (UnpairedEmbeddings(rows), StreamedEmbeddings(streams)):
        trainer = build(tmp_path, data, max_steps=40, learning_rate=1e-3, logging_steps=20)
        trainer.train()
        losses.append([log["loss"] for log in trainer.state.log_history if "loss" in log])
    assert losses[1] == pytest.approx(losses[0], rel=0.1)


def test_resuming_with_another_number_of_processes_is_refused(tmp_path, monkeypatch):
    data = pair("x.npy", tmp_path, monkeypatch)
    build(tmp_path, data, max_steps=2, save_strategy="steps", save_steps=2).train()
    file = tmp_path / "run" / "checkpoint-2" / "stream_0.json"
    place = json.loads(file.read_text()) | {"world_size": 3}
    file.write_text(json.dumps(place))
    with pytest.raises(ValueError, match=r"is of a run of 3; this one has streams and 1 process"):
        build(tmp_path, data, max_steps=4).train(resume_from_checkpoint=str(file.parent))
    file.unlink()
    with pytest.raises(ValueError, match="stream_0.json is missing or not whole"):
        build(tmp_path, data, max_steps=4).train(resume_from_checkpoint=str(file.parent))


def test_bad_streams(tmp_path, monkeypatch):
    rows = numbered(60, 6)
    good = stream(rows, "x.npy", tmp_path / "good", monkeypatch)
    with pytest.raises(TypeError, match="'b' is a Dataset; streams are"):
        StreamedEmbeddings({"a": good, "b": to_dataset(rows)})
    with pytest.raises(ValueError, match="at least two spaces"):
        StreamedEmbeddings({"a": good})
    with pytest.raises(ValueError, match="`buffer_rows` must be at least 1"):
        StreamedEmbeddings({"a": good, "b": good}, buffer_rows=0)
    rows[50, 2] = torch.nan
    broken = stream(rows, "x.npy", tmp_path / "broken", monkeypatch)
    batches = StreamedBatches(StreamedEmbeddings({"a": good, "b": broken}, buffer_rows=20), 10, 6, seed=0)
    with pytest.raises(ValueError, match="broken/x.npy', row 50: NaN or infinite values"):
        list(batches)
    data = StreamedEmbeddings({"a": good, "b": stream(rows[:, 1:5], "x.npy", tmp_path / "narrow", monkeypatch)})
    with pytest.raises(ValueError, match="`max_steps` is -1, but streams have no length"):
        build(tmp_path, data, max_steps=-1)
    with pytest.raises(ValueError, match="`dataloader_num_workers` is 2"):
        build(tmp_path, data, dataloader_num_workers=2)
    with pytest.raises(ValueError, match="`train_dataset` has the spaces"):
        build(tmp_path, StreamedEmbeddings({"a": good, "b": good}))
    everything = StreamedEmbeddings({"a": good, "b": good}, held_out=1.0)
    with pytest.raises(ValueError, match="gave this process no row"):
        list(StreamedBatches(everything, 10, 6, seed=0))


def test_unreadable_stores(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        open_stream(tmp_path / "none.npy")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no file of vectors"):
        open_stream(tmp_path / "empty")
    (tmp_path / "x.npz").write_text("a")
    with pytest.raises(ValueError, match="x.npz.*no known format"):
        open_stream(tmp_path / "x.npz")
    np.save(tmp_path / "flat.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"its shape is \(5,\)"):
        open_stream(tmp_path / "flat.npy")
    for kind in ("x.parquet", "x.npy", "x.safetensors"):
        stream(numbered(130, 6), kind, tmp_path, monkeypatch)
        whole = (tmp_path / kind).read_bytes()
        (tmp_path / kind).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(ValueError, match=f"{kind}.*cannot be read"):
            open_stream(tmp_path / kind)


def test_text_columns_are_left_behind_but_found_in_samples(tmp_path, monkeypatch):
    data = pair("folder", tmp_path, monkeypatch)
    (batch,) = StreamedBatches(data, 4, 1, seed=0)
    assert set(batch) == {"a", "b"}
    assert torch.equal(vectors(pa.table({"embedding": [[1.0, 2.0]]}), "x"), torch.tensor([[1.0, 2.0]]))


def test_the_command_trains_from_streams_and_goes_on_after_a_stop(tmp_path, capsys, monkeypatch):
    stream(make_cloud(900, 8, seed=1), "store", tmp_path / "a", monkeypatch)
    save_embeddings(to_dataset(make_cloud(700, 8, seed=2) @ random_rotation(8, 10)), tmp_path / "b.parquet")
    sides = ["--source", f"a={tmp_path}/a/store/*.npy", "--target", f"b={tmp_path}/b.parquet", "--streaming"]
    more = ["--allow_not_aligned", "--align_starts", "2", "--align_steps", "3", "--hidden_dim", "16", "--align_rows", "400"]
    more += ["--validation_rows", "40", "--disable_tqdm", "true", "--buffer_rows", "200"]
    more += ["--max_steps", "6", "--eval_steps", "2", "--save_steps", "2"]

    def train(folder, *flags) -> int:
        return main([*map(str, ["train", *sides, *more, "--output_dir", tmp_path / folder, *flags])])

    assert train("straight") == 0
    facts = json.loads((tmp_path / "straight" / "training.json").read_text())
    assert facts["streamed_rows"] == 6 * 256
    assert 300 < facts["rows"]["a"] < 400
    assert facts["validation_rows"] == pytest.approx(40, abs=25)
    assert "from a stream" in (tmp_path / "straight" / "README.md").read_text()

    # A run that was stopped before its first checkpoint goes on from the alignment.
    shutil.copytree(tmp_path / "straight" / "alignment", tmp_path / "early" / "alignment")
    assert train("early") == 2
    assert train("early", "--resume_from_checkpoint", "true") == 0
    for part in ("model.safetensors", "trained/model.safetensors"):
        assert (tmp_path / "early" / part).read_bytes() == (tmp_path / "straight" / part).read_bytes()
    assert train("never", "--resume_from_checkpoint", "true") == 2
    assert "holds no checkpoint. Leave it out" in capsys.readouterr().err
    assert train("x", "--source_encoder", "minilm") == 2
    assert "`streaming` reads vectors" in capsys.readouterr().err
    assert train("only", "--init", "random", "--max_steps", "-1", "--num_train_epochs", "0") == 0  # nothing is streamed
    assert json.loads((tmp_path / "only" / "training.json").read_text())["streamed_rows"] is None
    assert train("x", "--max_steps", "-1", "--num_train_epochs", "1") == 2
    assert "streams have no length" in capsys.readouterr().err
