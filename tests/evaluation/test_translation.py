import math
import time

import matplotlib.image
import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from helpers.translators import alignment_with_networks, rows_of
from hf_vec2vec import PairedEmbeddings, Vec2VecConfig, Vec2VecModel
from hf_vec2vec.evaluation import evaluate_translation
from hf_vec2vec.evaluation.baselines import BASELINES, paired_mlp
from hf_vec2vec.evaluation.figures import heatmap, projection
from hf_vec2vec.metrics import markdown_table


@pytest.fixture
def pairs():
    rows = make_cloud(300, 12, seed=1)
    return PairedEmbeddings({"a": rows, "b": rows @ random_rotation(12, 12) + 2})


@pytest.fixture
def model(pairs):
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 12, "b": 12}, hidden_dim=16))
    for name, rows in pairs.spaces.items():
        model.normalizers[name].mean.copy_(rows.mean(0))
    return model


@pytest.mark.parametrize("own_pairs", [True, False])
def test_oracles_find_what_baselines_cannot(model, pairs, own_pairs):
    others = make_cloud(300, 12, seed=2)
    oracle_pairs = PairedEmbeddings({"a": others, "b": others @ random_rotation(12, 12) + 2}) if own_pairs else None
    rows = evaluate_translation({"ours": model}, pairs, source="a", target="b", oracle_pairs=oracle_pairs)
    for direction in ("a → b", "b → a"):
        found = {row["method"].split(" (")[0]: row for row in rows if row["direction"] == direction}
        kinds = ["identity", "mean vector", "random rotation", "ours", "paired Procrustes", "paired ridge"]
        assert list(found) == kinds
        for oracle in kinds[-2:]:
            assert found[oracle]["top1"] > 0.99
            assert found[oracle]["kind"] == "oracle"
        assert found["mean vector"]["top1"] < 0.005  # at most the one text that lies nearest to the mean
        assert found["mean vector"]["cosine"] > found["mean vector"]["centred_cosine"] + 0.3
        assert found["random rotation"]["top1"] < 0.1
        assert found["random rotation"]["cosine"] < found["mean vector"]["cosine"] - 0.05  # as long as real vectors, astray
        assert found["ours"]["pool_size"] == 300


@pytest.mark.parametrize("dims", [(2000, 2000), (1600, 2400), (3000, 40)])
def test_few_rows_of_many_dimensions_are_measured_in_the_time_that_rows_take(dims):
    texts = make_cloud(60, 12, seed=1)  # of which both sides show all
    pairs = PairedEmbeddings({name: texts @ random_rotation(12, dim) for name, dim in zip("ab", dims, strict=True)})
    model = Vec2VecModel(Vec2VecConfig(embedding_dims=dict(zip("ab", dims, strict=True)), latent_dim=4, hidden_dim=4))
    start = time.process_time()
    found = evaluate_translation({"ours": model}, pairs, source="a", target="b")
    assert time.process_time() - start < 15  # of a processor; with matrices of all dimensions it is minutes
    oracle = next(row for row in found if row["method"].startswith("paired Procrustes"))
    assert oracle["top1"] > 0.3  # by chance .02


@pytest.mark.parametrize("count", [1, 2])
def test_too_few_pairs_are_refused_and_three_do(model, pairs, count):
    few, three = (PairedEmbeddings({name: rows[:n] for name, rows in pairs.spaces.items()}) for n in (count, 3))
    for full in (False, True):
        with pytest.raises(ValueError, match=f"`pairs` must hold at least 3 pairs, got {count}"):
            evaluate_translation({"ours": model}, few, source="a", target="b", full=full)
    with pytest.raises(ValueError, match=f"`oracle_pairs` must hold at least 3 pairs, got {count}"):
        evaluate_translation({"ours": model}, pairs, source="a", target="b", oracle_pairs=few)
    rows = evaluate_translation({"ours": model}, three, source="a", target="b")
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))


def oracle_cosines(model, pairs, oracle_pairs=None) -> list[float]:
    rows = evaluate_translation({"ours": model}, pairs, source="a", target="b", oracle_pairs=oracle_pairs)
    return [row["centred_cosine"] for row in rows if row["kind"] == "oracle"]


def test_an_oracle_is_not_judged_on_pairs_that_it_was_fitted_on(caplog):
    """Sides that have nothing to do with each other: who finds a pair has seen it."""
    rows = {name: torch.randn(60, 40, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("ab")}
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 40, "b": 40}, hidden_dim=8))
    other = {name: torch.randn(9, 40, generator=torch.Generator().manual_seed(5 + i)) for i, name in enumerate("ab")}
    twice = PairedEmbeddings({name: part.repeat_interleave(2, dim=0) for name, part in rows.items()})
    assert max(oracle_cosines(model, twice)) < 0.2
    both = PairedEmbeddings({name: torch.cat([other[name], part]) for name, part in rows.items()})
    assert max(oracle_cosines(model, PairedEmbeddings(rows), both)) < 0.2
    assert "60 of the 69 pairs that oracles are to be fitted on are held-out ones, too" in caplog.text
    with pytest.raises(ValueError, match="`oracle_pairs` are held-out ones, too: of 60 only 0 are not"):
        oracle_cosines(model, PairedEmbeddings(rows), PairedEmbeddings(rows))
    with pytest.raises(ValueError, match="at least 3 pairs that share no vector, got 1"):
        oracle_cosines(model, PairedEmbeddings(rows | {"b": rows["b"][:1].expand(60, 40)}))


def test_the_full_table_has_every_baseline_and_oracle_with_intervals(model, pairs):
    few = PairedEmbeddings({name: rows[:80] for name, rows in pairs.spaces.items()})
    rows = evaluate_translation({"ours": model}, few, source="a", target="b", full=True)
    names = ["identity", "mean vector", "random rotation", "Hungarian", "earth mover's distance", "Sinkhorn"]
    names += ["Gromov-Wasserstein, entropic", "ours"]
    names += [f"paired {kind} (5-fold)" for kind in ("Procrustes", "ridge", "MLP")]
    assert [row["method"] for row in rows] == names * 2
    for row in rows:
        low, high = row["intervals"]["centred_cosine"]
        assert low - 1e-6 <= row["centred_cosine"] <= high + 1e-6
        assert row["pool_size"] == 80


def test_both_maps_have_a_row_and_stages_share_the_linear_one():
    alignment = alignment_with_networks()
    model, trained = Vec2VecModel.from_alignment(alignment), Vec2VecModel.from_alignment(alignment)
    with torch.no_grad():
        trained.backbone.output.bias.normal_()
    pairs = PairedEmbeddings({"a": rows_of(model, 60), "b": torch.randn(60, 4)})
    rows = evaluate_translation({"before": model, "after": trained}, pairs, source="a", target="b")
    shown = [(row["method"], row["kind"]) for row in rows if row["kind"] in ("translator", "linear map")]
    assert shown == [("before", "translator"), ("before: linear map", "linear map"), ("after", "translator")] * 2
    found = {row["method"]: row for row in rows if row["direction"] == "a → b"}
    for name, map in (("before", "full"), ("before: linear map", "linear")):
        translated = model.translate(pairs.spaces["a"], source="a", target="b", map=map)
        assert found[name]["cosine"] == pytest.approx(
            torch.nn.functional.cosine_similarity(translated, pairs.spaces["b"], dim=1).mean().item()
        )
    assert found["before"]["foscttm"] != found["before: linear map"]["foscttm"]


def test_identity_is_left_out_where_dimensions_differ():
    pairs = PairedEmbeddings({"a": make_cloud(50, 6), "b": make_cloud(50, 4)})
    model = Vec2VecModel(Vec2VecConfig(embedding_dims={"a": 6, "b": 4}, hidden_dim=8))
    rows = evaluate_translation({"ours": model}, pairs, source="a", target="b")
    assert "identity" not in {row["method"] for row in rows}


def test_table_reads_as_markdown(model, pairs):
    rows = evaluate_translation({"ours": model}, pairs, source="a", target="b")
    lines = markdown_table(rows).splitlines()
    assert len(lines) == 2 + len(rows)
    assert len({len(line) for line in lines}) == 1
    assert "centred cosine" in lines[0]
    assert f"{rows[0]['top1']:.3f}" in lines[2]


def test_pictures_are_drawn(model, pairs, tmp_path):
    heatmap(model, pairs, "a", "b", tmp_path / "heatmap.png")
    projection(model, pairs, "a", "b", tmp_path / "projection.png")
    for name in ("heatmap.png", "projection.png"):
        picture = torch.from_numpy(matplotlib.image.imread(tmp_path / name))
        assert picture.shape[0] > 400
        assert picture[..., :3].std() > 0.05  # not blank


def test_a_picture_is_the_same_every_time(tmp_path):
    """Of so many rows and dimensions scikit-learn finds the axes at random."""
    rows = {name: torch.randn(600, 200, generator=torch.Generator().manual_seed(i)) for i, name in enumerate("ab")}
    model = Vec2VecModel(Vec2VecConfig(embedding_dims=dict.fromkeys("ab", 200), hidden_dim=4))
    for name in ("one", "two"):
        projection(model, PairedEmbeddings(rows), "a", "b", tmp_path / f"{name}.png", lines=0)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


@pytest.mark.slow
def test_umap_is_drawn(model, pairs, tmp_path):
    pytest.importorskip("umap")
    projection(model, pairs, "a", "b", tmp_path / "umap.png", "UMAP")
    assert matplotlib.image.imread(tmp_path / "umap.png").std() > 0.05


def test_baselines_of_a_model_in_double_precision(model, pairs):
    expected = evaluate_translation({"ours": model}, pairs, source="a", target="b")
    found = evaluate_translation({"ours": model.double()}, pairs, source="a", target="b")
    assert [row["cosine"] for row in found] == pytest.approx([row["cosine"] for row in expected], abs=1e-5)
    statistics = [(torch.zeros(12).double(), torch.ones(12).double())] * 2
    for baseline in BASELINES.values():
        assert baseline(*statistics, 0)(pairs.spaces["a"]).dtype == torch.float32


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_paired_network_learns_whatever_the_caller_does_with_gradients(pairs, mode):
    source, target = pairs.spaces.values()
    expected = paired_mlp(source, target, hidden_dim=8, epochs=1)(source)
    with mode():
        found = paired_mlp(source.clone(), target.clone(), hidden_dim=8, epochs=1)(source)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(paired_mlp(source.clone().requires_grad_(), target, hidden_dim=8, epochs=1)(source), expected)
