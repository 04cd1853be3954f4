"""Cards and translators pushed by examples/publish_all.py to a Hub on the loopback interface."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from helpers.elsewhere import translate_elsewhere
from helpers.hub_cards import card_errors, metadata
from helpers.translators import model_of, rows_of
from hf_vec2vec import Vec2VecModel

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "examples" / "publish_all.py"
METADATA = """---
library_name: hf_vec2vec
model-index:
- name: {name}
  results:
  - task: {{type: embedding-translation}}
    dataset: {{name: some pairs, type: held-out-pairs}}
    metrics:
    - {{type: top1, value: 0.5}}
---
# {name}, ours
`Vec2VecModel.from_pretrained("{name}")`
"""


@pytest.fixture
def cards(tmp_path):
    """Three cards: with weights beside it, with weights elsewhere, with none."""
    for name in ("near", "far", "none"):
        (tmp_path / "cards" / name).mkdir(parents=True)
        (tmp_path / "cards" / name / "README.md").write_text(METADATA.format(name=name))
    model = model_of(("input_adapters",))
    for folder in ("cards/near", "translators/far"):
        model.save_pretrained(tmp_path / folder)
    (tmp_path / "cards" / "near" / "texts.txt").write_text("a dog")
    return tmp_path


def publish_all(machine, folder: Path, *more: str):
    arguments = ["publish_all.py", "--namespace", "org", "--cards", str(folder / "cards"), *more]
    return machine.run(f"import runpy, sys; sys.argv = {arguments!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')")


@pytest.mark.slow
def test_every_card_with_weights_is_pushed_and_loads_elsewhere(cards, hub, publisher, stranger, tmp_path):
    done = publish_all(publisher, cards, "--translators", str(cards / "translators"))
    assert done.returncode == 0, done.stderr
    assert "none: passed over" in done.stdout
    assert set(hub.repositories) == {"org/near", "org/far"}
    assert {"README.md", "config.json", "model.safetensors", "modeling_vec2vec.py"} <= hub.files("org/far")
    assert "texts.txt" in hub.files("org/near")
    for name in ("near", "far"):
        card = hub.read(f"org/{name}", "README.md").decode()
        assert (card_errors(card), metadata(card)["model-index"][0]["name"]) == ([], name)
        assert f'from_pretrained("org/{name}")' in card
        assert hub.history(f"org/{name}")[0] == "Upload translator and card"
    model = model_of(("input_adapters",))
    rows = rows_of(model)
    expected = model.translate(rows, source="a", target="b")
    for found in translate_elsewhere(stranger, tmp_path / "elsewhere", rows, [("org/near", {}), ("org/far", {})]):
        assert torch.equal(found, expected)


def test_one_that_the_hub_refuses_keeps_no_other_back(cards, hub, publisher):
    hub.fail("POST /api/models/org/far/commit", 403)
    done = publish_all(publisher, cards, "--translators", str(cards / "translators"))
    assert done.returncode == 1
    assert "org/far" in done.stderr
    assert "nothing is published" in done.stderr
    assert "model.safetensors" in hub.files("org/near")


def test_a_card_without_figures_stops_all(cards, hub, publisher):
    for text, message in (("# Mine\n", "no `model-index` with figures"), ("---\na: [\n---\n", "its metadata is broken")):
        (cards / "cards" / "none" / "README.md").write_text(text)
        done = publish_all(publisher, cards)
        assert done.returncode == 1
        assert message in done.stderr
        assert not hub.repositories


def test_the_repository_s_own_cards_are_fit_to_push(hub, publisher, tmp_path):
    shutil.copytree(ROOT / "model_cards", tmp_path / "cards")
    done = publish_all(publisher, tmp_path, "--dry_run", "true")
    assert done.returncode == 0, done.stderr
    for name in ("l3-wordllama", "minilm-l3", "minilm-smollm2-gemma", "minilm-wordllama", "mpnet-minilm"):
        assert f"would go to org/{name}" in done.stdout
    assert not hub.repositories
    spec = importlib.util.spec_from_file_location("publish_all", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    for card in (ROOT / "model_cards").glob("*/README.md"):
        assert card_errors(script.check_card(card)) == []
        if (weights := script.find_weights(card.parent, None)) is not None:
            model = Vec2VecModel.from_pretrained(weights)
            assert all(model.config.encoders[space]["model"] for space in model.config.spaces)
