import importlib.util
from pathlib import Path

import pytest
import torch

from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecModel


@pytest.fixture(scope="module")
def compact():
    spec = importlib.util.spec_from_file_location("compact", Path(__file__).parents[2] / "examples" / "compact.py")
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    return example.compact


@pytest.mark.parametrize("two_maps", [True, False])
def test_the_linear_map_is_kept_but_for_rounding(compact, two_maps):
    model = Vec2VecModel.from_alignment(alignment_with_networks()) if two_maps else model_of()
    small = compact(model)
    assert small.dtype == torch.float16
    assert sum(weight.numel() for weight in small.parameters()) == 2 * 6 * 4 + 2 * 4 * 4  # and two identities
    small, rows = small.float(), {"a": rows_of(model, 20), "b": torch.randn(20, 4)}
    for source, target in (("a", "b"), ("b", "a")):
        found = small.translate(rows[source], source=source, target=target)
        expected = model.translate(rows[source], source=source, target=target, map="linear")
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.02)


def test_a_network_alone_has_nothing_to_keep(compact):
    with pytest.raises(ValueError, match="`map` is 'linear'"):
        compact(model_of(("backbone",)))
