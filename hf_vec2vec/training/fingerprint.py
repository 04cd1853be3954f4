"""What a run was made of, so that it is resumed with the same data, seed, arguments and model, or not at all."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from operator import eq
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from datasets import Dataset, IterableDataset
from peft import PeftModel
from torch import Tensor, nn

from ..data.json_files import read_object

FILE = "fingerprint.json"
STREAM_ROWS = 1024  # of a stream: its beginning, for nobody knows how long the rest is
BLOCK_ROWS = 4096


@dataclass(frozen=True)
class Fingerprint:
    """What a run's result depends on, but for its length.

    Args:
        hashes: of data and models, by what they are: "training data", "translator".
        settings: seed, number of processes, arguments; values that JSON knows.
        answers: what a model says of a fixed input, for one that has weights without an effect; compared up to rounding.
    """

    hashes: dict[str, str]
    settings: dict[str, Any]
    answers: dict[str, list[float]] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write it into a checkpoint."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2, sort_keys=True))

    def check(self, checkpoint: Path) -> None:
        """Raise if a checkpoint is of a run that was made of something else. Those of versions that recorded nothing pass.

        Raises:
            ValueError: which says what differs.
        """
        file = checkpoint / FILE
        if not file.exists():
            return
        if found := self.differences(read_object(file)):
            raise ValueError(
                f"`resume_from_checkpoint` {str(checkpoint)!r} is of a run that differs from this one: {', '.join(found)}. "
                "Resume with what it was made of, or start anew in another folder."
            )

    def differences(self, saved: dict[str, Any]) -> list[str]:
        """In words, what is another in a fingerprint that was saved."""
        now = json.loads(json.dumps(asdict(self)))  # with lists for tuples, as the saved one has them
        found = [f"the {name}" for name in _differing(saved.get("hashes", {}), now["hashes"])]
        found += [f"the {name}" for name in _differing(saved.get("answers", {}), now["answers"], same=_close)]
        before = saved.get("settings", {})
        for name in _differing(before, now["settings"]):
            found.append(f"`{name}` ({before.get(name)!r} there, {now['settings'].get(name)!r} here)")
        return found


def _differing(before: dict, now: dict, same: Callable[[Any, Any], bool] = eq) -> list[str]:
    return [name for name in sorted({*before, *now}) if not same(before.get(name), now.get(name))]


def _close(before: list[float] | None, now: list[float] | None) -> bool:
    return before is not None and now is not None and len(before) == len(now) and np.allclose(before, now, 1e-3, 1e-4)


def adapter_hashes(model: nn.Module) -> dict[str, str]:
    """Hash of an adapter's settings, if the model has one, less where the model lies and whether it is trained."""
    if not isinstance(model, PeftModel):
        return {}
    settings = {name: sorted(v) if isinstance(v, set) else v for name, v in model.active_peft_config.to_dict().items()}
    for name in ("base_model_name_or_path", "inference_mode", "peft_version"):
        settings.pop(name, None)
    content = json.dumps(settings, sort_keys=True, default=str).encode()
    return {"adapter's settings": hashlib.blake2b(content, digest_size=16).hexdigest()}


def tensors_digest(tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Hash of named tensors: names, shapes, types and every value."""
    found = hashlib.blake2b(digest_size=16)
    for name, values in tensors:
        found.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        if values.numel():
            found.update(values.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def weights_digest(model: nn.Module) -> str:
    """Hash of a model's parameters and buffers."""
    return tensors_digest(model.state_dict().items())


def rows_digest(data: Dataset | IterableDataset) -> str:
    """Hash of the rows of a data set; of a stream, of its first 1,024."""
    found = hashlib.blake2b(digest_size=16)
    rows = data.take(STREAM_ROWS) if isinstance(data, IterableDataset) else data
    for block in rows.with_format("arrow").iter(BLOCK_ROWS):
        for name in sorted(block.column_names):
            column = block.column(name).combine_chunks()
            found.update(f"{name} {column.type}".encode())
            # Serialised, for a slice shares the memory of the whole.
            found.update(pa.record_batch([column], [name]).serialize())
    return found.hexdigest()
