"""Wheel and sdist, built from what is tracked, installed, and used."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from helpers.documents import ROOT
from hf_vec2vec import __version__

PARTS = ("hf_vec2vec", "LICENSE", "README.md", "pyproject.toml", "setup.cfg")
BUILD = "from setuptools import build_meta as b; b.build_sdist('dist'); b.build_wheel('dist')"
USE = """
import hf_vec2vec, numpy as np, sys
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.cli import main
assert hf_vec2vec.__file__.startswith(sys.argv[1]), hf_vec2vec.__file__
model = Vec2VecModel.from_pretrained(sys.argv[2])
print(model.translate(np.load(sys.argv[2] + "/minilm.npy"), source="minilm", target="wordllama").shape[1])
main(["--version"])
"""


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("build")
    for name in PARTS:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, place / name)
    subprocess.run([sys.executable, "-c", BUILD], cwd=place, check=True, capture_output=True)
    return place / "dist"


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".whl", ".tar.gz"])
def test_it_is_installed_and_works(dist, tmp_path, suffix):
    (file,) = dist.glob(f"*{suffix}")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "site", file], check=True, cwd=tmp_path)
    card = ROOT / "model_cards" / "minilm-wordllama"
    run = [sys.executable, "-c", USE, str(tmp_path / "site"), str(card)]
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(run, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["256", "hf-vec2vec", __version__]


@pytest.mark.slow
def test_nothing_foreign_is_in_them(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"hf_vec2vec", f"hf_vec2vec-{__version__}.dist-info"}
    assert {"hf_vec2vec/py.typed", "hf_vec2vec/templates/report.html", "hf_vec2vec/templates/model_card.md"} <= names
    with tarfile.open(sdist) as archive:
        inside = {Path(name).parts[1] for name in archive.getnames() if len(Path(name).parts) > 1}
    assert inside <= {*PARTS, "PKG-INFO", "hf_vec2vec.egg-info"}
