"""What makes a folder of Arrow shards a saved `datasets.Dataset`."""

import json

import pyarrow as pa
from datasets import Features


def dataset_files(schema: pa.Schema, shards: list[dict]) -> dict[str, str]:
    """Contents of `state.json` and `dataset_info.json`, as `Dataset.save_to_disk` writes them.

    Args:
        schema: of the shards.
        shards: their records, in order.
    """
    state = {
        "_data_files": [{"filename": shard["files"][0]["name"]} for shard in shards],
        "_fingerprint": shards[0]["files"][0]["xxh128"][:16],
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": None,
    }
    features = Features.from_arrow_schema(schema).to_dict()
    info = {"citation": "", "description": "", "features": features, "homepage": "", "license": ""}
    return {"state.json": json.dumps(state, indent=2), "dataset_info.json": json.dumps(info, indent=2)}
