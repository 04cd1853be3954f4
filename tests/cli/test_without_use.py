"""Flags that would do nothing are refused, and those that are given do what they say."""

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud
from helpers.commands import QUICK, WAY, run
from hf_vec2vec.bulk.processes import Processes
from hf_vec2vec.cli.distill import DistillFlags
from hf_vec2vec.cli.distill_compare import CompareFlags
from hf_vec2vec.cli.parsing import parse
from hf_vec2vec.cli.query_encoder import QueryEncoderFlags
from hf_vec2vec.cli.report import ReportFlags
from hf_vec2vec.cli.train import TrainFlags
from hf_vec2vec.cli.translate import TranslateFlags

TRAIN = "--source a=a.npy --target b=b.npy --output_dir out"
TRANSLATE = "model --source a --target b --input x.npy --output y.npy"
REPORT = "model --source a=a.npy --target b=b.npy --output_dir out"
DISTILL = "--translator model --student bert --output_dir out --texts texts.txt"
COMPARE = "--translator model --student bert --output_dir out --task sst2"
QUERY = "--student bert --index x.npy --output_dir out"


@pytest.mark.parametrize(
    ("kind", "line", "more", "message"),
    [
        (TrainFlags, TRAIN, "--align_rows 9", "`align_rows` is of streams"),
        (TrainFlags, TRAIN, "--buffer_rows 9", "`buffer_rows` is of streams"),
        (TrainFlags, TRAIN, "--device cpu", "`use_cpu` leaves a GPU alone"),
        (TranslateFlags, TRANSLATE, "--verify", "`verify` is of shards"),
        (TranslateFlags, TRANSLATE, "--shard_rows 9", "`shard_rows` is of shards"),
        (TranslateFlags, TRANSLATE, "--cache_dir c", "`cache_dir` is of `texts`"),
        (ReportFlags, REPORT, "--inverter_steps 9", "`inverter_steps` are of an `inverter_model`"),
        (DistillFlags, DISTILL, "--task_source x", "`task_source` is the folder of a `task`"),
        (DistillFlags, DISTILL, "--projection_rate .1", "`projection_rate` is of `learn_projection`"),
        (DistillFlags, DISTILL, "--contrastive_temperature .1", "`contrastive_temperature` is of `contrastive_weight`"),
    ],
)
def test_flags_that_would_do_nothing(kind, line, more, message):
    parse(kind, line.split())
    with pytest.raises(ValueError, match=message):
        parse(kind, [*line.split(), *more.split()])


@pytest.mark.parametrize(
    ("kind", "line", "more"),
    [
        (CompareFlags, COMPARE, "--arms ours --arms self"),
        (QueryEncoderFlags, QUERY, "--pairs one.parquet --pairs=two.parquet"),
        (TrainFlags, TRAIN, "--config a.yaml --config b.yaml"),
    ],
)
def test_values_that_stand_behind_two_flags_are_not_lost(kind, line, more):
    with pytest.raises(ValueError, match="stands twice on the line"):
        parse(kind, [*line.split(), *more.split()])


def test_the_line_still_wins_over_a_file(tmp_path):
    (tmp_path / "flags.yaml").write_text("arms: [ours, self]\nseeds: 2\n")
    found = parse(CompareFlags, [*COMPARE.split(), "--config", str(tmp_path / "flags.yaml"), "--arms", "ours"])
    assert (found.arms, found.seeds) == (["ours"], 2)


@pytest.mark.parametrize("flags", ["--hub_model_id org/name", "--hub_strategy end"])
def test_how_to_publish_what_is_not_published(tmp_path, capsys, flags):
    np.save(tmp_path / "a.npy", make_cloud(200, 6).numpy())
    sides = ["--source", f"a={tmp_path}/a.npy", "--target", f"b={tmp_path}/a.npy", "--output_dir", tmp_path / "out"]
    assert run("train", *sides, *QUICK, *flags.split()) == 2
    assert "`push_to_hub` is not set" in capsys.readouterr().err


@pytest.mark.parametrize("given", [("--column", "body"), ("--column", "a=body"), ("--id_column", "id")])
def test_columns_of_texts_that_train_would_not_read(tmp_path, capsys, given, bert):
    (tmp_path / "texts.csv").write_text("id,text,body\n" + "\n".join(f"{i},dog {i},cat {i}" for i in range(9)))
    np.save(tmp_path / "b.npy", make_cloud(200, 6).numpy())
    sides = ["--source", f"a={tmp_path}/texts.csv", "--target", f"b={tmp_path}/b.npy", "--source_encoder", bert]
    assert run("train", *sides, "--output_dir", tmp_path / "out", *QUICK, *given) == 2
    assert f"`{given[0][2:]}` is {given[1].removeprefix('a=')!r}, but of the texts of 'a'" in capsys.readouterr().err


@pytest.mark.parametrize("given", [True, False])
def test_use_cpu_leaves_a_gpu_alone_in_the_alignment_too(tmp_path, monkeypatch, given):
    for name, seed in (("a", 1), ("b", 2)):
        np.save(tmp_path / f"{name}.npy", make_cloud(200, 6, seed=seed).numpy())
    seen = []

    def watched(x, y, options, **more):
        seen.append(options.device)
        raise ValueError("`options` have been seen.")

    monkeypatch.setattr("hf_vec2vec.training.start.align", watched)
    sides = ["--source", f"a={tmp_path}/a.npy", "--target", f"b={tmp_path}/b.npy", "--output_dir", tmp_path / "out"]
    assert run("train", *sides, *QUICK, *(["--use_cpu"] if given else [])) == 2
    assert seen == ["cpu" if given else None]


def test_translate_works_where_it_is_told_to(trained, tmp_path, monkeypatch):
    class OnGpu(Processes):
        def __init__(self):
            super().__init__()
            self.device = torch.device("cuda")  # which is not there, or not to be used

    monkeypatch.setattr("hf_vec2vec.bulk.translate.Processes", OnGpu)
    line = ["translate", trained / "model", *WAY, "--input", trained / "held_a.npy", "--output", tmp_path / "x.npy"]
    assert run(*line, "--device", "cpu") == 0


@pytest.mark.parametrize(
    ("words", "file", "shown"),
    [
        ([], "debug: true\n", True),
        (["--debug=true"], "", True),
        (["--debug", "false"], "debug: true\n", False),
        (["--debug", "--no_such_flag", "x"], "", True),
    ],
)
def test_debug_from_a_file_or_switched_off(tmp_path, capsys, words, file, shown):
    (tmp_path / "flags.yaml").write_text(file or "{}")
    out = ["--output", tmp_path / "x.npy", "--model", "wordllama-256", "--config", tmp_path / "flags.yaml"]
    assert run("embed", "--texts", tmp_path / "nowhere.txt", *out, *words) == 2
    assert ("Traceback" in capsys.readouterr().err) == shown
