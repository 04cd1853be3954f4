r"""The linear map of a translator, small enough for a repository: one matrix for each direction, in float16.

    hf-vec2vec train --source minilm=minilm --target wordllama=wordllama --output_dir translator --num_train_epochs 0
    python examples/compact.py translator small

Of two spaces with 384 and 256 dimensions it takes 650 kB; with the full map beside it a translator takes 46 MB. Its latent
space is the narrower of the two spaces, so translations are the same but for rounding, and only `reconstructions` of the
wider space lose something.

Several translators that have one space in common become one of all their spaces, and that space is the latent one:

    python examples/compact.py minilm-smollm2 smollm2-gemma minilm-smollm2-gemma
"""

import json
import sys
from pathlib import Path

import torch

from hf_vec2vec import Vec2VecConfig, Vec2VecModel

RECORD = "training.json"  # what the card is written from
SHARED = 0.03  # by how much mean and scale of the common space may differ, in scales: runs hold other rows of it back


def compact(*models: Vec2VecModel) -> Vec2VecModel:
    """The same translations by the linear maps, by as few numbers as they need, in float16.

    Of several models those of the second and later ones are the same but for what their means and scales of the common space
    differ from those of the first.

    Raises:
        ValueError: if a model has no linear map, or other than two spaces; if several have not one space in common,
            know it in other dimensions, or differ in its mean and scale, so that they were made of different rows of it.
    """
    dims: dict[str, int] = {}
    for model in models:
        if len(model.config.spaces) != 2:
            raise ValueError(f"The model has the spaces {model.config.spaces}; it must have two.")
        for space, dim in model.config.embedding_dims.items():
            if dims.setdefault(space, dim) != dim:
                raise ValueError(f"The models know {space!r} in {dims[space]} and in {dim} dimensions.")
    common = set.intersection(*(set(model.config.spaces) for model in models))
    if not common or (len(models) > 1 and len(dims) != len(models) + 1):
        spaces = "; ".join(" and ".join(model.config.spaces) for model in models)
        raise ValueError(f"The models must have one space in common, and have {spaces}.")
    hub = min((space for space in dims if space in common), key=dims.__getitem__)
    small = Vec2VecModel(
        Vec2VecConfig(
            embedding_dims=dims,
            latent_dim=dims[hub],
            adapter_layers=0,
            backbone_layers=0,
            encoders={space: record for model in models for space, record in (model.config.encoders or {}).items()},
        )
    )
    with torch.no_grad():
        for adapters in (small.input_adapters, small.output_adapters):
            torch.nn.init.eye_(adapters[hub].linear.weight)
        for model in models:
            (other,) = set(model.config.spaces) - {hub}
            for adapter, source, target in (
                (small.input_adapters[other], other, hub),
                (small.output_adapters[other], hub, other),
            ):
                columns = torch.eye(dims[source])  # each gives a column of the matrix
                adapter.linear.weight.copy_(model.mapped(columns, source, target, "linear").T)
            for space in model.config.spaces:
                small.normalizers[space].load_state_dict(model.normalizers[space].state_dict())
            first, mine = models[0].normalizers[hub], model.normalizers[hub]
            if (
                max(((first.mean - mine.mean) / first.scale).abs().max(), (mine.scale / first.scale - 1).abs().max())
                > SHARED
            ):
                raise ValueError(f"The models know {hub!r} by different rows. Train them on the same vectors of it.")
        small.normalizers[hub].load_state_dict(models[0].normalizers[hub].state_dict())
    return small.half().eval()


def main(*folders: str) -> None:
    *translators, output = folders
    compact(*map(Vec2VecModel.from_pretrained, translators)).save_pretrained(output)
    records = [Path(translator) / RECORD for translator in translators]
    if all(record.exists() for record in records):  # `hf-vec2vec evaluate` then writes the card
        facts = [json.loads(record.read_text(encoding="utf-8")) for record in records]
        kept = facts[0] if len(facts) == 1 else joined(facts)
        kept.pop("results", None)  # are of other weights
        (Path(output) / RECORD).write_text(json.dumps(kept, indent=2, ensure_ascii=False), encoding="utf-8")


def joined(facts: list[dict]) -> dict:
    """What is true of several runs together."""
    rows = {space: count for fact in facts for space, count in fact.get("rows", {}).items()}
    texts, unpaired = ({fact[name] for fact in facts if name in fact} for name in ("texts", "unpaired"))
    verdicts = ((fact.get("report") or {}).get("verdict", "not recorded") for fact in facts)
    parts = [f"{' and '.join(fact.get('rows', {}))}, seed {fact.get('seed')}, {v}" for fact, v in zip(facts, verdicts)]
    told = "; ".join([*sorted(texts), *(f"an alignment of {part}" for part in parts)])
    return {"texts": told, "rows": rows} | ({"unpaired": unpaired.pop()} if len(unpaired) == 1 else {})


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
