import json
import sys
import zipfile
from contextlib import contextmanager

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.cli import main
from hf_vec2vec.deployment.export import deviation, export, run_onnx
from hf_vec2vec.deployment.merging import merge
from hf_vec2vec.model.checkpoint_vec2vec import weights_sha256

ENDS = {"source": "a", "target": "b"}


@pytest.fixture(scope="module")
def residual():
    return model_of(("input_adapters", "backbone", "output_adapters"))


@pytest.fixture(scope="module")
def graph(residual, tmp_path_factory):
    """A direction with a network in every part, as ONNX."""
    path = tmp_path_factory.mktemp("onnx") / "translator.onnx"
    assert export(residual, path, **ENDS) < 1e-5
    return path


def test_a_graph_agrees_with_the_model_at_any_batch_size(residual, graph):
    for rows in (1, 2, 50, 300):
        vectors = rows_of(residual, rows)
        translated = run_onnx(graph, vectors.numpy())
        assert translated.shape == (rows, 4)
        assert deviation(translated, residual.translate(vectors, **ENDS)) < 1e-5


def test_a_graph_says_what_it_is(residual, graph):
    session = onnxruntime.InferenceSession(graph)
    assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [("embeddings", ["batch", 6], "tensor(float)")]
    assert [(o.name, o.shape, o.type) for o in session.get_outputs()] == [("translations", ["batch", 4], "tensor(float)")]
    facts = session.get_modelmeta().custom_metadata_map
    assert (facts["source"], facts["target"]) == ("a", "b")
    assert facts["weights_sha256"] == weights_sha256(residual.state_dict())


def test_a_linear_translator_is_one_matrix(tmp_path, capsys):
    model = model_of()
    model.save_pretrained(tmp_path / "model")
    flags = ["export", str(tmp_path / "model"), "--source", "a", "--target", "b", "--output"]
    assert main([*flags, str(tmp_path / "linear.onnx")]) == 0
    assert "a → b: " in capsys.readouterr().out
    assert [node.op_type for node in onnx.load(tmp_path / "linear.onnx").graph.node] == ["Gemm"]
    rows = rows_of(model)
    expected = model.translate(rows, **ENDS)
    assert deviation(run_onnx(tmp_path / "linear.onnx", rows.numpy()), expected) < 1e-5
    for name, load in (("linear.safetensors", load_file), ("linear.npz", np.load)):
        assert main([*flags, str(tmp_path / name), "--format", "merged"]) == 0
        tensors = load(tmp_path / name)
        assert deviation(rows.numpy() @ tensors["weight"] + tensors["bias"], expected) < 1e-5
    with safe_open(tmp_path / "linear.safetensors", "np") as file:
        assert file.metadata()["source"] == "a"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["linear.npz", "linear.onnx", "linear.safetensors", "model"]
    assert main([*flags, str(tmp_path / "linear.npz"), "--format", "merged"]) == 2
    assert "exists already" in capsys.readouterr().err
    assert main([*flags, str(tmp_path / "linear.npz"), "--format", "merged", "--overwrite"]) == 0


def test_int8_is_smaller_and_near(tmp_path):
    model = model_of(("input_adapters.a",))
    found = export(model, tmp_path / "int8.onnx", **ENDS, format="int8")
    assert 1e-5 < found < 0.1
    graph = onnx.load(tmp_path / "int8.onnx")
    assert any(node.op_type == "MatMulInteger" for node in graph.graph.node)
    weights = [onnx.numpy_helper.to_array(t) for t in graph.graph.initializer if t.data_type == onnx.TensorProto.INT8]
    # Two products with 8 bits of an activation must fit into 16 bits, or processors without VNNI give other numbers.
    assert max(abs(values.astype(int)).max() for values in weights) * 2 * 255 <= 2**15
    rows = rows_of(model, 200)
    translated, expected = torch.from_numpy(run_onnx(tmp_path / "int8.onnx", rows.numpy())), model.translate(rows, **ENDS)
    assert torch.cosine_similarity(translated, expected).mean() > 0.995


def test_torch_export_keeps_the_batch_open(residual, tmp_path):
    assert export(residual, tmp_path / "translator.pt2", **ENDS, format="torch") < 1e-5
    program = torch.export.load(tmp_path / "translator.pt2").module()
    for rows in (rows_of(residual, 1), rows_of(residual, 77)):
        assert deviation(program(rows), residual.translate(rows, **ENDS)) < 1e-5
    with zipfile.ZipFile(tmp_path / "translator.pt2") as archive:
        (facts,) = [name for name in archive.namelist() if name.endswith("hf_vec2vec.json")]
        assert json.loads(archive.read(facts))["target"] == "b"


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        {"norm": "batch"},
        {"residual": "zero_pad", "adapter_layers": 3, "backbone_layers": 4, "norm": "batch", "normalize_outputs": True},
    ],
)
def test_other_networks_export(config, tmp_path):
    model = model_of(("input_adapters", "backbone", "output_adapters"), **config)
    for format, suffix in (("onnx", "onnx"), ("torch", "pt2")):
        assert export(model, tmp_path / f"translator.{suffix}", **ENDS, format=format) < 1e-5
    rows = rows_of(model, 30)
    assert deviation(run_onnx(tmp_path / "translator.onnx", rows.numpy()), model.translate(rows, **ENDS)) < 1e-5


def test_half_precision_weights_are_exported_in_full(tmp_path):
    model = model_of().to(torch.bfloat16)
    assert export(model, tmp_path / "merged.npz", **ENDS, format="merged") < 1e-5
    assert np.load(tmp_path / "merged.npz")["weight"].dtype == np.float32
    assert model.dtype == torch.bfloat16


@pytest.mark.parametrize(("name", "load"), [("merged.NPZ", np.load), ("merged.SafeTensors", load_file)])
def test_a_suffix_in_capitals_is_the_same(name, load, tmp_path):
    assert export(model_of(), tmp_path / name, **ENDS, format="merged") < 1e-5
    assert load(tmp_path / name)["weight"].shape == (6, 4)


def test_a_mean_that_costs_digits_is_told(tmp_path):
    model = model_of()
    with torch.no_grad():
        model.normalizers["a"].mean.fill_(1e4)
    with pytest.warns(UserWarning, match="costs digits"):
        assert export(model, tmp_path / "merged.npz", **ENDS, format="merged") > 1e-5


def test_what_cannot_be_exported_is_refused(residual, tmp_path):
    for arguments, error, message in (
        ({"path": "a.onnx", "format": "tflite"}, ValueError, "`format` must be one of onnx, int8, torch, merged"),
        ({"path": "a.pt", "format": "torch"}, ValueError, "ends in .pt2"),
        ({"path": "a.onnx", "target": "z"}, ValueError, "`target` is 'z'"),
        ({"path": "a.npz", "format": "merged"}, ValueError, "not linear in this translator"),
        ({"path": "a.npz", "format": "merged", "source": "b", "target": "z"}, ValueError, "`target` is 'z'"),
        ({"path": "a.pt2", "format": "torch", "source": "b", "target": "b"}, ValueError, "are both 'b'"),
    ):
        with pytest.raises(error, match=message):
            export(residual, tmp_path / arguments.pop("path"), **(ENDS | arguments))
    (tmp_path / "a.onnx").write_text("mine")
    with pytest.raises(FileExistsError, match="exists already"):
        export(residual, tmp_path / "a.onnx", **ENDS)
    assert (tmp_path / "a.onnx").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.onnx"]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e38])
@pytest.mark.parametrize("name", ["a.npz", "a.safetensors", "a.pt2"])
def test_what_is_not_finite_is_not_written(broken, name, tmp_path):
    model = model_of()
    with torch.no_grad():
        model.output_adapters["b"].linear.weight.fill_(broken)
    with pytest.raises(ValueError, match="infinite ones|NaN or infinite"):
        export(model, tmp_path / name, **ENDS, format="torch" if name.endswith("pt2") else "merged")
    assert not list(tmp_path.iterdir())


def test_a_failed_export_leaves_the_old_file(residual, tmp_path, monkeypatch):
    (tmp_path / "a.npz").write_text("mine")
    model = model_of()
    monkeypatch.setattr("numpy.savez", lambda *args, **kwargs: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        export(model, tmp_path / "a.npz", **ENDS, format="merged", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]
    assert (tmp_path / "a.npz").read_text() == "mine"


def test_a_file_that_another_process_wrote_meanwhile_is_kept(residual, tmp_path, monkeypatch):
    file = tmp_path / "out.onnx"

    @contextmanager
    def late(path, **_):
        path.write_bytes(b"the other's")
        yield

    monkeypatch.setattr(sys.modules["hf_vec2vec.deployment.export"], "locked", late)  # a function has that name, too
    with pytest.raises(FileExistsError, match="exists already"):
        export(residual, file, **ENDS)
    assert file.read_bytes() == b"the other's"
    assert list(tmp_path.iterdir()) == [file]


def test_merge_is_what_is_exported(residual):
    rows = rows_of(residual)
    assert deviation(merge(residual, "a", "b")(rows), residual.translate(rows, **ENDS)) < 1e-5


@pytest.mark.parametrize(("flags", "map"), [(["--map", "linear"], "linear"), (["--queries"], "linear"), ([], "full")])
def test_either_map_is_exported(flags, map, tmp_path, capsys):
    model = Vec2VecModel.from_alignment(alignment_with_networks())
    model.save_pretrained(tmp_path / "model")
    line = ["export", str(tmp_path / "model"), "--source", "a", "--target", "b", *flags, "--output"]
    assert main([*line, str(tmp_path / "map.onnx")]) == 0
    assert f"{map} map" in capsys.readouterr().out
    assert onnxruntime.InferenceSession(tmp_path / "map.onnx").get_modelmeta().custom_metadata_map["map"] == map
    rows = rows_of(model)
    assert deviation(run_onnx(tmp_path / "map.onnx", rows.numpy()), model.translate(rows, **ENDS, map=map)) < 1e-5
    # One matrix holds a linear map alone.
    assert main([*line, str(tmp_path / "map.npz"), "--format", "merged"]) == (0 if map == "linear" else 2)
