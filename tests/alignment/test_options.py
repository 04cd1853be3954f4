import math

import numpy as np
import pytest
import torch

from helpers.clouds import make_cloud
from hf_vec2vec import align
from hf_vec2vec.alignment import AlignmentOptions

pytestmark = pytest.mark.short_search
QUICK = {"num_starts": 1, "num_anchors": 5, "steps": 1, "back_translation_rounds": 0, "progress": False}


@pytest.mark.parametrize(
    ("option", "value", "error", "message"),
    [
        ("standardize", "yes", ValueError, "`standardize` must be True, False or 'auto', got 'yes'"),
        ("standardize", 1, ValueError, "`standardize` must be True, False or 'auto', got 1"),
        ("standardize", None, ValueError, "`standardize` must be"),
        ("standardize", math.nan, ValueError, "`standardize` must be True, False or 'auto', got nan"),
        ("num_starts", 0, ValueError, "`num_starts` must be at least 1, got 0"),
        ("num_anchors", 1, ValueError, "`num_anchors` must be at least 2, got 1"),
        ("steps", -5, ValueError, "`steps` must be at least 1, got -5"),
        ("steps", math.nan, TypeError, "`steps` must be a whole number, got nan"),
        ("num_starts", math.inf, TypeError, "`num_starts` must be a whole number, got inf"),
        ("neighbours", 2.5, TypeError, "`neighbours` must be a whole number, got 2.5"),
        ("neighbours", "15", TypeError, "`neighbours` must be a whole number, got '15'"),
        ("hidden_dim", True, TypeError, "`hidden_dim` must be a whole number, got True"),
        ("hidden_dim", -1, ValueError, "`hidden_dim` must be at least 0, got -1"),
        ("back_translation_rounds", None, TypeError, "`back_translation_rounds` must be a whole number, got None"),
        ("seed", -1, ValueError, "`seed` must be at least 0, got -1"),
        ("seed", 2**64, ValueError, "`seed` must be at most"),
        ("seed", "0", TypeError, "`seed` must be a whole number, got '0'"),
        ("progress", "no", TypeError, "`progress` must be True or False, got 'no'"),
        ("device", "nope", ValueError, "`device` must be a device of torch .* got 'nope'"),
        ("device", 1.5, ValueError, "`device` must be a device of torch"),
        ("device", "cuda:64", ValueError, "`device` is 'cuda:64', but torch finds"),
        (
            "num_strats",
            3,
            TypeError,
            "`num_strats` is no option of an alignment. There are: effort, standardize, num_starts,",
        ),
    ],
)
def test_a_wrong_option_is_named_before_rows_are_looked_at(option, value, error, message):
    with pytest.raises(error, match=message):
        align(torch.full((3, 2), torch.nan), torch.full((3, 2), torch.nan), **{option: value})


def test_options_and_single_ones_by_name_are_the_same():
    a, b = make_cloud(100, seed=1), make_cloud(100, seed=2)
    options = AlignmentOptions(**QUICK, seed=3)
    expected = align(a, b, options)
    for found in (align(a, b, **QUICK, seed=3), align(a, b, AlignmentOptions(**QUICK), seed=np.int64(3))):
        assert torch.equal(found.source_to_target, expected.source_to_target)
    assert not torch.equal(align(a, b, options, seed=4).source_to_target, expected.source_to_target)
    assert options.seed == 3
