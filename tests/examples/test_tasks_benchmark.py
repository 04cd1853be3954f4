"""`benchmarks/tasks.py` from its command line, with tiny models and invented rows."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from helpers.distillation import linear_translator
from helpers.encoders import WORDS
from helpers.tasks import SHAPE as TASK_SHAPE
from helpers.tasks import decoder_tokenizer, encoder_tokenizer, glue, squad, write_rows
from hf_vec2vec.distillation import span_students

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "tasks.py"


@pytest.fixture
def project(folders, tmp_path):
    generator = np.random.default_rng(0)

    def texts(count):
        return [" ".join(generator.choice(WORDS[3:], generator.integers(3, 9))) for _ in range(count)]

    for split in ("train", "validation"):
        rows = [(a, b, i % 2) for i, (a, b) in enumerate(zip(texts(30), texts(30), strict=True))]
        write_rows(glue(("sentence1", "sentence2"), rows), tmp_path / "mrpc" / f"{split}.jsonl")
        rows = [(text, int("dog" in text)) for text in texts(30)]
        write_rows(glue(("sentence",), rows), tmp_path / "sst2" / f"{split}.jsonl")
    (tmp_path / "texts.txt").write_text("\n".join(texts(600)))
    return tmp_path


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    spec = importlib.util.spec_from_file_location("tasks_benchmark", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "tasks_benchmark", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def given(folders, project):
    (project / "out").mkdir()
    return {
        "output": str(project / "out"),
        "pairs": [f"{folders['bert']}={folders['llama']}@1"],
        "texts": str(project / "texts.txt"),
        "tasks": [f"mrpc={project / 'mrpc'}", f"sst2={project / 'sst2'}"],
        "arms": ["ours", "self"],
        "seeds": [0, 1],
        "updates": [2],
        "batch_size": 4,
        "rows": 150,
    }


def cells_of(project):
    runs = [json.loads(line) for line in (project / "out" / "runs.jsonl").read_text().splitlines()]
    return runs, [(run["cell"]["arm"], run["cell"]["seed"], run["cell"]["learning_rate"]) for run in runs]


@pytest.mark.slow
def test_runs_end_with_a_table_and_are_never_repeated(benchmark, given, project, monkeypatch):
    monkeypatch.setattr(benchmark.tasks_report, "DRAWS", 20)
    assert benchmark.run_all(benchmark.TasksArguments(**given)) == 0
    runs, cells = cells_of(project)
    trained = [(arm, seed, 1e-3) for seed in (0, 1) for arm in ("ours", "self")]
    assert cells == [("frozen student", 0, 0.0), *trained, ("teacher", 0, 0.0)]
    assert set(runs[0]["judgements"]) == {"mrpc", "sst2"}
    table = benchmark.tasks_report.write(project / "out")
    assert "| ours | 2 | 2 | 0.001 |" in table
    assert "mrpc: 30 of 3,668 training rows; 30 of 408 rows of 'validation'" in table
    assert all((project / "out" / name).stat().st_size > 5000 for name in ("by_task.png", "by_updates.png"))
    with (project / "out" / "runs.jsonl").open("a") as lines:
        lines.write('{"cell": {"arm": "ou')  # a run that was killed while it wrote
    assert benchmark.run_all(benchmark.TasksArguments(**given | {"learning_rates": [1e-3, 1e-2]})) == 0
    more, cells = cells_of(project)
    assert more[: len(runs)] == runs
    tried = cells[len(runs) :]
    assert tried[:2] == [("ours", 0, 1e-2), ("self", 0, 1e-2)]
    assert all(seed == 1 for _, seed, _ in tried[2:])  # at the better rate, where that is not the first, which is there
    benchmark.tasks_report.write(project / "out")


def test_a_teacher_that_has_read_the_texts_before_is_not_run(benchmark, given, project):
    texts = (project / "texts.txt").read_text().split("\n")
    rows = np.random.default_rng(0).standard_normal((len(texts), 5), dtype=np.float32)
    np.save(project / "teacher.npy", rows)
    known = {"teacher_vectors": str(project / "teacher.npy"), "with_teacher": False, "pairs": ["gone=student"]}
    workshop = benchmark.Workshop(benchmark.TasksArguments(**given | known), "gone=student")
    for text, row in zip(workshop.texts["lesson"], workshop.by_teacher("lesson"), strict=True):
        assert any((rows[i] == row.numpy()).all() for i, other in enumerate(texts) if other == text)
    np.save(project / "teacher.npy", rows[1:])
    with pytest.raises(ValueError, match="599 rows for 600 `texts`"):
        benchmark.Workshop(benchmark.TasksArguments(**given | known), "gone=student").by_teacher("lesson")


def test_a_translator_that_is_there_leaves_all_texts_to_learn_from(benchmark, given, project):
    pair = given["pairs"][0]
    generator = torch.Generator().manual_seed(0)
    dims = {"teacher": 16, "student": 24}
    rows = [torch.randn(100, dim, generator=generator) for dim in dims.values()]
    linear_translator(*rows, names=tuple(dims)).save_pretrained(project / "known")
    args = benchmark.TasksArguments(**given | {"translators": [str(project / "known")]})
    workshop = benchmark.Workshop(args, pair)
    assert workshop.translators["ours"].config.embedding_dims == dims
    assert [len(workshop.texts[side]) for side in ("teacher", "student", "lesson")] == [0, 0, 8]


def test_gains_are_paired_and_their_intervals_hold_the_mean(benchmark):
    """An arm that is right in three of four rows where the frozen student is right in two gains 25 points."""
    right = [0, 1] * 40
    half = [0, 1, 1, 0] * 20
    runs = [
        {
            "cell": {"pair": "a=b", "arm": arm, "updates": updates, "seed": seed, "learning_rate": 0.1 * bool(updates)},
            "judgements": {
                "rte": {
                    **{"metric": "accuracy", "predictions": said, "references": right, "part": "", "train_rows": 3},
                    "fold_points": 50.0,
                }
            },
        }
        for arm, updates, seed, said in (
            ("frozen student", 0, 0, half),
            ("ours", 5, 0, [0, 1, 1, 1] * 20),
            ("ours", 5, 1, [0, 1, 0, 0] * 20),
            ("self", 5, 0, half),
            ("self", 5, 1, half),
        )
    ]
    rows = {row["arm"]: row for row in benchmark.tasks_report.summary({"pair": "a=b"}, runs)["rows"]}
    gain, low, high = rows["ours"]["mean_gain"]
    assert gain == pytest.approx(25.0)
    assert 15 < low < 20 < 30 < high < 36
    assert rows["self"]["mean_gain"] == [0.0, 0.0, 0.0]
    with pytest.raises(ValueError, match="no run of the frozen student"):
        benchmark.tasks_report.summary({"pair": "a=b"}, runs[1:])


@pytest.mark.slow
def test_students_that_learn_labels_are_compared_with_labels_alone(benchmark, given, project, monkeypatch):
    monkeypatch.setattr(benchmark.tasks_report, "DRAWS", 20)
    generator = np.random.default_rng(1)
    for split, count in (("train", 280), ("validation", 40)):
        sides = [[" ".join(generator.choice(WORDS[3:], 6)) for _ in range(count)] for _ in range(2)]
        write_rows(
            glue(("sentence1", "sentence2"), [(a, b, int("dog" in a)) for a, b in zip(*sides, strict=True)]),
            project / "rte" / f"{split}.jsonl",
        )
    pair = given["pairs"][0].partition("@")[0]
    task = {"regime": "task", "teacher_updates": 2, "tasks": [f"rte={project / 'rte'}"], "pairs": [pair], "texts": None}
    task["arms"] = ["task loss only", "labels + learned projection from ridge", "labels + teacher's answers"]
    task |= {"label_rows": 100, "bf16": True}  # the first two arms read other rows: labelled ones, and all
    assert benchmark.run_all(benchmark.TasksArguments(**given | task)) == 0
    runs, cells = cells_of(project)
    assert cells[0] == ("teacher", 0, 0.0)
    assert [cell[:2] for cell in cells[1:]] == [(arm, seed) for seed in (0, 1) for arm in task["arms"]]
    assert len(runs[1]["judgements"]["rte"]["predictions"]) == 40
    table = benchmark.tasks_report.write(project / "out")
    assert "gains over the task loss only" in table
    assert "| labels + learned projection from ridge | 2 | 2 | 0.001 |" in table
    assert "rte: 280 of 2,490 training rows; 40 of 277 rows of 'validation'; labels of 100 training rows" in table
    with pytest.raises(ValueError, match="must hold 'task loss only'"):
        benchmark.run_all(benchmark.TasksArguments(**given | task | {"arms": ["labels + ours"]}))


def test_spans_are_taught_in_the_arms_that_they_have(benchmark, given, project, monkeypatch):
    def quick(teacher, student, seed, progress):
        return linear_translator(teacher, student, names=("teacher", "student")), "not aligned"

    monkeypatch.setattr(span_students, "unpaired_translator", quick)
    monkeypatch.setattr(benchmark.tasks_report, "DRAWS", 20)
    generator = np.random.default_rng(2)
    for split, count in (("train_part", 30), ("validation", 6)):
        words = [[str(word) for word in generator.choice(WORDS[3:], 8)] for _ in range(count)]
        rows = squad(*((" ".join(each), f"which {split} {i}?", [each[i % 8]]) for i, each in enumerate(words)))
        write_rows(rows, project / "squad" / f"{split}.jsonl")
    teacher = LlamaForCausalLM(
        LlamaConfig(**TASK_SHAPE | {"hidden_size": 12, "num_key_value_heads": 2, "num_hidden_layers": 2})
    )
    student = BertModel(BertConfig(**TASK_SHAPE))
    for name, model, tokenizer in (("large", teacher, decoder_tokenizer()), ("small", student, encoder_tokenizer())):
        model.save_pretrained(project / name)
        tokenizer.save_pretrained(project / name)
    pair = f"{project / 'large'}@1={project / 'small'}"
    task = {"regime": "task", "teacher_updates": 1, "tasks": [f"squad={project / 'squad'}"], "pairs": [pair], "texts": None}
    task |= {"arms": ["task loss only", "labels + learned projection from ridge", "labels + logits"], "seeds": [0]}
    assert benchmark.run_all(benchmark.TasksArguments(**given | task)) == 0
    _, cells = cells_of(project)
    assert [cell[0] for cell in cells] == ["teacher", "task loss only", "labels + learned projection from ridge"]
    (cut,) = (project / "out").glob("*/large-1-layers/config.json")
    assert json.loads(cut.read_text())["num_hidden_layers"] == 1 < teacher.config.num_hidden_layers
    table = benchmark.tasks_report.write(project / "out")
    assert "squad: 30 of 87,599 training rows; 6 of 10,570 rows of 'validation'" in table


@pytest.mark.slow
def test_processes_side_by_side_from_the_command_line(folders, given, project):
    flat = []
    for name, value in given.items():
        flat += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *flat, "--at_once", "2"], capture_output=True, text=True, timeout=280, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "| ours | 2 | 2 | 0.001 |" in done.stdout
    assert len(cells_of(project)[1]) == 6


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pairs": ["a=a"]}, "a model would teach itself"),
        ({"pairs": ["a"]}, "`pairs` must be TEACHER=STUDENT"),
        ({"pairs": []}, "`pairs` must be given"),
        ({"rows": 400}, "`texts` has .* `rows` 400 a side"),
        ({"translators": ["square"]}, "`translators` must be of rotation"),
        ({"updates": [0]}, "`updates` must be at least 1"),
        ({"arms": ["hers"]}, "`arms` has 'hers'; there are"),
        ({"teacher_vectors": "vectors.npy"}, "set `with_teacher` to false"),
        ({"regime": "task", "arms": ["task loss only", "hers"]}, "`arms` has 'hers'; there are"),
        ({"label_rows": 5}, "`label_rows` is for the regime 'task'"),
        ({"report": True}, "has no finished run"),
    ],
)
def test_bad_words_are_refused(benchmark, given, project, changes, message):

    def start():
        args = benchmark.TasksArguments(**given | changes)
        return benchmark.tasks_report.write(project / "out") if args.report else benchmark.run_all(args)

    with pytest.raises(ValueError, match=message):
        start()
    assert not (project / "out" / "runs.jsonl").exists()
