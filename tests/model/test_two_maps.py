"""A linear and a full map in one translator."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from helpers.training import arguments, spaces
from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecModel, Vec2VecTrainer

EARLIER = Path(__file__).parent / "fixtures" / "translator_2490ed8"
ENDS = {"source": "a", "target": "b"}


@pytest.fixture
def alignment():
    return alignment_with_networks()


@pytest.fixture
def model(alignment):
    return Vec2VecModel.from_alignment(alignment)


def by_hand(alignment, rows, function):
    (mean, scale), (other_mean, other_scale) = alignment.source_statistics, alignment.target_statistics
    return function((rows - mean) / scale) * other_scale + other_mean


def test_both_maps_are_those_of_the_alignment(alignment, model):
    rows = rows_of(model)
    linear = by_hand(alignment, rows, lambda x: x @ alignment.source_to_target)
    full = by_hand(alignment, rows, alignment.residuals[0])
    torch.testing.assert_close(model.translate(rows, **ENDS, map="linear"), linear, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.translate(rows, **ENDS, map="full"), full, rtol=1e-4, atol=1e-4)
    few = linear[:9]  # of which the mean says nothing
    back = (few - alignment.target_statistics[0]) / alignment.target_statistics[1] @ alignment.target_to_source
    back = back * alignment.source_statistics[1] + alignment.source_statistics[0]
    found = model.translate(few, source="b", target="a", map="linear")
    torch.testing.assert_close(found, back, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("map", "queries", "chosen"),
    [("auto", False, "full"), ("auto", True, "linear"), ("linear", False, "linear"), ("full", True, "full")],
)
def test_auto_goes_by_use(model, map, queries, chosen):
    rows = rows_of(model, 5)
    assert model.chosen_map(map, "a", "b", queries=queries) == chosen
    found = model.translate(rows, **ENDS, map=map, queries=queries)
    assert torch.equal(found, model.translate(rows, **ENDS, map=chosen))
    other = {"full": "linear", "linear": "full"}[chosen]
    assert not torch.allclose(found, model.translate(rows, **ENDS, map=other))


def test_a_space_to_itself_has_one_map(model):
    rows = rows_of(model, 5)
    for map in ("linear", "full"):
        torch.testing.assert_close(model.translate(rows, source="a", target="a", map=map), rows)


def test_training_changes_the_full_map_alone(alignment, tmp_path):
    model = Vec2VecModel.from_alignment(alignment)
    rows = rows_of(model)
    before = {map: model.translate(rows, **ENDS, map=map) for map in ("linear", "full")}
    trainer = Vec2VecTrainer(model, arguments(tmp_path, learning_rate=1e-2, weight_decay=0.1), spaces())
    trainer.train()
    trainer.translator.save_pretrained(tmp_path / "trained")
    trained = Vec2VecModel.from_pretrained(tmp_path / "trained")
    assert torch.equal(trained.translate(rows, **ENDS, map="linear"), before["linear"])
    assert (trained.translate(rows, **ENDS) - before["full"]).abs().max() > 1e-3


def test_training_that_was_stopped_keeps_both(alignment, tmp_path):
    def trainer(**kwargs):
        torch.manual_seed(0)
        model = Vec2VecModel.from_alignment(alignment)
        return Vec2VecTrainer(model, arguments(tmp_path, learning_rate=1e-2, **kwargs), spaces())

    rows = rows_of(Vec2VecModel.from_alignment(alignment))
    whole = trainer()
    whole.train()
    trainer(save_strategy="steps", save_steps=2).train()
    resumed = trainer()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
    for map in ("linear", "full"):
        found, expected = (t.translator.translate(rows, **ENDS, map=map) for t in (resumed, whole))
        assert torch.equal(found, expected)


@pytest.mark.parametrize("cls", [Vec2VecModel, AutoModel])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_checkpoint_holds_both(model, tmp_path, cls, dtype):
    model = model.to(dtype)
    model.save_pretrained(tmp_path)
    loaded, rows = cls.from_pretrained(tmp_path), rows_of(model.float(), 7)
    assert loaded.dtype == dtype
    for map in ("linear", "full"):
        assert torch.equal(loaded.float().translate(rows, **ENDS, map=map), model.translate(rows, **ENDS, map=map))


def test_the_second_map_costs_a_matrix_each_way(alignment, model):
    one = Vec2VecModel.from_alignment(alignment, linear_maps=False)
    sizes = [sum(tensor.numel() for tensor in m.state_dict().values()) for m in (one, model)]
    assert sizes[1] - sizes[0] == 2 * 6 * 4
    assert torch.equal(one.translate(rows := rows_of(one), **ENDS), model.translate(rows, **ENDS))
    with pytest.raises(ValueError, match="has a network alone from 'a' to 'b'"):
        one.translate(rows, **ENDS, map="linear")


def test_a_checkpoint_without_a_second_map_is_written_as_before(tmp_path):
    model_of().save_pretrained(tmp_path)
    assert "linear_maps" not in json.loads((tmp_path / "config.json").read_text())


def test_the_map_of_a_linear_translator_is_both():
    rows = rows_of(model := model_of())
    assert torch.equal(model.translate(rows, **ENDS, map="linear"), model.translate(rows, **ENDS, map="full"))
    shallow = model_of(adapter_layers=0, backbone_layers=0)
    rows = rows_of(shallow)
    assert torch.equal(shallow.translate(rows, **ENDS, map="linear"), shallow.translate(rows, **ENDS))


@pytest.mark.parametrize("config", [{}, {"residual": "zero_pad", "adapter_layers": 2, "backbone_layers": 2}])
def test_a_network_alone_says_that_it_is_not_linear(config):
    model = model_of(("backbone",), **config)
    rows = rows_of(model, 5)
    with pytest.raises(ValueError, match="`map` is 'linear', but .* Take 'full'"):
        model.translate(rows, **ENDS, map="linear")
    assert torch.equal(model.translate(rows, **ENDS, queries=True), model.translate(rows, **ENDS))


def test_an_earlier_checkpoint_says_that_it_has_one_map():
    model = Vec2VecModel.from_pretrained(EARLIER)
    with pytest.raises(ValueError, match="saved by a version that kept one map"):
        model.translate(torch.randn(3, 6), source="old", target="new", map="linear")
    assert model.chosen_map("auto", "old", "new", queries=True) == "full"


def test_another_name_is_refused(model):
    with pytest.raises(ValueError, match="`map` must be one of auto, linear, full, got 'rotation'"):
        model.translate(rows_of(model, 3), **ENDS, map="rotation")


def test_rows_of_another_kind_are_told_for_either_map(model):
    for map in ("linear", "full"):
        with pytest.warns(UserWarning, match="made in another way"):
            model.translate(9 * rows_of(model, 40), **ENDS, map=map)


def test_without_the_package_both_maps_are_there(model, tmp_path, stranger):
    model.save_pretrained(tmp_path)
    torch.save({map: model.translate(torch.ones(2, 6), **ENDS, map=map) for map in ("linear", "full")}, tmp_path / "known")
    done = stranger.run(
        "import torch\nfrom transformers import AutoModel\n"
        f"model = AutoModel.from_pretrained({str(tmp_path)!r}, trust_remote_code=True)\n"
        f"for map, known in torch.load({str(tmp_path / 'known')!r}).items():\n"
        "    found = model.translate(torch.ones(2, 6), source='a', target='b', map=map)\n"
        "    torch.testing.assert_close(found, known)\n"
    )
    assert done.returncode == 0, done.stderr


def test_two_spaces_need_one_alignment_and_more_have_linear_maps_alone(alignment):
    other = alignment_with_networks()
    second = other.__class__(
        "b", "c", other.target_to_source, other.source_to_target, alignment.target_statistics, other.source_statistics
    )
    model, rows = Vec2VecModel.from_alignment([alignment, second]), torch.randn(4, 6)
    assert not model.config.linear_maps
    assert torch.equal(
        model.translate(rows, source="a", target="c", map="linear"), model.translate(rows, source="a", target="c")
    )
