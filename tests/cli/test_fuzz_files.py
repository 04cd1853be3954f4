"""Damaged and hostile files of settings: an answer or one line, never a traceback; what is read stays as it is."""

import json
import shutil
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from helpers.commands import QUICK, run, train
from helpers.damage import DAMAGE, changed, damaged
from helpers.encoders import write_modules
from helpers.tasks import VALIDATION, write_rows
from hf_vec2vec import Vec2VecConfig
from hf_vec2vec.cli.failures import explained
from hf_vec2vec.data.corpora import load_labelled
from hf_vec2vec.distillation import load_student
from hf_vec2vec.encoders import TextEncoder
from hf_vec2vec.evaluation.report import training_record
from hf_vec2vec.sharing.translator_card import is_own_card, model_card, read_facts
from hf_vec2vec.tasks import load_task
from hf_vec2vec.tasks.trained import load_trained_model
from hf_vec2vec.training.start import load_translator, saved_start

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_cache")]
BOUNDED = settings(deadline=20_000, derandomize=True, suppress_health_check=list(HealthCheck))


def says_what_is_wrong(read, *values) -> None:
    """Either it reads, or the error is one that a command tells in one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            read(*values)
        except Exception as error:
            status, line = explained(error)
            assert status in (1, 2)
            assert "fault of the program" not in line, line
            assert line.strip()


def try_all(file: Path, read, examples: int, *, structure: bool) -> None:
    """Damage a file again and again, read it, and find it as it was damaged."""
    whole = file.read_bytes()

    @settings(BOUNDED, max_examples=examples)
    @given(st.data())
    def one(data):
        values = structure and data.draw(st.booleans())
        content = changed(whole, data.draw) if values else damaged(whole, data.draw(DAMAGE))
        file.write_bytes(content)
        says_what_is_wrong(read)
        assert file.read_bytes() == content

    try:
        one()
    finally:
        file.write_bytes(whole)


def of_a_translator(folder: Path) -> None:
    """All that commands read of a translator but for its weights."""
    load_translator(str(folder))
    training_record(folder)
    is_own_card(folder, "training.json")
    model_card(folder, read_facts(folder))


@pytest.mark.parametrize("name", ["config.json", "training.json", "trainer_state.json", "README.md"])
def test_files_of_a_translator(trained, tmp_path, name):
    folder = shutil.copytree(trained / "model", tmp_path / "model")
    run("evaluate", folder, "--source", f"a={trained}/held_a.npy", "--target", f"b={trained}/held_b.npy")  # for the card
    try_all(folder / name, lambda: of_a_translator(folder), 80, structure=name.endswith("json"))


@pytest.mark.parametrize("name", ["report.json", "config.json"])
def test_files_of_a_start(trained, tmp_path, name):
    folder = shutil.copytree(trained / "model" / "alignment", tmp_path / "alignment")
    try_all(folder / name, lambda: saved_start(folder), 60, structure=True)


@pytest.mark.parametrize("name", ["fingerprint.json", "files.json", "trainer_state.json"])
def test_files_of_a_checkpoint(trained, tmp_path, capsys, name):
    assert train(trained, "--save_total_limit", "2", output=tmp_path / "first") == 0
    whole = (checkpoint := tmp_path / "first" / "checkpoint-2" / name).read_bytes()

    @settings(BOUNDED, max_examples=8)
    @given(st.data())
    def one(data):
        folder = shutil.copytree(tmp_path / "first", tmp_path / "model", dirs_exist_ok=True)
        content = changed(whole, data.draw) if data.draw(st.booleans()) else damaged(whole, data.draw(DAMAGE))
        (folder / "checkpoint-2" / name).write_bytes(content)
        capsys.readouterr()
        sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy"]
        status = run("train", *sides, "--output_dir", folder, *QUICK, "--resume_from_checkpoint", folder / "checkpoint-2")
        assert_one_line("train", status, capsys.readouterr().err)

    assert checkpoint.exists()
    one()


def assert_one_line(command: str, status: int, said: str) -> None:
    assert status in (0, 1, 2)
    assert "Traceback" not in said
    assert "fault of the program" not in said
    assert status == 0 or said.strip().splitlines()[-1].startswith(f"hf-vec2vec {command}: ")


@pytest.mark.parametrize("name", ["config.json", "tokenizer_config.json", "tokenizer.json"])
def test_files_of_an_encoder(bert, name):
    def read():
        TextEncoder(bert, device="cpu").encode(["the dog"], progress=False)
        load_student(bert)

    try_all(Path(bert) / name, read, 40, structure=True)


@pytest.mark.parametrize("name", ["modules.json", "1_Pooling/config.json", "config_sentence_transformers.json"])
def test_files_of_a_sentence_transformer(bert, name):
    write_modules(Path(bert), [("Transformer", ""), ("Pooling", "1_Pooling")])
    pooling = Path(bert) / "1_Pooling" / "config.json"
    pooling.parent.mkdir(exist_ok=True)
    pooling.write_text(json.dumps({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True}))
    about = {"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": "query", "similarity_fn_name": "cosine"}
    (Path(bert) / "config_sentence_transformers.json").write_text(json.dumps(about))

    def read():
        TextEncoder(bert, device="cpu").encode(["the dog"], progress=False)
        load_student(bert)

    read()
    try_all(Path(bert) / name, read, 40, structure=True)


def test_config_of_an_adapter(bert, tmp_path):
    from peft import LoraConfig, get_peft_model

    model, tokenizer, _ = load_student(bert, "classifier", 2)
    get_peft_model(model, LoraConfig(r=2, target_modules="all-linear", task_type="SEQ_CLS")).save_pretrained(
        tmp_path / "own"
    )
    tokenizer.save_pretrained(tmp_path / "own")
    write_rows(VALIDATION["sst2"], tmp_path / "sst2" / "validation.jsonl")
    task = load_task("sst2", tmp_path / "sst2")
    try_all(
        tmp_path / "own" / "adapter_config.json", lambda: load_trained_model(str(tmp_path / "own"), task), 60, structure=True
    )


YAML = {
    "corpus": "source: {folder}/texts.jsonl\ntext_column: text\nlabel_column: label\ndescriptions:\n  up: Up it goes.\n"
    "  down: Down it goes.\n",
    "variants": "short: {align_starts: 2, num_train_epochs: 0}\nother: {align_steps: 2, num_train_epochs: 0}\n",
    "flags": "source: a={trained}/a.npy\ntarget: b={trained}/b.npy\noutput_dir: {folder}/out\nnum_train_epochs: 0\n",
}


@pytest.mark.parametrize("name", YAML)
def test_files_of_yaml(trained, tmp_path, capsys, name):
    rows = [{"text": f"t{i}", "label": ("up", "down")[i % 2]} for i in range(8)]
    write_rows(rows, tmp_path / "texts.jsonl")
    file, text = tmp_path / f"{name}.yaml", YAML[name]
    for place, folder in (("{folder}", tmp_path), ("{trained}", trained)):
        text = text.replace(place, str(folder))
    file.write_text(text)
    sides = ["--source", f"a={trained}/a.npy", "--target", f"b={trained}/b.npy"]
    held_out = ["--held_out_source", f"a={trained}/held_a.npy", "--held_out_target", f"b={trained}/held_b.npy"]

    def read():
        capsys.readouterr()
        if name == "corpus":
            load_labelled(str(file))
        elif name == "variants":
            made = ["--variants", file, "--seeds", "1", "--output_dir", tmp_path / "out"]
            assert_one_line("ablate", run("ablate", *sides, *held_out, *made), capsys.readouterr().err)
        else:
            words = [*QUICK, "--overwrite", "--config", file]
            assert_one_line("train", run("train", *words), capsys.readouterr().err)

    try_all(file, read, 60 if name == "corpus" else 15, structure=False)


QUESTION = {"id": "1", "question": "When?", "answers": [{"text": "1907", "answer_start": 13}], "is_impossible": False}
CHOICES = {"stem": "What?", "choices": [{"label": "A", "text": "this"}, {"label": "B", "text": "that"}]}
TASKS = {
    "squad": (
        "dev-v1.1.json",
        {"data": [{"title": "T", "paragraphs": [{"context": "It opened in 1907.", "qas": [QUESTION]}]}]},
    ),
    "squad_v2": ("dev-v2.0.json", {"data": [{"paragraphs": [{"context": "It opened in 1907.", "qas": [QUESTION]}]}]}),
    "commonsense_qa": ("dev_rand_split.jsonl", {"id": "1", "question": CHOICES, "answerKey": "A"}),
    "sst2": ("dev.tsv", "sentence\tlabel\na joy\t1\na bore\t0\n"),
    "cola": ("dev.tsv", "gj04\t1\t\tshe sings\ncj99\t0\t*\thim saw\n"),
    "stsb": ("sts-dev.csv", "news\tf\t2012\t3\t5.000\tone\ttwo\nnews\tf\t2012\t4\t0.2\ta\tb\n"),
    "mnli": ("dev_matched.tsv", "index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tneutral\n1\tc\td\tentailment\n"),
    "qqp": ("dev.tsv", "1\twhat\twhy?\t17\n0\ta\tb\t18\n"),
    "mrpc": ("msr_paraphrase_test.txt", "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\ta\tb\n"),
    "boolq": ("dev.jsonl", {"question": "is it", "title": "t", "answer": True, "passage": "p"}),
    "rte": ("validation.jsonl", {"sentence1": "a", "sentence2": "b", "label": 1, "idx": 0}),
}


@pytest.mark.parametrize("name", TASKS)
def test_files_of_tasks(tmp_path, name):
    file, content = TASKS[name]
    path = tmp_path / file
    path.write_text(content if isinstance(content, str) else json.dumps(content))

    def read():
        task = load_task(name, tmp_path)
        for split in task.splits.values():
            assert split[:] is not None

    read()
    try_all(path, read, 150, structure=not isinstance(content, str))


def test_a_config_of_anything():
    config = Vec2VecConfig(embedding_dims={"a": 6, "b": 4}).to_dict()

    @settings(BOUNDED, max_examples=200)
    @given(st.data())
    def one(data):
        content = json.loads(changed(json.dumps(config, default=str).encode(), data.draw))
        says_what_is_wrong(Vec2VecConfig.from_dict, content)

    one()
