"""Tiny encoders and their tokenizer, saved as folders."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TEXTS = ["a dog", "the small dog sat on a mat", "dog", "cat mat cat mat the cat sat"]


CONFIGURATION = "from transformers import BertConfig\nclass OwnConfig(BertConfig):\n    model_type = 'own_bert'\n"
MODELING = """from pathlib import Path
from transformers import BertForSequenceClassification, BertModel
from .configuration_own import OwnConfig
Path(__file__).with_name('ran').touch()
class OwnModel(BertModel):
    config_class = OwnConfig
class OwnClassifier(BertForSequenceClassification):
    config_class = OwnConfig
"""
OWN_CLASSES = {
    "AutoConfig": "configuration_own.OwnConfig",
    "AutoModel": "modeling_own.OwnModel",
    "AutoModelForSequenceClassification": "modeling_own.OwnClassifier",
}


def with_own_code(folder: Path) -> str:
    """The folder of a BERT, made one whose classes are its own code."""
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "own_bert", "auto_map": OWN_CLASSES}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "configuration_own.py").write_text(CONFIGURATION)
    (folder / "modeling_own.py").write_text(MODELING)
    return str(folder)


WORDS = ["[PAD]", "[UNK]", "[BOS]", "a", "the", "small", "dog", "cat", "sat", "on", "mat"]


def tokenizer() -> Tokenizer:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return words


def save_model(model, folder) -> str:
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer(), pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def write_modules(folder: Path, modules: list[tuple[str, str]]) -> None:
    """The file that makes a folder a SentenceTransformer: kind and subfolder of each module."""
    written = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(modules)
    ]
    (folder / "modules.json").write_text(json.dumps(written))


SHAPE = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
