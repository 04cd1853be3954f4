"""Every Python and shell block of the README and the docs runs, in a folder that holds what a reader has."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from helpers.distillation import TEXTS, linear_translator
from helpers.documents import ROOT, lay_out, run_blocks
from hf_vec2vec import TextEncoder, Vec2VecModel
from hf_vec2vec.alignment import Alignment, fit_statistics

pytestmark = pytest.mark.usefixtures("own_cache")

PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "model_cards" / "minilm-wordllama" / "README.md",
]
WITH_BLOCKS = [page for page in PAGES if re.search(r"^ *```(python|bash|console|sh)\n", page.read_text(), re.M)]
OLD, NEW = 24, 32  # dimensions
ROTATION = random_rotation(OLD, NEW)


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def reader(tmp_path, monkeypatch, folders):
    """The files that the documents speak of: vectors of two spaces, unpaired, a few pairs, texts, a student."""
    np.save(tmp_path / "old.npy", make_cloud(1500, OLD, seed=1).numpy())
    np.save(tmp_path / "new.npy", (make_cloud(1500, OLD, seed=2) @ ROTATION).numpy())
    for pairs, seed in (("held_out", 3), ("pairs", 4)):
        np.save(tmp_path / f"{pairs}_old.npy", make_cloud(200, OLD, seed=seed).numpy())
        np.save(tmp_path / f"{pairs}_new.npy", (make_cloud(200, OLD, seed=seed) @ ROTATION).numpy())
    np.save(tmp_path / "store.npy", make_cloud(300, OLD, seed=5).numpy())
    shutil.copy(tmp_path / "old.npy", tmp_path / "teacher.npy")
    shutil.copy(tmp_path / "new.npy", tmp_path / "student.npy")
    shutil.copytree(folders["bert"], tmp_path / "student")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    rows = [{"text": f"{text} {i}", "label": "yes" if "dog" in text else "no"} for i, text in enumerate(TEXTS * 2)]
    (tmp_path / "labelled.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lay_out(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TQDM_DISABLE", "1")
    return tmp_path


def give_translator(page: Path, folder: Path, folders: dict[str, str]) -> None:
    """A translator of the kind that the page is about, where the page does not make one itself."""
    if "--output_dir translator" in page.read_text():
        return
    if page.name == "distil.md":
        encoders = {"bert": TextEncoder("student"), "llama": TextEncoder(folders["llama"])}
        model = linear_translator(*(encoder.encode(TEXTS, progress=False) for encoder in encoders.values()))
        model.config.encoders = {space: encoder.settings.__dict__ for space, encoder in encoders.items()}
    else:
        statistics = (fit_statistics(make_cloud(1500, OLD, seed=1) @ turn) for turn in (torch.eye(OLD), ROTATION))
        model = Vec2VecModel.from_alignment(Alignment("old", "new", ROTATION, ROTATION.T, *statistics))
    model.save_pretrained(folder / "translator")


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_blocks_run(page, reader, folders):
    give_translator(page, reader, folders)
    assert run_blocks(page, fast=True)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in WITH_BLOCKS if "skip: next if(fast" in page.read_text()], ids=name)
def test_slow_blocks_run_too(page, reader, folders):
    give_translator(page, reader, folders)
    assert run_blocks(page, fast=False)
