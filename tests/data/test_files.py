from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from datasets import Dataset, DatasetDict
from safetensors.torch import save_file

from hf_vec2vec import PairedEmbeddings, UnpairedEmbeddings
from hf_vec2vec.data import UnpairedSampler, load_embeddings, save_embeddings, to_dataset, vectors
from hf_vec2vec.data.files import sample_embeddings

ROWS = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
TEXTS = [f"text {i}" for i in range(5)]


@pytest.mark.parametrize("name", ["folder", "x.parquet", "x.npy", "x.safetensors"])
def test_vectors_survive_every_format(tmp_path, name):
    save_embeddings(to_dataset(ROWS, TEXTS), tmp_path / name)
    loaded = load_embeddings(tmp_path / name)
    assert torch.equal(vectors(loaded, "x"), ROWS)
    if name in ("folder", "x.parquet"):
        assert list(loaded["text"]) == TEXTS


def test_existing_output_is_kept_unless_asked(tmp_path):
    for name in ("folder", "x.npy"):
        save_embeddings(to_dataset(ROWS), tmp_path / name)
        with pytest.raises(FileExistsError, match="exists already"):
            save_embeddings(to_dataset(ROWS + 1), tmp_path / name)
        assert torch.equal(vectors(load_embeddings(tmp_path / name), "x"), ROWS)
        save_embeddings(to_dataset(ROWS + 1), tmp_path / name, overwrite=True)
        assert torch.equal(vectors(load_embeddings(tmp_path / name), "x"), ROWS + 1)


def test_a_folder_that_is_no_data_set_is_never_replaced(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letter.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="no data set"):
        save_embeddings(to_dataset(ROWS), tmp_path / "home", overwrite=True)
    assert (tmp_path / "home" / "letter.txt").exists()


def test_splits_are_named(tmp_path):
    DatasetDict({"train": to_dataset(ROWS)}).save_to_disk(str(tmp_path / "splits"))
    with pytest.raises(ValueError, match=r"splits \['train'\]"):
        load_embeddings(tmp_path / "splits")


def test_selected_rows_and_other_column_types_are_read():
    data = Dataset.from_dict({"id": [1, 2, 3], "vector": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]})
    assert torch.equal(vectors(data.select([2, 0]), "x"), torch.tensor([[5.0, 6.0], [1.0, 2.0]]))


def test_half_precision_is_widened():
    assert vectors(to_dataset(ROWS.numpy().astype(np.float16)), "x").dtype == torch.float32
    assert vectors(ROWS.bfloat16(), "x").dtype == torch.float32


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        (Dataset.from_dict({"embedding": [[1, 2], [3, 4]]}), TypeError, "int64"),
        (Dataset.from_dict({"embedding": [[1.0, 2.0], [3.0]]}), ValueError, "unequal lengths"),
        (Dataset.from_dict({"embedding": [[1.0, 2.0], None]}), ValueError, "without a vector"),
        (Dataset.from_dict({"embedding": ["a", "b"]}), ValueError, "strings that are no vectors"),
        (Dataset.from_dict({"embedding": [["a"], ["b"]]}), ValueError, "not numbers"),
        (Dataset.from_dict({"text": ["a"]}), ValueError, "columns.*'embedding'"),
        (to_dataset(torch.tensor([[1.0, 2.0], [0.0, 0.0]])), ValueError, "only zeros.*index 1"),
        (to_dataset(torch.tensor([[1.0, 2.0], [torch.inf, 0.0]])), ValueError, "infinite.*index 1"),
        (to_dataset(ROWS[:0]), ValueError, "empty"),
    ],
)
def test_bad_vectors(data, error, message):
    with pytest.raises(error, match=message):
        vectors(data, "x")


def test_unreadable_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is nothing"):
        load_embeddings(tmp_path / "none.npy")
    (tmp_path / "x.npz").write_text("a")
    with pytest.raises(ValueError, match="no known format"):
        load_embeddings(tmp_path / "x.npz")
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(TypeError, match="object values"):
        load_embeddings(tmp_path / "pickled.npy")
    np.save(tmp_path / "whole.npy", np.arange(6).reshape(2, 3))
    with pytest.raises(TypeError, match="int64"):
        load_embeddings(tmp_path / "whole.npy")
    save_file({"a": ROWS, "b": ROWS.clone()}, tmp_path / "two.safetensors")
    with pytest.raises(ValueError, match="must hold one"):
        load_embeddings(tmp_path / "two.safetensors")
    (tmp_path / "cut.safetensors").write_bytes((tmp_path / "two.safetensors").read_bytes()[:40])
    with pytest.raises(ValueError, match="cannot be read"):
        load_embeddings(tmp_path / "cut.safetensors")


def test_batches_are_drawn_from_each_space_by_its_own_index():
    data = UnpairedEmbeddings({"a": ROWS, "b": ROWS[:2] + 10})
    batch = data.__getitems__([(0, 1), (4, 0)])
    assert torch.equal(batch["a"], ROWS[[0, 4]])
    assert torch.equal(batch["b"], ROWS[[1, 0]] + 10)
    assert torch.equal(data[(0, 1)]["b"], ROWS[1] + 10)


def test_sampler_draws_independently_and_covers_every_row():
    sampler = UnpairedSampler([100, 30], seed=0)
    first = list(sampler)
    assert sorted(i for i, _ in first) == list(range(100))
    assert {j for _, j in first} == set(range(30))
    assert sum(i == j for i, j in first) < 10  # pairs of equal numbers come up by chance only
    assert list(sampler) == first
    sampler.set_epoch(1)
    assert list(sampler) != first


def test_split_shares_no_row():
    data = UnpairedEmbeddings({"a": torch.arange(1, 21.0)[:, None], "b": -torch.arange(1, 11.0)[:, None]})
    left, taken = data.split(3, seed=0)
    for name, size in (("a", 20), ("b", 10)):
        together = torch.cat([left.spaces[name], taken.spaces[name]]).flatten().abs()
        assert len(taken.spaces[name]) == 3
        assert sorted(together.tolist()) == list(range(1, size + 1))


def test_pairs_must_match():
    with pytest.raises(ValueError, match=r"numbers of rows are \{'a': 5, 'b': 4\}"):
        PairedEmbeddings({"a": ROWS, "b": ROWS[:4]})
    with pytest.raises(ValueError, match="`text` columns differ"):
        PairedEmbeddings({"a": to_dataset(ROWS, TEXTS), "b": to_dataset(ROWS, TEXTS[::-1])})
    with pytest.raises(ValueError, match="at least two spaces"):
        UnpairedEmbeddings({"a": ROWS})


@pytest.mark.parametrize("name", ["out.npy", "out.parquet", "out.safetensors"])
def test_vectors_that_another_process_saved_meanwhile_are_kept(tmp_path, monkeypatch, name):
    @contextmanager
    def late(path, **_):
        path.write_bytes(b"the other's")
        yield

    monkeypatch.setattr("hf_vec2vec.data.files.locked", late)
    with pytest.raises(FileExistsError):
        save_embeddings(Dataset.from_dict({"embedding": [[1.0, 2.0]]}), tmp_path / name)
    assert (tmp_path / name).read_bytes() == b"the other's"
    assert [path.name for path in tmp_path.iterdir()] == [name]


def _strange(path: Path, *, twice: bool) -> Path:
    """A file with a column that no data set can hold, or with two columns of one name."""
    table = to_dataset(ROWS).data.table.append_column("id", pa.array(range(5)))
    kind = pa.map_(pa.string(), pa.int64())
    other = ("id", pa.array(range(5))) if twice else ("facts", pa.array([[("page", 1)]] * 5, kind))
    pq.write_table(table.append_column(*other), path)
    return path


def test_columns_that_no_data_set_can_hold_are_left_out_and_told(tmp_path, monkeypatch):
    said = []
    monkeypatch.setattr("hf_vec2vec.data.columns.logger.warning", lambda text, *values: said.append(text % values))
    found = load_embeddings(_strange(tmp_path / "x.parquet", twice=False))
    assert set(found.column_names) == {"id", "embedding"}
    assert len(said) == 1
    assert "'facts': \"map<" in said[0]


def test_two_columns_of_one_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match="x.parquet' cannot be read: it has several columns of the name 'id'"):
        load_embeddings(_strange(tmp_path / "x.parquet", twice=True))


def test_a_sample_of_files_is_rows_of_them_each_once(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20_000, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", rows[:9_000])
    np.save(tmp_path / "b.npy", rows[9_000:])
    sample, total = sample_embeddings(tmp_path, 500)
    numbers = {row.tobytes(): number for number, row in enumerate(rows)}
    found = [numbers[row.tobytes()] for row in vectors(sample, "x").numpy()]
    assert total == 20_000
    assert found == sorted(set(found))
    assert len(found) == 500
    assert 0.35 < np.mean(np.array(found) < 9_000) < 0.55
    assert vectors(sample_embeddings(tmp_path, 500)[0], "x").equal(vectors(sample, "x"))
    whole, _ = sample_embeddings(tmp_path, 10**9)
    np.testing.assert_array_equal(vectors(whole, "x").numpy(), rows)


def test_rows_that_a_sample_leaves_out_are_checked_too(tmp_path):
    rows = np.ones((9_000, 3), dtype=np.float32)
    rows[8_500, 1] = np.nan
    np.save(tmp_path / "a.npy", rows)
    with pytest.raises(ValueError, match=r"a\.npy.*row 8,?500"):
        sample_embeddings(tmp_path / "a.npy", 1)
    np.save(tmp_path / "none.npy", rows[:0])
    with pytest.raises(ValueError, match="`index` .*no row"):
        sample_embeddings(tmp_path / "none.npy", 1, argument="index")
