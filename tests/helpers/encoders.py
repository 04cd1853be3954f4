"""Tiny encoders and their tokenizer, saved as folders."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

TEXTS = ["a dog", "the small dog sat on a mat", "dog", "cat mat cat mat the cat sat"]


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
