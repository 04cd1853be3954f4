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


def as_sentence_encoder(folder: Path) -> str:
    """The folder of a plain model, whose vectors are now the first token's, of norm 1, of 16 tokens behind a prompt."""
    write_modules(folder, [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")])
    (folder / "1_Pooling").mkdir()
    (folder / "2_Normalize").mkdir()
    width = json.loads((folder / "config.json").read_text())["hidden_size"]
    pooling = {"word_embedding_dimension": width, "pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}
    prompts = {"prompts": {"query": "a dog ", "text": "the cat "}, "default_prompt_name": "text"}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 16, "do_lower_case": False}))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(prompts))
    return str(folder)


SHAPE = {"vocab_size": 11, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}
