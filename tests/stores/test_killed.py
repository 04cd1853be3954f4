"""Many rows, killed at five random moments: nothing is lost, nothing is there twice; and how fast it is.

Each run is a process of its own, forked before any engine has started threads.
"""

import json
import random
import signal
import sys
import time

import numpy as np
import pytest
import torch

from helpers.accidents import in_a_child, stopped
from helpers.engines import ENGINES
from helpers.translators import random_translator
from hf_vec2vec.stores import Migration

KILLS = 5
DIMS = [(384, 256)] * len(ENGINES) + [(768, 384)]  # PostgreSQL lays wide vectors beside their rows
CASES = list(zip([*ENGINES, "pgvector"], DIMS, strict=True))


@pytest.mark.slow
@pytest.mark.timeout(9000)
@pytest.mark.parametrize(("engine", "dims"), CASES, indirect=["engine"], ids=[f"{name}-{dims[0]}" for name, dims in CASES])
def test_killed_at_random_moments(engine, dims, tmp_path, capsys):
    model, rows, engine.dim = random_translator(*dims), engine.most, dims[0]
    facts, times = tmp_path / "facts.json", tmp_path / "times.json"

    def fill():
        vectors, payload = engine.vectors(rows), [{"text": f"text {k}", "page": k % 7} for k in range(rows)]
        began = time.perf_counter()
        engine.fill(engine.ids(rows), vectors, payload)
        times.write_text(json.dumps(time.perf_counter() - began))

    def migration(new: str, record: str) -> Migration:
        ends = {"source": "old", "target": "new", "record": tmp_path / record, "progress": False}
        return Migration(model, engine.url(engine.old), engine.url(new), **ends)

    def straight():
        began = time.perf_counter()
        done = migration(engine.new.replace("new", "straight"), "straight.json").run()
        facts.write_text(json.dumps([done.rows, done.seconds, time.perf_counter() - began]))

    def work():
        migration(engine.new, "record.json").run()

    def check():
        before, after = engine.read(engine.old), engine.read(engine.new)
        assert len(before[0]) == rows
        assert after[0] == before[0]
        assert after[2] == before[2]
        expected = model.translate(torch.from_numpy(before[1]), source="old", target="new").numpy()
        np.testing.assert_allclose(before[1], engine.vectors(rows), atol=1e-5)
        np.testing.assert_allclose(after[1], expected, atol=1e-4)

    def exchange():
        before, after = engine.read(engine.old)[1], engine.read(engine.new)[1]
        assert migration(engine.new, "record.json").run(switch=True).state == "switched"
        np.testing.assert_array_equal(engine.read(engine.old)[1], after)
        migration(engine.new, "record.json").rollback()
        np.testing.assert_array_equal(engine.read(engine.old)[1], before)
        np.testing.assert_array_equal(engine.read(engine.new)[1], after)

    for step in (fill, straight):
        status, said = stopped(step, None, signal.SIGKILL)
        assert status == 0, said
    done, copied, whole = json.loads(facts.read_text())
    assert done == rows
    draw, hit = random.Random(0), 0
    for _ in range(KILLS):
        hit += not in_a_child(work, seconds=draw.uniform(0.05, whole / 3))
    for step in (work, check, exchange):
        status, said = stopped(step, None, signal.SIGKILL)
        assert status == 0, said
    own = json.loads(times.read_text())
    with capsys.disabled():
        sys.stdout.write(
            f"\n{type(engine).__name__}: {rows:,} rows of {dims[0]} → {dims[1]}, {hit} of {KILLS} runs killed. The engine's "
            f"own insert {rows / own:,.0f} rows a second, copied {rows / copied:,.0f} ({own / copied:.2f}), with comparison "
            f"{rows / whole:,.0f}\n"
        )
