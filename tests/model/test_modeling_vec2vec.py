import contextlib
import dataclasses
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoConfig, AutoModel

from helpers.clouds import random_rotation
from helpers.threads import beside_another
from hf_vec2vec import Alignment, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.alignment import fit_statistics
from hf_vec2vec.model.modeling_vec2vec import check_embeddings


def linear_alignment(source="a", target="b", in_dim=6, out_dim=4, seed=0):
    """Two maps that are no transposes of each other, and statistics that are not trivial."""
    generator = torch.Generator().manual_seed(seed)
    return Alignment(
        source=source,
        target=target,
        source_to_target=torch.randn(in_dim, out_dim, generator=generator),
        target_to_source=torch.randn(out_dim, in_dim, generator=generator),
        source_statistics=(torch.randn(in_dim, generator=generator), torch.rand(in_dim, generator=generator) + 0.5),
        target_statistics=(torch.randn(out_dim, generator=generator), torch.rand(out_dim, generator=generator) + 0.5),
    )


def expected(alignment, x):
    (a_mean, a_scale), (b_mean, b_scale) = alignment.source_statistics, alignment.target_statistics
    return (x - a_mean) / a_scale @ alignment.source_to_target * b_scale + b_mean


def test_fresh_model_equals_its_alignment():
    alignment, x = linear_alignment(), torch.randn(20, 6)
    model = Vec2VecModel.from_alignment(alignment)
    translated = model.translate(x, source="a", target="b")
    torch.testing.assert_close(translated, expected(alignment, x), rtol=0, atol=1e-5)
    y = torch.randn(20, 4)
    (a_mean, a_scale), (b_mean, b_scale) = alignment.source_statistics, alignment.target_statistics
    back = (y - b_mean) / b_scale @ alignment.target_to_source * a_scale + a_mean
    torch.testing.assert_close(model.translate(y, source="b", target="a"), back, rtol=0, atol=1e-5)


def test_networks_that_yield_zeros_are_passed_over_until_they_are_trained(tiny_model):
    rows = torch.randn(5, 6)
    with torch.enable_grad():
        computed = tiny_model({"a": rows}).translations["a", "b"].detach()
    seen = []
    tiny_model.backbone.hidden.register_forward_hook(lambda *_: seen.append("backbone"))
    torch.testing.assert_close(tiny_model.translate(rows, source="a", target="b"), computed)
    assert not seen
    tiny_model.backbone.output.bias.data[0] = 1.0
    assert not torch.allclose(tiny_model.translate(rows, source="a", target="b"), computed)
    assert seen == ["backbone"]


def test_fresh_model_reconstructs_exactly_and_gives_counterparts_one_latent():
    rotation = random_rotation(4, 4)
    alignment = dataclasses.replace(
        linear_alignment(in_dim=4, out_dim=4), source_to_target=rotation, target_to_source=rotation.T
    )
    model, x = Vec2VecModel.from_alignment(alignment), torch.randn(10, 4)
    torch.testing.assert_close(model.translate(x, source="a", target="a"), x, rtol=0, atol=1e-5)
    y = model.translate(x, source="a", target="b")
    latents = model.encode_latent(x, source="a"), model.encode_latent(y, source="b")
    torch.testing.assert_close(*latents, rtol=0, atol=1e-5)


def test_three_spaces_compose_the_map_that_was_not_aligned():
    first, second = linear_alignment("a", "b", 6, 4), linear_alignment("b", "c", 4, 5, seed=1)
    second = dataclasses.replace(second, source_statistics=first.target_statistics)
    model, x = Vec2VecModel.from_alignment([first, second]), torch.randn(8, 6)
    assert model.config.embedding_dims == {"a": 6, "b": 4, "c": 5}
    direct = model.translate(x, source="a", target="c")
    torch.testing.assert_close(direct, expected(second, expected(first, x)), rtol=0, atol=1e-4)
    by_steps = model.translate(model.translate(x, source="a", target="b"), source="b", target="c")
    torch.testing.assert_close(direct, by_steps, rtol=0, atol=1e-4)


def test_a_saved_config_lists_its_spaces_in_the_same_order(tmp_path):
    config = Vec2VecConfig(embedding_dims={"b": 3, "a": 5})  # the file sorts its keys; judges of latents go by number
    config.save_pretrained(tmp_path)
    assert Vec2VecConfig.from_pretrained(tmp_path).spaces == config.spaces == ["a", "b"]


def test_alignments_must_join_all_spaces():
    with pytest.raises(ValueError, match="no way from"):
        Vec2VecModel.from_alignment([linear_alignment("a", "b"), linear_alignment("c", "d")])
    with pytest.raises(ValueError, match="`latent_dim` is 9"):
        Vec2VecModel.from_alignment(linear_alignment(), latent_dim=9)
    with pytest.raises(ValueError, match="`alignments` is empty"):
        Vec2VecModel.from_alignment([])
    with pytest.raises(ValueError, match="`residual`"):
        Vec2VecModel.from_alignment(linear_alignment(), residual="zero_pad", adapter_layers=2, backbone_layers=2)


def test_alignments_that_normalise_a_space_differently_are_refused():
    first, second = linear_alignment("a", "b", 6, 4), linear_alignment("b", "c", 4, 5, seed=1)
    with pytest.raises(ValueError, match="different statistics of 'b'"):
        Vec2VecModel.from_alignment([first, second])


@pytest.mark.parametrize("size", [1e-8, 1, 300])
def test_whether_statistics_differ_does_not_depend_on_the_unit(size):
    """Means of vectors of length 300 in another order were taken for others; those of tiny ones for the same."""
    rows = size * torch.randn(5000, 4, generator=torch.Generator().manual_seed(0))
    first, second = linear_alignment("a", "b", 6, 4), linear_alignment("b", "c", 4, 5)
    first = dataclasses.replace(first, target_statistics=fit_statistics(rows - rows.mean(0)))
    for others, same in ((rows.flip(0), True), (rows[:2500], False)):
        second = dataclasses.replace(second, source_statistics=fit_statistics(others - rows.mean(0)))
        if same:
            Vec2VecModel.from_alignment([first, second])
        else:
            with pytest.raises(ValueError, match="different statistics of 'b'"):
                Vec2VecModel.from_alignment([first, second])


def test_wider_latent_keeps_the_alignment():
    alignment, x = linear_alignment(), torch.randn(5, 6)
    model = Vec2VecModel.from_alignment(alignment, latent_dim=32)
    torch.testing.assert_close(model.translate(x, source="a", target="b"), expected(alignment, x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("auto", [True, False])
def test_save_and_load_give_bit_equal_translations(tmp_path, auto):
    model = Vec2VecModel.from_alignment(linear_alignment(), hidden_dim=16)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(tmp_path)
    loaded = (AutoModel if auto else Vec2VecModel).from_pretrained(tmp_path)
    x = torch.randn(7, 6)
    assert type(loaded) is Vec2VecModel
    assert torch.equal(loaded.translate(x, source="a", target="b"), model.translate(x, source="a", target="b"))
    assert AutoConfig.from_pretrained(tmp_path).embedding_dims == {"a": 6, "b": 4}
    assert not list(tmp_path.glob("*.bin"))


def test_paper_preset_is_the_published_network():
    config = Vec2VecConfig.paper({"a": 8, "b": 12})
    model = Vec2VecModel(config).eval()
    assert (config.latent_dim, config.hidden_dim, config.adapter_layers, config.backbone_layers) == (1024, 1024, 3, 4)
    assert model.translate(torch.randn(3, 8), source="a", target="b").shape == (3, 12)
    with torch.no_grad():  # as long as real rows, in training, too
        assert model.train()({"a": torch.randn(5, 8)}).reconstructions["a"].norm(dim=1).sub(8**0.5).abs().max() < 1e-4
    assert Vec2VecModel(Vec2VecConfig.paper({"a": 8, "b": 12}, hidden_dim=32, latent_dim=32)).config.hidden_dim == 32


def test_zero_padded_layer_adds_its_input(tiny_config):
    config = Vec2VecConfig(embedding_dims={"a": 3, "b": 5}, residual="zero_pad", hidden_dim=4, latent_dim=4,
                           adapter_layers=2, backbone_layers=2)  # fmt: skip
    adapter = Vec2VecModel(config).input_adapters["a"]
    with torch.no_grad():
        for parameter in adapter.parameters():
            parameter.zero_()
    torch.testing.assert_close(adapter(torch.tensor([[1.0, 2.0, 3.0]])), torch.tensor([[1.0, 2.0, 3.0, 0.0]]))


def test_forward_gives_every_pair_and_agrees_with_translate(tiny_model):
    batch = {"a": torch.randn(3, 6), "b": torch.randn(5, 4)}
    output = tiny_model(batch)
    assert set(output.translations) == {("a", "b"), ("b", "a")}
    assert output.latents["b"].shape == (5, tiny_model.config.latent_dim)
    with torch.no_grad():
        torch.testing.assert_close(output.translations["a", "b"], tiny_model.translate(batch["a"], source="a", target="b"))


def test_translate_ignores_dropout_batches_and_widens_half_precision(tiny_config):
    model = Vec2VecModel(Vec2VecConfig(**{**tiny_config.to_dict(), "dropout": 0.5})).train()
    for adapter in model.input_adapters.values():
        torch.nn.init.normal_(adapter.output.weight)
    x = torch.randn(10, 6)
    whole = model.translate(x, source="a", target="b")
    torch.testing.assert_close(model.translate(x, source="a", target="b", batch_size=3), whole, rtol=1e-5, atol=1e-5)
    assert model.training
    assert not whole.requires_grad
    assert model.translate(x.half(), source="a", target="b").dtype == torch.float32
    eight_bits = x.to(torch.float8_e4m3fn)
    assert model.translate(eight_bits, source="a", target="b").equal(
        model.translate(eight_bits.float(), source="a", target="b")
    )
    assert model.translate(x.double().numpy(), source="a", target="b").dtype == torch.float32


@pytest.mark.parametrize(
    ("rows", "source", "error", "message"),
    [
        (torch.randn(2, 5), "a", ValueError, "dimension 5.*dimension 6"),
        (torch.randn(6), "a", ValueError, "shape"),
        (torch.randn(0, 6), "a", ValueError, "empty"),
        (torch.ones(2, 6).long(), "a", TypeError, "int64"),
        (torch.tensor([[1.0] * 6, [torch.nan] * 6]), "a", ValueError, "NaN.*index 1"),
        (torch.tensor([[1.0] * 6, [0.0] * 6]), "a", ValueError, "only zeros.*index 1"),
        (torch.randn(2, 6), "c", ValueError, r"`source` is 'c'.*\['a', 'b'\]"),
        (torch.ones(2, 0), "a", ValueError, r"shape \(rows, dimension\), got \(2, 0\)"),
        ([[1.0] * 6, [1.0] * 5], "a", TypeError, "`embeddings` must be rows of numbers, all of one length"),
        ([["one"] * 6], "a", TypeError, "`embeddings` must be rows of numbers"),
        (None, "a", TypeError, "`embeddings` must be rows of numbers"),
        (pd.DataFrame(np.ones((2, 6))), "a", TypeError, "as an array, a tensor or lists; got a DataFrame"),
        (torch.ones(2, 6).to_sparse(), "a", TypeError, r"`embeddings` is a sparse tensor.*`to_dense\(\)`"),
        (
            torch.full((2, 6), 1e300, dtype=torch.float64),
            "a",
            ValueError,
            "2 row.s. with values beyond the range of float32",
        ),
        (torch.full((2, 6), 1e-300, dtype=torch.float64), "a", ValueError, "2 row.s. with only zeros"),
    ],
)
def test_bad_input_to_translate(tiny_model, rows, source, error, message):
    with pytest.raises(error, match=message):
        tiny_model.translate(rows, source=source, target="b")


def test_rows_of_any_size_that_float32_holds_give_finite_rows_or_an_error(tiny_model):
    with torch.no_grad():
        for normalizer in tiny_model.normalizers.values():
            normalizer.mean.add_(1)  # else nobody looks whether rows are like those of the training
            normalizer.scale.div_(100)
    rows = torch.randn(40, 6)
    for size in (1e-42, 1e-30, 1e-12, 1e12):
        scaled = torch.cat([rows[:3], size * rows[3:4], rows[4:]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = tiny_model.translate(scaled, source="a", target="b")
        assert found.isfinite().all()
        with pytest.warns(UserWarning, match="their norm is"):
            tiny_model.translate(size * rows, source="a", target="b")
    for size in (2e37, 3e37):
        scaled = torch.cat([rows[:3], size * rows[3:4].sign(), rows[4:]])
        with (
            pytest.warns(UserWarning, match="their norm is"),
            pytest.raises(ValueError, match=r"1 row\(s\) whose values are too large for this model.* at index 3"),
        ):
            tiny_model.translate(scaled, source="a", target="b")


def test_unknown_target(tiny_model):
    with pytest.raises(ValueError, match="`target` is 'c'"):
        tiny_model.translate(torch.randn(2, 6), source="a", target="c")


def test_check_embeddings_returns_the_rows():
    rows = torch.randn(3, 2)
    assert check_embeddings(rows, "x") is rows
    assert check_embeddings(list(rows), "x").equal(rows)  # as `encode` of sentence-transformers gives them


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"embedding_dims": {"a": 3}}, "two spaces"),
        ({"embedding_dims": {"a.b": 3, "c": 3}}, "dot"),
        ({"embedding_dims": {"train": 3, "c": 3}}, "'train', which torch needs"),
        ({"embedding_dims": {"a": 0, "b": 3}}, "at least 1"),
        ({"embedding_dims": {"a": 3, "b": 3}, "dropout": 1.0}, "`dropout`"),
        ({"embedding_dims": {"a": 3, "b": 3}, "hidden_dim": 0}, "`hidden_dim`"),
        ({"embedding_dims": {"a": 3, "b": 3}, "adapter_layers": -1}, "`adapter_layers`"),
        ({"embedding_dims": {"a": 3, "b": 3}, "residual": "zero_pad"}, "`adapter_layers` must be at least 2"),
        ({"embedding_dims": {"a": 3, "b": 3}, "normalize_outputs": True}, "`normalize_outputs` must be False"),
    ],
)
def test_bad_config(fields, message):
    with pytest.raises(ValueError, match=message):
        Vec2VecConfig(**fields)


def test_wrong_type_in_config_fails_at_construction():
    with pytest.raises(Exception, match="hidden_dim"):
        Vec2VecConfig(embedding_dims={"a": 3, "b": 3}, hidden_dim="wide")


def test_model_without_spaces_is_refused():
    with pytest.raises(ValueError, match="`embedding_dims` is missing"):
        Vec2VecModel(Vec2VecConfig())


def test_vectors_made_in_another_way_are_translated_with_a_warning():
    torch.manual_seed(0)
    rows = torch.randn(400, 16) * 0.2 + torch.randn(16)
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 16, "b": 4}, encoders={"a": {"model": "minilm"}, "b": None}))
    for name, (mean, scale) in {"a": fit_statistics(rows), "b": fit_statistics(rows[:, :4])}.items():
        model.normalizers[name].mean.copy_(mean)
        model.normalizers[name].scale.copy_(scale)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.translate(rows[:200], source="a", target="b")
        model.translate(rows[:5] * 2, source="a", target="b")  # too few to tell
        model.translate(rows[:5].flip(1), source="a", target="b")
    with pytest.warns(UserWarning, match="'a' were made in another way .* norm is [89]"):
        model.translate(rows[:1] * 9, source="a", target="b")
    with pytest.warns(
        UserWarning, match="'a' were made in another way .* norm is 3 times .* Recorded encoder: .*minilm"
    ) as seen:
        model.translate(rows * 3, source="a", target="b")
    assert len(seen) == 1
    with pytest.warns(UserWarning, match=r"'a' .*mean is off by") as seen:
        model.translate(rows.flip(1), source="a", target="b")
    with pytest.warns(UserWarning, match="'b' .*Recorded encoder: none"):
        model.translate(rows[:, :4] * 3, source="b", target="a")


def test_the_warning_does_not_depend_on_the_dtype_of_the_model():
    torch.manual_seed(0)
    rows = torch.randn(200, 16) * 30 + torch.randn(16) * 300  # whose squares float16 cannot hold
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 16, "b": 16}))
    mean, scale = fit_statistics(rows)
    for name in "ab":
        model.normalizers[name].mean.copy_(mean)
        model.normalizers[name].scale.copy_(scale)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        with pytest.warns(UserWarning, match="'a' were made in another way .* norm is 0.1 times"):
            model.to(dtype).translate(rows * 0.1, source="a", target="b")


def test_how_vectors_are_made_travels_in_the_config(tmp_path):
    encoders = {"a": {"model": "minilm", "layer": -1}, "b": None}
    Vec2VecModel.from_alignment(linear_alignment(), encoders=encoders).save_pretrained(tmp_path)
    assert AutoConfig.from_pretrained(tmp_path).encoders == encoders


def test_a_model_of_an_alignment_starts_like_any_other_where_the_alignment_says_nothing():
    """What training starts from is the same whether or not linear maps are made that the alignment replaces."""
    torch.manual_seed(0)
    random = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 4})).state_dict()
    torch.manual_seed(0)
    aligned = Vec2VecModel.from_alignment(linear_alignment()).state_dict()
    hidden = [name for name in random if ".hidden." in name]
    assert hidden
    assert all(torch.equal(aligned[name], random[name]) for name in hidden)


@pytest.mark.parametrize("rows", [torch.zeros(40, 6), torch.full((40, 6), 1e-30), torch.full((40, 6), 3e38)])
def test_rows_without_a_usual_length_are_translated_or_refused_in_words(tiny_model, rows):
    tiny_model.normalizers["a"].mean.fill_(torch.finfo(torch.float32).max)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with contextlib.suppress(ValueError):
            assert tiny_model.translate(rows, source="a", target="b").isfinite().all()


def test_threads_translate_without_dropout_and_leave_the_mode_as_it_was(tiny_config):
    model = Vec2VecModel(Vec2VecConfig(**{**tiny_config.to_dict(), "dropout": 0.5})).train()
    torch.nn.init.normal_(model.backbone.output.weight)
    rows = torch.randn(64, 6)
    expected = model.translate(rows, source="a", target="b")
    found = beside_another(lambda: model.translate(rows, source="a", target="b"), model.input_adapters["a"])
    assert torch.equal(found, expected)
    assert model.training


@pytest.mark.parametrize("batch_size", [0, -1])
def test_a_batch_holds_a_row_at_least(tiny_model, batch_size):
    for call in (lambda **options: tiny_model.translate(**options, target="b"), tiny_model.encode_latent):
        with pytest.raises(ValueError, match=f"`batch_size` must be at least 1, got {batch_size}"):
            call(embeddings=torch.randn(2, 6), source="a", batch_size=batch_size)


def test_statistics_may_be_of_another_precision():
    first, second = linear_alignment("a", "b", 6, 4), linear_alignment("b", "c", 4, 5, seed=1)
    second = dataclasses.replace(second, source_statistics=first.target_statistics)
    expected = Vec2VecModel.from_alignment([first, second])
    doubles = {
        name: tuple(x.double() for x in value) if isinstance(value, tuple) else value.double()
        for name, value in vars(second).items()
        if isinstance(value, tuple | torch.Tensor)
    }
    model = Vec2VecModel.from_alignment([first, dataclasses.replace(second, **doubles)])
    rows = torch.randn(3, 6)
    for target in ("b", "c"):
        translated = model.translate(rows, source="a", target=target)
        torch.testing.assert_close(translated, expected.translate(rows, source="a", target=target))
