import pytest
import torch

from helpers.translators import alignment_with_networks, model_of, rows_of
from hf_vec2vec import Vec2VecModel
from hf_vec2vec.deployment.merging import merge, merged_linear

PARTS = {
    "nothing": (),
    "the input adapter": ("input_adapters.a",),
    "the backbone": ("backbone",),
    "the output adapter": ("output_adapters.b",),
    "all parts": ("input_adapters", "backbone", "output_adapters"),
}


@pytest.mark.parametrize("trained", PARTS.values(), ids=PARTS)
@pytest.mark.parametrize("config", [{}, {"adapter_layers": 2, "dropout": 0.5}, {"norm": "batch"}])
def test_a_merged_direction_equals_the_model(trained, config):
    model = model_of(trained, **config)
    rows = rows_of(model)
    merged = merge(model, "a", "b")
    assert merged.linear == (not trained)
    assert len(merged.rest) == {0: 0, 1: 1, 3: 3}[len(trained)]
    torch.testing.assert_close(merged(rows), model.translate(rows, source="a", target="b"), rtol=1e-5, atol=1e-5)


def test_what_a_direction_does_not_need_is_left_out():
    model = model_of(("input_adapters.a",))
    with torch.no_grad():  # as `from_alignment` lays it out: the target reads its part of the latent alone
        model.input_adapters["a"].output.weight[:6] = 0
        model.output_adapters["b"].linear.weight[:, :6] = 0
        model.output_adapters["a"].linear.weight[:, 6:] = 0
    assert len(merge(model, "a", "b").rest) == 1
    assert merge(model, "a", "a").linear
    assert merged_linear(model, "a", "b") is None
    rows = rows_of(model, 20)
    torch.testing.assert_close(merge(model, "a", "a")(rows), model.translate(rows, source="a", target="a"))


def test_a_linear_translator_is_one_matrix_and_a_bias():
    model = model_of()
    rows = rows_of(model)
    with torch.no_grad():  # a constant is no network
        model.backbone.output.bias.normal_()
    weight, bias = merged_linear(model, "a", "b")
    assert (weight.shape, bias.shape, weight.dtype) == ((6, 4), (4,), torch.float32)
    torch.testing.assert_close(rows @ weight + bias, model.translate(rows, source="a", target="b"))
    assert not weight.requires_grad


@pytest.mark.parametrize("normalized", [False, True])
def test_the_published_network_stays_as_it_is(normalized):
    model = model_of(residual="zero_pad", adapter_layers=2, backbone_layers=2, normalize_outputs=normalized)
    rows = rows_of(model)
    assert merged_linear(model, "a", "b") is None
    torch.testing.assert_close(merge(model, "a", "b")(rows), model.translate(rows, source="a", target="b"))


def test_half_precision_weights_are_merged_in_full():
    model = model_of().to(torch.bfloat16)
    weight, bias = merged_linear(model, "a", "b")
    rows = rows_of(model)
    model = model.float()
    torch.testing.assert_close(rows @ weight + bias, model.translate(rows, source="a", target="b"))


def test_an_unknown_space_is_named():
    with pytest.raises(ValueError, match="`target` is 'z', which this model does not know"):
        merge(model_of(), "a", "z")


@pytest.mark.parametrize(("map", "linear"), [("linear", True), ("full", False), ("auto", False)])
def test_each_map_is_merged_by_itself(map, linear):
    model = Vec2VecModel.from_alignment(alignment_with_networks())
    merged, rows = merge(model, "a", "b", map), rows_of(model)
    assert merged.linear == linear
    torch.testing.assert_close(merged(rows), model.translate(rows, source="a", target="b", map=map), rtol=1e-4, atol=1e-4)
    assert (merged_linear(model, "a", "b", map) is not None) == linear
    with pytest.raises(ValueError, match="network alone"):
        merge(model_of(("backbone",)), "a", "b", "linear")
