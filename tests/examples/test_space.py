"""The page of examples/space, without a browser: what is uploaded, what is made of it, what is said."""

import importlib.util
import json
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from helpers.encoders import TEXTS
from hf_vec2vec import TextEncoder, Vec2VecConfig, Vec2VecModel

FOLDER = Path(__file__).parents[2] / "examples" / "space"


def module(name: str):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    found = importlib.util.module_from_spec(spec)
    sys.modules[name] = found  # dataclasses look themselves up, and the modules import one another
    spec.loader.exec_module(found)
    return found


uploads, trial, search = module("uploads"), module("trial"), module("search")


@pytest.fixture
def upload(tmp_path):
    """Puts a file where a web server would, and gives its path."""

    def put(name: str, content: bytes) -> str:
        (tmp_path / "secret-folder").mkdir(exist_ok=True)
        (tmp_path / "secret-folder" / name).write_bytes(content)
        return str(tmp_path / "secret-folder" / name)

    return put


def npy(rows: np.ndarray, path: Path, **options) -> bytes:
    np.save(path / "x.npy", rows, **options)
    return (path / "x.npy").read_bytes()


def test_vectors_are_read_and_the_upload_is_gone(upload, tmp_path):
    rows = make_cloud(50, 8)
    file = upload("v.npy", npy(rows.numpy(), tmp_path))
    read, note = uploads.read(file, "ignored where there is a file", "old")
    assert torch.equal(read, rows)
    assert note == "`old`: 50 vectors of 8 numbers"
    assert not Path(file).exists()


def test_of_many_vectors_a_sample_is_taken(upload, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "ROWS", 20)
    rows, note = uploads.read(upload("v.npy", npy(make_cloud(50, 8).numpy(), tmp_path)), "", "new")
    assert len(rows.unique(dim=0)) == 20
    assert note.endswith("of which 20, drawn at random, are used")


@pytest.mark.parametrize(
    "pasted",
    ["1, 2.5\n-3e-1 4\n", "[1, 2.5]\n[-0.3, 4]", "[[1, 2.5], [-0.3, 4]]", "[[1,2.5],\n [-0.3,4]]", "1;2.5\n\n-0.3\t4"],
)
def test_pasted_vectors_are_read_as_people_write_them(pasted):
    assert torch.equal(uploads.read(None, pasted, "old")[0], torch.tensor([[1, 2.5], [-0.3, 4]]))


def test_what_is_hostile_or_broken_gets_a_clear_message(upload, tmp_path):
    objects = npy(np.array([[{"a": 1}]], dtype=object), tmp_path, allow_pickle=True)
    claimed = npy(np.zeros((2, 4), np.float32), tmp_path).replace(b"(2, 4), }" + b" " * 17, b"(1000000000, 4), }" + b" " * 8)
    nan = make_cloud(5, 4).numpy()
    nan[3] = np.nan
    for name, content, message in (
        ("pickle.npy", objects, r"^`old` 'pickle.npy' cannot be used: it holds object values"),
        ("claims.npy", claimed, r"^`old` 'claims.npy' cannot be read: it should hold 1,000,000,000 rows of 4 values"),
        ("nan.npy", npy(nan, tmp_path), r"^`old` 'nan.npy', row 3: no vector, or NaN .* tick the box below"),
        ("no.npy", b"\x80\x04K\x01.", r"^`old` 'no.npy' cannot be read"),
        ("a.pkl", b"\x80\x04K\x01.", r"^`old` is 'a.pkl'; give one of .npy"),
        ("a.parquet", b"PAR1", r"^`old` is 'a.parquet'; give one of .npy"),
        ("wide.npy", npy(np.zeros((2, 5000), np.float32), tmp_path), r"^`old` 'wide.npy' has 5,000 dimensions; 4,096"),
    ):
        file = upload(name, content)
        with pytest.raises((ValueError, TypeError), match=message) as caught:
            uploads.read(file, "", "old")
        assert "secret-folder" not in str(caught.value)
        assert not Path(file).exists()
    rows, _ = uploads.read(upload("nan.npy", npy(nan, tmp_path)), "", "old", drop_invalid=True)
    assert len(rows) == 4


def test_fifty_megabytes_are_not_read(upload, monkeypatch):
    file = upload("big.npy", b"")
    with open(file, "r+b") as big:
        big.truncate(50 * 10**6)
    monkeypatch.setattr(uploads, "open_files", None)
    with pytest.raises(ValueError, match="`old` 'big.npy' has 50 MB; 20 MB can be read here"):
        uploads.read(file, "", "old")
    assert not Path(file).exists()


def test_pasted_text_that_is_no_vectors_names_its_line():
    for pasted, message in (
        (" ", "`new`: nothing was given"),
        ("1 2\nhello 2", "line 2 is no JSON"),
        ("1.5 2\n2.5", "line 2"),
        ("1 2\n3 4", "int64 values"),
        ("1 2\n__import__('os') 3", "line 2 is no JSON"),
        ("1 " * 2_500_001, r"`new` has 5,000,002 characters; 5,000,000 can be pasted"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            uploads.read(None, pasted, "new")


def test_an_alignment_that_takes_too_long_is_stopped(tmp_path):
    with pytest.raises(ValueError, match=r"not done in 0.1 seconds.*of your own: `hf-vec2vec train"):
        trial.align_and_draw(make_cloud(300), make_cloud(300, seed=2), tmp_path, seconds=0.1)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_two_sets_of_vectors_become_a_translator(tmp_path):
    rotation = random_rotation(24, 32)
    made = trial.align_and_draw(make_cloud(1000, seed=1), make_cloud(1000, seed=2) @ rotation, tmp_path)
    assert made.verdict == "aligned"
    assert made.picture.stat().st_size > 10_000
    with zipfile.ZipFile(made.archive) as archive:
        archive.extractall(tmp_path / "unpacked")
    model = Vec2VecModel.from_pretrained(tmp_path / "unpacked" / "translator")
    rows = make_cloud(100, seed=3)
    translated = model.translate(rows, source="old", target="new")
    assert torch.nn.functional.cosine_similarity(translated, rows @ rotation).mean() > 0.95
    assert str(tmp_path) not in (tmp_path / "unpacked" / "translator" / "README.md").read_text()


def test_too_few_vectors_are_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="^`new` has 10 vectors; 125 are needed at least"):
        trial.align_and_draw(make_cloud(300), make_cloud(10, seed=2), tmp_path)


@pytest.fixture
def asked(bert, static, monkeypatch, tmp_path):
    """A search with small encoders, and a translator that knows nothing."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    encoders = {name: vars(TextEncoder(folder).settings) for name, folder in (("minilm", bert), ("wordllama", static))}
    Vec2VecModel(Vec2VecConfig(embedding_dims={"minilm": 8, "wordllama": 6}, encoders=encoders)).save_pretrained(
        tmp_path / "t"
    )
    return search.Search(tmp_path / "t", texts=TEXTS, topics={"dogs": "the dog", "cats": "a cat"})


def test_neighbours_of_a_text_of_the_store(asked):
    found = asked.neighbours(f"  {TEXTS[1]}\n")
    assert found.own[0][0] == TEXTS[1]
    assert found.own[0][1] == pytest.approx(1)
    assert [cosine for _, cosine in found.translated] == sorted((c for _, c in found.translated), reverse=True)
    assert found.shared == len({text for text, _ in found.own} & {text for text, _ in found.translated})


def test_a_leak_shows_only_guesses(asked):
    found = asked.leak(TEXTS[0])
    assert found.topic in ("dogs", "cats")
    assert set(found.words) <= set(" ".join(TEXTS).lower().split())
    assert found.nearest in TEXTS
    assert len(found.seen) == 6


@pytest.mark.parametrize(("sentence", "message"), [(" \n", "is empty"), ("x" * 501, "has 501 characters; 500")])
def test_sentences_have_limits(asked, sentence, message):
    for function in (asked.neighbours, asked.leak):
        with pytest.raises(ValueError, match=f"`sentence` {message}"):
            function(sentence)


@pytest.fixture(scope="module")
def app():
    pytest.importorskip("gradio", reason="the page needs `pip install '.[space]'`")
    return module("app")


def test_the_page_says_what_went_wrong_and_gives_nothing(app, upload):
    steps = list(app.align(upload("<b>.npy", b"junk"), "", None, "", False))
    said, picture, download, *files = steps[-1]
    assert said.startswith("### That did not work\n`old` '&lt;b&gt;.npy' cannot be read")
    assert (picture.visible, download.visible, files) == (False, False, [None, None])


def test_the_page_shows_lists_and_guesses(app, asked):
    said, translated, own = app.neighbours(asked, TEXTS[1])
    assert "texts are in both lists" in said
    assert own.startswith("#### By wordllama itself\n1. ")
    assert translated.count("\n1. ") == own.count("\n1. ")
    assert "**All that was stolen:**" in app.leak(asked, TEXTS[1])
    assert app.leak(asked, "").startswith("### That did not work\n`sentence` is empty")
    assert app.neighbours(asked, "") == (app.leak(asked, ""), "", "")


def test_the_page_is_laid_out_for_few_at_a_time(app, asked):
    config = app.page(asked).get_config_file()
    aligning = config["dependencies"][0]
    assert aligning["queue"] is not False
    assert not any(d["api_visibility"] == "public" for d in config["dependencies"] if d["targets"])
    header = (FOLDER / "README.md").read_text().split("---")[1]
    assert "sdk: gradio" in header
    assert "app_file: app.py" in header
    json.dumps(config["components"], default=str)
