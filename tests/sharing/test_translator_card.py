import json
import re

import pytest
import torch

from helpers.cards import ENCODER
from helpers.hub_cards import card_errors, metadata
from helpers.training import build, spaces
from helpers.translators import alignment_with_networks, rows_of
from hf_vec2vec import PairedEmbeddings, Vec2VecModel
from hf_vec2vec.data.overlap import CHECKS, NOT_CHECKED, NOTHING_TO_COMPARE, ON_A_SAMPLE, TEXTS_COMPARED, VECTORS_COMPARED
from hf_vec2vec.evaluation.translation import evaluate_translation
from hf_vec2vec.sharing.translator_card import model_card, write_model_card

# What an older version measured: there was no reverse top-1.
FIGURES = {"cosine": 0.5, "centred_cosine": 0.4, "top1": 0.9, "top5": 0.95, "mean_rank": 3.0, "median_rank": 1.0}
PAGE = re.compile(
    r"---\n.*library_name: hf_vec2vec\n.*\n---\n\n# a ↔ b\n.*learned \*\*without known pairs\*\*.*\n"
    r"\| `a` \| 6 \|.*\n\| `b` \| 4 \|.*\n## Use\n.*from_pretrained\(\"[\w/-]+\"\).*trust_remote_code=True.*\n"
    r"## Training\n.*\n## Results\n.*\n## Intended use\n.*\n## Limits and privacy\n.*tool of attack.*"
    r"\n## Citation\n.*2505\.12540\.\s*",
    re.DOTALL,
)


def rows():
    return [
        {"direction": direction, "method": "alignment alone (kept)", "kind": "translator", "pool_size": 120} | FIGURES
        for direction in ("a → b", "b → a")
    ]


@pytest.fixture
def folder(tmp_path, tiny_model):
    tiny_model.save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_trainer_writes_all_it_knows(tmp_path):
    trainer = build(tmp_path / "run", push_to_hub=False, hub_token="a-secret", vsp_weight=0.25)
    trainer.record = {"texts": "BBC | news"}
    trainer.train()
    trainer.translator.save_pretrained(tmp_path / "run")
    trainer.create_model_card()
    write_model_card(tmp_path / "run", results=rows())
    page = (tmp_path / "run" / "README.md").read_text()
    assert PAGE.fullmatch(page)
    assert not card_errors(page)
    for part in ("4 updates in", "transformers 5", "`vsp_weight` 0.25", "CPU", "| `a` | 6 | 96 |", "Texts: BBC \\| news."):
        assert part in page
    for part in ("a-secret", str(tmp_path), "{{", "None", "TODO", "More Information", "unknown"):
        assert part not in page
    results = metadata(page)["model-index"][0]["results"]
    assert [result["dataset"]["config"] for result in results] == ["a → b", "b → a"]
    assert results[0]["metrics"][2] == {"type": "top1", "value": 0.9, "name": "Top-1"}


@pytest.mark.parametrize("place", ["", ON_A_SAMPLE])
@pytest.mark.parametrize("how", [*CHECKS, "as ever"])
def test_of_shared_texts_the_card_says_what_was_compared(how, place, folder):
    write_model_card(folder, {"unpaired": how + place})
    page = " ".join((folder / "README.md").read_text().split())
    compared = how == TEXTS_COMPARED and not place
    assert ("without a single paired example" in page) == ("This run saw no pair" in page) == compared
    assert ("without known pairs" in page) == ("This run was given no pair" in page) == (not compared)
    assert ("o text was on both sides" in page) == (how == TEXTS_COMPARED)
    assert ("could not be checked that none is on both sides" in page) == (how in (VECTORS_COMPARED, NOTHING_TO_COMPARE))
    assert ("The vectors were compared" in page) == (how == VECTORS_COMPARED)
    assert ("was not checked whether texts were on both sides" in page) == (how == NOT_CHECKED)
    assert ("how the rows were chosen is not recorded" in page.lower()) == (how == "as ever")
    assert ("in a sample of the rows" in page) == (bool(place) and how in (TEXTS_COMPARED, VECTORS_COMPARED))


def test_figures_of_several_corpora_and_directions_stand_side_by_side(folder):
    facts = {"rows": {"a": 10, "b": 10}}
    write_model_card(folder, facts, rows())
    write_model_card(folder, results=[row | {"corpus": "film | reviews", "top1": 0.3} for row in rows()])
    write_model_card(
        folder, results=[row | {"corpus": "film | reviews", "pool_size": 90, "top1": 0.2} for row in rows()[:1]]
    )
    page = (folder / "README.md").read_text()
    assert PAGE.fullmatch(page)
    assert not card_errors(page)
    assert re.findall("### (.*)", page) == [
        "Held-out pairs, pool of 120",
        "Held-out pairs of film \\| reviews, pool of 120",
        "Held-out pairs of film \\| reviews, pool of 90",
    ]
    found = {r["dataset"]["name"]: r["metrics"][2]["value"] for r in metadata(page)["model-index"][0]["results"]}
    assert found == {
        "120 held-out pairs, a → b": 0.9,
        "120 held-out pairs, b → a": 0.9,
        "film | reviews: 120 held-out pairs, b → a": 0.3,
        "film | reviews: 90 held-out pairs, a → b": 0.2,
    }


def test_the_card_of_two_maps_says_which_is_for_what(tmp_path):
    model = Vec2VecModel.from_alignment(alignment_with_networks())
    pairs = PairedEmbeddings({"a": rows_of(model, 40), "b": torch.randn(40, 4)})
    results = evaluate_translation({"translator": model}, pairs, source="a", target="b")
    for with_linear, folder in ((True, tmp_path / "two"), (False, tmp_path / "one")):
        Vec2VecModel.from_alignment(alignment_with_networks(), linear_maps=with_linear).save_pretrained(folder)
        write_model_card(folder, {}, results)
        page = (folder / "README.md").read_text()
        assert PAGE.fullmatch(page)
        assert ("add `queries=True`" in page) == with_linear
        assert "| translator: linear map " in page
        assert "FOSCTTM is the fraction" in page
        listed = metadata(page)["model-index"][0]["results"]
        assert [result["dataset"]["config"] for result in listed] == ["a → b", "b → a"]  # of the full map
        assert listed[0]["metrics"][-1]["type"] == "foscttm"


def test_pairs_that_only_measure_fill_the_table(tmp_path):
    trainer = build(tmp_path / "run", eval_dataset=PairedEmbeddings(spaces()))
    trainer.train()
    page = trainer.card(saved(trainer, tmp_path / "saved"), "org/name")
    assert PAGE.fullmatch(page)
    table = "| a → b     | translator", "mean vector", "paired ridge", "reverse top-1"
    for part in (*table, "pool of 96", " Wh.", "Energy: "):
        assert part in page
    assert metadata(page)["model-index"][0]["results"][0]["dataset"]["name"] == "96 held-out pairs, a → b"
    assert "not measured on pairs" in build(tmp_path / "other").card(tmp_path / "saved", "org/name")


def saved(trainer, folder):
    trainer.save_published(folder)
    return folder


def test_a_card_can_be_written_again_from_its_folder(tmp_path, folder):
    write_model_card(folder, {"seed": 3, "init": "random"}, results=rows())
    first = (folder / "README.md").read_text()
    assert json.loads((folder / "training.json").read_text())["results"] == rows()
    write_model_card(folder)
    assert (folder / "README.md").read_text() == first


def test_a_model_without_a_run_has_a_card_without_holes(folder):
    page = str(model_card(folder, {}, name="org/name"))
    assert PAGE.fullmatch(page)
    assert not card_errors(page)
    assert not re.search(r"unknown|None|: \.|  \|", page.split("---", 2)[2])


def test_labels_of_others_stay_text(folder, tmp_path):
    local = tmp_path / "my-encoder"
    local.mkdir()
    odd = "<img src=x onerror=alert(1)> | `x` |\n\n# heading: [link](http://evil)"
    encoders = {"a": ENCODER | {"model": str(local)}, "b": ENCODER | {"model": "org/m: [x]", "prompt": odd}}
    page = str(model_card(folder, {"encoders": encoders}, name="model"))
    assert PAGE.fullmatch(page)
    assert not card_errors(page)
    assert "base_model" not in metadata(page)  # neither is an id on the Hub
    assert "<img" not in page
    assert "\n# heading" not in page
    assert "[link](" not in page
    assert str(local) not in page
    assert "my-encoder, mean pooling" in page
    strange = {"verdict": "<script>alert(1)</script>", "score": 1, "null_score": 1, "ceiling": 1, "consensus": 1}
    facts = {"report": strange, "init": "<b>", "texts": "<i>", "files": {"a": "<u>"}, "rows": {"a": 3, "b": 3}}
    facts |= {
        "results": [row | {"method": "<s>translator"} for row in rows()],
        "versions": {"<p>": "<q>"},
        "hardware": "<h1>",
    }
    facts |= {"arguments": {"<em>": "<br>"}, "scores": {}, "steps": "<hr>", "seconds": 1, "seed": "<tt>"}
    page = str(model_card(folder, facts | {"encoders": {"a": {}, "b": {"model": 3}}}, name="model"))
    assert not re.search("<[a-z]", page.split("---", 2)[2])
    known = {"a": ENCODER | {"model": "org/encoder"}, "b": ENCODER | {"model": "wordllama-256"}}
    base_models = metadata(str(model_card(folder, {"encoders": known})))["base_model"]
    assert base_models == ["org/encoder", "dleemiller/word-llama-l2-supercat"]
