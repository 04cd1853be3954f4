import pytest
import torch

from helpers.clouds import make_cloud, random_rotation
from hf_vec2vec import Vec2VecModel, hub_corrected, hub_queries
from hf_vec2vec.alignment import Alignment, fit_statistics
from hf_vec2vec.evaluation.privacy import LabelledRows, add_noise, defences, quantize_binary, quantize_int8
from hf_vec2vec.metrics.translation import rank_metrics


@pytest.fixture(scope="module")
def rows():
    rotation = random_rotation(24, 32)
    leaked, own, store = make_cloud(1500, seed=1), make_cloud(1500, seed=2) @ rotation, make_cloud(400, seed=3)
    # Two classes on either side of a plane, and rows on its normal that describe them.
    more, normal = make_cloud(200, seed=4), make_cloud(1, seed=5)[0]
    side = (more - more.mean(0)) @ normal
    labelled = LabelledRows(more, (side > 0).long().numpy(), torch.stack([-normal, normal]) @ rotation)
    statistics = fit_statistics(leaked), fit_statistics(own)
    model = Vec2VecModel.from_alignment(Alignment("a", "b", rotation, rotation.T, *statistics))
    found = defences(model, store, store @ rotation, leaked, own, source="a", target="b", labelled=labelled)
    return {row["defence"]: row for row in found}


def test_a_secret_rotation_is_undone_by_alignment(rows):
    assert rows["secret rotation"]["kept_neighbours"] == pytest.approx(1.0, abs=1e-3)
    assert rows["secret rotation"]["top1"] < 0.1
    assert rows["secret rotation, aligned anew"]["top1"] > 0.95
    assert rows["secret rotation, aligned anew"]["verdict"] == "aligned"
    assert rows["secret rotation"]["attribute_accuracy"] < 0.75
    assert rows["secret rotation, aligned anew"]["attribute_accuracy"] > 0.8  # .91 to .95 by the seed


def test_noise_takes_from_attacker_and_owner_alike(rows):
    noisy = [row for name, row in rows.items() if name.startswith("noise")]
    for figure in ("top1", "kept_neighbours", "centred_cosine", "attribute_accuracy"):
        values = [rows["none"][figure], *(row[figure] for row in noisy)]
        assert values == sorted(values, reverse=True)
    assert rows["none"]["top1"] > 0.99
    assert noisy[-1]["top1"] < 0.5


@pytest.mark.slow
def test_the_attack_corrects_hubs_with_the_whole_store():
    generator = torch.Generator().manual_seed(0)
    rotation, leaked, own, store = random_rotation(24, 24), *(make_cloud(500, seed=seed) for seed in (1, 2, 3))
    crude = rotation + 0.25 * torch.randn(24, 24, generator=generator)
    statistics = fit_statistics(leaked), fit_statistics(own @ rotation)
    model = Vec2VecModel.from_alignment(Alignment("a", "b", crude, crude.T, *statistics))
    truth, translated = store @ rotation, model.translate(store, source="a", target="b")
    bare = defences(model, store, truth, leaked, own @ rotation, source="a", target="b")[0]
    index, right = hub_corrected(truth, translated), torch.arange(500)
    assert bare["top1"] == pytest.approx(((hub_queries(translated) @ index.T).argmax(1) == right).float().mean().item())
    assert bare["top1"] > rank_metrics(translated, truth)["top1"] + 0.02


def test_int8_protects_nothing_and_one_bit_little(rows):
    assert rows["int8"]["top1"] > 0.99
    assert rows["int8"]["kept_neighbours"] > 0.95
    assert 0.3 < rows["binary"]["top1"] <= rows["int8"]["top1"]


def test_defences_by_hand():
    rows = torch.tensor([[0.0, 5.0], [1.0, 5.0], [254.0, 5.0]])
    assert quantize_int8(rows).tolist() == rows.tolist()  # a constant dimension stays
    assert quantize_int8(make_cloud(2000))[:, 0].unique().numel() <= 255
    assert quantize_binary(torch.tensor([[0.0], [2.0]])).tolist() == [[0.0], [2.0]]
    cloud = make_cloud(500)
    noise = add_noise(cloud, 0.5, torch.Generator().manual_seed(0)) - cloud
    assert noise.std().item() == pytest.approx(0.5 * (cloud - cloud.mean(0)).square().mean().sqrt().item(), rel=0.02)
