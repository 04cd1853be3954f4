"""A translator where this package is not: ONNX, int8, `torch.export`, or one matrix and a bias."""

import json
import logging
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load_file
from safetensors.torch import save_file
from torch import Tensor, nn

from ..data.raw_files import check_no_weights
from ..data.staging import locked, staged_file
from ..model.checkpoint_vec2vec import weights_sha256
from ..model.modeling_vec2vec import Map, Vec2VecModel
from ..version import __version__
from .merging import MergedTranslation, merge

SUFFIXES = {"onnx": (".onnx",), "int8": (".onnx",), "torch": (".pt2",), "merged": (".safetensors", ".npz")}
MERGED = ("weight", "bias")  # tensors of a merged file
INPUT, OUTPUT = "embeddings", "translations"
TOLERANCE = {"onnx": 1e-5, "int8": 0.1, "torch": 1e-5, "merged": 1e-5}
CHECKED_ROWS = 256


@torch.no_grad()
def export(
    model: Vec2VecModel,
    path: str | Path,
    *,
    source: str,
    target: str,
    map: Map = "auto",
    format: str = "onnx",
    overwrite: bool = False,
) -> float:
    """Write one direction of a translator, as few layers as it needs, and compare the file with the model.

    | `format` | file | what runs it |
    |---|---|---|
    | `onnx` | `.onnx` | onnxruntime: `embeddings` `(batch, d_source)` to `translations` `(batch, d_target)`, float32 |
    | `int8` | `.onnx` | the same; weights, and activations as they come, in 8 bits: smaller, less exact |
    | `torch` | `.pt2` | `torch.export.load(path).module()` |
    | `merged` | `.safetensors`, `.npz` | NumPy: `rows @ weight + bias`; of a linear map only |

    Normalisation is inside: raw vectors in, raw vectors out, in batches of any size. Nothing checks the rows, as `translate`
    does: NaN gives NaN. Names of the spaces, the map, the hash of the translator's weights and this version stand in the
    file's metadata, except in `.npz`.

    Args:
        model: the translator.
        path: the file. It appears whole or not at all.
        source: name of the space that vectors come from.
        target: name of the space to translate into.
        map: see `Vec2VecModel.translate`.
        format: see the table.
        overwrite: replace `path` if it exists.

    Returns:
        How far the file's translations lie from the model's at most, in lengths of a vector, over rows drawn from the mean
        and scale of `source`. Above 1e-5, and .1 for int8, there is a warning.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set.
        ImportError: if onnx, onnxruntime or onnxscript is missing and needed.
        ValueError: for an unknown format or space, one space as both ends, a suffix that is not the format's, a map that the
            translator does not have or that `merged` cannot hold, or translations that are not finite.
    """
    path = check_export(path, format, overwrite=overwrite)
    if source == target:
        raise ValueError(f"`source` and `target` are both {source!r}; name two spaces of the translator.")
    facts = {"source": source, "target": target, "map": model.chosen_map(map, source, target)}
    facts |= {"weights_sha256": weights_sha256(model.state_dict())}
    model = deepcopy(model).float().cpu()
    network = merge(model, source, target, map)
    for parameter in network.parameters():  # products of transposed matrices are not
        parameter.data = parameter.data.contiguous()
    if format == "merged" and not network.linear:
        raise ValueError(
            f"`format` is 'merged', but {source!r} → {target!r} is not linear in this translator: it has networks beside "
            "the matrix. Take 'linear' as `map`, or the format 'onnx' or 'torch'."
        )
    normalizer = model.normalizer(source)
    random = torch.randn(CHECKED_ROWS, len(normalizer.mean), generator=torch.Generator().manual_seed(0))
    rows = normalizer.inverse(random)
    expected = model.translate(rows, source=source, target=target, map=map)
    with locked(path, argument="path"), staged_file(path) as partial:
        check_export(path, format, overwrite=overwrite)  # another process may have written it meanwhile
        outputs = torch.as_tensor(WRITERS[format](network, rows, partial, facts | {"hf_vec2vec": __version__}))
        if not outputs.isfinite().all():
            raise ValueError(
                f"`format` {format!r} gives NaN or infinite numbers for rows of {source!r}; nothing is written."
            )
    found = deviation(outputs, expected)
    if not found <= TOLERANCE[format]:
        warnings.warn(
            f"{path}: translations differ from the model's by up to {found:.1e} of a vector's length, more than "
            f"{TOLERANCE[format]:.0e}. A mean that is large beside the scale of {source!r} costs digits.",
            stacklevel=3,  # past `no_grad`
        )
    return found


def check_export(path: str | Path, format: str, *, overwrite: bool = False) -> Path:
    """Raise, before the work is done, what [`export`] would raise of its arguments."""
    path = Path(path)
    if format not in SUFFIXES:
        raise ValueError(f"`format` must be one of {', '.join(SUFFIXES)}, got {format!r}.")
    # torch.export.load wants small letters.
    if (path.suffix if format == "torch" else path.suffix.lower()) not in SUFFIXES[format]:
        raise ValueError(
            f"`path` is {str(path)!r}; a file of the format {format!r} ends in {' or '.join(SUFFIXES[format])}."
        )
    if path.is_dir() or (path.exists() and not overwrite):
        raise FileExistsError(f"`path` {str(path)!r} exists already. Choose another, or ask to overwrite it.")
    check_no_weights("path", path, MERGED)
    return path


def deviation(outputs: Tensor | np.ndarray, expected: Tensor) -> float:
    """Largest distance of a row `(n, d)` from the expected one, divided by that one's length."""
    difference = torch.as_tensor(outputs).double() - expected.double()
    return (difference.norm(dim=1) / expected.double().norm(dim=1)).max().item()


def _write_onnx(network: nn.Module, rows: Tensor, path: Path, facts: dict[str, str]) -> np.ndarray:
    program = _program(network, rows)
    program.model.metadata_props.update(facts)
    program.save(path, external_data=False)
    return run_onnx(path, rows.numpy())


def _write_int8(network: nn.Module, rows: Tensor, path: Path, facts: dict[str, str]) -> np.ndarray:
    program = _program(network, rows)
    program.model.metadata_props.update(facts)
    write_int8(program, path)
    return run_onnx(path, rows.numpy())


def write_int8(program: Any, path: Path) -> None:
    """Write a graph with activations, as they come, in 8 bits, and weights in 7.

    Processors without VNNI add two products of 8 bits in a number of 16 bits, where they overflow without a word. Weights of
    7 bits fit.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    advice = logging.getLogger()  # to pre-process first, which has nothing to do for these layers
    level = advice.level
    advice.setLevel(logging.ERROR)
    try:
        quantize_dynamic(program.model_proto, path, per_channel=True, weight_type=QuantType.QInt8, reduce_range=True)
    finally:
        advice.setLevel(level)


def _write_torch(network: nn.Module, rows: Tensor, path: Path, facts: dict[str, str]) -> Tensor:
    program = torch.export.export(network, (rows[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, path, extra_files={"hf_vec2vec.json": json.dumps(facts)})
    return program.module()(rows)


def _write_merged(network: MergedTranslation, rows: Tensor, path: Path, facts: dict[str, str]) -> np.ndarray:
    values = network.output.weights[0].data.T.contiguous(), network.output.bias.data
    tensors = dict(zip(MERGED, values, strict=True))
    if path.suffix.lower() == ".npz":
        with open(path, "wb") as file:
            np.savez(file, **{name: tensor.numpy() for name, tensor in tensors.items()})
        written = np.load(path, allow_pickle=False)
    else:
        save_file(tensors, path, metadata=facts)
        written = load_file(path)
    return rows.numpy() @ written["weight"] + written["bias"]


Writer = Callable[[Any, Tensor, Path, dict[str, str]], Tensor | np.ndarray]
WRITERS: dict[str, Writer] = {"onnx": _write_onnx, "int8": _write_int8, "torch": _write_torch, "merged": _write_merged}


def _program(network: nn.Module, rows: Tensor) -> Any:
    return onnx_program(network, (rows[:2],), [INPUT], OUTPUT, ({0: torch.export.Dim("batch")},))


def onnx_program(
    network: nn.Module, example: tuple[Tensor, ...], inputs: Sequence[str], output: str, shapes: tuple[dict, ...]
) -> Any:
    """A network as an ONNX graph of torch's exporter.

    Args:
        network: in evaluation mode.
        example: an input, of at least two of everything whose number may differ.
        inputs: their names.
        output: its name.
        shapes: for each input, which of its axes may be of any length.

    Raises:
        ImportError: if onnx, onnxruntime or onnxscript is missing.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f'ONNX needs `{error.name}`: pip install "hf-vec2vec[export]".') from error
    # It tells of every operator of torchvision that it does without.
    logging.getLogger("torch.onnx._internal.exporter._registration").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        # torch's exporter copies trees in a way that torch itself deprecates.
        warnings.filterwarnings("ignore", message="`isinstance.treespec, LeafSpec.` is deprecated", category=FutureWarning)
        warnings.filterwarnings("ignore", message="# The axis name: ", category=UserWarning)  # of two inputs, one axis
        return torch.onnx.export(
            network,
            example,
            dynamo=True,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=shapes,
            verbose=False,
        )


def run_onnx(path: str | Path, rows: np.ndarray) -> np.ndarray:
    """Translate rows `(n, d_source)`, float32, with an exported graph, on the CPU: `(n, d_target)`."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run([OUTPUT], {INPUT: rows})[0]


__all__ = ["check_export", "deviation", "export", "onnx_program", "run_onnx", "write_int8"]
