"""An encoder of sentence-transformers, such as a query encoder, as one ONNX graph from tokens to vectors."""

from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.staging import locked, staged_file
from ..version import __version__
from .export import check_export, onnx_program, write_int8

IDS, MASK, VECTORS = "input_ids", "attention_mask", "embeddings"
LOSS = {"onnx": 1e-4, "int8": 0.1}  # of a cosine, that a number format may cost


class Graph(nn.Module):
    """Tokens `(batch, tokens)` to vectors `(batch, d)`, through all modules of an encoder."""

    def __init__(self, encoder: SentenceTransformer):
        super().__init__()
        first = encoder[0]
        self.steps = nn.ModuleList([Table(first) if isinstance(first, StaticEmbedding) else first, *list(encoder)[1:]])

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        features = {IDS: input_ids, MASK: attention_mask}
        for step in self.steps:
            features = step(features)
        return features["sentence_embedding"]


class Table(nn.Module):
    """A static encoder, the mean of its tokens' rows, of texts that are padded to one length."""

    def __init__(self, static: StaticEmbedding):
        super().__init__()
        self.weight = static.embedding.weight

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        mask = features[MASK].to(self.weight.dtype)[:, :, None]
        return {"sentence_embedding": (F.embedding(features[IDS], self.weight) * mask).sum(1) / mask.sum(1).clamp_min(1)}


@torch.no_grad()
def export_query_encoder(
    encoder: SentenceTransformer, path: str | Path, texts: list[str], *, format: str = "onnx", overwrite: bool = False
) -> float:
    """Write an encoder as one `.onnx` file, all its modules inside, and compare its vectors with the encoder's.

    In: `input_ids` and `attention_mask`, `(batch, tokens)`, int64; see [`query_tokens`]. Out: `embeddings` `(batch, d)`,
    float32. Batches and lengths may be any, up to what the model reads. With `int8` matrices, what they are multiplied with,
    and the table of tokens are in 8 bits: a quarter of the size, less exact. The file's metadata have the prompt.

    Args:
        encoder: a transformer or a static encoder, and what comes behind it. A copy is exported, in float32.
        path: the file. It appears whole or not at all.
        texts: some queries, which file and encoder are compared on.
        format: `onnx` or `int8`.
        overwrite: replace `path` if it exists.

    Returns:
        The least cosine of the file's vector of a text to the encoder's. Below .9999, or .9 for int8,
        nothing is written.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is not set.
        ImportError: if onnx, onnxruntime or onnxscript is missing.
        ValueError: for an unknown format, another suffix, no texts, an encoder of another kind, or vectors that differ.
    """
    if format not in LOSS:
        raise ValueError(f"`format` must be one of {', '.join(LOSS)}, got {format!r}.")
    path = check_export(path, format, overwrite=overwrite)
    if not isinstance(encoder[0], Transformer | StaticEmbedding):
        raise ValueError(
            f"`encoder` begins with a {type(encoder[0]).__name__}; it must be a Transformer or a StaticEmbedding, which "
            "read tokens."
        )
    if not texts:
        raise ValueError("`texts` is empty; the file is compared with the encoder on some queries. Give a few.")
    encoder = deepcopy(encoder).to("cpu").float().eval()
    prompt = encoder.prompts.get("query") or ""
    expected = encoder.encode(texts, prompt=prompt, convert_to_tensor=True, show_progress_bar=False)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("tokens")}
    example = (torch.ones(2, 8, dtype=torch.long), torch.ones(2, 8, dtype=torch.long))
    program = onnx_program(Graph(encoder).eval(), example, (IDS, MASK), VECTORS, (axes, axes))
    program.model.metadata_props.update({"hf_vec2vec": __version__, "prompt": prompt})
    with locked(path, argument="path"), staged_file(path) as partial:
        check_export(path, format, overwrite=overwrite)  # another process may have written it meanwhile
        if format == "int8":
            write_int8(program, partial)
        else:
            program.save(partial, external_data=False)
        found = torch.from_numpy(run_query_graph(partial, *query_tokens(encoder, [prompt + text for text in texts])))
        cosine = F.cosine_similarity(found.double(), expected.double()).min().item()
        if not cosine >= 1 - LOSS[format]:
            raise ValueError(
                f"`path`: the graph's vectors differ from the encoder's, cosine {cosine:.4f}; nothing is written."
            )
    return cosine


def query_tokens(encoder: SentenceTransformer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """`input_ids` and `attention_mask`, `(n, tokens)`, int64, of texts, prompt included.

    Those of a static encoder have no special tokens at the ends; those of a transformer are cut where it ends.
    """
    if isinstance(encoder[0], StaticEmbedding):
        listed = [each.ids for each in encoder.tokenizer.encode_batch(texts, add_special_tokens=False)]
        mask = np.arange(max(map(len, listed))) < np.array([[len(ids)] for ids in listed])
        padded = np.zeros(mask.shape, dtype=np.int64)
        padded[mask] = np.concatenate(listed)
        return padded, mask.astype(np.int64)
    tokens = encoder.tokenizer(texts, padding=True, truncation=True, max_length=encoder.max_seq_length, return_tensors="np")
    return tokens[IDS].astype(np.int64), tokens[MASK].astype(np.int64)


def run_query_graph(path: str | Path, input_ids: np.ndarray, attention_mask: np.ndarray) -> np.ndarray:
    """Vectors `(batch, d)` of tokens `(batch, tokens)`, int64, by an exported graph, on the CPU."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run([VECTORS], {IDS: input_ids, MASK: attention_mask})[0]


__all__ = ["export_query_encoder", "query_tokens", "run_query_graph"]
