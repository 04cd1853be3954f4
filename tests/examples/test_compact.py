import importlib.util
import json
from pathlib import Path

import pytest
import torch

from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecModel


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("compact", Path(__file__).parents[2] / "examples" / "compact.py")
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.mark.parametrize("two_maps", [True, False])
def test_the_linear_map_is_kept_but_for_rounding(example, two_maps):
    model = Vec2VecModel.from_alignment(alignment_with_networks()) if two_maps else model_of()
    small = example.compact(model)
    assert small.dtype == torch.float16
    assert sum(weight.numel() for weight in small.parameters()) == 2 * 6 * 4 + 2 * 4 * 4  # and two identities
    small, rows = small.float(), {"a": rows_of(model, 20), "b": torch.randn(20, 4)}
    for source, target in (("a", "b"), ("b", "a")):
        found = small.translate(rows[source], source=source, target=target)
        expected = model.translate(rows[source], source=source, target=target, map="linear")
        torch.testing.assert_close(found, expected, rtol=0.01, atol=0.02)


def test_a_network_alone_has_nothing_to_keep(example):
    with pytest.raises(ValueError, match="`map` is 'linear'"):
        example.compact(model_of(("backbone",)))


def test_facts_of_the_run_are_kept_but_not_figures_of_other_weights(example, tmp_path):
    model_of().save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "training.json").write_text(json.dumps({"texts": "news", "results": [{"top1": 0.9}]}))
    example.main(str(tmp_path / "whole"), str(tmp_path / "small"))
    assert json.loads((tmp_path / "small" / "training.json").read_text()) == {"texts": "news"}
    assert Vec2VecModel.from_pretrained(tmp_path / "small").dtype == torch.float16
