"""A small encoder that asks an index of a large one: its own modules, a projection into the index's space, norm 1."""

import json
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from torch import Tensor, nn

from ..data.staging import locked, staged_entries
from ..model.checkpoint_vec2vec import not_finite
from ..sentence_transformers import Vec2VecModule
from ..version import __version__
from .query_starts import Projection, off_the_middle
from .query_students import check_prompt, opening_prompt
from .students import EXPORT_RECORD, check_export_dir

LENGTHS = 256  # queries that tell how long vectors are before they are scaled
QUERY = "query"  # the prompt's name, which `SentenceTransformer.encode_query` looks for
MADE = (
    *("[0-9]*_*", "modules.json", "config*.json", "sentence_bert_config.json", "README.md", "model*.safetensors*"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", EXPORT_RECORD),
)


def query_encoder(
    student: SentenceTransformer, start: Projection | Vec2VecModule, *, prompt: str = ""
) -> SentenceTransformer:
    """A student whose vectors are of the index's space.

    Args:
        student: all its modules are kept; the new encoder shares them.
        start: an affine map, which becomes a `Dense` that `SentenceTransformer` loads without this package; or a translator
            that is not linear, which needs it.
        prompt: put before each query, by `encode` and `encode_query` alike; documents get none, or what must open any text.

    Raises:
        ValueError: for a projection of other vectors than the student's, or a prompt that does not open texts as it must.
    """
    check_prompt(student, prompt)
    dim = student.get_embedding_dimension()
    if isinstance(start, Projection):
        if len(start.weight) != dim:
            raise ValueError(f"`start` is of vectors of dimension {len(start.weight)}; those of `student` have {dim}.")
        weight, bias = start.weight.T.contiguous(), start.bias.clone()
        last: nn.Module = Dense(
            dim, len(bias), activation_function=nn.Identity(), init_weight=weight.clone(), init_bias=bias
        )
    else:
        last = start
    prompts: dict[str, Any] = {}
    if prompt:
        prompts = {"prompts": {QUERY: prompt, "document": opening_prompt(student)}, "default_prompt_name": QUERY}
    return SentenceTransformer(modules=[*student, last, Normalize()], device="cpu", **prompts).eval()


@torch.no_grad()
def take_off_the_middle(encoder: SentenceTransformer, index: Tensor, texts: list[str], *, prompt: str = "") -> None:
    """[`off_the_middle`] of an encoder whose projection was trained, in place.

    Args:
        encoder: made by `query_encoder` from a [`Projection`].
        index: `(m, d_index)`, vectors of the index.
        texts: some queries, which tell how long the projection's outputs are.
        prompt: put before each.
    """
    dense: Any = encoder[len(encoder) - 2]
    rows = student_vectors(SentenceTransformer(modules=list(encoder)[:-2], device="cpu"), texts[:LENGTHS], prompt=prompt)
    trained = Projection(dense.linear.weight.T.cpu(), dense.linear.bias.cpu())
    length = trained(rows).norm(dim=1).mean().item()
    dense.linear.bias.copy_(off_the_middle(trained, index, length).bias)


def check_queries(encoder: SentenceTransformer, texts: list[str], argument: str = "queries", prompt: str = "") -> None:
    """Raise ValueError for texts that cannot be queries: none at all, empty ones, or longer ones than the model reads."""
    if not texts:
        raise ValueError(f"`{argument}` holds no text.")
    if empty := [i for i, text in enumerate(texts) if not text.strip()]:
        raise ValueError(f"`{argument}` has {len(empty)} empty text(s), the first at index {empty[0]}. Drop them.")
    limit = encoder.max_seq_length
    if isinstance(encoder[0], StaticEmbedding) or limit is None:  # which read texts of any length
        return
    tokens = encoder.tokenizer([prompt + text for text in texts], truncation=False, verbose=False)
    lengths = [len(ids) for ids in tokens["input_ids"]]
    if long := [i for i, length in enumerate(lengths) if length > limit]:
        raise ValueError(
            f"`{argument}` has {len(long)} text(s) of more than {limit} tokens, which the student reads, the first at index "
            f"{long[0]} ({lengths[long[0]]} tokens). Shorten or drop them, or give a larger `max_length` if the model has "
            "the positions."
        )


def student_vectors(student: SentenceTransformer, texts: list[str], *, prompt: str = "", progress: bool = False) -> Tensor:
    """Vectors `(n, d)`, float32, as the student makes them, behind a prompt; on the CPU."""
    return (
        student.encode(texts, prompt=prompt, batch_size=64, convert_to_tensor=True, show_progress_bar=progress).float().cpu()
    )


def save_query_encoder(
    encoder: SentenceTransformer, folder: str | Path, facts: dict[str, Any], *, overwrite: bool = False
) -> None:
    """Write a folder that `SentenceTransformer(folder)` opens; all files appear together.

    Args:
        encoder: a query encoder.
        folder: to write into.
        facts: of its making, for the record beside it.
        overwrite: replace what an earlier call made.

    Raises:
        FileExistsError: if the folder holds a model already, or another process writes there.
        ValueError: for weights that are not finite.
    """
    check_export_dir(folder, overwrite=overwrite, argument="output_dir")
    if broken := not_finite(encoder.state_dict()):
        raise ValueError(f"the encoder has weights that are not finite ({broken[0]}): it was not saved.")
    with locked(folder, argument="output_dir"), staged_entries(folder, ours=MADE) as partial:
        encoder.save(str(partial), create_model_card=False)
        record = {"made_by": "hf_vec2vec", "version": __version__, "query_encoder": facts}
        (partial / EXPORT_RECORD).write_text(json.dumps(record, indent=2), encoding="utf-8")


__all__ = [
    "check_queries",
    "query_encoder",
    "save_query_encoder",
    "student_vectors",
    "take_off_the_middle",
]
