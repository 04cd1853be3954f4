"""Stores by either map of a translator."""

import numpy as np
import pytest
import torch

from helpers.translators import alignment_with_networks, rows_of
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.bulk import translate_store

ENDS = {"source": "a", "target": "b"}


@pytest.fixture
def model():
    return Vec2VecModel.from_alignment(alignment_with_networks())


@pytest.mark.parametrize("map", ["linear", "full", "auto"])
def test_a_store_is_translated_by_the_map_that_was_asked_for(model, map, tmp_path):
    rows = rows_of(model, 70)
    np.save(tmp_path / "store.npy", rows.numpy())
    translate_store(model, tmp_path / "store.npy", tmp_path / "out.npy", **ENDS, map=map, progress=False)
    found = torch.from_numpy(np.load(tmp_path / "out.npy"))
    torch.testing.assert_close(found, model.translate(rows, **ENDS, map=map), rtol=1e-4, atol=1e-4)


def test_a_folder_holds_shards_of_one_map(model, tmp_path):
    np.save(tmp_path / "store.npy", rows_of(model, 70).numpy())

    def translate(**options):
        options = ENDS | {"shard_rows": 30, "progress": False} | options
        return translate_store(model, tmp_path / "store.npy", tmp_path / "out", **options)

    translate(map="linear")
    with pytest.raises(FileExistsError, match="of another job"):
        translate(map="full")
    assert translate(map="linear").earlier_shards == 3
    translate(map="full", overwrite=True)
    assert translate().earlier_shards == 3  # auto is the same job as what it comes to
