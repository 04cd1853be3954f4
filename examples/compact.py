r"""A linear translator made small enough for a repository: one matrix for each direction, in float16.

    hf-vec2vec train --source minilm=minilm --target wordllama=wordllama --output_dir linear \
        --adapter_layers 0 --backbone_layers 0 --num_train_epochs 0
    python examples/compact.py linear small

A translator of two spaces with 384 and 256 dimensions takes 650 kB instead of 3.3 MB. Its latent space is the narrower of
the two spaces, so translations are the same but for rounding, and only `reconstructions` of the wider space lose something.
"""

import shutil
import sys
from pathlib import Path

import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

RECORD = "training.json"  # what the card is written from


def compact(model: Vec2VecModel) -> Vec2VecModel:
    """The same translations by as few numbers as they need, in float16.

    Raises:
        ValueError: if the model has hidden layers, or other than two spaces.
    """
    config = model.config
    if config.adapter_layers or config.backbone_layers or len(config.spaces) != 2:
        raise ValueError(
            f"The model has {config.adapter_layers} and {config.backbone_layers} hidden layers and the spaces "
            f"{config.spaces}; it must have none and two. Train with `--adapter_layers 0 --backbone_layers 0`."
        )
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
        outputs, inputs = model.output_adapters, model.input_adapters
        small.input_adapters[wide].linear.weight.copy_(outputs[narrow].linear.weight @ inputs[wide].linear.weight)
        small.output_adapters[wide].linear.weight.copy_(outputs[wide].linear.weight @ inputs[narrow].linear.weight)
    small.normalizers.load_state_dict(model.normalizers.state_dict())
    return small.half().eval()


def main(translator: str, output: str) -> None:
    compact(Vec2VecModel.from_pretrained(translator)).save_pretrained(output)
    if (record := Path(translator) / RECORD).exists():  # `hf-vec2vec evaluate` then writes the card
        shutil.copy(record, output)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
