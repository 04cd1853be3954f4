import importlib.util
import json
from pathlib import Path

import pytest
import torch

from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecConfig, Vec2VecModel


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


def linear(source: str, target: str, dims: dict[str, int], seed: int) -> Vec2VecModel:
    """Two spaces and linear maps between them; statistics of a space are the same in each."""
    generator = torch.Generator().manual_seed(seed)
    model = Vec2VecModel(
        Vec2VecConfig(
            embedding_dims={name: dims[name] for name in (source, target)},
            latent_dim=max(dims.values()),
            adapter_layers=0,
            backbone_layers=0,
        )
    )
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 3)
        for name in (source, target):
            model.normalizers[name].mean.fill_(len(name))
            model.normalizers[name].scale.fill_(2.0)
    return model.eval()


def test_translators_with_one_space_in_common_become_one(example, tmp_path):
    dims = {"a": 5, "hub": 6, "long": 7}
    first, second = linear("a", "hub", dims, 0), linear("hub", "long", dims, 1)
    for name, model, rows in (("first", first, {"a": 9, "hub": 8}), ("second", second, {"hub": 8, "long": 7})):
        model.save_pretrained(tmp_path / name)
        facts = {"texts": "news", "unpaired": "yes", "rows": rows, "seed": 4, "report": {"verdict": "aligned"}}
        (tmp_path / name / "training.json").write_text(json.dumps(facts))
    example.main(str(tmp_path / "first"), str(tmp_path / "second"), str(tmp_path / "all"))
    joined = Vec2VecModel.from_pretrained(tmp_path / "all").float()
    assert joined.config.spaces == ["a", "hub", "long"]
    facts = json.loads((tmp_path / "all" / "training.json").read_text())
    assert facts.pop("texts").split("; ") == [
        "news",
        "an alignment of a and hub, seed 4, aligned",
        "an alignment of hub and long, seed 4, aligned",
    ]
    assert facts == {"rows": {"a": 9, "hub": 8, "long": 7}, "unpaired": "yes"}
    rows = 1 + 2 * torch.randn(20, 5)
    through = first.translate(rows, source="a", target="hub")
    expected = second.translate(through, source="hub", target="long")
    torch.testing.assert_close(joined.translate(rows, source="a", target="hub"), through, rtol=0.01, atol=0.02)
    torch.testing.assert_close(joined.translate(rows, source="a", target="long"), expected, rtol=0.01, atol=0.05)


def test_translators_that_do_not_meet_in_one_space_are_not_joined(example):
    dims = {"a": 5, "hub": 6, "long": 7}
    first, second = linear("a", "hub", dims, 0), linear("hub", "long", dims, 1)
    with pytest.raises(ValueError, match="one space in common, and have a and hub; a and hub"):
        example.compact(first, linear("a", "hub", dims, 2))
    with pytest.raises(ValueError, match="one space in common, and have a and hub; long and other"):
        example.compact(first, linear("long", "other", dims | {"other": 5}, 2))
    with pytest.raises(ValueError, match="one space in common, and have a and hub; hub and long; a and hub"):
        example.compact(first, second, linear("a", "hub", dims, 2))
    with pytest.raises(ValueError, match="'hub' in 6 and in 5 dimensions"):
        example.compact(first, linear("hub", "long", dims | {"hub": 5}, 2))
    second.normalizers["hub"].mean.add_(0.5)
    with pytest.raises(ValueError, match="'hub' by different rows"):
        example.compact(first, second)


def test_facts_of_the_run_are_kept_but_not_figures_of_other_weights(example, tmp_path):
    model_of().save_pretrained(tmp_path / "whole")
    (tmp_path / "whole" / "training.json").write_text(json.dumps({"texts": "news", "results": [{"top1": 0.9}]}))
    example.main(str(tmp_path / "whole"), str(tmp_path / "small"))
    assert json.loads((tmp_path / "small" / "training.json").read_text()) == {"texts": "news"}
    assert Vec2VecModel.from_pretrained(tmp_path / "small").dtype == torch.float16
