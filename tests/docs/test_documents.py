"""Every Python and shell block of the README and the docs runs, in a folder that holds what a reader has."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.clouds import make_cloud, random_rotation
from helpers.distillation import TEXTS
from helpers.documents import ROOT, lay_out, run_blocks
from hf_vec2vec import TextEncoder, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.data import save_embeddings, to_dataset

pytestmark = pytest.mark.usefixtures("own_cache")

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "model_cards" / "minilm-wordllama" / "README.md",
]
TAKE_LONG = ("alignment.md", "audit.md", "distil.md", "migrate.md", "scale.md")
LATER = ("audit.md", "distil.md")  # begin with a command that takes the translator, and make it afterwards
WITH_BLOCKS = [page for page in PAGES if re.search(r"^ *```(python|bash|console|sh)\n", page.read_text(), re.M)]
ROWS, OLD, NEW = 1000, 24, 32  # a side, and dimensions
ROTATION = random_rotation(OLD, NEW)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path, monkeypatch, folders):
    """The files that the documents speak of: vectors of two spaces, unpaired, a few pairs, texts, a student."""
    np.save(tmp_path / "old.npy", make_cloud(ROWS, OLD, seed=1).numpy())
    np.save(tmp_path / "new.npy", (make_cloud(ROWS, OLD, seed=2) @ ROTATION).numpy())
    for pairs, seed in (("held_out", 3), ("pairs", 4)):
        np.save(tmp_path / f"{pairs}_old.npy", make_cloud(200, OLD, seed=seed).numpy())
        np.save(tmp_path / f"{pairs}_new.npy", (make_cloud(200, OLD, seed=seed) @ ROTATION).numpy())
    np.save(tmp_path / "store.npy", make_cloud(300, OLD, seed=5).numpy())
    for side, file in (("teacher", "old.npy"), ("student", "new.npy")):
        save_embeddings(to_dataset(np.load(tmp_path / file)), tmp_path / f"{side}.parquet")
    for model, encoder in (("student", "bert"), ("teacher", "llama")):
        shutil.copytree(folders[encoder], tmp_path / model)
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = [{"text": f"{text} {i}", "label": "yes" if "dog" in text else "no"} for i, text in enumerate(TEXTS * 2)]
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return tmp_path


def give_translator(page: Path, folder: Path) -> None:
    """A translator of the kind that the page is about, where the page does not make one itself."""
    if "--output_dir translator" in page.read_text():
        return
    encoders = {"new": "student", "old": "teacher"} if page.name in ("distil.md", "query_encoder.md", "sharing.md") else {}
    if encoders:
        recorded = {space: TextEncoder(encoder) for space, encoder in encoders.items()}
        old, new = (recorded[space].encode(TEXTS, progress=False) for space in ("old", "new"))
    else:
        old = make_cloud(ROWS, OLD, seed=1)
        new = old @ ROTATION
    rotation = random_rotation(*sorted((old.shape[1], new.shape[1])))
    forward = rotation if old.shape[1] < new.shape[1] else rotation.T
    model = Vec2VecModel.from_alignment(
        Alignment("old", "new", forward, forward.T, fit_statistics(old), fit_statistics(new))
    )
    if encoders:
        model.config.encoders = {space: encoder.settings.__dict__ for space, encoder in recorded.items()}
    model.save_pretrained(folder / "translator")


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] * (page.name in TAKE_LONG), id=name(page)) for page in WITH_BLOCKS],
)
def test_blocks_run(page, reader):
    if page.name in LATER:
        (reader / page.name).write_text(page.read_text().replace("--output_dir translator", "--output_dir made"))
        page = reader / page.name
    give_translator(page, reader)
    assert run_blocks(page, fast=True, offline=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if "skip: next if(fast" in page.read_text()], ids=name)
def test_slow_blocks_run_too(page, reader):
    give_translator(page, reader)
    assert run_blocks(page, fast=False, offline=True)


@pytest.mark.slow
def test_blocks_that_need_a_hub_run_with_one(reader, hub, publisher):
    page = ROOT / "docs" / "sharing.md"
    give_translator(page, reader)
    (reader / "page.md").write_text(page.read_text().replace("ORG/NAME", "org/name"))
    done = publisher.run(
        f"import os, sys; os.chdir({str(reader)!r}); sys.path[:0] = {[str(ROOT), str(ROOT / 'tests')]!r}\n"
        "from pathlib import Path; from helpers.documents import run_blocks\n"
        "assert run_blocks(Path('page.md'), fast=True, offline=False) == 5"
    )
    assert done.returncode == 0, done.stderr
    assert "config.json" in hub.files("org/name")
    assert np.load(reader / "translated.npy").shape == (len(TEXTS), 6)
