r"""The linear map of a translator, small enough for a repository: one matrix for each direction, in float16.

    hf-vec2vec train --source minilm=minilm --target wordllama=wordllama --output_dir translator --num_train_epochs 0
    python examples/compact.py translator small

Of two spaces with 384 and 256 dimensions it takes 650 kB; with the full map beside it a translator takes 46 MB. Its latent
space is the narrower of the two spaces, so translations are the same but for rounding, and only `reconstructions` of the
wider space lose something.
"""

import json
import sys
from pathlib import Path

import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

RECORD = "training.json"  # what the card is written from


def compact(model: Vec2VecModel) -> Vec2VecModel:
    """The same translations by the linear map, by as few numbers as they need, in float16.

    Raises:
        ValueError: if the model has no linear map, or other than two spaces.
    """
    config = model.config
    if len(config.spaces) != 2:
        raise ValueError(f"The model has the spaces {config.spaces}; it must have two.")
    narrow, wide = sorted(config.spaces, key=config.embedding_dims.get)
    small = Vec2VecModel(
        Vec2VecConfig(
            embedding_dims=config.embedding_dims,
            latent_dim=config.embedding_dims[narrow],
            adapter_layers=0,
            backbone_layers=0,
            encoders=config.encoders,
        )
    )
    with torch.no_grad():
        for adapters in (small.input_adapters, small.output_adapters):
            torch.nn.init.eye_(adapters[narrow].linear.weight)
        for (source, target), adapter in (
            ((wide, narrow), small.input_adapters[wide]),
            ((narrow, wide), small.output_adapters[wide]),
        ):
            columns = torch.eye(config.embedding_dims[source])  # each gives a column of the matrix
            adapter.linear.weight.copy_(model.mapped(columns, source, target, "linear").T)
    small.normalizers.load_state_dict(model.normalizers.state_dict())
    return small.half().eval()


def main(translator: str, output: str) -> None:
    compact(Vec2VecModel.from_pretrained(translator)).save_pretrained(output)
    if (record := Path(translator) / RECORD).exists():  # `hf-vec2vec evaluate` then writes the card
        facts = json.loads(record.read_text(encoding="utf-8"))
        facts.pop("results", None)  # are of other weights
        (Path(output) / RECORD).write_text(json.dumps(facts, indent=2, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
