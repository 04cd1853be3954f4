"""Every command that takes vectors refuses those that were made otherwise than the translator, or their fellows, were."""

import pytest

from helpers.distillation import linear_translator
from helpers.encoders import TEXTS, WORDS
from helpers.tasks import glue, write_rows
from hf_vec2vec import TextEncoder
from hf_vec2vec.cli import main
from hf_vec2vec.data import save_embeddings
from hf_vec2vec.encoders import embed

pytestmark = pytest.mark.usefixtures("own_cache")
LINES = [f"{a} {b} {c}" for a in WORDS[3:] for b in WORDS[3:] for c in WORDS[3:5]]
SMALL = ["--num_train_epochs", "0", "--allow_not_aligned", "--align_starts", "1", "--align_steps", "1"]


@pytest.fixture(scope="module")
def project(folders, tmp_path_factory):
    """A translator from llama to bert that records both; vectors of both, and of both made otherwise. It is only read."""
    tmp_path = tmp_path_factory.mktemp("others")
    encoders = {"bert": TextEncoder(folders["bert"]), "llama": TextEncoder(folders["llama"])}
    model = linear_translator(*(encoder.encode(TEXTS * 4, progress=False) for encoder in encoders.values()))
    model.config.encoders = {name: encoder.settings.__dict__ for name, encoder in encoders.items()}
    model.save_pretrained(tmp_path / "translator")
    for name in folders:
        others = {"": {}, "-last": {"pooling": "last"}, "-short": {"max_length": 2}, "-prompt": {"prompt": "the "}}
        for kind, settings in others.items():
            data = embed(LINES, TextEncoder(folders[name], **settings), cache_dir=tmp_path / "cache", progress=False)
            save_embeddings(data, tmp_path / f"{name}{kind}.parquet")
    rows = [(text, int("dog" in text)) for text in LINES]
    for split in ("train", "validation"):
        write_rows(glue(("sentence",), rows), tmp_path / "task" / f"{split}.jsonl")
    return tmp_path


def refused(*words, capsys):
    assert main([*map(str, words)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "made otherwise" in line
    return line


MADE = {"-last": "`pooling` is 'last' and was 'mean'", "-short": "`max_length` is 2", "-prompt": "`prompt` is 'the '"}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.parametrize("texts", [False, True])
def test_distill_from_stored_vectors(kind, texts, project, folders, tmp_path, capsys):
    words = ["distill", "--translator", project / "translator", "--student", folders["bert"], "--max_steps", "1"]
    words += ["--output_dir", tmp_path / "student"]
    if texts:
        (tmp_path / "own.txt").write_text("\n".join(f"the {line}" for line in LINES))
        words += ["--texts", tmp_path / "own.txt"]
    assert MADE[kind] in refused(*words, "--vectors", project / f"llama{kind}.parquet", capsys=capsys)
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize("kind", MADE)
def test_an_arm_of_stored_vectors(kind, project, folders, tmp_path, capsys):
    words = ["distill-compare", "--translator", project / "translator", "--student", folders["bert"], "--max_steps", "1"]
    words += ["--task", "sst2", "--task_source", project / "task", "--output_dir", tmp_path / "arms", "--seeds", "1"]
    line = refused(*words, "--vectors", project / f"llama{kind}.parquet", capsys=capsys)
    assert MADE[kind] in line


@pytest.mark.parametrize("kind", MADE)
def test_the_store_that_hubs_are_corrected_by(kind, project, tmp_path, capsys):
    words = ["translate", project / "translator", "--source", "llama", "--target", "bert"]
    words += ["--input", project / "llama.parquet", "--output", tmp_path / "out.npy"]
    assert MADE[kind] in refused(*words, "--correct_hubs", project / f"bert{kind}.parquet", capsys=capsys)
    assert not (tmp_path / "out.npy").exists()


@pytest.mark.parametrize("kind", MADE)
def test_known_pairs(kind, project, tmp_path, capsys):
    words = ["train", "--source", f"a={project}/llama.parquet", "--target", f"b={project}/bert.parquet", *SMALL]
    words += ["--output_dir", tmp_path / "model", "--anchors", f"a={project}/llama.parquet"]
    line = refused(*words, f"b={project}/bert{kind}.parquet", capsys=capsys)
    assert f"`anchors` of 'b' were made otherwise than the vectors of 'b': {MADE[kind]}" in line
    assert not (tmp_path / "model").exists() or not [*(tmp_path / "model").iterdir()]


@pytest.mark.parametrize("kind", MADE)
def test_held_out_pairs_of_a_report(kind, project, tmp_path, capsys):
    sides = ["--source", f"llama={project}/llama{kind}.parquet", "--target", f"bert={project}/bert.parquet"]
    assert MADE[kind] in refused("report", project / "translator", *sides, "--output_dir", tmp_path / "page", capsys=capsys)
    assert not (tmp_path / "page" / "report.html").exists()


def test_vectors_made_in_the_same_way_are_taken(project, folders, tmp_path):
    words = ["distill", "--translator", project / "translator", "--student", folders["bert"], "--max_steps", "1"]
    words += ["--vectors", project / "llama.parquet", "--output_dir", tmp_path / "student", "--disable_tqdm"]
    assert main([*map(str, words)]) == 0
    assert (tmp_path / "student" / "adapter_model.safetensors").exists()
