"""Every recipe of `examples/recipes` runs, with tiny models in place of its own."""

from pathlib import Path

import pytest
import yaml
from peft import PeftModel
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from helpers.distillation import TEXTS, linear_translator
from hf_vec2vec import TextEncoder
from hf_vec2vec.cli import main
from hf_vec2vec.encoders.bundled import BUNDLED

pytestmark = pytest.mark.usefixtures("own_cache")
RECIPES = sorted((Path(__file__).parents[2] / "examples" / "recipes").glob("*.yaml"))


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_recipes_train_and_export_a_student(recipe, folders, tmp_path, monkeypatch):
    kept = yaml.safe_load(recipe.read_text())
    assert kept["student"] in BUNDLED
    named = [
        word for line in recipe.read_text().splitlines() if "--model" in line for word in line.split() if word in BUNDLED
    ]
    assert len(set(named)) == 2
    assert named[1] == kept["student"]
    encoders = {name: TextEncoder(folders[name]) for name in ("bert", "llama")}
    translator = linear_translator(*(encoder.encode(TEXTS, progress=False) for encoder in encoders.values()))
    translator.config.encoders = {name: vars(encoder.settings) for name, encoder in encoders.items()}
    translator.save_pretrained(tmp_path / "translator")
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS))
    monkeypatch.chdir(tmp_path)
    words = ["--translator", "translator", "--texts", "texts.txt", "--output_dir", "out", "--disable_tqdm"]
    exported = kept.get("export_dir")  # of sentence encoders
    tiny = ["--student", str(folders["bert" if exported else "llama"]), "--max_steps", "2"]
    assert main(["distill", "--config", str(recipe), *words, *tiny]) == 0
    if exported:
        assert SentenceTransformer(str(tmp_path / exported)).encode(["a dog"]).shape == (
            1,
            translator.config.embedding_dims["bert"],
        )
    else:
        assert PeftModel.from_pretrained(AutoModel.from_pretrained(folders["llama"]), tmp_path / "out").peft_config
