"""Number formats of translations: float32, float16, bfloat16, and int8 with a scale a row."""

from dataclasses import dataclass

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16, "int8": torch.int8}


@dataclass
class Values:
    """Translations as they are written.

    Args:
        rows: `(n, d)`.
        scales: `(n,)`, float32, for int8: a vector is `rows[i] * scales[i]`, to half a scale in each value.
    """

    rows: Tensor
    scales: Tensor | None = None


def convert(rows: Tensor, dtype: str) -> Values:
    """Float32 `(n, d)` in another number format.

    int8: each row is divided by its scale, its largest magnitude / 127, and rounded. The direction of a vector is kept
    without the scale, so cosines can be taken of the int8 values as they are.
    """
    if dtype == "int8":
        scales = torch.maximum(rows.amax(1), -rows.amin(1)) / 127  # in place from here on: fewer large pieces of memory
        quantised = (rows / scales.clamp_min(torch.finfo(torch.float32).tiny).unsqueeze(1)).round_()
        return Values(quantised.nan_to_num_(0).to(torch.int8), scales)  # the scale of a row that is NaN is NaN
    return Values(rows.to(DTYPES[dtype]))
