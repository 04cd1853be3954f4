"""The example on Ray Data, on two workers of this machine."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

EXAMPLE = Path(__file__).parents[2] / "examples" / "translate_ray.py"


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason='pip install "hf-vec2vec[ray]"')
def test_two_workers_translate_a_folder_and_keep_ids(tmp_path):
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 5}, hidden_dim=16)).eval()
    model.save_pretrained(tmp_path / "model")
    rows = np.random.default_rng(0).normal(size=(3000, 6)).astype(np.float32)
    (tmp_path / "store").mkdir()
    for part in range(3):
        ids = np.arange(part * 1000, part * 1000 + 1000)
        table = pa.table({"id": ids, "vector": rows[ids].tolist()})
        pq.write_table(table, tmp_path / "store" / f"{part}.parquet", row_group_size=200)
    words = [tmp_path / "model", "a", "b", tmp_path / "store", tmp_path / "out", "--workers", 2, "--batch_size", 100]
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}
    command = [sys.executable, EXAMPLE, *words]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    found = pq.read_table(tmp_path / "out").sort_by("id")
    assert found["id"].to_pylist() == list(range(3000))
    expected = model.translate(torch.from_numpy(rows), source="a", target="b").numpy()
    np.testing.assert_allclose(np.array(found["embedding"].to_pylist()), expected, atol=1e-5)
